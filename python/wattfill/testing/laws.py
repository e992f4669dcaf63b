"""The laws of an allocation, one function each.

A law of one answer is called with a batch and the powers that were answered to it; one that
compares answers is called with a batch and an allocator. It returns nothing, or raises
`LawBrokenError`. `LAWS` has all of them by name; `check_allocator` holds an allocator to all that
apply.

What an exact water-filling does not have is no law here: that more capacity never takes from
anybody when others can be admitted, that a departure helps all others, that equals are equal where
only one of them fits. See docs/laws.md for the counterexamples.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from wattfill.testing.problem import Member
from wattfill.testing.reference import solve
from wattfill.testing.spec import Spec
from wattfill.testing.trial import (
    Allocator,
    Batch,
    LawBrokenError,
    NoAnswerError,
    Outcome,
    Trial,
    pick,
)

# Larger powers are not doubled, which would leave the range of what allocators take.
DOUBLED_UP_TO = 1e6


class NothingToJudgeError(Exception):
    """A law has nothing to say of this batch."""


@dataclass(frozen=True)
class Law:
    """A law: what it says, what an allocator must have for it to apply, and how it is judged.

    Attributes
    ----------
    name : str
        What to call it.
    statement : str
        What it says.
    source : str
        Where it comes from.
    features : frozenset of str
        Features of a `Spec` without which it does not apply.
    promises : tuple of str
        Other attributes of a `Spec` that must be true for it to apply.
    compares : bool
        Whether it asks the allocator for more than one answer.

    """

    name: str
    statement: str
    source: str
    features: frozenset[str]
    promises: tuple[str, ...]
    compares: bool
    judge: Callable[[Any], None]

    def why_not(self, spec: Spec) -> str:
        """Return why the law does not apply to what an allocator promises, or nothing."""
        if missing := sorted(self.features - spec.features):
            return f"takes no {' and no '.join(missing)}"
        words = {"pausing": "pauses nobody", "ordered": "has an order of its own"}
        for promise in self.promises:
            if not getattr(spec, promise):
                return words.get(promise, "counts with a tolerance")
        return ""

    def check(self, trial: Trial) -> bool:
        """Judge an answer; return whether there was anything to judge.

        Raises
        ------
        LawBrokenError
            If the answer breaks the law.

        """
        try:
            if self.judge is an_answer_for_everyone.judge:
                self.judge(trial)
            else:
                self._judge_answered(trial)
        except NothingToJudgeError:
            return False
        except LawBrokenError as broken:
            broken.law = self.name
            raise
        return True

    def _judge_answered(self, trial: Trial) -> None:
        # Whoever does not answer breaks a law of its own.
        try:
            self.judge(trial if self.compares else trial.outcome)
        except NoAnswerError:
            raise NothingToJudgeError from None

    def __call__(self, batch: Batch, subject: Any, spec: Spec | None = None) -> None:
        """Judge the powers that were answered to a batch; or an allocator, where answers compare.

        Parameters
        ----------
        batch : dict
            Arguments of `wattfill.allocate`, as numbers and lists.
        subject : sequence of float, or callable
            The powers, shape (n_connectors,); or the allocator, or a factory of it.
        spec : Spec, optional
            What the allocator promises; by default all that wattfill has, to a quantum.

        Raises
        ------
        LawBrokenError
            If the law is broken.

        """
        if self.compares:
            self.check(Trial(batch, subject, spec))
        else:
            self.check(Trial(batch, lambda **_: subject, spec))


LAWS: dict[str, Law] = {}


def _law(
    source: str, *features: str, promises: tuple[str, ...] = (), compares: bool = False
) -> Callable[[Callable[[Any], None]], Law]:
    def register(judge: Callable[[Any], None]) -> Law:
        law = Law(
            name=judge.__name__.replace("_", " "),
            statement=(judge.__doc__ or "").strip(),
            source=source,
            features=frozenset(features),
            promises=promises,
            compares=compares,
            judge=judge,
        )
        LAWS[law.name] = law
        return law

    return register


# Laws of one answer.


@_law("the contract of an allocator", compares=True)
def an_answer_for_everyone(trial: Trial) -> None:
    """Every batch gets an answer, in time: a finite power for each connector.

    Minimums that do not fit, capacity 0, an empty group are no errors.
    """
    try:
        _ = trial.outcome
    except NoAnswerError as error:
        raise LawBrokenError(
            str(error),
            "a finite power for each connector",
            ("", Outcome(trial.batch, [], trial.spec)),
        ) from error


@_law("feasibility, in whole quanta")
def never_over(o: Outcome) -> None:
    """What is drawn below a group, and below each group above it, is at most what it may use.

    With a tolerance, all together may be over by it once.
    """
    for g in o.problem.groups:
        if o.used[g] > o.problem.usable[g] + o.slack:
            over = o.kw(o.used[g] - o.problem.usable[g])
            raise LawBrokenError(
                f"group {g} draws {o.kw(o.used[g])} kW, {over} kW more than it may use",
                f"at most {o.kw(o.problem.usable[g])} kW below group {g}",
                ("", o),
            )


@_law("the sustained minimum of a session: IEC 61851-1, 6 A")
def nothing_between_zero_and_the_minimum(o: Outcome) -> None:
    """Whoever gets anything gets its minimum at least."""
    for c in o.problem.members.values():
        got, low = o.power[c.index], o.batch["minimum"][c.index]
        if o.spec.tolerance < got < low - o.spec.tolerance:
            raise LawBrokenError(
                f"connector {c.index} gets {got:.10g} kW, less than its minimum of {low:.10g} kW",
                f"0 kW, or {low:.10g} kW at least",
                ("", o),
            )


@_law("the bounds of a connector")
def within_bounds(o: Outcome) -> None:
    """Nobody gets more than its maximum, nor less than nothing."""
    for i, got in enumerate(o.power):
        high = o.batch["maximum"][i]
        if not -o.spec.tolerance <= got <= high + o.spec.tolerance:
            raise LawBrokenError(
                f"connector {i} gets {got:.10g} kW, its maximum is {high:.10g} kW",
                f"within 0..{high:.10g} kW",
                ("", o),
            )


@_law("who has no session takes no part", "active")
def idle_gets_zero(o: Outcome) -> None:
    """Who has no session gets 0."""
    active = _present(o.batch.get("active"))
    for i, on in enumerate(active):
        if not on and abs(o.power[i]) > o.spec.tolerance:
            raise LawBrokenError(
                f"connector {i} gets {o.power[i]:.10g} kW and has no session", "0 kW", ("", o)
            )


def _fitting(o: Outcome) -> list[int]:
    """Return the grains that the minimums of the admitted leave below each group."""
    p = o.problem
    least = o.below(lambda i: p.members[i].minimum, [c.index for c in o.admitted])
    return [p.budget(g) - least[g] for g in p.groups]


def _paused_for_nothing(o: Outcome, c: Member, why: str) -> LawBrokenError:
    return LawBrokenError(
        f"connector {c.index} gets 0 kW, {why}",
        f"its minimum of {o.kw(o.minimum(c))} kW at least",
        ("", o),
    )


@_law("admission: nobody is paused without need")
def nobody_is_paused_while_all_minimums_fit(o: Outcome) -> None:
    """If all minimums below a group and below all others of its tree fit, nobody is paused there.

    They fit as decimals: three of 0.1 fit into 0.3, and ten of 1 into 100 * (1 - 0.9).
    """
    p = o.problem
    servable = [i for i, c in p.members.items() if c.servable]
    needed = o.below(lambda i: p.members[i].minimum, servable)
    crowded = {p.chains[g][-1] for g in p.groups if needed[g] > p.budget(g)}
    for c in o.paused:
        root = p.chains[c.group][-1]
        if c.servable and root not in crowded:
            raise _paused_for_nothing(
                o,
                c,
                f"though all minimums fit: {o.kw(needed[root] * p.grain)} kW of the "
                f"{o.kw(p.usable[root])} kW of group {root}",
            )


@_law("admission is maximal", promises=("pausing",))
def nobody_is_paused_who_would_have_fitted(o: Outcome) -> None:
    """Whoever is paused would not fit beside the minimums of those who are admitted."""
    left, p = _fitting(o), o.problem
    for c in _present(o.paused):
        if c.servable and all(left[g] >= c.minimum for g in p.chains[c.group]):
            spare = min(left[g] for g in p.chains[c.group]) * p.grain
            raise _paused_for_nothing(
                o, c, f"though the minimums of the others leave {o.kw(spare)} kW"
            )


@_law(
    "greedy admission gives the lexicographically greatest feasible set",
    promises=("pausing", "ordered"),
)
def who_comes_first_is_admitted_first(o: Outcome) -> None:
    """Whoever is paused would not fit beside the minimums of those admitted who come before it.

    The order is priority, highest first; then rank, lowest first; then position.
    """
    p = o.problem
    left = [p.budget(g) for g in p.groups]
    paused = {c.index for c in _present(o.paused)}
    for c in p.line:
        if c.index not in paused:
            for g in p.chains[c.group]:
                left[g] -= c.minimum if c.servable else 0
        elif c.servable and all(left[g] >= c.minimum for g in p.chains[c.group]):
            spare = min(left[g] for g in p.chains[c.group]) * p.grain
            raise _paused_for_nothing(
                o, c, f"though the minimums of those before it in line leave {o.kw(spare)} kW"
            )


@_law("tiers: a higher priority is filled first", "priority")
def priority_is_respected(o: Outcome) -> None:
    """Whoever could take more is in a full group where every lower priority is at its minimum."""
    p = o.problem
    risen: list[dict[int, Member]] = [{} for _ in p.groups]
    for c in filter(o.has_risen, o.admitted):
        for g in p.chains[c.group]:
            risen[g].setdefault(c.priority, c)
    for c in filter(o.can_rise, o.admitted):
        full = [g for g in p.chains[c.group] if o.full[g]]
        lower = [
            next((risen[g][t] for t in sorted(risen[g]) if t < c.priority), None) for g in full
        ]
        if lower and all(lower):
            other = lower[0]
            assert other is not None
            raise LawBrokenError(
                f"connector {other.index} of priority {other.priority} gets "
                f"{o.power[other.index]:.10g} kW, above its minimum, while connector {c.index} of "
                f"priority {c.priority} gets {o.power[c.index]:.10g} kW and could take more",
                f"connector {other.index} at its minimum of {o.kw(o.minimum(other))} kW",
                ("", o),
            )


@_law("max-min fairness as a certificate (KKT): Radunovic and Le Boudec 2007")
def nobody_larger_could_give(o: Outcome) -> None:
    """Max-min fair: who has less than another has its maximum, or nobody larger could give.

    Whoever could take more is in a full group where all of its priority who are above their minimum
    have no more per weight. In whole numbers nothing but the last quantum, or step, is in the way;
    with weights and steps the last step is given by Webster's rule.
    """
    p = o.problem
    largest: list[dict[int, tuple[Fraction, Member]]] = [{} for _ in p.groups]
    for c in filter(o.has_risen, o.admitted):
        claim = _per_weight(o, c, o.quanta[c.index] - o.slack, gives=True)
        for g in p.chains[c.group]:
            if claim > largest[g].get(c.priority, (Fraction(-1), c))[0]:
                largest[g][c.priority] = claim, c
    for c in filter(o.can_rise, o.admitted):
        full = [g for g in p.chains[c.group] if o.full[g]]
        has = _per_weight(o, c, o.quanta[c.index] + o.slack, gives=False)
        over = [
            (g, other)
            for g in full
            for claim, other in [largest[g].get(c.priority, (Fraction(-1), c))]
            if claim > has
        ]
        if full and len(over) == len(full):
            g, other = over[0]
            per_weight = " per weight" if p.has_weights else ""
            raise LawBrokenError(
                f"connector {other.index} gets {_share(o, other)} kW{per_weight}, more than "
                f"connector {c.index}, which gets {_share(o, c)} kW{per_weight} in the full group "
                f"{g} and could take more",
                f"equal powers{per_weight}, but for who is at its own minimum or maximum",
                ("", o),
            )


def _per_weight(o: Outcome, c: Member, quanta: int, *, gives: bool) -> Fraction:
    """Return a power per weight; what the last quantum or step leaves unequal is taken off."""
    p = o.problem
    grains, weight = Fraction(quanta, p.grain), Fraction(c.weight)
    # Products and quotients of doubles are rounded: 1/2 over 1/3 is as much as 3/2 over 1.
    rounding = 1 if gives else 1 + Fraction(1, 2**50)
    if p.has_steps and p.has_weights:
        return (grains + (Fraction(-1, 2) if gives else Fraction(1, 2))) / weight * rounding
    if p.has_weights:
        return grains / weight if gives else (grains * rounding + 1) / weight
    return grains if gives or not p.has_steps else grains + 1


def _share(o: Outcome, c: Member) -> str:
    return f"{o.power[c.index] / c.weight:.10g}"


@_law("Pareto efficiency: Bergantinos, Masso and Neme 2015")
def nothing_is_wasted(o: Outcome) -> None:
    """Whoever could take more is in a group that is full.

    It is full if less is left than a quantum for each who could rise, or than one step.
    """
    p = o.problem
    for c in filter(o.can_rise, o.admitted):
        if not any(o.full[g] for g in p.chains[c.group]):
            left = min(p.usable[g] - o.used[g] for g in p.chains[c.group])
            raise LawBrokenError(
                f"connector {c.index} gets {o.power[c.index]:.10g} kW and could take "
                f"{o.kw(o.maximum(c))} kW, while {o.kw(left)} kW are left",
                "less left than a quantum, or a step, for each who could rise",
                ("", o),
            )


@_law("equal treatment of equals: Thomson 2011")
def equals_get_equal(o: Outcome) -> None:
    """Alike in bounds, weight and priority, in one group, both admitted: alike in power.

    With steps, to one step.
    """
    batch, p = o.batch, o.problem
    first: dict[tuple[float, ...], Member] = {}
    for c in o.admitted:
        bounds = batch["minimum"][c.index], batch["maximum"][c.index]
        twin = first.setdefault((*bounds, c.weight, c.priority, c.group), c)
        one, other = o.power[twin.index], o.power[c.index]
        if p.has_steps:
            is_equal = abs(o.quanta[twin.index] - o.quanta[c.index]) <= p.grain + 2 * o.slack
        else:
            is_equal = o.same(one, other)
        if not is_equal:
            raise LawBrokenError(
                f"connectors {twin.index} and {c.index} are alike and get {one:.10g} and "
                f"{other:.10g} kW",
                "the same for both",
                ("", o),
            )


@_law("whole steps", "step")
def powers_are_whole_steps(o: Outcome) -> None:
    """With a step, every power is a whole multiple of it."""
    p = o.problem
    if not p.has_steps:
        raise NothingToJudgeError
    for i, quanta in enumerate(o.quanta):
        if (quanta + o.slack) % p.grain > 2 * o.slack:
            raise LawBrokenError(
                f"connector {i} gets {o.power[i]:.10g} kW, which is no multiple of the step",
                f"a multiple of {o.kw(p.grain)} kW",
                ("", o),
            )


@_law("divisor methods: Balinski and Young 2001", "step", promises=("ordered",))
def the_last_steps_go_in_line(o: Outcome) -> None:
    """With a step, who has one more than others who could have it comes before them in line.

    Steps are handed out level by level, at one level in line. With weights, levels are those of
    Webster's rule, as doubles, and nothing is judged where a power may be off.
    """
    p = o.problem
    if not p.has_steps or 2 * o.slack >= p.grain or (p.has_weights and o.slack):
        raise NothingToJudgeError
    place = {c.index: k for k, c in enumerate(p.line)}

    def turn(c: Member, half: float) -> tuple[float, int]:
        """Return when it is a connector's turn: for its last step, or for one more."""
        steps = round(o.quanta[c.index] / p.grain)
        return (steps + half) / c.weight, place[c.index]

    last: list[dict[int, Member]] = [{} for _ in p.groups]
    for c in filter(o.has_risen, o.admitted):
        for g in p.chains[c.group]:
            other = last[g].setdefault(c.priority, c)
            if turn(c, -0.5) > turn(other, -0.5):
                last[g][c.priority] = c
    for c in filter(o.can_rise, o.admitted):
        served = [last[g].get(c.priority, c) for g in p.chains[c.group] if o.full[g]]
        if served and all(turn(other, -0.5) > turn(c, 0.5) for other in served):
            other = served[0]
            raise LawBrokenError(
                f"connector {other.index} gets {o.power[other.index]:.10g} kW, the last step of "
                f"which was the turn of connector {c.index}, which gets {o.power[c.index]:.10g} kW",
                f"a step of {o.kw(p.grain)} kW more for connector {c.index}",
                ("", o),
            )


