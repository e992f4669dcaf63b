"""Share the usable capacity of groups among their connectors: arrays in, `Allocation` out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wattfill import _kernel, _validate
from wattfill._validate import Batch, Bytes, Floats, Integers
from wattfill.reason import Reason


@dataclass(frozen=True, eq=False, slots=True)
class Allocation:
    """The outcome for a batch: a power per connector, a level per group."""

    power: Floats
    """(n_connectors,) What each connector may draw, in the unit of the bounds."""
    reason: Bytes
    """(n_connectors,) Why, as values of `Reason`."""
    bound_by: Integers
    """(n_connectors,) The group that held it down, -1 where its own maximum or nothing did."""
    level: Floats
    """(n_groups,) The power (per weight) that everybody rises to; infinite where the group did
    not bind. With priorities, that of the highest tier that the group bound."""
    usable: Floats
    """(n_groups,) Usable capacity."""
    used: Floats
    """(n_groups,) Sum of the power below the group."""
    offsets: Integers
    """(n_groups + 1,) Group ``g`` owns connectors ``offsets[g]:offsets[g + 1]``."""


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
    """Share each group's usable capacity max-min fairly among its connectors."""
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
    n_connectors, n_groups = batch.minimum.size, batch.capacity.size
    order, first, up = np.empty((3, batch.parent.size), np.int64)
    most_connectors, most_groups = _kernel.plant(batch.offsets, batch.parent, order, first, up)
    if most_connectors < 0:
        _validate.refuse_cycle(batch.parent, most_groups)
    result = Allocation(
        np.empty(n_connectors),
        np.empty(n_connectors, np.uint8),
        np.empty(n_connectors, np.int64),
        np.empty(n_groups),
        np.empty(n_groups),
        np.empty(n_groups),
        batch.offsets,
    )

    def solve(start: int, stop: int) -> None:
        _kernel.solve(
            start, stop, most_connectors, most_groups, batch.per_unit, batch.step,
            batch.minimum, batch.maximum, batch.offsets,
            batch.capacity, batch.buffer, batch.reserved,
            batch.weight, batch.priority, batch.rank, batch.active,
            order, first, up,
            result.power, result.reason, result.bound_by,
            result.level, result.usable, result.used,
        )  # fmt: skip

    solve(0, n_groups)
    return result
