"""Columns of Arrow as arrays of NumPy: codes of texts, numbers, times; what is no such thing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError
from wattfill.simulation._pyarrow import pa, pc
from wattfill.simulation.readers.clock import FIRST, LAST

Mask = npt.NDArray[np.bool_]

MICROSECONDS = pa.timestamp("us")
UTC = pa.timestamp("us", "UTC")
A_TIME = "a time from 1970 to 2199 such as 2026-03-02T08:00 or 2026-03-02T08:00Z"
A_NUMBER = "a number with a decimal point"
HAS_OFFSET = r"(?i)(z|[+-]\d\d:?(\d\d)?)$"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass
class Texts:
    """Ids, coded in the order in which they appear; blanks around them do not count."""

    codes: dict[str, int] = field(default_factory=dict)

    def read(self, name: str, column: pa.Array) -> npt.NDArray[np.int32]:
        """Return the codes of a batch, -1 where there is no id."""
        column = pc.dictionary_encode(_as_text(name, column))
        known = [
            self.codes.setdefault(text, len(self.codes)) if text else -1
            for text in (value.strip() for value in column.dictionary.to_pylist())
        ]
        # Nulls are the last entry.
        code_of = np.array([*known, -1], np.int32)
        codes: npt.NDArray[np.int32] = code_of[
            column.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        ]
        return codes


def _as_text(name: str, column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_floating(kind):
        # A data frame has whole numbers as floats where some are missing.
        whole = pc.cast(column, pa.int64(), safe=False)
        if pc.all(pc.equal(whole, column)).as_py() is False:
            raise InputError(f"{name} must be ids: texts or whole numbers, got {kind}")
        column, kind = whole, whole.type
    if pa.types.is_integer(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column, kind = pc.cast(column, pa.string()), pa.string()
    if not (pa.types.is_string(kind) or pa.types.is_null(kind)):
        raise InputError(f"{name} must be ids: texts or whole numbers, got {kind}")
    return pc.cast(column, pa.string())


def read_numbers(name: str, column: pa.Array) -> tuple[npt.NDArray[np.float64], Mask, Mask]:
    """Return numbers, where there are none, and where there is something else."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_boolean(kind) or pa.types.is_temporal(kind) or pa.types.is_nested(kind):
        raise InputError(f"{name} must be numbers, got {kind}")
    empty = _is_null(column)
    read = _parse(column, pa.float64())
    wrong = _is_null(read) & ~empty
    return read.to_numpy(zero_copy_only=False), empty, wrong


@dataclass(frozen=True)
class Times:
    """A batch of times: microseconds of UTC, or of a wall clock where there is no offset."""

    microseconds: npt.NDArray[np.int64]
    empty: Mask
    wrong: Mask
    has_offset: Mask


def read_times(name: str, column: pa.Array) -> Times:
    """Return times from ISO 8601, from dates as in HTTP (RFC 1123), or from what has their type."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        offset = np.full(len(column), pa.types.is_timestamp(kind) and kind.tz is not None)
        read = pc.cast(column, pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
        empty = _is_null(column)
    elif (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    ):
        empty = _is_null(column)
        read, offset = _parse_times(column)
    else:
        raise InputError(
            f"{name} must be times: texts as in ISO 8601, or timestamps, got {kind}; of numbers "
            "nobody knows the unit"
        )
    wrong = _is_null(read) & ~empty
    values = pc.cast(read, pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    wrong |= (values < FIRST) | (values >= LAST)
    return Times(values, empty, wrong, offset)


def _parse_times(column: pa.Array) -> tuple[pa.Array, Mask]:
    """Return instants or wall-clock times, and which of the two they are."""
    # Nearly always all are of one kind, which is quickest to find out by trying.
    for kind in (MICROSECONDS, UTC):
        try:
            read = pc.cast(column, kind)
        except pa.ArrowInvalid:
            continue
        return pc.cast(read, MICROSECONDS), np.full(len(column), kind is UTC)
    column = _as_iso(pc.utf8_trim_whitespace(column))
    offset = _mask(pc.match_substring_regex(column, HAS_OFFSET))
    # A date ends like an offset, too.
    offset &= _mask(pc.greater(pc.utf8_length(column), 10))
    none = pa.scalar(None, pa.string())
    local = _parse(pc.if_else(pa.array(~offset), column, none), MICROSECONDS)
    instants = _parse(pc.if_else(pa.array(offset), column, none), UTC)
    return pc.coalesce(local, pc.cast(instants, MICROSECONDS)), offset


def _as_iso(column: pa.Array) -> pa.Array:
    """Return dates as in HTTP in the form of ISO 8601, and all others as they are."""
    if not pc.any(pc.ends_with(column, " GMT")).as_py():
        return column
    for number, month in enumerate(MONTHS, 1):
        column = pc.replace_substring_regex(
            column,
            rf"^\w{{3}}, (\d\d) {month} (\d{{4}}) (\d\d:\d\d:\d\d) GMT$",
            rf"\2-{number:02}-\1T\3Z",
        )
    return column


def _parse(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return values of a kind, null where a text says nothing of that kind."""
    try:
        return pc.cast(column, kind)
    except pa.ArrowInvalid:
        pass
    column = pc.utf8_trim_whitespace(column)
    pieces: list[pa.Array] = []
    # What is wrong is found by halving, since Arrow says of a column only that something is.
    waiting = [column]
    while waiting:
        part = waiting.pop()
        try:
            pieces.append(pc.cast(part, kind))
        except pa.ArrowInvalid:
            half = len(part) // 2
            if half:
                waiting += [part[half:], part[:half]]
            else:
                pieces.append(pa.nulls(1, kind))
    return pa.concat_arrays(pieces)


def _is_null(column: pa.Array) -> Mask:
    return _mask(column.is_null())


def _mask(column: pa.Array) -> Mask:
    mask: Mask = column.fill_null(False).to_numpy(zero_copy_only=False)
    return mask