@_law("one answer: the definition", promises=("ordered", "is_exact"))
def the_answer_is_that_of_the_reference(o: Outcome) -> None:
    """Every power is the double that the exact reference gives."""
    expected = solve(**o.batch).power
    for i, (got, right) in enumerate(zip(o.power, expected, strict=True)):
        if got != right:
            raise LawBrokenError(
                f"connector {i} gets {got!r} kW", f"{right!r} kW, as the reference", ("", o)
            )


# Laws that compare answers.


def _compare(
    trial: Trial, how: str, batch: Batch, expected: dict[int, int], why: str, allowed: int = 0
) -> None:
    """Hold the answer to a variation against the first one.

    `expected` says for each connector of the variation that is judged which one it was; `allowed`
    quanta between them are not held against the allocator.
    """
    one, other = trial.outcome, trial.ask(batch)
    for k, i in sorted(expected.items(), key=lambda pair: pair[1]):
        if allowed:
            is_same = abs(one.quanta[i] - other.quanta[k]) <= allowed + 2 * one.slack
        else:
            is_same = one.same(one.power[i], other.power[k])
        if not is_same:
            raise LawBrokenError(
                f"connector {i} gets {one.power[i]:.10g} kW, and {other.power[k]:.10g} kW {how}",
                why,
                ("", one),
                (how, other),
            )


