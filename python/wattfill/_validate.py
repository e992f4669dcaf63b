"""Every check on what callers pass to `allocate`, and the sentences that say no.

What comes back of an argument can be read by the kernel as it is: a float for one number, else an
array of one dimension of doubles, 64-bit integers or booleans, contiguous, aligned and native.
"""

from __future__ import annotations

import math
import operator
import sys
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError, InputTypeError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

MOST_QUANTA = 2.0**53
# With weights a power is a rounded product; below this it never skips a whole number.
MOST_QUANTA_WEIGHTED = 2.0**51
LIGHTEST, HEAVIEST = 1e-100, 1e100

_PLAIN_NUMBERS = {int, float}


def _refuse(name: str, rule: str, array: npt.NDArray[Any], bad: npt.NDArray[np.bool_]) -> NoReturn:
    """Refuse `array` for its first bad value, and say how many more there are."""
    i = int(np.argmax(bad))
    count = f" ({int(bad.sum())} of {bad.size} values)" if bad.size > 1 else ""
    raise InputError(f"{name} must be {rule}, got {name}[{i}] = {array[i].item()!r}{count}")


def _not_numbers(name: str, kinds: str, kind: str, value: object) -> NoReturn:
    """Refuse `value`, which holds something of another kind; say where if it can be found."""
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        for i, item in enumerate(value):
            if _kind_of(item) not in kinds:
                raise InputTypeError(f"{name} must be {kind}, got {name}[{i}] = {_show(item)}")
    raise InputTypeError(f"{name} must be {kind}, got {_show(value)}")


def _kind_of(item: object) -> str:
    """Return the dtype kind of one number, "O" for whatever is none."""
    try:
        array = np.asarray(item)
    except (ValueError, TypeError, OverflowError):
        return "O"
    return array.dtype.kind if array.ndim == 0 else "O"


