"""Hold an allocator to the laws: search for sites that break one, and find the smallest."""

from __future__ import annotations

import math
import random
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from wattfill.errors import InputError
from wattfill.testing.laws import LAWS, Law
from wattfill.testing.sites import hard_sites
from wattfill.testing.spec import Spec
from wattfill.testing.strategies import batches
from wattfill.testing.trial import (
    Allocator,
    Batch,
    LawBrokenError,
    NoAnswerError,
    Outcome,
    TookTooLongError,
    Trial,
    as_factory,
)

# Below the strategies, which say which extra has Hypothesis.
# isort: split
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Flaky

DEFAULT_EXAMPLES = 500
# How much is tried for each broken law to find a smaller site: a site costs as much as it has
# connectors, and some more; much more where each waits for an answer that does not come.
SHRINKING = 20_000
COST_OF_A_SITE, COST_OF_WAITING = 10, 1000
SHORTEST_WAIT = 0.1

Status = Literal["held", "broken", "expected", "unexpected", "does not apply", "not judged"]


@dataclass(frozen=True)
class Verdict:
    """What became of one law.

    Attributes
    ----------
    law : Law
        The law.
    status : str
        ``"held"``; ``"broken"``; ``"expected"``: broken, as was expected; ``"unexpected"``: held,
        though it was expected to be broken; ``"does not apply"``; ``"not judged"``: nothing that
        was asked had to do with it.
    judged : int
        How many sites it was judged on.
    why : str
        Why it does not apply, or is expected to be broken.
    counterexample : LawBrokenError or None
        The smallest site found that breaks it.

    """

    law: Law
    status: Status
    judged: int = 0
    why: str = ""
    counterexample: LawBrokenError | None = None


@dataclass(frozen=True)
class Report:
    """What became of each law.

    Attributes
    ----------
    verdicts : list of Verdict
        One for each law.
    seed : int
        What repeats the run.
    examples : int
        How many sites were made.
    kinds : dict of str to int
        How many of them were of a kind, say had somebody paused: nothing was judged that did not
        come up.

    """

    verdicts: list[Verdict]
    seed: int
    examples: int
    kinds: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether no law is broken that was not expected to be."""
        return not self.broken

    @property
    def broken(self) -> list[Verdict]:
        """The laws that are broken and were not expected to be."""
        return [v for v in self.verdicts if v.status == "broken"]

    def __str__(self) -> str:
        return self.text()

    def text(self, *, details: bool = False) -> str:
        """Return it for people: a table of laws, then each counterexample.

        Parameters
        ----------
        details : bool
            Whether to tell of what kinds the sites were, and to have the counterexamples as JSON.

        """
        width = max(len(v.law.name) for v in self.verdicts)
        lines = [
            f"{v.law.name:<{width}}  {v.status:<14}  {v.why or _sites(v.judged)}".rstrip()
            for v in self.verdicts
        ]
        lines.append(f"{self.examples} sites, seed {self.seed}")
        if details:
            came = ", ".join(f"{kind} {n}" for kind, n in self.common_kinds() if n)
            none = ", ".join(kind for kind, n in self.common_kinds() if not n)
            lines += textwrap.wrap(f"of which: {came}", 100)
            lines += textwrap.wrap(f"of which none: {none}", 100) if none else []
        for v in self.broken:
            assert v.counterexample is not None
            lines += ["", v.counterexample.text(as_json=details)]
        return "\n".join(lines)

    def common_kinds(self) -> list[tuple[str, int]]:
        """Return the kinds of sites and their counts, the largest first."""
        return sorted(self.kinds.items(), key=lambda kind: (-kind[1], kind[0]))

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "ok": self.ok,
            "seed": self.seed,
            "examples": self.examples,
            "kinds": self.kinds,
            "laws": [
                {
                    "law": v.law.name,
                    "status": v.status,
                    "judged": v.judged,
                    "why": v.why,
                    "counterexample": v.counterexample and v.counterexample.to_dict(),
                }
                for v in self.verdicts
            ],
        }


def _sites(n: int) -> str:
    return f"on {n} site{'s' * (n != 1)}" if n else ""


class NotConformingError(AssertionError):
    """An allocator breaks a law; the message is the report.

    Attributes
    ----------
    report : Report
        What became of each law.

    """

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def check_allocator(
    allocator: Allocator,
    *,
    spec: Spec | None = None,
    expected_failures: Mapping[str, str] | None = None,
    max_examples: int = DEFAULT_EXAMPLES,
    seed: int | None = None,
    time_limit: float = 10.0,
    on_fail: Literal["raise", "return"] = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Hold an allocator to every law that applies to it.

    Parameters
    ----------
    allocator : callable
        Called with arguments of `wattfill.allocate` by name, as numbers and lists; returns a power
        for each connector: a sequence, or something with it as ``power``. Or a factory: a class, or
        what takes no argument, that makes such a callable; so that it can be seen whether an answer
        depends on what was asked before.
    spec : Spec, optional
        What it promises; by default what its signature says that it takes.
    expected_failures : mapping of str to str, optional
        Laws that it is known to break, and why.
    max_examples : int
        How many sites to make.
    seed : int, optional
        Repeats a run of the same program with the same Hypothesis. Chosen at random by default.
    time_limit : float
        Seconds that one answer may take, in the main thread. Compiled code that does not come
        back to Python is waited for.
    on_fail : {"raise", "return"}
        Whether to raise an error if a law is broken, or only to return the report.
    progress : callable, optional
        Called with how many sites have been judged, and how many will be.

    Returns
    -------
    Report
        What became of each law, with the smallest counterexample that was found.

    Raises
    ------
    NotConformingError
        If a law is broken that is not among the expected failures.
    InputError
        If an expected failure is no law.

    Examples
    --------
    >>> def first_come(minimum, maximum, capacity):
    ...     power = []
    ...     for most in maximum:
    ...         power.append(min(most, capacity - sum(power)))
    ...     return power
    >>> report = check_allocator(first_come, max_examples=50, seed=1, on_fail="return")
    >>> report.ok
    False

    """
    expected = dict(expected_failures or {})
    if unknown := sorted(set(expected) - set(LAWS)):
        raise InputError(f"expected_failures must name laws, got {unknown[0]!r}")
    factory = as_factory(allocator)
    spec = spec or Spec.of(factory())
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    search = Search(factory, spec, seed, max_examples, time_limit, progress)
    laws = [law for law in LAWS.values() if not law.why_not(spec)]
    search.screen(laws)
    found = {law.name: search.smallest(law) for law in laws if law.name in search.broken}
    verdicts = [_verdict(law, spec, search, found.get(law.name), expected) for law in LAWS.values()]
    report = Report(verdicts, seed, search.examples, dict(search.kinds))
    if on_fail == "raise" and not report.ok:
        raise NotConformingError(report)
    return report