def _present(items: Any) -> Any:
    if not items:
        raise NothingToJudgeError
    return items


@_law("no call changes what it is given", compares=True)
def the_input_is_left_alone(trial: Trial) -> None:
    """An allocator does not write to what it is passed."""
    batch = copy.deepcopy(trial.batch)
    trial.powers(batch)
    if batch != trial.batch:
        name = next(k for k in trial.batch if batch.get(k) != trial.batch[k])
        raise LawBrokenError(
            f"{name} was changed to {batch.get(name)}",
            f"{name} as it was passed: {trial.batch[name]}",
            ("", trial.outcome),
        )


@_law("no history: the same call in a fresh instance", compares=True)
def history_does_not_matter(trial: Trial) -> None:
    """An allocator that has answered other batches answers as a fresh one does."""
    batch = trial.batch
    one, used = trial.outcome, trial.factory()

    def again(how: str, instance: Allocator) -> None:
        other = trial.ask(batch, instance)
        for i, (x, y) in enumerate(zip(one.power, other.power, strict=True)):
            if not one.same(x, y):
                raise LawBrokenError(
                    f"connector {i} gets {x:.10g} kW, and {y:.10g} kW {how}",
                    "the same answer whatever was asked before",
                    ("", one),
                    (how, other),
                )

    again("of a fresh instance", trial.factory())
    n = len(batch["minimum"])
    before = [pick(batch, range(n - 1))] if n else []
    before.append(_with_capacity(batch, 2.0))
    # With less the minimums might not fit, which is not for everybody to answer.
    if trial.spec.pausing:
        before.append(_with_capacity(batch, 0.5))
    for other in before:
        trial.ask(other, used)
    again("of an instance that was asked about fewer, more and less", used)


