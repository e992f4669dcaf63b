"""An allocator asked, its answers in whole numbers, and what it looks like when one is wrong."""

from __future__ import annotations

import copy
import gc
import inspect
import json
import math
import signal
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from types import FrameType
from typing import Any, TypeVar

from wattfill.errors import InputTypeError
from wattfill.testing.problem import Member, Problem
from wattfill.testing.reference import solve
from wattfill.testing.sites import PER_GROUP
from wattfill.testing.spec import Spec

Batch = dict[str, Any]
Allocator = Callable[..., Any]
T = TypeVar("T")

PER_CONNECTOR = ("minimum", "maximum", "weight", "priority", "rank", "active")
# Sites of more connectors are cut short where people read them, and the reference is not asked.
READABLE = 24
# Seconds after which an allocator is interrupted again that went on.
AGAIN = 0.2


def kw(quanta: float, per_unit: int = 10**6) -> str:
    """Return a number of quanta as kW, with as many digits as it has."""
    return f"{quanta / per_unit:.10g}"


class NoAnswerError(Exception):
    """An allocator raised, took too long, or answered what is no power per connector."""


class TookTooLongError(NoAnswerError):
    """An allocator did not answer in time."""


class LawBrokenError(AssertionError):
    """An answer that breaks a law; the message repeats the input, in kW.

    Attributes
    ----------
    law : str
        Name of the law.
    found, expected : str
        What is wrong, and what would be right.
    answers : list of (str, Outcome)
        Batches and what was answered, the one that is judged first. Each says how it was made.

    """

    def __init__(self, found: str, expected: str, *answers: tuple[str, Outcome]) -> None:
        super().__init__(found, expected, *answers)
        self.law = ""
        self.found, self.expected = found, expected
        self.answers = list(answers)

    def __str__(self) -> str:
        return self.text()

    def text(self, *, as_json: bool = False) -> str:
        """Return it for people: as Python that can be pasted, or as JSON, below a table."""
        lines = [f"{self.law}: {self.found}", f"expected: {self.expected}"]
        for how, outcome in self.answers:
            lines += ["", *([f"{how}:"] if how else []), *outcome.rows()]
            lines.append(json.dumps(outcome.to_dict()) if as_json else f"batch = {outcome.batch!r}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the counterexample for JSON."""
        return {
            "law": self.law,
            "found": self.found,
            "expected": self.expected,
            "answers": [{"how": how, **outcome.to_dict()} for how, outcome in self.answers],
        }


class Outcome:
    """A batch and what an allocator answered, in whole quanta.

    Parameters
    ----------
    batch : dict
        Arguments of `wattfill.allocate`, as numbers and lists.
    power : sequence of float, shape (n_connectors,)
        What was answered, in kW. Empty where there was no answer.
    spec : Spec
        What the allocator promises.

    """

    def __init__(self, batch: Batch, power: Sequence[float], spec: Spec | None = None) -> None:
        self.batch, self.power = batch, list(power)
        self.spec = spec or Spec()
        self.problem = Problem(**batch)
        self.slack = math.ceil(self.spec.tolerance * self.problem.per_unit)

    @cached_property
    def quanta(self) -> list[int]:
        """Powers in whole quanta."""
        return [self.problem.down(x) for x in self.power]

    @cached_property
    def used(self) -> list[int]:
        """What is drawn below each group, in quanta."""
        return self.below(lambda i: self.quanta[i])

    @cached_property
    def paused(self) -> list[Member]:
        """Those with a session and a minimum who get nothing, in admission order."""
        return [c for c in self.problem.line if self._is_paused(c)]

    @cached_property
    def admitted(self) -> list[Member]:
        """All others with a session, in admission order."""
        paused = {c.index for c in self.paused}
        return [c for c in self.problem.line if c.index not in paused and c.servable]

    def _is_paused(self, c: Member) -> bool:
        # What is as near to the minimum as the tolerance lets it be is the minimum.
        got, low = self.power[c.index], self.batch["minimum"][c.index] - self.spec.tolerance
        return got <= self.spec.tolerance and got < low and c.minimum > 0

    def below(self, value: Callable[[int], int], of: Sequence[int] | None = None) -> list[int]:
        """Add up a value of each connector, or of some, for each group over all below it."""
        total = [0] * len(self.problem.groups)
        for i in range(self.problem.n_connectors) if of is None else of:
            for g in self.problem.chains[self.problem.owner[i]]:
                total[g] += value(i)
        return total

    def minimum(self, c: Member) -> int:
        """Return a minimum in quanta."""
        return c.minimum * self.problem.grain

    def maximum(self, c: Member) -> int:
        """Return a maximum in quanta."""
        return c.maximum * self.problem.grain

    def can_rise(self, c: Member) -> bool:
        """Whether a connector is not at its maximum."""
        return self.quanta[c.index] < self.maximum(c) - self.slack

    def has_risen(self, c: Member) -> bool:
        """Whether a connector is above its minimum."""
        return self.quanta[c.index] > self.minimum(c) + self.slack

    @cached_property
    def full(self) -> list[bool]:
        """Whether a group has less left than a quantum for each who could rise, or a step."""
        p = self.problem
        rising = [c.index for c in self.admitted if self.can_rise(c)]
        growth = self.below(lambda _: 1, rising)
        size = self.below(lambda _: 1)
        return [
            p.budget(g) * p.grain - self.used[g]
            < (p.grain if p.has_steps else growth[g]) + size[g] * self.slack
            for g in p.groups
        ]

    def same(self, power: float, other: float) -> bool:
        """Whether two powers are the same, each within the tolerance."""
        return abs(power - other) <= 2 * self.spec.tolerance

    def kw(self, quanta: float) -> str:
        """Return a number of quanta as kW."""
        return kw(quanta, self.problem.per_unit)

    @cached_property
    def reference(self) -> list[float] | None:
        """What the reference answers; None for sites too large to be read."""
        if self.problem.n_connectors > READABLE:
            return None
        return solve(**self.batch).power

    def rows(self) -> Iterator[str]:
        """Yield lines for people: each group, its connectors, and what they got."""
        p, batch = self.problem, self.batch
        columns = [
            name for name in (*PER_CONNECTOR, "got", "reference") if self._column(name) is not None
        ]
        widths = {name: self._width(name) for name in columns}
        for g in p.groups[:READABLE]:
            parts = [f"group {g}: capacity {p.capacity[g]:.10g} kW"]
            if p.buffer[g]:
                parts.append(f"buffer {p.buffer[g]:.10g}")
            if p.reserved[g]:
                parts.append(f"reserved {p.reserved[g]:.10g} kW")
            parts.append(f"usable {self.kw(p.usable[g])} kW")
            if len(p.chains[g]) > 1:
                parts.append(f"fed by group {p.chains[g][1]}")
            if self.power:
                parts.append(f"drawn {self.kw(self.used[g])} kW")
            yield ", ".join(parts)
            start, stop = p.ends[g], p.ends[g + 1]
            if start < stop:
                yield f"{'connector':>13}" + "".join(f"{n:>{widths[n]}}" for n in columns)
            for i in range(start, min(stop, start + READABLE)):
                cells = (self._column(name) for name in columns)
                yield f"{i:>13}" + "".join(
                    f"{_cell((values or [])[i]):>{widths[name]}}"
                    for name, values in zip(columns, cells, strict=True)
                )
            if stop > start + READABLE:
                yield f"{'...':>13}  {stop - start - READABLE} more"
        if len(p.groups) > READABLE:
            yield f"... {len(p.groups) - READABLE} more groups"
        if batch.get("step") is not None:
            yield f"step {batch['step']:.10g} kW"

    def _column(self, name: str) -> Sequence[Any] | None:
        if name == "got":
            return self.power or None
        if name == "reference":
            return self.reference
        return self.batch.get(name)

    def _width(self, name: str) -> int:
        return max(9, len(name), *(len(_cell(x)) for x in self._column(name) or [])) + 2

    def to_dict(self) -> dict[str, Any]:
        """Return the batch and the answers for JSON."""
        return {"batch": self.batch, "power": self.power, "reference": self.reference}


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}"


