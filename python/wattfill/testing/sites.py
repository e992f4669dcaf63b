"""What sites are made of: values, shapes of groups, and how much capacity there is for whom.

A site is planned in words, group by group, and then built: `strategies` plans with Hypothesis,
`vectors` with a seed. Tables begin with what is simplest, for that is what Hypothesis shrinks to;
what shall come up often stands in them more than once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from wattfill.testing.problem import Problem

# Minimums that standards ask for, and ratings that are sold, in kW.
MINIMUMS = (0.0, 1.4, 1.4, 2.3, 4.14, 4.14, 5.0, 6.0)
RATINGS = (22.0, 11.0, 7.4, 3.7, 50.0, 150.0)
# Decimals that binary fractions betray.
DECIMALS = (0.1, 0.3, 0.7, 1.1, 2.3, 4.14)
# What lies around one quantum, far below it, beside a decimal, and beyond all of them.
EVIL = (0.1, 0.3, 1e-6, 1.5e-6, 2e-6, 1e-9, 5e-324, 0.1 + 0.2, 1e-6 / 3, 1e9, 2.0**40, 1e300)
BUFFERS = (0.5, 0.1, 0.2, 0.9, 0.25, 0.07, 0.1, 0.2, 0.9, 0.1, 0.2, 0.9, 0.1, 0.0, 0.1, 1.0)
EVIL_BUFFERS = (*BUFFERS, 1 / 3, 0.1 + 0.2, 5e-324, 1 - 2.0**-53)
RESERVED = (1.0, 0.1, 5.0, 2.345678, 0.1, 1.0, 5.0, 0.0)
WEIGHTS = (1.0, 2.0, 3.0)
WIDE_WEIGHTS = (1.0, 2.0, 3.0, 0.1, 0.5, 1 / 3, 1e-6, 1e3)
PRIORITIES = (0, 1, -1, 2)
RANKS = (0.0, 1.0, 2.0, 3.0)
ACTIVE = (True, True, True, False)
# How many places before it the parent of a group stands, 0 for none.
PARENTS = (0, 1, 1, 2, 3)
STEPS = (1.0, 0.1, 0.25, 0.023, 7.0, 1e-6)

# How often an argument is there at all; the others are there more often than not, as a whole.
OFTEN = {
    "parent": (False, True, True),
    "buffer": (False, True),
    "reserved": (False, False, True),
    "weight": (None, None, WEIGHTS, WIDE_WEIGHTS),
    "priority": (False, False, True),
    "rank": (False, False, True),
    "active": (False, False, True),
    "step": (False, False, True),
}

# Where values come from, for all connectors of a group.
FAMILIES = ("whole", "sold", "sold", "decimal", "fine")
EVIL_FAMILIES = (*FAMILIES, "evil", "evil", "double")

# What the connectors of a group have in common.
SHAPES = (
    *("as drawn",) * 9,
    "twins",
    "twins",
    "identical",
    "fixed",
    "no minimums",
    "one dominant",
    "decimals",
    "decimals",
    "empty",
)


PER_GROUP = ("capacity", "buffer", "reserved")
# Values that are as good as none.
NEUTRAL = {
    "buffer": 0.0,
    "reserved": 0.0,
    "parent": -1,
    "weight": 1.0,
    "priority": 0,
    "rank": 0.0,
    "active": True,
}


class Room(NamedTuple):
    """How much a group may use: a share of the way to what it could use, and some grains beside.

    `of` says of what: of the way from the minimums to the maximums (``"filling"``), of the minimums
    alone (``"admission"``), the largest or the smallest of the minimums, or twice the maximums.
    """

    of: str
    share: float = 0.0
    beside: int = 0


ROOMS = (
    *(Room("filling", share) for share in (0.5, 0.25, 0.75, 0.1, 0.9, 1 / 3, 0.01, 0.99)),
    *(Room("filling", share) for share in (0.5, 0.25, 0.75, 0.5, 0.3, 0.4, 0.6, 0.8)),
    Room("filling", 0.0),  # the minimums just fit
    Room("filling", 0.0, -1),
    Room("filling", 0.0, 1),
    Room("filling", 1.0),  # all are saturated
    Room("filling", 1.0, -1),
    Room("twice the maximums"),
    Room("twice the maximums"),
    Room("admission", 0.5),
    Room("admission", 0.9),
    Room("largest", 0.0, -1),  # somebody does not fit even alone
    Room("smallest", 0.0, -1),  # nobody does
    Room("nothing"),
)
# What shares of the way are rounded to, where that is still on the way: quanta in 1 kW, 1 W, 1 mW.
ROUNDED_TO = (10**6, 10**6, 10**3, 1)
# Off the grid, in kW: within a thousandth of a quantum of it, just not, and a third of a quantum.
OFF = (0.0, 0.0, 0.0, 0.0, 9e-10, -9e-10, -1e-9, 1e-6 / 3)

# Edges of size classes and of registers of two, four and eight; now and then one is large.
EDGES = (3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 41)
LARGE = (255, 256, 257, 255, 256, 257, 1000, 2500)
CROWDS = ((0,) * 120, EDGES, LARGE)
# How the groups of a tree are numbered: from the root, from the leaves, neither.
NUMBERED = ("down", "up", "mixed")

# Less than what the kernel takes with weights; larger sums are cut to it.
MOST_QUANTA = 2 * 10**15
# What minimums are cut to where all must fit.
MOST_THAT_FITS = 1000.0

# What a group could use where nobody is, in quanta.
LEFT_OPEN = 10**7

# What chance alone may miss in some hundred sites, one group each but for the last.
HARD: tuple[dict[str, Any], ...] = (
    # Decimals that fit, and whose level lies on the grid.
    {"minimum": [0.1] * 3, "maximum": [1.0] * 3, "capacity": [0.3]},
    {"minimum": [1.0] * 10, "maximum": [7.4] * 10, "capacity": [100.0], "buffer": [0.9]},
    {"minimum": [0.0] * 3, "maximum": [22.0, 22.0, 7.4], "capacity": [25.0]},
    # More than a byte counts, with too little for all.
    {"minimum": [1.0] * 257, "maximum": [22.0] * 257, "capacity": [1000.0]},
    # Weights for which other rules than Webster's end elsewhere.
    {
        "minimum": [0.0] * 3,
        "maximum": [8.0] * 3,
        "capacity": [6.0],
        "weight": [2.0, 2.0, 5.0],
        "step": 1.0,
    },
    {
        "minimum": [0.0] * 3,
        "maximum": [8.0] * 3,
        "capacity": [4.0],
        "weight": [1.0, 1.0, 5.0],
        "step": 1.0,
    },
    # Quanta that do not go round in a tier.
    {
        "minimum": [0.0] * 4,
        "maximum": [1.0] * 4,
        "capacity": [2.0],
        "priority": [0, 0, 0, -1],
    },
    # A group inside a tree whose reserve binds.
    {
        "minimum": [0.0] * 2,
        "maximum": [1.0] * 2,
        "capacity": [1.6, 1.2],
        "offsets": [0, 1, 2],
        "reserved": [1.0, 1.0],
        "parent": [-1, 0],
    },
)


def hard_sites(features: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Yield those of `HARD` that an allocator with these features must answer."""
    for site in HARD:
        batch = {name: list(x) if isinstance(x, list) else x for name, x in site.items()}
        optional = set(batch) - {"minimum", "maximum", "capacity"}
        if not optional <= features:
            continue
        if "offsets" not in features:
            for name in PER_GROUP:
                if name in batch:
                    (batch[name],) = batch[name]
        else:
            batch.setdefault("offsets", [0, len(batch["minimum"])])
        yield batch