def _with_capacity(batch: Batch, factor: float, more: float = 0.0) -> Batch:
    """Return a batch with another capacity of each group that nobody feeds."""
    capacity = batch["capacity"]
    if isinstance(capacity, list):
        parent = batch.get("parent", [-1] * len(capacity))
        return batch | {
            "capacity": [
                x * factor + more if p < 0 else x for x, p in zip(capacity, parent, strict=True)
            ]
        }
    return batch | {"capacity": capacity * factor + more}


@_law("anonymity", compares=True)
def order_does_not_matter(trial: Trial) -> None:
    """The connectors of a group in another order get what they got.

    Where somebody is paused or steps are handed out, ranks carry the order along.
    """
    o, batch = trial.outcome, dict(trial.batch)
    p = o.problem
    n = p.n_connectors
    if n < 2:
        raise NothingToJudgeError
    if "rank" in trial.spec.features:
        place = {c.index: float(k) for k, c in enumerate(p.line)}
        batch["rank"] = [place.get(i, float(n)) for i in range(n)]
    elif o.paused or p.has_steps:
        raise NothingToJudgeError
    shuffled = random.Random(n).sample(range(n), n)
    smallest_first = sorted(range(n), key=lambda i: (batch["maximum"][i], batch["minimum"][i]))
    for how, order in (
        ("in reverse order", list(reversed(range(n)))),
        ("in another order", shuffled),
        ("with the smallest first", smallest_first),
    ):
        order = [i for g in p.groups for i in order if p.owner[i] == g]
        _compare(
            trial,
            how,
            pick(batch, order),
            dict(enumerate(order)),
            "the same power for each connector in any order",
        )


