"""The laws of an allocation, as properties, in whole quanta and without a tolerance."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wattfill import Allocation, Reason, allocate
from wattfill.testing.strategies import batches

LAW = settings(max_examples=4 * settings().max_examples)
HELD = (Reason.MINIMUM, Reason.SHARING)


def quanta(units: float) -> int:
    """Return the whole number of quanta that a result stands for.

    A power between two grid points is the bound of a connector both of whose bounds lie there; it
    counts as the lower one, as a maximum does.
    """
    exact = Fraction(units) * 10**6
    return math.floor(exact + max(Fraction(1, 1024), exact / 2**52))


class Site:
    """A batch and its allocation, with what the laws speak of."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch = batch
        self.a: Allocation = allocate(**batch)
        self.minimum, self.maximum = batch["minimum"], batch["maximum"]
        self.n, self.n_groups = len(self.minimum), len(batch["capacity"])
        self.parent = batch.get("parent", [-1] * self.n_groups)
        self.active = batch.get("active", [True] * self.n)
        self.priority = batch.get("priority", [0] * self.n)
        self.weight = batch.get("weight", [1.0] * self.n)
        self.step = quanta(batch.get("step") or 0)
        self.power = [quanta(x) for x in self.a.power]
        self.reason = [Reason(x) for x in self.a.reason]
        self.owner = np.repeat(np.arange(self.n_groups), np.diff(batch["offsets"])).tolist()

    def chain(self, g: int) -> list[int]:
        chain = [g]
        while self.parent[chain[-1]] >= 0:
            chain.append(self.parent[chain[-1]])
        return chain

    def below(self, g: int) -> list[int]:
        return [i for i in range(self.n) if g in self.chain(self.owner[i])]

    def admitted(self, g: int) -> list[int]:
        return [i for i in self.below(g) if self.reason[i] not in (Reason.IDLE, Reason.PAUSED)]

    def held(self) -> list[int]:
        return [i for i in range(self.n) if self.reason[i] in HELD]

    def least(self, i: int) -> float:
        """Return the quanta without which connector i cannot do, infinite where none suffice."""
        bounds = ([0.0, self.minimum[i]], [1e9, self.maximum[i]])
        beside = allocate(*bounds, 1e9, priority=[1, 0], step=self.batch.get("step"))
        return quanta(beside.power[1]) if beside.reason[1] != Reason.PAUSED else math.inf

    def left_for_minimums(self, g: int) -> float:
        usable = quanta(self.a.usable[g])
        if self.step:
            usable -= usable % self.step
        return usable - sum(self.least(i) for i in self.admitted(g))


def pick(
    batch: dict[str, Any], order: list[int], groups: list[int] | None = None
) -> dict[str, Any]:
    """Return the batch with its connectors in another order, or with fewer of them."""
    owner = np.repeat(np.arange(len(batch["capacity"])), np.diff(batch["offsets"]))[order]
    sizes = np.bincount(owner, minlength=len(batch["capacity"]))
    picked = dict(batch, offsets=[0, *np.cumsum(sizes).tolist()])
    for name in ("minimum", "maximum", "weight", "priority", "rank", "active"):
        if name in batch:
            picked[name] = [batch[name][i] for i in order]
    return picked


def without_pauses(batch: dict[str, Any]) -> Site:
    """Return a site where all minimums fit: those who would wait are not there."""
    site = Site(batch)
    return Site(pick(batch, [i for i in range(site.n) if site.reason[i] is not Reason.PAUSED]))


def with_whole_weights(batch: dict[str, Any]) -> Site:
    """Return a site whose weights multiply with quanta exactly."""
    if "weight" in batch:
        batch = batch | {"weight": [float(1 + int(w * 1000) % 3) for w in batch["weight"]]}
    return Site(batch)


sites = batches().map(Site)


@LAW
@given(sites)
def test_no_group_and_no_ancestor_is_ever_over_its_usable_capacity(site):
    for g in range(site.n_groups):
        used = sum(site.power[i] for i in site.below(g))

        assert used <= quanta(site.a.usable[g])
        assert used == quanta(site.a.used[g])


