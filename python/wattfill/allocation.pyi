from typing import Any, final

import numpy as np
import numpy.typing as npt

@final
class Allocation:
    def __init__(
        self,
        power: npt.NDArray[np.float64],
        reason: npt.NDArray[np.uint8],
        bound_by: npt.NDArray[np.int64],
        level: npt.NDArray[np.float64],
        usable: npt.NDArray[np.float64],
        used: npt.NDArray[np.float64],
        needed: npt.NDArray[np.float64],
        offsets: npt.NDArray[np.int64],
        resolution: float,
    ) -> None: ...
    @property
    def power(self) -> npt.NDArray[np.float64]: ...
    @property
    def reason(self) -> npt.NDArray[np.uint8]: ...
    @property
    def bound_by(self) -> npt.NDArray[np.int64]: ...
    @property
    def level(self) -> npt.NDArray[np.float64]: ...
    @property
    def usable(self) -> npt.NDArray[np.float64]: ...
    @property
    def used(self) -> npt.NDArray[np.float64]: ...
    @property
    def needed(self) -> npt.NDArray[np.float64]: ...
    @property
    def headroom(self) -> npt.NDArray[np.float64]: ...
    @property
    def shortfall(self) -> npt.NDArray[np.float64]: ...
    @property
    def offsets(self) -> npt.NDArray[np.int64]: ...
    @property
    def resolution(self) -> float: ...
    def to_dicts(self) -> list[dict[str, Any]]: ...
    def to_pandas(self) -> Any: ...
    def to_polars(self) -> Any: ...
    def to_arrow(self) -> Any: ...
    def __arrow_c_schema__(self) -> Any: ...
    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]: ...
    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...

def allocate(
    minimum: npt.ArrayLike,
    maximum: npt.ArrayLike,
    capacity: npt.ArrayLike,
    offsets: npt.ArrayLike | None = None,
    *,
    buffer: npt.ArrayLike = 0.0,
    reserved: npt.ArrayLike = 0.0,
    parent: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    priority: npt.ArrayLike | None = None,
    rank: npt.ArrayLike | None = None,
    active: npt.ArrayLike | None = None,
    step: float | None = None,
    resolution: float = 1e-6,
    level: npt.ArrayLike | None = None,
    threads: int | None = None,
    out: Allocation | None = None,
) -> Allocation: ...