@_law("independence of other groups", "offsets", compares=True)
def other_groups_do_not_matter(trial: Trial) -> None:
    """A tree of groups gets what it gets alone, in any batch and at any place in it."""
    p = trial.outcome.problem
    trees: dict[int, list[int]] = {}
    for g in p.groups:
        trees.setdefault(p.chains[g][-1], []).append(g)
    why = "the same power in any batch"

    def connectors(groups: list[int]) -> list[int]:
        return [i for g in groups for i in range(p.ends[g], p.ends[g + 1])]

    for tree in list(trees.values())[-3:] if len(trees) > 1 else []:
        own = connectors(tree)
        alone = pick(trial.batch, own, tree)
        _compare(trial, "alone", alone, dict(enumerate(own)), why)
    backwards = [g for tree in reversed(trees.values()) for g in tree]
    if len(trees) > 1:
        order = connectors(backwards)
        _compare(
            trial,
            "with the groups in another order",
            pick(trial.batch, order, backwards),
            dict(enumerate(order)),
            why,
        )
    placed = {i + 2: i for i in range(p.n_connectors)}
    _compare(trial, "between other groups", _beside_others(trial.batch, p.ends), placed, why)


_OTHER: dict[str, Any] = {
    "minimum": 4.0,
    "maximum": 7.5,
    "weight": 1.0,
    "priority": 0,
    "rank": 0.0,
    "active": True,
}


