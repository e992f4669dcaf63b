"""Share the usable capacity of groups among their connectors: arrays in, `Allocation` out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from wattfill import _arrow, _kernel, _validate
from wattfill._validate import Batch, Bytes, Floats, Integers
from wattfill.errors import InputError, InputTypeError, MissingExtraError
from wattfill.reason import Reason


@dataclass(frozen=True, eq=False, slots=True)
class Allocation:
    """The outcome for a batch: a power per connector, a level per group.

    It is also a table of its connectors, with the columns ``group``, ``power``, ``reason`` (the
    label) and ``bound_by`` (null where there is none), for whatever reads Arrow tables through
    the PyCapsule protocol: ``polars.DataFrame(allocation)``, ``pyarrow.table(allocation)``,
    DuckDB. What comes out of a conversion is a copy, so ``allocate(..., out=allocation)`` does
    not change it.

    Examples
    --------
    >>> allocation = allocate([6, 6, 6], [16, 32, 10], 50, buffer=0.2)
    >>> allocation
    Allocation(3 connectors in 1 group: 40 of 40 used)
    >>> allocation.to_dicts()[2]
    {'group': 0, 'power': 10.0, 'reason': 'maximum', 'bound_by': None}

    """

    power: Floats
    """(n_connectors,) What each connector may draw, in the unit of the bounds."""
    reason: Bytes
    """(n_connectors,) Why, as values of `Reason`."""
    bound_by: Integers
    """(n_connectors,) The group that held it down, -1 where its own maximum or nothing did; of
    several that would, the one nearest to the root. Where its minimum did not fit, the first such
    group on the way to the root."""
    level: Floats
    """(n_groups,) The power (per weight) that everybody rises to; infinite where the group did
    not bind. With priorities, that of the highest tier that the group bound."""
    usable: Floats
    """(n_groups,) Usable capacity."""
    used: Floats
    """(n_groups,) Sum of the power below the group."""
    needed: Floats
    """(n_groups,) Sum of the minimums below the group: what it takes to pause nobody."""
    offsets: Integers
    """(n_groups + 1,) Group ``g`` owns connectors ``offsets[g]:offsets[g + 1]``."""
    resolution: float
    """One quantum: powers were counted in whole numbers of it."""

    def __repr__(self) -> str:
        n_connectors, n_groups = self.power.size, self.usable.size
        sizes = (
            f"{n_connectors} connector{'s' * (n_connectors != 1)} "
            f"in {n_groups} group{'s' * (n_groups != 1)}"
        )
        if n_groups == 0:
            return f"Allocation({sizes})"
        if n_groups == 1:
            return f"Allocation({sizes}: {self.used[0]:.15g} of {self.usable[0]:.15g} used)"
        # A sum over groups would count nested ones twice.
        n_binding = np.count_nonzero(np.isfinite(self.level))
        return f"Allocation({sizes}: {n_binding} binding)"

    @property
    def headroom(self) -> Floats:
        """(n_groups,) Usable capacity left over; never below 0."""
        return self._beyond(self.usable, self.used)

    @property
    def shortfall(self) -> Floats:
        """(n_groups,) What the minimums lack to be admitted all; 0 where they fit."""
        return self._beyond(self.needed, self.usable)

    def _beyond(self, more: Floats, less: Floats) -> Floats:
        quanta = _validate.quanta_per_unit(self.resolution)
        # Each is a whole number of quanta, rounded; the difference of the floats is not.
        left: Floats = (np.rint(more * quanta) - np.rint(less * quanta)) / quanta
        return np.maximum(left, 0.0)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict per connector, of plain Python values that JSON can hold.

        Returns
        -------
        list of dict
            ``group`` (int), ``power`` (float), ``reason`` (str, the label) and ``bound_by``
            (int, or None where there is none).

        Examples
        --------
        >>> allocate([5, 5], [7, 7], 8).to_dicts()[1]
        {'group': 0, 'power': 0.0, 'reason': 'paused', 'bound_by': 0}

        """
        labels = _labels()
        return [
            {
                "group": group,
                "power": power,
                "reason": labels[reason],
                "bound_by": None if bound_by < 0 else bound_by,
            }
            for group, power, reason, bound_by in zip(
                *(column.tolist() for column in self._columns()), strict=True
            )
        ]

    def to_pandas(self) -> Any:
        """Return the connectors as a ``pandas.DataFrame``.

        ``reason`` is categorical over all labels, ``bound_by`` a nullable integer (``Int64``).

        Raises
        ------
        MissingExtraError
            If pandas is not installed.

        """
        pandas = _load("pandas", "to_pandas()")
        group, power, reason, bound_by = self._columns()
        return pandas.DataFrame(
            {
                "group": group,
                "power": power,
                "reason": pandas.Categorical.from_codes(reason, _labels()),
                "bound_by": pandas.arrays.IntegerArray(bound_by, bound_by < 0),
            },
            copy=True,
        )

    def to_polars(self) -> Any:
        """Return the connectors as a ``polars.DataFrame``; ``reason`` is categorical.

        Raises
        ------
        MissingExtraError
            If Polars is not installed.

        """
        return _load("polars", "to_polars()").DataFrame(self)

    def to_arrow(self) -> Any:
        """Return the connectors as a ``pyarrow.Table``; ``reason`` is a dictionary column.

        Raises
        ------
        MissingExtraError
            If PyArrow is not installed.

        """
        return _load("pyarrow", "to_arrow()").table(self)

    def __arrow_c_schema__(self) -> Any:
        return _arrow.schema()

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        if requested_schema is not None:
            _arrow.check_request(requested_schema)
        return _arrow.schema(), _arrow.batch(*self._columns())

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        if requested_schema is not None:
            _arrow.check_request(requested_schema)
        return _arrow.stream(_arrow.batch(*self._columns()))

    def _columns(self) -> tuple[Integers, Floats, Bytes, Integers]:
        group = np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets))
        return group, self.power, self.reason, self.bound_by


