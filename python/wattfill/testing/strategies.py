"""Hypothesis strategies: connectors, groups, trees and batches, with realistic and evil values.

Each takes a `Spec`, and makes only what an allocator of it must answer: features that it has, with
a tolerance only powers in whole mW, and where it pauses nobody only minimums that fit. Without a
spec all of wattfill's own range comes up. They shrink to one group of few connectors, round
numbers, and no argument that can be left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from wattfill.errors import InputError, MissingExtraError
from wattfill.testing import sites
from wattfill.testing.sites import Plan, Plug
from wattfill.testing.spec import FEATURES, Spec

try:
    from hypothesis import strategies as st
except ImportError:
    raise MissingExtraError(
        "wattfill.testing.strategies needs hypothesis: pip install 'wattfill[testing]'"
    ) from None

Batches = st.SearchStrategy[dict[str, Any]]

# How many connectors a group has unless it is a crowd; how many a crowd has, unless more are asked.
FEW = 8
MOST = 257


def powers(spec: Spec | None = None) -> st.SearchStrategy[float]:
    """Powers in kW, at least 0.

    Parameters
    ----------
    spec : Spec, optional
        With a tolerance, only whole mW come up.

    Examples
    --------
    >>> from random import Random
    >>> from hypothesis import find
    >>> find(powers(), lambda power: power > 3, random=Random(1))
    4.0

    """
    families = dict.fromkeys(_families(spec))
    return st.one_of(*(power for family in families for power in reversed(_bounds(family))))


def connectors(spec: Spec | None = None) -> st.SearchStrategy[tuple[float, float]]:
    """Bounds of a connector in kW: the minimum, and the maximum, which is no less.

    Parameters
    ----------
    spec : Spec, optional
        With a tolerance, only whole mW come up.

    Examples
    --------
    >>> from random import Random
    >>> from hypothesis import find
    >>> find(connectors(), lambda bounds: bounds[1] > 3, random=Random(1))
    (0.0, 4.0)

    """
    return st.one_of(*(st.tuples(*_bounds(family)) for family in _families(spec))).map(
        lambda pair: (min(pair), max(pair))
    )


def groups(spec: Spec | None = None, max_connectors: int = MOST) -> Batches:
    """Arguments of `wattfill.allocate` for one group: ``allocate(**group)``.

    Parameters
    ----------
    spec : Spec, optional
        What may come up; the group has no ``offsets`` and no ``parent``.
    max_connectors : int
        The most connectors that it may have. Few have more than 8.

    Examples
    --------
    >>> from random import Random
    >>> from hypothesis import find
    >>> find(groups(), lambda group: sum(group["maximum"]) > group["capacity"], random=Random(1))
    {'minimum': [0.0], 'maximum': [1.0], 'capacity': 0.5}

    """
    return _sites(spec, 1, max_connectors, without=("offsets", "parent"))


def trees(spec: Spec | None = None, max_groups: int = 6, max_connectors: int = MOST) -> Batches:
    """Arguments of `wattfill.allocate` for one tree of groups, with ``parent``.

    Parameters
    ----------
    spec : Spec, optional
        What may come up; it must have ``parent``.
    max_groups, max_connectors : int
        The most groups, and the most connectors that one of them may have.

    Examples
    --------
    >>> from random import Random
    >>> from hypothesis import find
    >>> find(trees(), lambda tree: len(tree["capacity"]) > 1, random=Random(1))["parent"]
    [-1, 0]

    """
    if spec is not None and "parent" not in spec.features:
        raise InputError("spec must have parent among its features: a tree is of groups with one")
    return _sites(spec, max_groups, max_connectors, one_tree=True)


def batches(spec: Spec | None = None, max_groups: int = 6, max_connectors: int = MOST) -> Batches:
    """Arguments of `wattfill.allocate`, each feature on or off: ``allocate(**batch)``.

    Parameters
    ----------
    spec : Spec, optional
        What may come up. Without ``offsets`` it is one group.
    max_groups, max_connectors : int
        The most groups, and the most connectors that one of them may have. Few have more than 8,
        and one site in fifty has hundreds; with 2,500, now and then thousands.

    Examples
    --------
    >>> from random import Random
    >>> from hypothesis import find
    >>> find(batches(), lambda batch: sum(batch["minimum"]) > 0, random=Random(1))["minimum"]
    [1.0]

    """
    if spec is not None and "offsets" not in spec.features:
        return groups(spec, max_connectors)
    return _sites(spec, max_groups, max_connectors)


def _sites(
    spec: Spec | None,
    max_groups: int,
    max_connectors: int,
    without: tuple[str, ...] = (),
    one_tree: bool = False,
) -> Batches:
    features = [
        name for name in FEATURES if (spec is None or name in spec.features) and name not in without
    ]
    often: dict[str, tuple[Any, ...]] = {x: sites.OFTEN[x] for x in features if x != "offsets"}
    if one_tree:
        often["parent"] = (True,)
    return _site(
        spec,
        max_groups,
        min(max_connectors, FEW),
        {name: st.sampled_from(values) for name, values in often.items()},
        "offsets" in features,
        st.sampled_from(sites.sizes_up_to(max_connectors)),
        one_tree,
    )


@st.composite
def _site(
    draw: st.DrawFn,
    spec: Spec | None,
    max_groups: int,
    max_connectors: int,
    arguments: dict[str, st.SearchStrategy[Any]],
    offsets: bool,
    crowd: st.SearchStrategy[int],
    one_tree: bool,
) -> dict[str, Any]:
    """Draw what is there, then plans of the groups, and build them."""
    present = {name: draw(often) for name, often in arguments.items()}
    names = tuple(name for name, value in present.items() if value)
    weights = present.get("weight") or sites.WEIGHTS
    plan, another = _plans(_is_exact(spec), max_connectors, names, weights)
    plans = []
    if not offsets or one_tree or draw(_ANY):
        plans.append(draw(plan))
        while len(plans) < max_groups and (more := draw(another)):
            plans.append(more)
    return sites.build(
        plans,
        (*names, "offsets") if offsets else names,
        step=draw(_STEPS) if "step" in names else None,
        crowd=draw(crowd),
        numbered=draw(_NUMBERED) if "parent" in names else "down",
        one_tree=one_tree,
        pausing=spec is None or spec.pausing,
    )


# Now and then there is no group at all.
_ANY = st.sampled_from((True,) * 30 + (False,))
_MORE = st.sampled_from((False, True, True))
_STEPS = st.sampled_from(sites.STEPS)
_NUMBERED = st.sampled_from(sites.NUMBERED)


@lru_cache(maxsize=1024)
def _plans(
    exact: bool, max_connectors: int, names: tuple[str, ...], weights: tuple[float, ...]
) -> tuple[st.SearchStrategy[Plan], st.SearchStrategy[Plan | None]]:
    """Return plans of a group, and of another group or none; made once for each set of arguments.

    Whether there is another stands beside its plan, so that both go away together.
    """
    families = sites.EVIL_FAMILIES if exact else sites.FAMILIES
    buffers = sites.EVIL_BUFFERS if exact else sites.BUFFERS
    plan = _plan(
        st.sampled_from(families),
        {
            family: st.lists(
                _plug(family, names, weights),
                min_size=min(1, max_connectors),
                max_size=max_connectors,
            )
            for family in dict.fromkeys(families)
        },
        st.sampled_from(buffers) if "buffer" in names else st.just(0.0),
        st.sampled_from(sites.RESERVED) if "reserved" in names else st.just(0.0),
        st.sampled_from(sites.PARENTS) if "parent" in names else st.just(0),
        st.sampled_from(sites.OFF) if exact else st.just(0.0),
    )
    return plan, _another(plan)


@st.composite
def _another(draw: st.DrawFn, plan: st.SearchStrategy[Plan]) -> Plan | None:
    return draw(plan) if draw(_MORE) else None


_SHAPES = st.sampled_from(sites.SHAPES)
_ROOMS = st.sampled_from(sites.ROOMS)
_ROUNDED_TO = st.sampled_from(sites.ROUNDED_TO)


@st.composite
def _plan(
    draw: st.DrawFn,
    families: st.SearchStrategy[str],
    plugs: dict[str, st.SearchStrategy[list[Plug]]],
    buffer: st.SearchStrategy[float],
    reserved: st.SearchStrategy[float],
    parent: st.SearchStrategy[int],
    off: st.SearchStrategy[float],
) -> Plan:
    return Plan(
        plugs=draw(plugs[draw(families)]),
        shape=draw(_SHAPES),
        room=draw(_ROOMS),
        rounded_to=draw(_ROUNDED_TO),
        off=draw(off),
        buffer=draw(buffer),
        reserved=draw(reserved),
        parent=draw(parent),
    )


def _plug(
    family: str, names: tuple[str, ...], weights: tuple[float, ...]
) -> st.SearchStrategy[Plug]:
    """Return a connector, with all that is its own, so that it goes away as a whole."""
    tables = {
        "weight": weights,
        "priority": sites.PRIORITIES,
        "rank": sites.RANKS,
        "active": sites.ACTIVE,
    }
    own = (st.sampled_from(table if name in names else table[:1]) for name, table in tables.items())
    return st.tuples(*_bounds(family), *own).map(Plug._make)


def _bounds(family: str) -> tuple[st.SearchStrategy[float], st.SearchStrategy[float]]:
    """Return what minimums and maximums are drawn from; either may be the larger."""
    match family:
        case "whole":
            return st.integers(0, 6).map(float), st.integers(1, 20).map(float)
        case "sold":
            return st.sampled_from(sites.MINIMUMS), st.sampled_from(sites.RATINGS)
        case "decimal":
            return _parts(600, 100), _parts(3_000, 100)
        case "fine":
            return _parts(6_000_000, 10**6), _parts(30_000_000, 10**6)
        case "evil":
            evil = st.sampled_from((*sites.MINIMUMS, *sites.EVIL))
            return evil, evil
        case _:
            return st.floats(0, 200), st.floats(0, 200)


def _parts(most: int, per_unit: int) -> st.SearchStrategy[float]:
    return st.integers(0, most).map(lambda n: n / per_unit)


def _is_exact(spec: Spec | None) -> bool:
    return spec is None or spec.is_exact


def _families(spec: Spec | None) -> tuple[str, ...]:
    return sites.EVIL_FAMILIES if _is_exact(spec) else sites.FAMILIES