_GRID = Problem([], [], 0.0)


class Plug(NamedTuple):
    """A connector as planned."""

    minimum: float
    maximum: float
    weight: float = 1.0
    priority: int = 0
    rank: float = 0.0
    active: bool = True


class Plan(NamedTuple):
    """A group as planned.

    `parent` says how many places before it in the plans its parent stands, 0 for none; `off` is
    what its capacity is off the grid.
    """

    plugs: Sequence[Plug]
    shape: str = "as drawn"
    room: Room = ROOMS[0]
    rounded_to: int = 1
    off: float = 0.0
    buffer: float = 0.0
    reserved: float = 0.0
    parent: int = 0


def sizes_up_to(most: int) -> tuple[int, ...]:
    """Return how many connectors the first group has, most often 0: as many as were drawn."""
    return tuple(size for size in sum(CROWDS, ()) if size <= most)


def build(
    plans: Sequence[Plan],
    names: Sequence[str],
    *,
    step: float | None = None,
    crowd: int = 0,
    numbered: str = "down",
    one_tree: bool = False,
    pausing: bool = True,
) -> dict[str, Any]:
    """Return the batch that was planned.

    Parameters
    ----------
    plans : sequence of Plan
        The groups, parents first.
    names : sequence of str
        Which optional arguments are there. Without ``"offsets"`` there is one group.
    step : float, optional
        The step, if there is one.
    crowd : int
        How many connectors the first group has, made of those planned; 0 for those alone.
    numbered : str
        One of `NUMBERED`.
    one_tree : bool
        Whether groups that have no parent are fed by the first.
    pausing : bool
        Whether minimums may be too large to fit.

    """
    n_groups = len(plans)
    grain = 1 if step is None else round(step * _GRID.per_unit)
    plugs = [_shaped(plan) for plan in plans]
    if not pausing:
        plugs = [[_with_a_fitting_minimum(x, grain) for x in group] for group in plugs]
    if crowd and plugs and plugs[0]:
        plugs[0] = [plugs[0][i % len(plugs[0])] for i in range(crowd)]
    feeds = [
        k - plan.parent if 0 < plan.parent <= k and "parent" in names else -1
        for k, plan in enumerate(plans)
    ]
    if one_tree:
        feeds = [max(feed, 0) if k else -1 for k, feed in enumerate(feeds)]

    # From the leaves to the root: what is needed and what could be used below each group.
    needs, wants = [0] * n_groups, [0] * n_groups
    capacity, buffer = [0.0] * n_groups, [plan.buffer for plan in plans]
    for k in reversed(range(n_groups)):
        bounds = [_grains(x, grain) for x in plugs[k] if x.active]
        bounds = [(low, high) for low, high in bounds if low <= high]
        needs[k] = min(needs[k] + sum(low for low, _ in bounds), MOST_QUANTA)
        wants[k] = min(wants[k] + sum(high for _, high in bounds), MOST_QUANTA)
        usable = _usable(plans[k], [low for low, _ in bounds if low], needs[k], wants[k], grain)
        if not pausing:
            usable = max(usable, needs[k])
            if usable and buffer[k] > 1 - 1e-3:
                buffer[k] = 0.5
        off = plans[k].off if pausing else abs(plans[k].off)
        capacity[k] = _capacity(usable, buffer[k], plans[k].reserved, off)
        if feeds[k] >= 0:
            needs[feeds[k]] += min(usable, needs[k])
            wants[feeds[k]] += min(usable, wants[k])

    order = _order(n_groups, numbered)
    where = {k: g for g, k in enumerate(order)} | {-1: -1}
    line = [x for k in order for x in plugs[k]]
    batch: dict[str, Any] = {
        "minimum": [x.minimum for x in line],
        "maximum": [x.maximum for x in line],
        "capacity": [capacity[k] for k in order],
    }
    if "offsets" in names:
        batch["offsets"] = [0, *accumulate(len(plugs[k]) for k in order)]
    # What says nothing is left out, for the sake of those who read it.
    optional: dict[str, list[Any]] = {
        "buffer": [buffer[k] for k in order],
        "reserved": [plans[k].reserved for k in order],
        "parent": [where[feeds[k]] for k in order],
        "weight": [x.weight for x in line],
        "priority": [x.priority for x in line],
        "rank": [x.rank for x in line],
        "active": [x.active for x in line],
    }
    for name, values in optional.items():
        says_something = any(value != NEUTRAL[name] for value in values)
        if name in names and (says_something or (one_tree and name == "parent")):
            batch[name] = values
    if step is not None:
        batch["step"] = step
    if "offsets" not in names:
        for name in PER_GROUP:
            if name in batch:
                batch[name] = batch[name][0]
    return batch