def _labels() -> list[str]:
    return [reason.label for reason in Reason]


def _load(library: str, purpose: str) -> Any:
    """Import a library that wattfill does without."""
    try:
        return import_module(library)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {library}, which cannot be imported: pip install {library}"
        ) from error


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
    threads: int | None = None,
    out: Allocation | None = None,
) -> Allocation:
    """Share each group's usable capacity max-min fairly among its connectors.

    Connectors whose minimum does not fit are paused; above the minimums, power is shared
    max-min fair on totals, ``clip(level * weight, minimum, maximum)``, with one level per group,
    the highest that fits in whole quanta.

    Parameters
    ----------
    minimum, maximum : array_like of float, shape (n_connectors,)
        Bounds on each connector's power, ``0 <= minimum <= maximum < inf``, in one unit
        throughout (kW, say).
    capacity : float or array_like of float, shape (n_groups,)
        Most that each group may draw, at least 0, in the same unit.
    offsets : array_like of int, shape (n_groups + 1,), optional
        Group ``g`` owns connectors ``offsets[g]:offsets[g + 1]``. One group owns all by default.
    buffer : float or array_like of float, shape (n_groups,)
        Fraction of the capacity set aside, within 0..1.
    reserved : float or array_like of float, shape (n_groups,)
        Load in the group that is not ours to steer, at least 0. The usable capacity is
        ``capacity * (1 - buffer) - reserved``, not below 0.
    parent : array_like of int, shape (n_groups,), optional
        Index of the group that feeds this one, -1 for none. A connector is bound by its group
        and by every ancestor; the result is max-min fair over the whole tree.
    weight : array_like of float, shape (n_connectors,), optional
        Shares are in proportion to weights, within 1e-100..1e100; all 1 by default.
    priority : array_like of int, shape (n_connectors,), optional
        Higher first, in admission and in filling; all 0 by default.
    rank : array_like of float, shape (n_connectors,), optional
        Lower first in admission, among equal priorities; then by position.
    active : array_like of bool, shape (n_connectors,), optional
        Whether a session is on. Others get 0 and are not counted. All by default.
    step : float, optional
        Every power is a whole multiple of this, which is a whole number of quanta. What
        truncation frees is handed out in admission order; with weights, by Webster's rule.
    resolution : float
        One quantum, ``1 / n`` for a whole number n: powers are counted in whole numbers of it.
        Capacities stay below 2**53 quanta, with weights below 2**51.
    threads : int, optional
        How many threads may work, on trees of groups side by side. The answer is the same.
    out : Allocation, optional
        Result of an earlier call with as many connectors and groups and the same resolution. Its
        memory is overwritten, and it is returned.

    Returns
    -------
    Allocation
        A power and a reason per connector, a level per group. In whole quanta the powers of a
        group never add up to more than its usable capacity, nor to more than any ancestor's.

    Raises
    ------
    InputError, InputTypeError
        If an argument is malformed. What depends on the data never raises: minimums that do not
        fit, capacity 0 and empty groups come back as data.

    Notes
    -----
    Water-filling as the projection on a box with one linear constraint: Brucker, An O(n)
    algorithm for quadratic knapsack problems, Oper. Res. Lett. 3 (1984); max-min fairness on a
    tree: Radunovic and Le Boudec, A unified framework for max-min and min-max fairness, IEEE/ACM
    Trans. Netw. 15 (2007), section IV; Webster's rule: Balinski and Young, Fair Representation
    (1982).

    Examples
    --------
    The third stops at 10 kW, the other two share 30 kW:

    >>> allocate([6, 6, 6], [16, 32, 10], 50, buffer=0.2).power
    array([15., 15., 10.])

    Two floors of 20 kW below a building of 35 kW:

    >>> a = allocate([0, 0, 0], [22, 22, 22], [20, 20, 35], [0, 2, 3, 3], parent=[2, 2, -1])
    >>> a.power
    array([10., 10., 15.])
    >>> a.bound_by
    array([0, 0, 2])

    """
    batch = _validate.batch(
        minimum,
        maximum,
        capacity,
        offsets,
        buffer=buffer,
        reserved=reserved,
        parent=parent,
        weight=weight,
        priority=priority,
        rank=rank,
        active=active,
        step=step,
        resolution=resolution,
    )
    n_threads = _validate.threads(threads)
    if _kernel.first_malformed(batch.minimum, batch.maximum) >= 0:
        _validate.refuse_bounds(batch.minimum, batch.maximum)
    order, first, up = np.empty((3, batch.parent.size), np.int64)
    most_connectors, most_groups = _kernel.plant(batch.offsets, batch.parent, order, first, up)
    if most_connectors < 0:
        _validate.refuse_cycle(batch.parent, most_groups)

    n_connectors, n_groups = batch.minimum.size, batch.capacity.size
    if out is None:
        # One block for what is as long as the batch: memory that is given back and asked for again
        # in one piece stays mapped, and mapping costs more than filling.
        block = np.empty(17 * n_connectors, np.uint8)
        result = Allocation(
            power=block[: 8 * n_connectors].view(np.float64),
            reason=block[16 * n_connectors :],
            bound_by=block[8 * n_connectors : 16 * n_connectors].view(np.int64),
            level=np.empty(n_groups),
            usable=np.empty(n_groups),
            used=np.empty(n_groups),
            needed=np.empty(n_groups),
            offsets=batch.offsets,
            resolution=float(resolution),
        )
    else:
        _check_out(out, n_connectors, n_groups, float(resolution))
        batch = _apart(batch, out)
        out.offsets[:] = batch.offsets
        result = out

    n_scratch = _kernel.scratch_length(most_connectors, most_groups, bool(batch.weight.size))

    def solve(start: int, stop: int) -> None:
        _kernel.solve(
            start, stop, most_connectors, most_groups, batch.per_unit, batch.step,
            batch.minimum, batch.maximum, batch.offsets,
            batch.capacity, batch.buffer, batch.reserved,
            batch.weight, batch.priority, batch.rank, batch.active,
            order, first, up,
            result.power, result.reason, result.bound_by,
            result.level, result.usable, result.used, result.needed,
            np.empty(n_scratch),
        )  # fmt: skip

    if n_threads == 1:
        solve(0, n_groups)
    else:
        cuts = _cuts(batch.offsets, order, up, n_threads)
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(solve, cuts[:-1], cuts[1:]))
    return result


