"""Hypothesis strategies: batches of groups with realistic and with evil values."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from wattfill.errors import MissingExtraError
from wattfill.testing.problem import Problem
from wattfill.testing.spec import FEATURES, Spec

try:
    from hypothesis import strategies as st
except ImportError:
    raise MissingExtraError(
        "wattfill.testing.strategies needs hypothesis: pip install 'wattfill[testing]'"
    ) from None

# Ratings that are sold, minimums that standards ask for, decimals that binary fractions betray,
# and what lies around one quantum, far below it, and beyond all of them.
POWERS = (0.0, 1.4, 2.3, 3.7, 4.14, 5.0, 6.0, 7.4, 11.0, 22.0, 50.0, 150.0)
EVIL = (0.1, 0.3, 1e-6, 1.5e-6, 2e-6, 1e-9, 5e-324, 0.1 + 0.2, 1e-6 / 3, 1e9, 2.0**40, 1e300)
BUFFERS = (0.0, 0.0, 0.1, 0.2, 0.9, 1.0)
WEIGHTS = (1.0, 2.0, 3.0, 0.1, 0.5, 1 / 3, 1e-6, 1e3)
STEPS = (0.1, 0.25, 0.023, 1.0, 7.0, 1e-6)


def powers(spec: Spec | None = None) -> st.SearchStrategy[float]:
    """Powers in kW, at least 0: ratings, decimals; any double and evil ones, where all is exact."""
    sold = [st.sampled_from(POWERS), st.integers(0, 20).map(float)]
    decimals = st.integers(0, 30_000).map(lambda n: n / 100)
    if spec is not None and not spec.is_exact:
        return st.one_of(*sold, decimals, st.integers(0, 50_000_000).map(lambda n: n / 1_000_000))
    return st.one_of(*sold, decimals, st.floats(0, 200, allow_nan=False), st.sampled_from(EVIL))


@st.composite
def connectors(
    draw: st.DrawFn, max_size: int = 8, spec: Spec | None = None
) -> list[tuple[float, float]]:
    """Bounds of the connectors of one group, minimum first; equal bounds and twins are common."""
    power = powers(spec)
    bounds = st.tuples(power, power).map(lambda pair: (min(pair), max(pair)))
    some = st.one_of(bounds, bounds, power.map(lambda x: (x, x)))
    size = draw(st.integers(0, max_size))
    if size and draw(st.booleans()):
        kinds = draw(st.lists(some, min_size=1, max_size=3))
        return draw(st.lists(st.sampled_from(kinds), min_size=size, max_size=size))
    return draw(st.lists(some, min_size=size, max_size=size))


@st.composite
def capacities(draw: st.DrawFn, bounds: list[tuple[float, float]]) -> float:
    """Capacity of a group in kW: too little, just enough, between, plenty, or none at all."""
    least = min(sum(low for low, _ in bounds), 1e9)
    most = min(sum(high for _, high in bounds), 1e9)
    between = st.floats(0, 1).map(lambda share: least + (most - least) * share)
    exact = st.one_of(
        between,
        between,
        st.just(least),
        st.just(most),
        st.just(0.0),
        st.floats(0, 1).map(lambda share: least * share),
        st.integers(0, 200).map(float),
    )
    beside = st.sampled_from([0.0, 0.0, 1e-6, -1e-6, 1e-9, -1e-9, 0.1, -0.1])
    return max(0.0, float(draw(exact)) + draw(beside))


@st.composite
def batches(
    draw: st.DrawFn,
    spec: Spec | None = None,
    max_groups: int = 6,
    max_connectors: int = 8,
) -> dict[str, Any]:
    """Arguments of `wattfill.allocate`, each feature of a spec on or off: ``allocate(**batch)``."""
    features = FEATURES if spec is None else spec.features
    one = "offsets" not in features
    groups = (
        [draw(connectors(max_connectors, spec))]
        if one
        else draw(st.lists(connectors(max_connectors, spec), min_size=0, max_size=max_groups))
    )
    bounds = [pair for group in groups for pair in group]
    n, n_groups = len(bounds), len(groups)

    def each(values: st.SearchStrategy[Any], size: int) -> list[Any]:
        return draw(st.lists(values, min_size=size, max_size=size))

    def has(feature: str) -> bool:
        return feature in features and draw(st.booleans())

    def per_group(values: list[float]) -> Any:
        return values[0] if one else values

    batch: dict[str, Any] = {
        "minimum": [low for low, _ in bounds],
        "maximum": [high for _, high in bounds],
    }
    if not one:
        batch["offsets"] = [0, *accumulate(len(group) for group in groups)]
    feeds = [-1] * n_groups
    if has("parent"):
        # A random forest: everybody's parent comes earlier in a random order.
        order = draw(st.permutations(range(n_groups)))
        for place, g in enumerate(order):
            feeds[g] = (
                order[draw(st.integers(0, place - 1))] if place and draw(st.booleans()) else -1
            )
        batch["parent"] = feeds
    capacity = [draw(capacities(_below(g, feeds, groups))) for g in range(n_groups)]
    if has("buffer"):
        buffer = each(st.sampled_from([0.0, 0.1, 0.2, 0.9, 1.0]) | st.floats(0, 1), n_groups)
        batch["buffer"] = per_group(buffer)
    if has("reserved"):
        reserved = each(st.sampled_from([0.0, 0.0, 0.1, 5.0]) | st.floats(0, 20), n_groups)
        batch["reserved"] = per_group(reserved)
    batch["capacity"] = per_group(capacity)
    if has("weight"):
        weights = st.sampled_from(WEIGHTS) | st.floats(1e-3, 1e3)
        batch["weight"] = each(weights, n)
    if has("priority"):
        batch["priority"] = each(st.integers(-1, 2), n)
    if has("rank"):
        batch["rank"] = each(st.integers(0, 3).map(float), n)
    if has("active"):
        batch["active"] = each(st.booleans(), n)
    if has("step"):
        batch["step"] = draw(st.sampled_from(STEPS))
    if spec is not None and not spec.pausing:
        _make_room(batch)
    return batch


def _make_room(batch: dict[str, Any]) -> None:
    """Give every group the capacity that its minimums need, or a little more."""
    p = Problem(**batch)
    servable = [c for c in p.line if c.servable]
    for g in p.groups:
        needed = sum(c.minimum for c in servable if g in p.chains[c.group]) * p.grain
        if needed > p.usable[g]:
            enough = needed / p.per_unit
            if isinstance(batch["capacity"], list):
                batch["capacity"][g] = enough
                for name in ("buffer", "reserved"):
                    if name in batch:
                        batch[name][g] = 0.0
            else:
                batch["capacity"] = enough
                batch.pop("buffer", None)
                batch.pop("reserved", None)


def _below(
    g: int, feeds: list[int], groups: list[list[tuple[float, float]]]
) -> list[tuple[float, float]]:
    """Bounds of all connectors below group g."""
    inside = [g]
    for other in inside:
        inside.extend(k for k, parent in enumerate(feeds) if parent == other)
    return [pair for other in inside for pair in groups[other]]
