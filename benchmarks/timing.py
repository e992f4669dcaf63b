"""Time contenders side by side, so that their figures may be compared.

A shared machine is now fast and now slow, so contenders take turns, round by round, on the same
inputs. Each is first called once outside the clock, which puts what it reads and writes into the
caches that would hold it. Of every input the best call counts: whatever else the machine did only
ever adds time. The mean over the inputs is the figure, so that no contender is known by the input
that it likes best.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from time import perf_counter_ns
from typing import Any

FEWEST_ROUNDS, MOST_ROUNDS = 3, 60


@dataclass(frozen=True)
class Contender:
    """Something that is timed; those of one name are timed as one."""

    name: str
    call: Callable[[int], Any]
    """Solve the k-th input and return the answer."""
    check: Callable[[int, Any], None]
    """Raise unless this is the answer to the k-th input."""
    units: float
    """How many connectors, calls or events the time of one call is for."""


@dataclass(frozen=True)
class Timing:
    """How long one unit takes, in nanoseconds."""

    best: float
    """The mean over the inputs of the best call."""
    median: float
    """The median over the rounds of the mean over the inputs."""
    rounds: int


def race(contenders: Sequence[Contender], n_inputs: int, seconds: float) -> dict[str, Timing]:
    """Time each contender for so many seconds, or for a few rounds if these take longer.

    Every answer is checked before the clock starts, and the last one of each again when it stops.
    """
    inputs = range(n_inputs)
    for contender in contenders:
        for k in inputs:
            contender.check(k, contender.call(k))

    rounds: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    spent = [0.0] * len(contenders)
    answers: list[Any] = [None] * len(contenders)
    gc.collect()
    gc.disable()
    try:
        for number in range(MOST_ROUNDS):
            for j, contender in enumerate(contenders):
                if number < FEWEST_ROUNDS or spent[j] < seconds:
                    answers[j], times = _round(contender, inputs)
                    rounds[contender.name].append([ns / contender.units for ns in times])
                    spent[j] += sum(times) / 1e9
    finally:
        gc.enable()
    for contender, answer in zip(contenders, answers, strict=True):
        contender.check(inputs[-1], answer)
    return {
        name: Timing(
            best=fmean(map(min, zip(*times, strict=True))),
            median=median(map(fmean, times)),
            rounds=len(times),
        )
        for name, times in rounds.items()
    }


def _round(contender: Contender, inputs: range) -> tuple[Any, list[int]]:
    answer = contender.call(inputs[-1])
    times = []
    for k in inputs:
        start = perf_counter_ns()
        answer = contender.call(k)
        times.append(perf_counter_ns() - start)
    return answer, times
