from typing import Any, final

@final
class Simulation:
    def __init__(
        self,
        arrays: dict[str, Any],
        *,
        per_kw: float,
        strategy: int,
        start: int,
        stop: int,
        taper: tuple[tuple[float, float], ...],
    ) -> None: ...
    def run(
        self, start: int, stop: int, groups: bool, sessions: bool
    ) -> tuple[int, int, bytes, bytes]: ...

def usable(capacity: float, buffer: float, reserved: float, per_kw: float) -> int: ...
