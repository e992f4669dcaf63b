from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Floats: TypeAlias = npt.NDArray[np.float64]
_Integers: TypeAlias = npt.NDArray[np.int64]
_Bytes: TypeAlias = npt.NDArray[np.uint8]

def first_malformed(minimum: _Floats, maximum: _Floats) -> int: ...
def plant(
    offsets: _Integers, parent: _Integers, order: _Integers, first: _Integers, up: _Integers
) -> tuple[int, int]: ...
def scratch_length(most_connectors: int, most_groups: int, weighted: bool) -> int: ...
def solve(
    start: int,
    stop: int,
    most_connectors: int,
    most_groups: int,
    per_unit: float,
    step: float,
    minimum: _Floats,
    maximum: _Floats,
    offsets: _Integers,
    capacity: _Floats,
    buffer: _Floats,
    reserved: _Floats,
    weight: _Floats,
    priority: _Integers,
    rank: _Floats,
    active: _Bytes,
    order: _Integers,
    first: _Integers,
    up: _Integers,
    power: _Floats,
    reason: _Bytes,
    bound_by: _Integers,
    level: _Floats,
    usable: _Floats,
    used: _Floats,
    needed: _Floats,
    scratch: _Floats,
) -> None: ...
def simd_levels() -> list[str]: ...
def simd_level(name: str | None = None) -> str: ...