def _with_a_fitting_minimum(plug: Plug, grain: int) -> Plug:
    """Return a connector that need not be paused, however steps fall."""
    plug = plug._replace(minimum=min(plug.minimum, MOST_THAT_FITS))
    low, high = _grains(plug, grain)
    return plug if low <= high else plug._replace(minimum=0.0)


def _shaped(plan: Plan) -> list[Plug]:
    """Return the connectors of a group with what they have in common."""
    plugs = [
        x._replace(minimum=min(x.minimum, x.maximum), maximum=max(x.minimum, x.maximum))
        for x in plan.plugs
    ]
    match plan.shape:
        case "twins":
            plugs = [plugs[i - i % 2] for i in range(len(plugs))]
        case "identical":
            plugs = plugs[:1] * len(plugs)
        case "fixed":
            plugs = [x._replace(minimum=x.maximum) for x in plugs]
        case "no minimums":
            plugs = [x._replace(minimum=0.0) for x in plugs]
        case "one dominant":
            plugs[:1] = [x._replace(maximum=max(x.maximum, 1e3)) for x in plugs[:1]]
        case "decimals":
            least = DECIMALS[len(plugs) % len(DECIMALS)]
            plugs = [x._replace(minimum=least, maximum=max(x.maximum, least)) for x in plugs]
        case "empty":
            plugs = []
    return plugs


