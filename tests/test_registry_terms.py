"""What is reserved for connectors that cost something in any case, held to its definition."""

from hypothesis import event, given
from hypothesis import strategies as st

from wattfill import Connector, Registry
from wattfill._trees import Terms
from wattfill.testing.reference import solve

KW = st.integers(0, 12).map(float) | st.sampled_from([0.1, 1.4, 4.14, 7.36])
PARENTS = [-1, 0, 0, 1]
GROUPS = ["site", "east", "west", "hall"]


@st.composite
def plugs(draw):
    minimum, maximum = sorted([draw(KW), draw(KW)])
    return {
        "group": draw(st.integers(0, 3)),
        "minimum": minimum,
        "maximum": maximum,
        "fallback": min(draw(st.just(0.0) | KW), maximum),
        "kept": draw(st.none() | st.none() | KW),
        "session": draw(st.booleans()),
        "asks": draw(st.none() | KW),
    }


def quanta(kw):
    return round(kw * 1e6)


def costs(connector):
    return quanta(max(connector["fallback"], connector["kept"] or 0.0))


def above(g):
    while g >= 0:
        yield g
        g = PARENTS[g]


def defined(connectors, capacities):
    """Admit one after another, with the fallbacks of all others set aside; then fill."""
    takes_part = [c["session"] and c["kept"] is None for c in connectors]
    lowest = [max(c["minimum"], c["fallback"]) for c in connectors]
    left = [quanta(kw) for kw in capacities]
    for c in connectors:
        for g in above(c["group"]):
            left[g] -= costs(c)
    admitted = []
    for i, c in enumerate(connectors):
        more = quanta(lowest[i]) - costs(c)
        fits = takes_part[i] and all(left[g] >= more for g in above(c["group"]))
        admitted.append(fits)
        for g in above(c["group"]) if fits else ():
            left[g] -= more
    reserved = [
        sum(
            costs(c) for i, c in enumerate(connectors) if not admitted[i] and g in above(c["group"])
        )
        / 1e6
        for g in range(4)
    ]
    order = sorted(range(len(connectors)), key=lambda i: connectors[i]["group"])
    offsets = [sum(c["group"] < g for c in connectors) for g in range(5)]
    asked = [
        min(c["maximum"], c["maximum"] if c["asks"] is None else c["asks"]) for c in connectors
    ]
    solved = solve(
        [lowest[i] for i in order],
        [max(asked[i], lowest[i]) for i in order],
        list(capacities),
        offsets,
        reserved=reserved,
        parent=PARENTS,
        rank=[float(i) for i in order],
        active=[admitted[i] for i in order],
    )
    powers = dict(zip(order, solved.power, strict=True))
    return [powers[i] for i in range(len(connectors))], admitted, takes_part


@given(st.lists(plugs(), max_size=7), st.tuples(*[st.integers(0, 40).map(float)] * 4))
def test_who_takes_part_gets_what_the_others_leave(connectors, capacities):
    # What they cost in any case fits, as a dispatcher sees to.
    capacities = [
        max(kw, sum(costs(c) for c in connectors if g in above(c["group"])) / 1e6)
        for g, kw in enumerate(capacities)
    ]
    r = Registry()
    for g, group in enumerate(GROUPS):
        parent = GROUPS[PARENTS[g]] if g else None
        r.create_group(group, capacities[g], id=group, parent=parent)
    for i, c in enumerate(connectors):
        plug = Connector("1", c["maximum"], c["minimum"])
        r.add_charge_station(GROUPS[c["group"]], f"{i}", [plug])
        r._set_terms((f"{i}", "1"), Terms(c["fallback"], c["kept"]))
        if c["session"]:
            r.start_session(f"{i}", "1", maximum=c["asks"])
    expected, admitted, takes_part = defined(connectors, capacities)
    event(f"somebody waits: {admitted != takes_part}")

    answer = r.allocate()

    found = [answer.connectors[f"{i}", "1"] for i in range(len(connectors))]
    assert [c.power for c in found] == expected
    assert [c.reason.label == "paused" for c in found] == [
        part and not fits for part, fits in zip(takes_part, admitted, strict=True)
    ]
