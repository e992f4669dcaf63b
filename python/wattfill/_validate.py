"""Every check on what callers pass to `allocate`, and the sentences that say no."""

from __future__ import annotations

import math
import operator
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError, InputTypeError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

NO_FLOATS: Floats = np.empty(0)
NO_INTEGERS: Integers = np.empty(0, np.int64)
NO_BYTES: Bytes = np.empty(0, np.uint8)

MOST_QUANTA = 2.0**53
# With weights a power is a rounded product; below this it never skips a whole number.
MOST_QUANTA_WEIGHTED = 2.0**51
LIGHTEST, HEAVIEST = 1e-100, 1e100

_PLAIN_NUMBERS = {int, float}


class Batch(NamedTuple):
    """What the kernel takes: contiguous arrays, absent ones of length 0."""

    minimum: Floats
    maximum: Floats
    offsets: Integers
    capacity: Floats
    buffer: Floats
    reserved: Floats
    parent: Integers
    weight: Floats
    priority: Integers
    rank: Floats
    active: Bytes
    per_unit: float
    step: float


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


def _contiguous(array: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
    if array.dtype != dtype or not array.flags.c_contiguous:
        # What is too large for a double becomes infinite, and is refused as such.
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array, dtype)
    return array if array.flags.aligned else array.copy()


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


def _reals(name: str, value: object, n: int | None = None, of: str = "connector") -> Floats:
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


def _per_group(name: str, value: object, n_groups: int, rule: str, most: float) -> Floats:
    """Return one finite number in 0..most per group, from an array or from one number for all."""
    array = value if type(value) is float else _array(name, value, "iuf", "real numbers")
    if np.ndim(array) == 0:
        same = np.empty(n_groups)
        same.fill(number_within(name, float(array), rule, most=most))
        return same
    reals = _reals(name, array, n_groups, "group")
    bad = ~((reals >= 0.0) & (reals <= most) & np.isfinite(reals))
    if bad.any():
        _refuse(name, rule, reals, bad)
    return reals


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


def _offsets(value: object, n_connectors: int) -> Integers:
    if value is None:
        return np.array([0, n_connectors], np.int64)
    # A copy: the result keeps it, and nobody can change it while the kernel reads.
    offsets = _integers("offsets", value, None, "group").copy()
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


def _parent(value: object, n_groups: int) -> Integers:
    if value is None:
        return NO_INTEGERS
    parent = _integers("parent", value, n_groups, "group")
    bad = (parent < -1) | (parent >= n_groups)
    if bad.any():
        _refuse("parent", f"a group index below {n_groups}, or -1 for none", parent, bad)
    bad = parent == np.arange(n_groups)
    if bad.any():
        _refuse("parent", "another group", parent, bad)
    return parent if (parent >= 0).any() else NO_INTEGERS


def refuse_cycle(parent: Integers, start: int) -> NoReturn:
    """Say which groups feed each other in a circle, from one that is in it or below it."""
    path = [start]
    while (above := int(parent[path[-1]])) not in path:
        path.append(above)
    cycle = [*path[path.index(above) :], above]
    shown = " -> ".join(map(str, cycle if len(cycle) <= 12 else [*cycle[:11], "...", cycle[-1]]))
    raise InputError(f"parent must not go in a circle, got {shown} (child -> parent)")


def _weight(value: object, n_connectors: int) -> Floats:
    if value is None:
        return NO_FLOATS
    weight = _reals("weight", value, n_connectors)
    bad = ~((weight >= LIGHTEST) & (weight <= HEAVIEST))
    if bad.any():
        _refuse("weight", f"above 0 (within {LIGHTEST:g}..{HEAVIEST:g})", weight, bad)
    return weight


def _rank(value: object, n_connectors: int) -> Floats:
    if value is None:
        return NO_FLOATS
    rank = _reals("rank", value, n_connectors)
    bad = ~np.isfinite(rank)
    if bad.any():
        _refuse("rank", "finite", rank, bad)
    return rank


def _active(value: object, n_connectors: int) -> Bytes:
    if value is None:
        return NO_BYTES
    return _vector("active", value, n_connectors, "connector", "b", "booleans", np.bool_).view(
        np.uint8
    )


def quanta_per_unit(resolution: object) -> float:
    """Return how many quanta one unit has: a whole number."""
    return _quanta_per_unit(number("resolution", resolution))


@lru_cache(maxsize=16)
def _quanta_per_unit(value: float) -> float:
    per_unit = float(round(1.0 / value)) if 2.0**-53 <= value <= 1.0 else 0.0
    if per_unit == 0.0 or abs(per_unit * value - 1.0) > 1e-15:
        raise InputError(
            "resolution must be one over a whole number up to 2**53 (1e-6, 0.001, 0.25, 1), "
            f"got {value!r}"
        )
    return per_unit


def _step(value: object, per_unit: float) -> float:
    """Return the quanta in one step, 0 for none."""
    if value is None:
        return 0.0
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
    if value is None:
        return 1
    try:
        n = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        n = 0
    if n < 1 or isinstance(value, (bool, np.bool_)):
        raise InputError(f"threads must be a whole number, at least 1, or None, got {_show(value)}")
    return n


def batch(
    minimum: object,
    maximum: object,
    capacity: object,
    offsets: object,
    *,
    buffer: object,
    reserved: object,
    parent: object,
    weight: object,
    priority: object,
    rank: object,
    active: object,
    step: object,
    resolution: object,
) -> Batch:
    """Check everything that `allocate` takes but the bounds, which the kernel looks through."""
    low = _reals("minimum", minimum)
    n_connectors = low.size
    high = _reals("maximum", maximum)
    if high.size != n_connectors:
        raise InputError(
            f"minimum and maximum must have the same length, got {n_connectors} and {high.size}"
        )
    ends = _offsets(offsets, n_connectors)
    n_groups = ends.size - 1
    per_unit = quanta_per_unit(resolution)
    heavy = _weight(weight, n_connectors)
    caps = _per_group("capacity", capacity, n_groups, "finite and at least 0", np.inf)
    limit = MOST_QUANTA_WEIGHTED if weight is not None else MOST_QUANTA
    too_many = caps * per_unit >= limit
    if too_many.any():
        _refuse(
            "capacity",
            f"below {limit / per_unit:g}, which is 2**{int(np.log2(limit))} quanta "
            "(take a coarser resolution)",
            caps,
            too_many,
        )
    return Batch(
        minimum=low,
        maximum=high,
        offsets=ends,
        capacity=caps,
        buffer=_per_group("buffer", buffer, n_groups, "within 0.0..1.0", 1.0),
        reserved=_per_group("reserved", reserved, n_groups, "finite and at least 0", np.inf),
        parent=_parent(parent, n_groups),
        weight=heavy,
        priority=NO_INTEGERS
        if priority is None
        else _integers("priority", priority, n_connectors, "connector"),
        rank=_rank(rank, n_connectors),
        active=_active(active, n_connectors),
        per_unit=per_unit,
        step=_step(step, per_unit),
    )