def _beside_others(batch: Batch, ends: list[int]) -> Batch:
    """Put two groups before and two behind: minimums that do not fit, nobody, nobody, plenty."""
    crowd = dict(batch)
    for name, each in _OTHER.items():
        if name in batch:
            crowd[name] = [each, each, *batch[name], each]
    zeros = [0.0] * 4
    for name, value in {
        "capacity": [5.0, 3.0, 0.0, 50.0],
        "buffer": zeros,
        "reserved": zeros,
    }.items():
        if name in batch:
            own = batch[name] if isinstance(batch[name], list) else [batch[name]] * (len(ends) - 1)
            crowd[name] = [*value[:2], *own, *value[2:]]
    if "parent" in batch:
        crowd["parent"] = [-1, -1, *(x + 2 if x >= 0 else -1 for x in batch["parent"]), -1, -1]
    last = ends[-1] + 2
    crowd["offsets"] = [0, 2, *(end + 2 for end in ends), last, last + 1]
    return crowd


@_law("independence of irrelevant coalitions: Bergantinos, Masso and Neme 2015", compares=True)
def who_gets_nothing_does_not_matter(trial: Trial) -> None:
    """Without those who are idle or paused, the others get what they got."""
    o = trial.outcome
    rest = sorted(c.index for c in o.admitted)
    if len(rest) == o.problem.n_connectors:
        raise NothingToJudgeError
    _compare(
        trial,
        "without those who are idle or paused",
        pick(trial.batch, rest),
        dict(enumerate(rest)),
        "the same power for all others",
    )