def _check_out(out: Allocation, n_connectors: int, n_groups: int, resolution: float) -> None:
    if not isinstance(out, Allocation):
        raise InputTypeError(f"out must be an Allocation, got {type(out).__name__}")
    if out.power.size != n_connectors or out.usable.size != n_groups:
        raise InputError(
            f"out must have {n_connectors} connectors in {n_groups} groups, got "
            f"{out.power.size} in {out.usable.size}"
        )
    if out.resolution != resolution:
        raise InputError(
            f"out must have the resolution of the call, got {out.resolution!r} for {resolution!r}"
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
        array = getattr(out, name)
        fits = array.dtype == dtype and array.shape == (size,)
        if not (fits and array.flags.carray):
            raise InputError(
                f"out.{name} must be a writable, contiguous array of {size} {np.dtype(dtype)}, "
                f"got {array.dtype} of shape {array.shape}"
            )


def _apart(batch: Batch, out: Allocation) -> Batch:
    """Copy what is read out of the memory that is written."""
    written = [getattr(out, name) for name in ("power", "reason", "bound_by", "offsets")]
    written += [out.level, out.usable, out.used, out.needed]
    return Batch._make(
        field.copy()
        if isinstance(field, np.ndarray) and any(np.may_share_memory(field, w) for w in written)
        else field
        for field in batch
    )


def _cuts(offsets: Integers, order: Integers, up: Integers, n_threads: int) -> list[int]:
    """Return places between trees that part the connectors about evenly."""
    n_groups = offsets.size - 1
    ends = np.flatnonzero(up < 0) + 1 if up.size else np.arange(1, n_groups + 1)
    sizes = np.diff(offsets)[order] if order.size else np.diff(offsets)
    done = np.cumsum(sizes)[ends - 1]
    shares = done[-1:] * np.arange(1, n_threads).reshape(-1, 1) / n_threads
    inner = ends[np.searchsorted(done, shares.ravel())]
    return [0, *np.unique(inner[inner < n_groups]).tolist(), n_groups]