def _show(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    try:
        text = repr(value)
    except ValueError:
        # An integer with more digits than Python writes out.
        text = "a huge number"
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."


def _array(name: str, value: object, kinds: str, kind: str) -> npt.NDArray[Any]:
    """Return `value` as an array of one of the dtype kinds, without a copy where it is one."""
    if type(value) in (list, tuple) and not set(map(type, value)) <= _PLAIN_NUMBERS:  # type: ignore[call-overload]
        # NumPy would take True for 1 in a list of numbers.
        for item in value:  # type: ignore[attr-defined]
            if isinstance(item, (bool, np.bool_)) and kinds != "b":
                _not_numbers(name, kinds, kind, value)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InputTypeError(f"{name} must be {kind}, got an array with masked values")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputTypeError(f"{name} must be {kind}, got {_show(value)}: {error}") from None
    if array.dtype.kind not in kinds and (array.size or array.dtype.kind != "f"):
        _not_numbers(name, kinds, kind, value)
    return array


def _is_native(array: npt.NDArray[Any], dtype: type) -> bool:
    # Two types of C may be one in Python; the kernel takes the one that NumPy has by this name.
    return array.dtype.num == np.dtype(dtype).num and bool(array.dtype.isnative)


def _contiguous(array: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
    if _is_native(array, dtype) and array.flags.c_contiguous and array.flags.aligned:
        return array
    # What is too large for a double becomes infinite, and is refused as such.
    with np.errstate(over="ignore"):
        return array.astype(dtype, order="C")


def _vector(
    name: str, value: object, n: int | None, of: str, kinds: str, kind: str, dtype: type
) -> npt.NDArray[Any]:
    """Return a one-dimensional contiguous array, of length n if that is known."""
    array = _array(name, value, kinds, kind)
    if array.ndim != 1:
        raise InputError(f"{name} must have one dimension, got shape {array.shape}")
    if n is not None and array.size != n:
        raise InputError(f"{name} must have one value per {of}, got {array.size} for {n} {of}s")
    return _contiguous(array, dtype)


def reals(name: str, value: object, n: int | None = None, of: str = "connector") -> Floats:
    """Return real numbers, of any value."""
    return _vector(name, value, n, of, "iuf", "real numbers", np.float64)


def _integers(name: str, value: object, n: int | None, of: str) -> Integers:
    array = _array(name, value, "iu", "whole numbers")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{name} must fit into 64 bits with a sign, got {array.max()}")
    return _vector(name, array, n, of, "iu", "whole numbers", np.int64)


def number(name: str, value: object) -> float:
    """Return one real number as a float; it may be infinite or NaN."""
    if type(value) is float:
        return value
    if type(value) is int and value.bit_length() < 1024:
        return float(value)
    array = _array(name, value, "iuf", "a real number")
    if array.ndim != 0:
        raise InputError(f"{name} must be one number, got shape {array.shape}")
    return float(array)


def number_within(
    name: str, value: object, rule: str, least: float = 0.0, most: float = np.inf
) -> float:
    """Return one finite number in least..most."""
    x = value if type(value) is float else number(name, value)
    if not (least <= x <= most and -math.inf < x < math.inf):
        raise InputError(f"{name} must be {rule}, got {x!r}")
    return x + 0.0  # -0.0 becomes 0.0


def whole_number(name: str, value: object) -> int:
    """Return one whole number that fits into 64 bits."""
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    try:
        x = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        x = None
    if x is None or isinstance(value, (bool, np.bool_)):
        raise InputTypeError(f"{name} must be a whole number, got {_show(value)}")
    if not -(2**63) <= x < 2**63:
        raise InputError(f"{name} must fit into 64 bits with a sign, got {_show(x)}")
    return x


def text(name: str, value: object) -> str:
    """Return a string."""
    if not isinstance(value, str):
        raise InputTypeError(f"{name} must be a string, got {_show(value)}")
    return value


def identifier(name: str, value: object) -> str:
    """Return a string that is not empty."""
    if not isinstance(value, str):
        raise InputTypeError(f"{name} must be a non-empty string, got {_show(value)}")
    if not value:
        raise InputError(f"{name} must be a non-empty string, got {value!r}")
    return value


def maximum(value: object, n_connectors: int) -> Floats:
    """Return as many real numbers as there are in `minimum`."""
    high = reals("maximum", value)
    if high.size != n_connectors:
        raise InputError(
            f"minimum and maximum must have the same length, got {n_connectors} and {high.size}"
        )
    return high


def _per_group(name: str, value: object, n_groups: int, rule: str, most: float) -> Floats | float:
    """Return one finite number in 0..most per group, or one for all."""
    array = value if type(value) is float else _array(name, value, "iuf", "real numbers")
    if np.ndim(array) == 0:
        return number_within(name, float(array), rule, most=most)
    numbers = reals(name, array, n_groups, "group")
    bad = ~((numbers >= 0.0) & (numbers <= most) & np.isfinite(numbers))
    if bad.any():
        _refuse(name, rule, numbers, bad)
    return numbers


def capacity(value: object, n_groups: int, per_unit: float, limit: float) -> Floats | float:
    """Return capacities below a limit in quanta."""
    numbers = _per_group("capacity", value, n_groups, "finite and at least 0", np.inf)
    too_many = np.asarray(numbers * per_unit >= limit)
    if too_many.any():
        rule = (
            f"below {limit / per_unit:g}, which is 2**{int(np.log2(limit))} quanta "
            "(take a coarser resolution)"
        )
        if isinstance(numbers, float):
            raise InputError(f"capacity must be {rule}, got {numbers!r}")
        _refuse("capacity", rule, numbers, too_many)
    return numbers


def buffer(value: object, n_groups: int) -> Floats | float:
    """Return fractions."""
    return _per_group("buffer", value, n_groups, "within 0.0..1.0", 1.0)


def reserved(value: object, n_groups: int) -> Floats | float:
    """Return finite numbers that are not negative."""
    return _per_group("reserved", value, n_groups, "finite and at least 0", np.inf)


def refuse_bounds(minimum: Floats, maximum: Floats) -> NoReturn:
    """Say which connector's bounds break 0 <= minimum <= maximum < infinity."""
    for name, array in (("minimum", minimum), ("maximum", maximum)):
        bad = np.isnan(array) | (array < 0.0)
        if bad.any():
            _refuse(name, "at least 0", array, bad)
    bad = np.isinf(maximum)
    if bad.any():
        _refuse("maximum", "finite (give the connector's rating)", maximum, bad)
    bad = maximum < minimum
    i = int(np.argmax(bad))
    raise InputError(
        f"maximum must be at least minimum, got maximum[{i}] = {maximum[i].item()!r} < "
        f"minimum[{i}] = {minimum[i].item()!r} ({int(bad.sum())} of {bad.size} connectors)"
    )


def offsets(value: object, n_connectors: int) -> Integers:
    """Return what parts the connectors into groups."""
    offsets = _integers("offsets", value, None, "group")
    if offsets.size == 0:
        raise InputError("offsets must have one value more than there are groups, got none")
    if offsets[0] != 0:
        raise InputError(f"offsets must start at 0, got offsets[0] = {offsets[0]}")
    falls = offsets[1:] < offsets[:-1]
    if falls.any():
        i = int(np.argmax(falls)) + 1
        raise InputError(
            f"offsets must not fall, got offsets[{i}] = {offsets[i]} after {offsets[i - 1]} "
            f"({int(falls.sum())} of {falls.size} groups)"
        )
    if offsets[-1] != n_connectors:
        raise InputError(
            f"offsets must end at the number of connectors, got offsets[{offsets.size - 1}] = "
            f"{offsets[-1]} for {n_connectors} connectors"
        )
    return offsets


def parent(value: object, n_groups: int) -> Integers:
    """Return another group for each, or -1; whether they go in a circle is for others to see."""
    parent = _integers("parent", value, n_groups, "group")
    bad = (parent < -1) | (parent >= n_groups)
    if bad.any():
        _refuse("parent", f"a group index below {n_groups}, or -1 for none", parent, bad)
    bad = parent == np.arange(n_groups)
    if bad.any():
        _refuse("parent", "another group", parent, bad)
    return parent


def refuse_cycle(parent: Integers, start: int) -> NoReturn:
    """Say which groups feed each other in a circle, from one that is in it or below it."""
    path = [start]
    while (above := int(parent[path[-1]])) not in path:
        path.append(above)
    cycle = [*path[path.index(above) :], above]
    shown = " -> ".join(map(str, cycle if len(cycle) <= 12 else [*cycle[:11], "...", cycle[-1]]))
    raise InputError(f"parent must not go in a circle, got {shown} (child -> parent)")


def weight(value: object, n_connectors: int) -> Floats:
    """Return weights within LIGHTEST..HEAVIEST."""
    weight = reals("weight", value, n_connectors)
    bad = ~((weight >= LIGHTEST) & (weight <= HEAVIEST))
    if bad.any():
        _refuse("weight", f"above 0 (within {LIGHTEST:g}..{HEAVIEST:g})", weight, bad)
    return weight


def priority(value: object, n_connectors: int) -> Integers:
    """Return whole numbers."""
    return _integers("priority", value, n_connectors, "connector")


def rank(value: object, n_connectors: int) -> Floats:
    """Return finite numbers."""
    rank = reals("rank", value, n_connectors)
    bad = ~np.isfinite(rank)
    if bad.any():
        _refuse("rank", "finite", rank, bad)
    return rank


def active(value: object, n_connectors: int) -> Booleans:
    """Return booleans."""
    return _vector("active", value, n_connectors, "connector", "b", "booleans", np.bool_)


def levels(value: object, n_groups: int) -> Floats:
    """Return real numbers, of any value: where to start a search."""
    return reals("level", value, n_groups, "group")


def quanta_per_unit(resolution: object) -> float:
    """Return how many quanta one unit has: a whole number."""
    return _quanta_per_unit(number("resolution", resolution))


@lru_cache(maxsize=16)
def _quanta_per_unit(value: float) -> float:
    per_unit = float(round(1.0 / value)) if 2.0**-50 <= value <= 1.0 else 0.0
    if per_unit == 0.0 or abs(per_unit * value - 1.0) > 1e-15:
        raise InputError(
            "resolution must be one over a whole number up to 2**50 (1e-6, 0.001, 0.25, 1), "
            f"got {value!r}"
        )
    return per_unit


def step(value: object, per_unit: float) -> float:
    """Return the quanta in one step."""
    step = number("step", value)
    if not 0.0 < step < np.inf:
        raise InputError(f"step must be above 0 and finite, got {step!r}")
    quanta = step * per_unit
    whole = float(np.rint(quanta))
    if not 1.0 <= whole < MOST_QUANTA or abs(quanta - whole) > max(2.0**-10, quanta * 2.0**-52):
        raise InputError(
            f"step must be a whole number of quanta (of {1.0 / per_unit:g}), got {step!r}, "
            f"which is {quanta:g} of them"
        )
    return whole


def threads(value: object) -> int:
    """Return how many threads may be used."""
    try:
        n = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        n = 0
    if n < 1 or isinstance(value, (bool, np.bool_)):
        raise InputError(f"threads must be a whole number, at least 1, or None, got {_show(value)}")
    return min(n, sys.maxsize)


def refuse_out(value: object) -> NoReturn:
    """Say what `out` is, which is no allocation."""
    raise InputTypeError(f"out must be an Allocation, got {type(value).__name__}")


def out(
    n_connectors: int,
    n_groups: int,
    resolution: float,
    its_resolution: object,
    **arrays: Any,
) -> None:
    """Refuse an `out` of these arrays, None for one that is not there yet, if it does not fit."""
    its_sizes = np.size(arrays["power"]), np.size(arrays["usable"])
    if its_sizes != (n_connectors, n_groups):
        raise InputError(
            f"out must have {n_connectors} connectors in {n_groups} groups, got "
            f"{its_sizes[0]} in {its_sizes[1]}"
        )
    if its_resolution != resolution:
        raise InputError(
            f"out must have the resolution of the call, got {its_resolution!r} for {resolution!r}"
        )
    for name, dtype, size in (
        ("power", np.float64, n_connectors),
        ("reason", np.uint8, n_connectors),
        ("bound_by", np.int64, n_connectors),
        ("level", np.float64, n_groups),
        ("usable", np.float64, n_groups),
        ("used", np.float64, n_groups),
        ("needed", np.float64, n_groups),
        ("offsets", np.int64, n_groups + 1),
    ):
        array = arrays[name]
        if array is None and name in ("reason", "bound_by"):
            continue
        shown = _show(array)
        if type(array) is np.ndarray:
            if _is_native(array, dtype) and array.shape == (size,) and array.flags.carray:
                continue
            shown = f"{array.dtype} of shape {array.shape}"
        raise InputError(
            f"out.{name} must be a writable, contiguous array of {size} {np.dtype(dtype)}, "
            f"got {shown}"
        )


def refuse_changed() -> NoReturn:
    """Say why reasons cannot be made any more."""
    raise InputError(
        "reason and bound_by must be asked for before the arrays that allocate() was given, or the "
        "powers that it returned, are changed (or pass copies), got other powers from them now"
    )