@LAW
@given(sites)
def test_a_power_is_zero_or_within_the_bounds_as_doubles(site):
    for i, power in enumerate(site.a.power):
        if site.reason[i] in (Reason.IDLE, Reason.PAUSED):
            assert power == 0.0
        else:
            assert site.minimum[i] <= power <= site.maximum[i]


@LAW
@given(sites)
def test_reasons_and_binding_groups_say_what_happened(site):
    for i, reason in enumerate(site.reason):
        bound_by = site.a.bound_by[i]

        assert (reason is Reason.IDLE) == (not site.active[i])
        if reason in (Reason.IDLE, Reason.MAXIMUM):
            assert bound_by == -1
        elif reason in HELD:
            assert bound_by in site.chain(site.owner[i])
            assert np.isfinite(site.a.level[bound_by])
        else:
            assert bound_by in [-1, *site.chain(site.owner[i])]


@LAW
@given(sites)
def test_nobody_is_paused_who_would_still_have_fitted(site):
    for i, reason in enumerate(site.reason):
        if reason is not Reason.PAUSED:
            continue
        bound_by = site.a.bound_by[i]

        if bound_by == -1:
            assert site.step
        else:
            assert site.least(i) > site.left_for_minimums(bound_by)


@LAW
@given(sites)
def test_less_than_a_quantum_per_rising_connector_or_a_step_in_all_stays_unused(site):
    for i in site.held():
        g = site.a.bound_by[i]
        held = sum(site.a.bound_by[j] == g for j in site.held())
        unused = quanta(site.a.usable[g]) - quanta(site.a.used[g])

        assert unused < (site.step or held)


@LAW
@given(batches().map(with_whole_weights))
def test_whoever_is_held_down_has_no_less_than_others_above_their_minimum(site):
    # Max-min fairness as a certificate: nobody larger in the full group could give. In whole
    # numbers, per weight, within the one quantum or step that does not go round.
    grain = site.step or 1
    for i in site.held():
        for j in site.admitted(site.a.bound_by[i]):
            if site.priority[j] != site.priority[i] or site.power[j] <= site.least(j):
                continue

            if site.step and "weight" in site.batch:
                # Webster: j's last claim came no later than i's next.
                assert (site.power[j] / grain - 0.5) / site.weight[j] <= (
                    site.power[i] / grain + 0.5
                ) / site.weight[i]
            else:
                slack = grain if i != j else 0
                assert site.power[j] * site.weight[i] <= (site.power[i] + slack) * site.weight[j]


@LAW
@given(sites)
def test_who_is_held_down_leaves_lower_priorities_at_their_minimum(site):
    for i in site.held():
        for j in site.admitted(site.a.bound_by[i]):
            if site.priority[j] < site.priority[i]:
                assert site.power[j] == site.least(j)


@LAW
@given(sites)
def test_equals_get_equal_where_both_are_admitted(site):
    def kind(i: int) -> tuple[float, ...]:
        bounds = (site.minimum[i], site.maximum[i])
        return (*bounds, site.weight[i], site.priority[i], site.owner[i])

    for g in range(site.n_groups):
        by_kind: dict[tuple[float, ...], set[int]] = {}
        for i in site.admitted(g):
            by_kind.setdefault(kind(i), set()).add(site.power[i])

        for powers in by_kind.values():
            assert max(powers) - min(powers) <= site.step


def shuffled_within_groups(data: st.DataObject, site: Site) -> list[int]:
    ends = site.batch["offsets"]
    return [
        i
        for g in range(site.n_groups)
        for i in data.draw(st.permutations(range(ends[g], ends[g + 1])))
    ]


