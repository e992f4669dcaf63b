"""What the strategies make: sites of every kind, within a spec, that shrink and can be pasted."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis import strategies as st

from wattfill import InputError, Reason, allocate
from wattfill.testing import FEATURES, Spec, check_allocator, solve
from wattfill.testing.conformance import kinds_of
from wattfill.testing.problem import Problem
from wattfill.testing.strategies import batches, connectors, groups, powers, trees
from wattfill.testing.trial import Trial

TOLERANT = Spec()
EXACT = Spec(tolerance=0.0)
STEADY = [Spec(pausing=False), Spec(pausing=False, tolerance=0.0)]
SOME = [(), ("buffer",), ("offsets",), ("offsets", "parent", "weight"), ("active", "step", "rank")]


def powers_of_kernel(**batch):
    return allocate(**batch).power.tolist()


def made(strategy, n, seed_):
    """Return what a strategy makes from a seed, in the order in which it is made."""
    examples = []

    @seed(seed_)
    @settings(
        max_examples=n,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(example):
        examples.append(example)

    keep()
    return examples


@pytest.fixture(scope="module")
def thousand():
    return made(batches(Spec()), 1000, 1)


def kinds(sites, spec=TOLERANT):
    counted = Counter()
    for site in sites:
        counted.update(kinds_of(Trial(site, powers_of_kernel, spec)))
    return counted


# What comes up.


def test_a_thousand_sites_are_of_every_kind(thousand):
    assert [kind for kind, n in kinds(thousand).items() if n < 3] == []


def test_that_somebody_shares_a_full_group_is_the_commonest_kind(thousand):
    counted = kinds(thousand)

    assert counted.most_common(1)[0][0] == "somebody shares a full group"
    assert counted["somebody shares a full group"] > 500


@pytest.mark.parametrize("kind", ["somebody paused", "weights", "nested groups", "steps"])
def test_one_site_in_five_has_something_of(kind, thousand):
    assert kinds(thousand)[kind] > 200


@pytest.mark.parametrize("kind", ["no capacity", "everybody at the maximum", "an empty group"])
def test_no_more_than_one_site_in_four_has(kind, thousand):
    assert 0 < kinds(thousand)[kind] < 250


def test_crowds_have_the_sizes_around_those_of_registers_and_thousands_where_they_may():
    spec = Spec(features=["offsets"])
    sites = made(batches(spec, max_groups=1, max_connectors=2500), 1000, 3)
    sizes = {len(site["minimum"]) for site in sites}

    assert sizes & {15, 16, 17}
    assert sizes & {31, 32, 33}
    assert sizes & {255, 256, 257}
    assert max(sizes) in (1000, 2500)


@pytest.mark.parametrize("most", [0, 1, 3, 8, 40])
def test_no_group_has_more_connectors_than_it_may(most):
    for site in made(batches(max_connectors=most), 100, 4):
        assert max((y - x for x, y in pairwise(site["offsets"])), default=0) <= most


@pytest.mark.parametrize("most", [1, 2, 6])
def test_no_site_has_more_groups_than_it_may(most):
    sizes = {
        len(site["capacity"]) for site in made(batches(max_groups=most, max_connectors=1), 200, 5)
    }

    assert sizes == set(range(most + 1))


@given(connectors())
def test_the_minimum_of_a_connector_is_at_most_its_maximum(bounds):
    low, high = bounds

    assert 0.0 <= low <= high


@given(trees())
def test_a_tree_has_one_root(tree):
    assert tree["parent"].count(-1) == 1
    assert len({chain[-1] for chain in Problem(**tree).chains}) == 1


@pytest.mark.parametrize("numbered", ["before", "after"])
def test_a_parent_comes_before_its_children_and_after_them(numbered):
    def holds(tree):
        return any(
            (p < g) is (numbered == "before") for g, p in enumerate(tree["parent"]) if p >= 0
        )

    assert any(holds(tree) for tree in made(trees(), 100, 6))


# What a spec allows.


@given(batches())
def test_all_that_is_made_is_taken_by_the_kernel(batch):
    assert allocate(**batch).power.size == len(batch["minimum"])


@pytest.mark.parametrize("features", SOME, ids=str)
def test_only_features_of_the_spec_come_up_and_all_of_them(features):
    sites = made(batches(Spec(features=features)), 200, 7)

    assert {name for site in sites for name in site if name in FEATURES} == set(features)


@given(groups())
def test_a_group_has_a_number_as_its_capacity_and_nothing_of_several_groups(group):
    assert not group.keys() & {"offsets", "parent"}
    assert all(type(group.get(name, 0.0)) is float for name in ("capacity", "buffer", "reserved"))


def test_a_tree_without_parents_is_refused():
    with pytest.raises(InputError, match="spec must have parent among its features: a tree is"):
        trees(Spec(features=["offsets"]))


@pytest.mark.parametrize("spec", [TOLERANT, STEADY[0]], ids=["pausing", "not pausing"])
def test_with_a_tolerance_bounds_and_capacities_are_whole_milliwatts(spec):
    for site in made(batches(spec), 150, 8):
        for name in ("minimum", "maximum", "capacity", "reserved"):
            assert all(round(x, 6) == x for x in site.get(name, [])), name


@given(powers(TOLERANT))
def test_with_a_tolerance_powers_are_whole_milliwatts(power):
    assert 0.0 <= power == round(power, 6)


@pytest.mark.parametrize("spec", STEADY, ids=["tolerant", "exact"])
def test_where_nobody_may_be_paused_nobody_is(spec):
    for site in made(batches(spec, max_connectors=8), 300, 9):
        assert Reason.PAUSED not in solve(**site).reason


# Whether a person can read and paste it.


@given(batches())
def test_what_is_printed_is_code_that_makes_it_again(batch):
    assert eval(repr(batch), {}) == batch


@given(batches())
def test_an_argument_that_says_nothing_is_not_there(batch):
    says_nothing = {"weight": 1.0, "priority": 0, "rank": 0.0, "active": True, "parent": -1}
    says_nothing |= {"buffer": 0.0, "reserved": 0.0}

    for name, value in says_nothing.items():
        assert name not in batch or set(batch[name]) != {value}
        assert name not in batch or batch[name]


SMALLEST = {
    "somebody gets something": (
        lambda batch: sum(allocate(**batch).power) > 0,
        {"minimum": [0.0], "maximum": [1.0], "capacity": [0.5], "offsets": [0, 1]},
    ),
    "somebody shares": (
        lambda batch: (
            len(batch["capacity"]) == 1 and list(allocate(**batch).reason) == [Reason.SHARING] * 2
        ),
        {"minimum": [0.0] * 2, "maximum": [1.0] * 2, "capacity": [1.0], "offsets": [0, 2]},
    ),
    "a buffer": (
        lambda batch: "buffer" in batch and sum(allocate(**batch).power) > 0,
        {
            "minimum": [0.0],
            "maximum": [1.0],
            "capacity": [1.0],
            "offsets": [0, 1],
            "buffer": [0.5],
        },
    ),
    "nine connectors": (
        lambda batch: max((y - x for x, y in pairwise(batch["offsets"])), default=0) > 8,
        {"minimum": [0.0] * 9, "maximum": [1.0] * 9, "capacity": [4.0], "offsets": [0, 9]},
    ),
}


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_site_is_one_that_a_person_can_read(name):
    condition, smallest = SMALLEST[name]
    search = settings(max_examples=2000, database=None, deadline=None, derandomize=True)

    assert find(batches(), condition, settings=search) == smallest


def without(*names):
    def faulty(**batch):
        return powers_of_kernel(**{k: v for k, v in batch.items() if k not in names})

    return faulty


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("buffer", "never over"),
        ("weight", "nobody larger could give"),
    ],
)
def test_an_argument_that_is_ignored_is_shown_on_one_group_of_two_with_that_argument_alone(
    name, law
):
    spec = Spec(features=["offsets", "reserved", "rank", name])
    report = check_allocator(without(name), spec=spec, seed=1, max_examples=200, on_fail="return")
    (broken,) = (v for v in report.broken if v.law.name == law)

    batch = broken.counterexample.answers[0][1].batch

    assert batch.keys() == {"minimum", "maximum", "capacity", "offsets", name}
    assert len(batch["capacity"]) == 1
    assert 1 <= len(batch["minimum"]) <= 2
    assert max(batch["maximum"]) <= 2.0


@given(st.data())
def test_a_strategy_is_drawn_from_like_any_other(data):
    spec = data.draw(st.sampled_from([None, TOLERANT, EXACT]))

    group = data.draw(groups(spec, max_connectors=3))

    assert len(group["minimum"]) == len(group["maximum"]) <= 3