def _verdict(
    law: Law,
    spec: Spec,
    search: Search,
    broken: LawBrokenError | None,
    expected: Mapping[str, str],
) -> Verdict:
    if why := law.why_not(spec):
        return Verdict(law, "does not apply", why=why)
    judged, reason = search.judged[law.name], expected.get(law.name, "")
    if broken:
        return Verdict(law, "expected" if reason else "broken", judged, reason, broken)
    if not judged:
        return Verdict(law, "not judged", why="no site had to do with it")
    return Verdict(law, "unexpected" if reason else "held", judged, reason)


@dataclass
class Search:
    """A search for sites on which an allocator breaks laws.

    First all laws are judged on the same sites, so that each is answered once: on a few that chance
    may miss, and on those that a seed makes. Then, law by law, sites are made again until one
    breaks it, and that one is made smaller.
    """

    factory: Callable[[], Allocator]
    spec: Spec
    seed: int
    max_examples: int
    time_limit: float
    progress: Callable[[int, int], None] | None = None
    examples: int = 0
    judged: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    broken: dict[str, LawBrokenError] = field(default_factory=dict)
    slowest: float = 0.0
    patience: float = math.inf

    def __post_init__(self) -> None:
        self.patience = self.time_limit

    def screen(self, laws: list[Law], *, stop_at_first: bool = False) -> None:
        """Judge all laws on all sites; which are broken is in `broken`."""
        instance = self.factory()

        def judge(batch: Batch) -> None:
            if stop_at_first and self.broken:
                raise next(iter(self.broken.values()))
            self.examples += 1
            trial = self._trial(batch, instance)
            for law in laws:
                if law.name in self.broken:
                    continue
                try:
                    self.judged[law.name] += law.check(trial)
                except LawBrokenError as broken:
                    self.judged[law.name] += 1
                    self.broken[law.name] = _alone(broken)
            self._learn(trial)
            self.kinds.update(kinds_of(trial))
            if self.progress:
                self.progress(min(self.examples, self.max_examples), self.max_examples)
            if stop_at_first and self.broken:
                raise next(iter(self.broken.values()))

        # Raised so that no more sites are made.
        with suppress(LawBrokenError):
            for batch in islice(hard_sites(self.spec.features), self.max_examples):
                judge(batch)
            if self.examples < self.max_examples:
                self._run(judge, [Phase.generate], self.max_examples - self.examples)

    def smallest(self, law: Law) -> LawBrokenError:
        """Return the smallest counterexample to a law that is broken."""
        smallest = self.broken[law.name]
        waits = isinstance(smallest.__cause__, TookTooLongError)
        cost = COST_OF_WAITING if waits else COST_OF_A_SITE
        spent = 0

        def judge(batch: Batch) -> None:
            nonlocal smallest, spent
            if spent > SHRINKING and batch != smallest.answers[0][1].batch:
                return
            try:
                law.check(self._trial(batch, self.factory()))
            except LawBrokenError as broken:
                smallest = broken
                raise
            finally:
                if spent or smallest is not self.broken[law.name]:
                    spent += cost + len(batch["minimum"])

        # Flaky is an allocator that answers now one thing and now another.
        with suppress(LawBrokenError, Flaky):
            self._run(judge, [Phase.generate, Phase.shrink], self.max_examples)
        if not waits:
            return _alone(smallest)
        # It has been waited for less and less: is it the allocator that is slow?
        batch = smallest.answers[0][1].batch
        try:
            law.check(Trial(batch, self.factory, self.spec, time_limit=self.time_limit))
        except LawBrokenError as broken:
            return _alone(broken)
        return self.broken[law.name]

    def _trial(self, batch: Batch, instance: Allocator) -> Trial:
        return Trial(batch, self.factory, self.spec, instance=instance, time_limit=self.patience)

    def _learn(self, trial: Trial) -> None:
        """Wait no longer for an answer than others took, once one did not come in time."""
        self.slowest = max(self.slowest, trial.slowest)
        if trial.waited_in_vain:
            self.patience = min(self.patience, max(SHORTEST_WAIT, 20 * self.slowest))

    def _run(self, judge: Callable[[Batch], None], phases: list[Phase], most: int) -> None:
        run = settings(
            max_examples=most,
            phases=phases,
            database=None,
            deadline=None,
            derandomize=False,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        seeded(self.seed)(run(given(batches(self.spec))(judge)))()


def _alone(broken: LawBrokenError) -> LawBrokenError:
    """Let go of the frames that an error went through: they keep allocators alive, and programs."""
    error: BaseException | None = broken
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
    return broken


def kinds_of(trial: Trial) -> dict[str, int]:
    """Return of what kinds a site is: 1 or 0 for each, as far as it is answered."""
    try:
        o = trial.outcome
    except NoAnswerError:
        return {"not answered": 1}
    p, batch = o.problem, trial.batch
    members = p.members
    servable = [i for i, c in members.items() if c.servable]
    needed = o.below(lambda i: members[i].minimum, servable)
    budget = [p.budget(g) for g in p.groups]
    maximums = sorted(c.maximum for c in p.line)
    weights = [c.weight for c in p.line] or [1.0]
    alike = Counter((c.minimum, c.maximum, c.weight, c.group) for c in p.line)
    depth = max(map(len, p.chains), default=0)
    drawing = [c for c in o.admitted if o.quanta[c.index] > 0]
    held = any(map(o.can_rise, o.admitted))
    kinds = {
        # How much there is for whom.
        "somebody shares a full group": any(o.has_risen(c) and o.can_rise(c) for c in o.admitted),
        "somebody paused": bool(o.paused),
        "everybody paused": bool(o.paused) and not drawing,
        "everybody at the maximum": bool(drawing) and not o.paused and not held,
        "minimums that just fit": any(0 < x == y for x, y in zip(needed, budget, strict=True)),
        "minimums too large by a quantum": any(
            x == y + 1 for x, y in zip(needed, budget, strict=True)
        ),
        "decimals that do not add up": _decimals_betray(o, servable, needed, budget),
        "a minimum larger than its group": any(
            members[i].minimum > budget[members[i].group] for i in servable
        ),
        "no capacity": not all(p.usable),
        # What connectors are like.
        "some alike": max(alike.values(), default=0) > 1,
        "all alike": len(p.line) > 1 and len(alike) == 1,
        "fixed powers only": bool(p.line) and all(c.minimum == c.maximum for c in p.line),
        "no minimums": bool(p.line) and not any(c.minimum for c in p.line),
        "one dominant": len(p.line) > 1 and maximums[-1] > sum(maximums[:-1]) > 0,
        "idle connectors": len(p.line) < p.n_connectors,
        "priorities": len({c.priority for c in p.line}) > 1,
        "ranks": "rank" in batch,
        "weights": p.has_weights,
        "wide weights": max(weights) > 100 * min(weights),
        "steps": p.has_steps,
        # What groups are like.
        "no group": not p.groups,
        "an empty group": any(p.ends[g] == p.ends[g + 1] for g in p.groups),
        "one connector": p.n_connectors == 1,
        "a hundred connectors or more": p.n_connectors >= 100,
        "nested groups": depth > 1,
        "three levels of groups": depth > 2,
        "a buffer": any(p.buffer),
        "all of it set aside": 1.0 in p.buffer,
        "something reserved": any(p.reserved),
    }
    return {kind: int(holds) for kind, holds in kinds.items()}


def _decimals_betray(o: Outcome, servable: list[int], needed: list[int], budget: list[int]) -> bool:
    """Whether minimums fit into a group, but not as doubles that are added up."""
    p = o.problem
    total = [0.0] * len(p.groups)
    for i in servable:
        for g in p.chains[p.owner[i]]:
            total[g] += o.batch["minimum"][i]
    return any(
        needed[g] <= budget[g]
        and total[g] > p.capacity[g] * (1.0 - p.buffer[g]) - p.reserved[g] >= 0.0
        for g in p.groups
    )