@LAW
@given(batches(), st.data())
def test_order_does_not_matter_where_nobody_is_paused_and_no_steps_are_handed_out(batch, data):
    site = without_pauses(batch | {"step": None})
    order = shuffled_within_groups(data, site)

    again = allocate(**pick(site.batch, order))

    assert again.power.tolist() == site.a.power[order].tolist()
    assert again.level.tolist() == site.a.level.tolist()


@LAW
@given(batches(), st.data())
def test_order_never_matters_where_everybody_has_a_rank(batch, data):
    site = Site(batch | {"rank": data.draw(st.permutations(range(len(batch["minimum"]))))})
    order = shuffled_within_groups(data, site)

    again = allocate(**pick(site.batch, order))

    for name in ("power", "reason", "bound_by"):
        assert getattr(again, name).tolist() == getattr(site.a, name)[order].tolist()


@LAW
@given(sites)
def test_idle_and_paused_connectors_do_not_matter(site):
    rest = [i for i in range(site.n) if site.reason[i] not in (Reason.IDLE, Reason.PAUSED)]

    again = allocate(**pick(site.batch, rest))

    assert again.power.tolist() == site.a.power[rest].tolist()
    assert again.reason.tolist() == site.a.reason[rest].tolist()


@LAW
@given(batches(), batches())
def test_other_groups_do_not_matter(batch, other):
    # What holds for the whole call must be the same in both.
    other = other | {"step": batch.get("step")}
    if "weight" not in batch or "weight" not in other:
        batch, other = ({k: v for k, v in x.items() if k != "weight"} for x in (batch, other))
    one, two = Site(batch), Site(other)
    both: dict[str, Any] = {"step": batch.get("step")}
    for name in ("minimum", "maximum", "weight", "priority", "active"):
        if name in batch or name in other:
            both[name] = list(getattr(one, name)) + list(getattr(two, name))
    if "rank" in batch or "rank" in other:
        both["rank"] = batch.get("rank", [0.0] * one.n) + other.get("rank", [0.0] * two.n)
    for name in ("capacity", "buffer", "reserved"):
        zeros = [[0.0] * one.n_groups, [0.0] * two.n_groups]
        both[name] = batch.get(name, zeros[0]) + other.get(name, zeros[1])
    both["offsets"] = batch["offsets"] + [one.n + k for k in other["offsets"][1:]]
    both["parent"] = one.parent + [p + one.n_groups if p >= 0 else -1 for p in two.parent]

    together = allocate(**both)

    assert together.power.tolist() == one.a.power.tolist() + two.a.power.tolist()
    assert together.reason.tolist() == one.a.reason.tolist() + two.a.reason.tolist()
    assert together.level.tolist() == one.a.level.tolist() + two.a.level.tolist()


@LAW
@given(sites)
def test_a_result_fed_back_as_the_maximums_returns_itself(site):
    rest = [i for i in range(site.n) if site.reason[i] not in (Reason.IDLE, Reason.PAUSED)]
    batch = pick(site.batch, rest) | {"maximum": site.a.power[rest]}

    again = allocate(**batch)

    assert again.power.tolist() == site.a.power[rest].tolist()
    assert set(again.reason.tolist()) <= {Reason.MAXIMUM}


@LAW
@given(batches().map(without_pauses), st.floats(0, 100))
def test_more_capacity_never_means_less_while_all_are_admitted(site, more):
    # Of a root: a group inside may take from those outside.
    capacity = [x + more * (site.parent[g] < 0) for g, x in enumerate(site.batch["capacity"])]

    again = allocate(**site.batch | {"capacity": capacity})

    assert (again.power >= site.a.power).all()


@LAW
@given(sites)
def test_nothing_that_is_passed_changes(site):
    arrays = {
        name: np.array(value, order="C")
        for name, value in site.batch.items()
        if isinstance(value, list)
    }
    arrays = {name: value for name, value in arrays.items() if value.size}
    copies = {name: value.copy() for name, value in arrays.items()}
    for value in arrays.values():
        value.flags.writeable = False

    again = allocate(**site.batch | arrays)

    assert again.power.tolist() == site.a.power.tolist()
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, copies[name])