@_law("consistency: Thomson 2011", compares=True)
def who_leaves_with_its_power_changes_nothing(trial: Trial) -> None:
    """Without a connector, and without the capacity that it used, the others get what they got.

    To the quanta that were left over; with steps, in a group without weights or a parent.
    """
    o = trial.outcome
    p, batch = o.problem, trial.batch
    drawing = [c for c in o.admitted if o.quanta[c.index] > 0]
    for leaver in (
        drawing[: 1 + (len(drawing) > 1)] if len(drawing) < 2 else [drawing[0], drawing[-1]]
    ):
        chain = p.chains[leaver.group]
        if p.has_steps and (p.has_weights or any(len(x) > 1 for x in p.chains)):
            raise NothingToJudgeError
        usable = [
            (x - o.quanta[leaver.index] * (g in chain)) / p.per_unit for g, x in enumerate(p.usable)
        ]
        rest = [i for i in range(p.n_connectors) if i != leaver.index]
        members = sum(p.chains[c.group][-1] == chain[-1] for c in o.admitted)
        _compare(
            trial,
            f"after connector {leaver.index} has left with its power",
            _with_usable(pick(batch, rest), usable),
            dict(enumerate(rest)),
            "the same power for all others",
            allowed=0 if p.has_steps else members,
        )


def _with_usable(batch: Batch, usable: list[float]) -> Batch:
    """Return a batch whose groups may use just that."""
    without = {k: v for k, v in batch.items() if k not in ("buffer", "reserved")}
    return without | {"capacity": usable if isinstance(batch["capacity"], list) else usable[0]}


@_law("homogeneity", compares=True)
def twice_everything_gives_twice_the_power(trial: Trial) -> None:
    """With all bounds, capacities and steps doubled, every power is doubled.

    To a quantum for each connector, as twice a capacity may hold one more of them.
    """
    o, batch = trial.outcome, trial.batch
    p = o.problem
    if max([*batch["maximum"], *p.capacity], default=0.0) > DOUBLED_UP_TO:
        raise NothingToJudgeError

    def times(factor: int) -> Batch:
        maximum = [p.down(x) for x in batch["maximum"]]
        minimum = [min(p.up(x), y) for x, y in zip(batch["minimum"], maximum, strict=True)]
        changed = _with_usable(batch, [factor * x / p.per_unit for x in p.usable])
        changed["minimum"] = [factor * x / p.per_unit for x in minimum]
        changed["maximum"] = [factor * x / p.per_unit for x in maximum]
        if p.has_steps:
            changed["step"] = factor * p.grain / p.per_unit
        return changed

    once, twice = trial.ask(times(1)), trial.ask(times(2))
    allowed = (0 if p.has_steps else 1 + p.n_connectors) + 4 * o.slack
    for i in range(p.n_connectors):
        if abs(twice.quanta[i] - 2 * once.quanta[i]) > allowed:
            raise LawBrokenError(
                f"connector {i} gets {once.power[i]:.10g} kW, and {twice.power[i]:.10g} kW where "
                "everything is doubled",
                f"{2 * once.power[i]:.10g} kW where everything is doubled",
                ("", once),
                ("everything doubled", twice),
            )


@_law("resource monotonicity: Thomson 2011", compares=True)
def more_capacity_never_means_less(trial: Trial) -> None:
    """With more capacity where a tree is fed, nobody gets less: least of all who has least.

    Only where nobody is paused: who is admitted by more capacity may take from those who had it
    (no rule avoids that: with ranges 2..4 and 2..4, 3 kW give 3 and 0, and 4 kW give 2 and 2).
    """
    o = trial.outcome
    if o.paused:
        raise NothingToJudgeError
    richer = trial.ask(_with_capacity(trial.batch, 1.25, 1.0))
    for i in range(o.problem.n_connectors):
        if richer.power[i] < o.power[i] - 2 * o.spec.tolerance:
            raise LawBrokenError(
                f"connector {i} gets {o.power[i]:.10g} kW, and {richer.power[i]:.10g} kW of more",
                f"{o.power[i]:.10g} kW at least",
                ("", o),
                ("with a quarter and 1 kW more", richer),
            )


@_law("an answer is a projection: projecting it once more returns it", compares=True)
def an_answer_as_the_maximums_returns_itself(trial: Trial) -> None:
    """Where the maximums are what was answered, all get their maximum."""
    o = trial.outcome
    rest = sorted(c.index for c in o.admitted)
    batch = pick(trial.batch, rest)
    batch["maximum"] = [max(o.power[i], low) for i, low in zip(rest, batch["minimum"], strict=True)]
    _compare(
        trial,
        "with what was answered as the maximums",
        batch,
        dict(enumerate(rest)),
        "the same power for all",
    )