def _grains(x: Plug, grain: int) -> tuple[int, int]:
    """Return the bounds of a connector, taken to the next step, in quanta."""
    high = _GRID.down(x.maximum)
    low = min(_GRID.up(x.minimum), high)
    return -(-low // grain) * grain, high // grain * grain


def _usable(plan: Plan, minimums: list[int], needed: int, wanted: int, grain: int) -> int:
    """Return how many quanta a group shall be able to use."""
    of, share, beside = plan.room
    wanted = wanted or LEFT_OPEN
    if plan.shape == "decimals" and of == "filling":
        share = 0.0  # of decimals it matters whether they just fit
    if not needed and (
        of in ("admission", "largest", "smallest") or (of, share) == ("filling", 0.0)
    ):
        of, share = "filling", 0.5
    least, most = {
        "filling": (needed, wanted),
        "admission": (0, needed),
        "largest": (max(minimums, default=0),) * 2,
        "smallest": (min(minimums, default=0),) * 2,
        "twice the maximums": (2 * wanted, 2 * wanted),
        "nothing": (0, 0),
    }[of]
    usable = least + int((most - least) * share)
    if least < usable < most:
        # To a round number, if there is one on the way.
        for rounded_to in ROUNDED_TO:
            round_number = usable // rounded_to * rounded_to
            if rounded_to <= plan.rounded_to and least < round_number:
                usable = round_number
                break
    return max(usable + beside * grain, 0)


def _capacity(usable: int, buffer: float, reserved: float, off: float) -> float:
    """Return a capacity that leaves as much as shall be usable, rounded up to the grid.

    The buffer makes what is rounded up less than one quantum.
    """
    total = usable + _GRID.up(reserved) if usable else 0
    if total and buffer < 1.0:
        numerator, denominator = (1.0 - buffer).as_integer_ratio()
        # 1 - 0.9 is a little less than a tenth; what is meant is the tenth.
        meant = round((1.0 - buffer) * 10**9)
        if abs(meant - (1.0 - buffer) * 10**9) < 1e-6 and meant:
            numerator, denominator = meant, 10**9
        total = -(-total * denominator // numerator)
    return min(total, MOST_QUANTA) / _GRID.per_unit + (off if total else 0.0)


def _order(n_groups: int, numbered: str) -> list[int]:
    """Return which plan each group is."""
    if numbered == "up":
        return [*reversed(range(n_groups))]
    if numbered == "mixed":
        return [*range(1, n_groups, 2), *reversed(range(0, n_groups, 2))]
    return [*range(n_groups)]
