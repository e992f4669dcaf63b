"""Test vectors: a file of batches with exact answers, for ports to other languages.

It is made from a seed by Python's own generator, of which only `random` is used: that is the same
in every version. docs/vectors.md describes the format.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wattfill.errors import InputError
from wattfill.testing import sites
from wattfill.testing.reference import solve
from wattfill.testing.sites import Plan, Plug
from wattfill.testing.spec import FEATURES, Spec
from wattfill.testing.trial import (
    PER_CONNECTOR,
    Allocator,
    Batch,
    NoAnswerError,
    as_factory,
    limited_to,
    powers_of,
)

FORMAT = 1
ARGUMENTS = ("minimum", "maximum", "capacity", *FEATURES)
SEED = 1
CASES = 2000
# What is answered, in the order in which it is compared, and what it is one of for each.
ANSWERS = {
    "power": "connector",
    "reason": "connector",
    "bound_by": "connector",
    "level": "group",
    "used": "group",
}
WHOLE = ("offsets", "parent", "priority", "active", "reason", "bound_by")
COLUMNS = (*ARGUMENTS, *ANSWERS)
SHOWN = 5
# One case in so many is a crowd of an edge of a size class, and one is large; of the rest, a group
# has so many connectors, and a batch so many groups.
EVERY, EVERY_LARGE = 70, 500
FEW_CONNECTORS = (1, 1, 2, 2, 3)
FEW_GROUPS = (1, 1, 1, 2, 3) * 6 + (0,)
LARGE = (255, 257, 256, 300)


@dataclass(frozen=True)
class Difference:
    """The first thing in a case that is not what is due.

    Attributes
    ----------
    case : int
        Which case, from 0.
    what : str
        What is different: one of `ANSWERS`, or ``"answer"`` where there is none.
    sentence : str
        What was found and what is due, in kW.

    """

    case: int
    what: str
    sentence: str


@dataclass(frozen=True)
class VectorCheck:
    """What came of asking the cases of a file.

    Attributes
    ----------
    cases, asked : int
        How many cases there are, and how many have only arguments that the allocator takes.
    differences : list of Difference
        One for each case that is answered otherwise.

    """

    cases: int
    asked: int
    differences: list[Difference]

    @property
    def ok(self) -> bool:
        """Whether something was asked, and all of it answered to the last bit."""
        return bool(self.asked) and not self.differences

    def __str__(self) -> str:
        n = len(self.differences)
        lines = [
            f"{self.asked - n} of {self.asked} cases have the answers that are due"
            if n
            else f"all {self.asked} cases have the answers that are due"
        ]
        if self.asked < self.cases:
            lines[0] += f"; {self.cases - self.asked} more have arguments that are not taken"
        lines += [f"case {x.case}: {x.sentence}" for x in self.differences[:SHOWN]]
        if n > SHOWN:
            lines.append(f"and {n - SHOWN} more")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "ok": self.ok,
            "cases": self.cases,
            "asked": self.asked,
            "differences": [vars(x) for x in self.differences],
        }


def make_vectors(seed: int = SEED, n: int = CASES) -> dict[str, Any]:
    """Make cases from a seed and solve them by the reference.

    Parameters
    ----------
    seed : int
        The same seed makes the same cases, in any version of Python.
    n : int
        How many cases.

    Returns
    -------
    dict
        What the file says: ``"format"``, ``"seed"``, ``"columns"``, and ``"cases"``, each of which
        has a value for each column, or None.

    Examples
    --------
    >>> vectors = make_vectors(seed=1, n=2)
    >>> case = dict(zip(vectors["columns"], vectors["cases"][1], strict=True))
    >>> case["maximum"]
    [7.282199, 12.429419, 150, 50, 5]
    >>> case["power"]
    [5.4395, 5.4395, 150, 50, 4.133332]

    """
    rng = random.Random(seed)
    cases = []
    for i in range(n):
        batch = _batch(rng, _crowd(i))
        case = batch | _answer(batch)
        cases.append([_short(case.get(name)) for name in COLUMNS])
    return {"format": FORMAT, "seed": seed, "columns": list(COLUMNS), "cases": cases}


def write_vectors(path: str | os.PathLike[str], seed: int = SEED, n: int = CASES) -> None:
    """Write cases made from a seed to a file, one case a line.

    Parameters
    ----------
    path : path-like
        The file.
    seed, n : int
        As of `make_vectors`.

    """
    Path(path).write_text(as_text(make_vectors(seed, n)), encoding="utf-8", newline="\n")


def as_text(vectors: Mapping[str, Any]) -> str:
    """Return cases as JSON, one a line.

    Examples
    --------
    >>> print(as_text({"format": 1, "cases": [[[5, 0.1], None], [[], 2]]}), end="")
    {"format":1,"cases":[
    [[5,0.1],null],
    [[],2]
    ]}

    """

    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    head = compact({name: value for name, value in vectors.items() if name != "cases"})
    lines = ",\n".join(compact(case) for case in vectors["cases"])
    return f'{head[:-1]},"cases":[\n{lines}\n]}}\n'


def _short(value: Any) -> Any:
    """Return numbers as JSON writes them shortest: whole ones without a point, no level as null."""
    if isinstance(value, list):
        return [_short(x) for x in value]
    if isinstance(value, float):
        if value == math.inf:
            return None
        if value.is_integer() and abs(value) < 2**53:
            return int(value)
    return value


def check_vectors(
    vectors: str | os.PathLike[str] | Mapping[str, Any],
    allocator: Allocator | None = None,
    *,
    time_limit: float = 10.0,
) -> VectorCheck:
    """Ask each case of a file, and compare the answers with those that are due, to the last bit.

    Parameters
    ----------
    vectors : path-like or mapping
        The file, or what it says.
    allocator : callable, optional
        Called as by `check_allocator`; only cases that have no arguments but those in its signature
        are asked. Beside powers it may answer with other things that a case has, as attributes or
        keys. By default the reference is asked: is the file as it should be?
    time_limit : float
        Seconds that one answer may take.

    Returns
    -------
    VectorCheck
        Which cases are answered otherwise.

    Raises
    ------
    InputError
        If the file is none of vectors.

    Examples
    --------
    >>> from wattfill import allocate
    >>> print(check_vectors(make_vectors(n=60), allocate))
    all 60 cases have the answers that are due

    """
    cases = list(read_vectors(vectors))
    instance = as_factory(allocator or _reference)()
    features = Spec.of(instance).features
    asked = 0
    differences = []
    for k, (batch, answer) in enumerate(cases):
        taken = _as_taken(batch, features)
        if taken is None:
            continue
        asked += 1
        if difference := _compare(k, taken, answer, instance, time_limit):
            differences.append(difference)
    return VectorCheck(len(cases), asked, differences)


def _reference(**batch: Any) -> Any:
    return solve(**batch)


# Making cases.


def _crowd(i: int) -> int:
    """Return how many connectors the first group of case i has, 0 for as many as are drawn."""
    if i % EVERY_LARGE == EVERY_LARGE - 1:
        return LARGE[i // EVERY_LARGE % len(LARGE)]
    return sites.EDGES[i // EVERY % len(sites.EDGES)] if i % EVERY == EVERY - 1 else 0


def _batch(rng: random.Random, crowd: int) -> Batch:
    """Plan a batch by a seed as `strategies` does by Hypothesis, and build it."""

    def one_of(table: Sequence[Any]) -> Any:
        return table[int(rng.random() * len(table))]

    present = {name: one_of(often) for name, often in sites.OFTEN.items()}
    names = {name for name, value in present.items() if value}
    weights = present["weight"] or sites.WEIGHTS

    def plug(family: str) -> Plug:
        low, high = _bounds(rng, family, one_of)
        return Plug(
            low,
            high,
            weight=one_of(weights) if "weight" in names else 1.0,
            priority=one_of(sites.PRIORITIES) if "priority" in names else 0,
            rank=one_of(sites.RANKS) if "rank" in names else 0.0,
            active=one_of(sites.ACTIVE) if "active" in names else True,
        )

    def plan() -> Plan:
        family = one_of(sites.EVIL_FAMILIES)
        return Plan(
            plugs=[plug(family) for _ in range(one_of(FEW_CONNECTORS))],
            shape=one_of(sites.SHAPES),
            room=one_of(sites.ROOMS),
            rounded_to=one_of(sites.ROUNDED_TO),
            off=one_of(sites.OFF),
            buffer=one_of(sites.EVIL_BUFFERS) if "buffer" in names else 0.0,
            reserved=one_of(sites.RESERVED) if "reserved" in names else 0.0,
            parent=one_of(sites.PARENTS) if "parent" in names else 0,
        )

    # Large ones alone: they are long to write.
    n_groups = 1 if crowd > max(sites.EDGES) else one_of(FEW_GROUPS)
    return sites.build(
        [plan() for _ in range(n_groups)],
        [*names, "offsets"],
        step=one_of(sites.STEPS) if "step" in names else None,
        crowd=crowd,
        numbered=one_of(sites.NUMBERED),
    )


def _bounds(
    rng: random.Random, family: str, one_of: Callable[[Sequence[float]], Any]
) -> tuple[float, float]:
    """Return bounds of a connector; either may be the larger."""
    match family:
        case "whole":
            return float(int(rng.random() * 7)), float(1 + int(rng.random() * 20))
        case "sold":
            return one_of(sites.MINIMUMS), one_of(sites.RATINGS)
        case "decimal":
            return int(rng.random() * 600) / 100, int(rng.random() * 3000) / 100
        case "fine":
            return int(rng.random() * 6 * 10**6) / 10**6, int(rng.random() * 30 * 10**6) / 10**6
        case "evil":
            evil = (*sites.MINIMUMS, *sites.EVIL)
            return one_of(evil), one_of(evil)
        case _:
            # Off the grid, and still short to write.
            return int(rng.random() * 2e10) / 10**8, int(rng.random() * 2e10) / 10**8


def _answer(batch: Batch) -> dict[str, Any]:
    solution = solve(**batch)
    answer = {name: list(getattr(solution, name)) for name in ANSWERS}
    answer["reason"] = [int(x) for x in answer["reason"]]
    return answer


# Asking them.


def _as_taken(batch: Batch, features: frozenset[str]) -> Batch | None:
    """Return a batch in the form that an allocator takes, or None if it does not."""
    batch = copy.deepcopy(batch)
    if "offsets" not in features and len(batch["capacity"]) == 1:
        del batch["offsets"]
        for name in ("capacity", "buffer", "reserved"):
            if name in batch:
                batch[name] = batch[name][0]
    return batch if features.issuperset(set(FEATURES).intersection(batch)) else None


def _compare(
    k: int, batch: Batch, due: Mapping[str, list[Any]], instance: Allocator, time_limit: float
) -> Difference | None:
    """Return the first difference between what is answered and what is due."""

    def ask() -> dict[str, list[float] | list[int] | None]:
        answer = instance(**batch)
        return {name: _part(answer, name) for name in ANSWERS}

    try:
        found = limited_to(time_limit, ask)
    except NoAnswerError as error:
        return Difference(k, "answer", str(error))
    except Exception as error:
        return Difference(k, "answer", f"it raised {type(error).__name__}: {error}")
    for name, of in ANSWERS.items():
        values = found[name]
        if values is None:
            continue
        if len(values) != len(due[name]):
            sentence = f"{name} has {len(values)} values, due are {len(due[name])}"
            return Difference(k, name, sentence)
        for i, (x, y) in enumerate(zip(values, due[name], strict=True)):
            if x != y:
                unit = "" if name in ("reason", "bound_by") else " kW"
                sentence = f"{name} of {of} {i} is {x!r}{unit}, due is {y!r}{unit}"
                return Difference(k, name, sentence)
    return None


def _part(answer: Any, name: str) -> list[float] | list[int] | None:
    """Return one part of an answer, or None where it has none."""
    if name == "power":
        return powers_of(answer)
    part = answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)
    if part is None:
        return None
    if name in ("reason", "bound_by"):
        return [int(x) for x in part]
    return [math.inf if x is None else float(x) for x in part]


# Reading them.


def read_vectors(
    vectors: str | os.PathLike[str] | Mapping[str, Any],
) -> Iterator[tuple[Batch, dict[str, list[Any]]]]:
    """Yield the arguments and the answers of each case.

    Parameters
    ----------
    vectors : path-like or mapping
        The file, or what it says.

    Raises
    ------
    InputError
        If the file is none of vectors.

    Examples
    --------
    >>> batch, answer = next(read_vectors(make_vectors(seed=1, n=1)))
    >>> batch["capacity"], answer["level"]
    ([5.9375], [inf])

    """
    where = "vectors"
    if not isinstance(vectors, Mapping):
        where = os.fspath(vectors)
        try:
            vectors = json.loads(Path(vectors).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{where} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is no JSON: {error}") from None
    if not isinstance(vectors, Mapping) or "format" not in vectors:
        raise InputError(f"{where} must be an object that has a format")
    if vectors["format"] != FORMAT:
        raise InputError(f"{where} must have format {FORMAT}, got {vectors['format']!r}")
    if vectors.get("columns") != list(COLUMNS):
        raise InputError(f"{where} must have the columns {', '.join(COLUMNS)}")
    cases = vectors.get("cases")
    if not isinstance(cases, list):
        raise InputError(f"{where} must have a list of cases")
    for k, case in enumerate(cases):
        try:
            yield _case(case)
        except InputError as error:
            raise InputError(f"case {k} of {where} {error}") from None


def _case(case: Any) -> tuple[Batch, dict[str, list[Any]]]:
    """Return the arguments and the answers of a case; whole numbers are doubles where they may be.

    Only what would be no batch at all is refused: what a batch may be is for allocators to say.
    """
    if not isinstance(case, list) or len(case) != len(COLUMNS):
        raise InputError(f"must be a list of {len(COLUMNS)} values")
    values = dict(zip(COLUMNS, case, strict=True))
    for name in ("minimum", "maximum", "capacity", "offsets", *ANSWERS):
        if values[name] is None:
            raise InputError(f"must have {name}")
    sizes: dict[str, int] = {}
    for name, value in values.items():
        if name == "step" and value is not None and not _is_number(value):
            raise InputError(f"must have a number as step, got {value!r}")
        if name == "step" or value is None:
            continue
        if not isinstance(value, list):
            raise InputError(f"must have a list as {name}, got {value!r}")
        for i, x in enumerate(value):
            if not _is_number(x) and not (x is None and name == "level"):
                raise InputError(f"must have numbers in {name}, got {name}[{i}] = {x!r}")
        of = "connector" if name in PER_CONNECTOR else ANSWERS.get(name, "group")
        size = len(value) - (name == "offsets")
        if size != sizes.setdefault(of, size):
            raise InputError(f"must have as much of {name} as of others for each {of}, got {size}")
    for name, value in values.items():
        if isinstance(value, list) and name not in WHOLE:
            values[name] = [math.inf if x is None else float(x) for x in value]
    batch = {name: values[name] for name in ARGUMENTS if values[name] is not None}
    return batch, {name: values[name] for name in ANSWERS}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