def pick(batch: Batch, connectors: Sequence[int], groups: Sequence[int] | None = None) -> Batch:
    """Return a batch with some of its connectors, and of its groups, in another order.

    Connectors of groups that are left out are left out. Groups whose parent is left out have none.
    """
    ends = batch.get("offsets", [0, len(batch["minimum"])])
    members: list[list[int]] = [[] for _ in range(len(ends) - 1)]
    for i in connectors:
        members[bisect_right(ends, i) - 1].append(i)
    groups = range(len(members)) if groups is None else groups
    order = [i for g in groups for i in members[g]]
    picked = dict(batch)
    for name in PER_CONNECTOR:
        if name in batch:
            picked[name] = [batch[name][i] for i in order]
    if "offsets" in batch:
        picked["offsets"] = [0, *accumulate(len(members[g]) for g in groups)]
        for name in PER_GROUP:
            if isinstance(batch.get(name), list):
                picked[name] = [batch[name][g] for g in groups]
        if "parent" in batch:
            place = {g: k for k, g in enumerate(groups)} | {-1: -1}
            picked["parent"] = [place.get(batch["parent"][g], -1) for g in groups]
    return picked


class Trial:
    """An allocator on one batch: its answer, its answers to variations, fresh instances of it.

    Parameters
    ----------
    batch : dict
        Arguments of `wattfill.allocate`, as numbers and lists.
    allocator : callable
        What is asked, or a factory of it, see `as_factory`.
    spec : Spec
        What it promises.
    time_limit : float
        Seconds that one call may take.

    """

    def __init__(
        self,
        batch: Batch,
        allocator: Allocator,
        spec: Spec | None = None,
        *,
        time_limit: float = 10.0,
        instance: Allocator | None = None,
    ) -> None:
        self.batch = batch
        self.factory = as_factory(allocator)
        self.spec = spec or Spec()
        self.time_limit = time_limit
        self._instance = instance
        self._answer: Outcome | NoAnswerError | None = None
        self.slowest = 0.0
        self.waited_in_vain = False

    @cached_property
    def instance(self) -> Allocator:
        """The allocator that answers, unless a fresh one is asked."""
        return self._instance or self.factory()

    @property
    def outcome(self) -> Outcome:
        """The answer to the batch as it is, asked for once."""
        if self._answer is None:
            try:
                self._answer = self.ask(self.batch)
            except NoAnswerError as error:
                self._answer = error
        if isinstance(self._answer, NoAnswerError):
            raise self._answer
        return self._answer

    def ask(self, batch: Batch, instance: Allocator | None = None) -> Outcome:
        """Return what is answered to a batch; raise `NoAnswerError` where that is no answer."""
        return Outcome(batch, self.powers(copy.deepcopy(batch), instance), self.spec)

    def powers(self, batch: Batch, instance: Allocator | None = None) -> list[float]:
        """Return the powers answered to a batch that may be changed."""
        n = len(batch["minimum"])
        started = time.monotonic()
        try:
            power = limited_to(
                self.time_limit, lambda: powers_of((instance or self.instance)(**batch))
            )
        except TookTooLongError:
            self.waited_in_vain = True
            raise
        except NoAnswerError:
            raise
        except (Exception, SystemExit) as error:
            raise NoAnswerError(f"it raised {type(error).__name__}: {error}") from error
        self.slowest = max(self.slowest, time.monotonic() - started)
        if len(power) != n:
            raise NoAnswerError(f"it answered {len(power)} powers for {n} connectors")
        for i, x in enumerate(power):
            if not math.isfinite(x):
                raise NoAnswerError(f"it answered {x} kW for connector {i}")
        return power


def powers_of(answer: Any) -> list[float]:
    """Return the powers of an answer: a sequence, ``answer.power`` or ``answer["power"]``."""
    if isinstance(answer, Mapping):
        answer = answer["power"]
    return [float(x) for x in getattr(answer, "power", answer)]


def as_factory(allocator: Allocator) -> Callable[[], Allocator]:
    """Return a function that makes allocators: what is passed if it is one, else one that wraps it.

    A class is a factory, and so is whatever can be called without arguments, to return something
    that can be called.
    """
    if not callable(allocator):
        raise InputTypeError(
            f"allocator must be a function or a factory of one, got {type(allocator).__name__}"
        )
    if isinstance(allocator, type):
        return allocator
    try:
        parameters = inspect.signature(allocator).parameters.values()
    except (TypeError, ValueError):
        return lambda: allocator
    if any(p.kind is p.VAR_KEYWORD or p.name == "minimum" for p in parameters):
        return lambda: allocator
    if all(p.default is not p.empty or p.kind is p.VAR_POSITIONAL for p in parameters):
        return allocator
    return lambda: allocator


def limited_to(seconds: float, ask: Callable[[], T]) -> T:
    """Return what is answered; raise `TookTooLongError` if it takes longer.

    In the main thread of a POSIX system, that is: elsewhere it is waited for. `ask` is a function
    in Python.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        return ask()

    def give_up(signum: int, frame: FrameType | None) -> None:
        # Only what is asked is interrupted, where that comes out here. It does not while garbage is
        # collected, at which Hypothesis looks on: then the next alarm is in time.
        lost = [getattr(callback, "__code__", None) for callback in gc.callbacks]
        while frame and frame.f_code is not ask.__code__:
            if frame.f_code in lost:
                return
            frame = frame.f_back
        if frame:
            raise TookTooLongError(f"it did not answer within {seconds:.3g} s")

    handler = signal.signal(signal.SIGALRM, give_up)
    before = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        return ask()
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)
