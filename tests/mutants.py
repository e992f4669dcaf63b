"""Faulty allocators: small changes to a plain water-fill, of the kind that people make.

Each says its fault and what was changed. `python tests/mutants.py > docs/mutants.md` tells which
laws catch which.
"""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import groupby, pairwise
from multiprocessing import get_context
from typing import ClassVar, TypeVar

import numpy as np
from allocators import PER_KW, Feeder, FloatFill, PlainFill, Plug, down, up

from wattfill.testing import LAWS, LawBrokenError, Spec
from wattfill.testing.conformance import DEFAULT_EXAMPLES, Search
from wattfill.testing.trial import Batch

T = TypeVar("T")
MUTANTS: dict[str, type["Mutant"]] = {}


class Mutant:
    """Something faulty, and what it would promise; each is in `MUTANTS` by its name."""

    spec: ClassVar[Spec]

    def __init_subclass__(cls) -> None:
        if cls.__doc__:
            MUTANTS[cls.__name__] = cls


class Plain(Mutant, PlainFill):
    spec = Spec(tolerance=0.0)


class Float(Mutant, FloatFill):
    spec = Spec.of(FloatFill(), pausing=False)


# Which connectors and groups there are.


class LastConnectorForgotten(Plain):
    """The last connector of a group is forgotten: its range ends one too early."""

    def plugs_of(self, g: int) -> list[int]:
        return super().plugs_of(g)[:-1]


class OnePastTheLast(Plain):
    """The first connector of the next group is taken along: the range ends one too late."""

    def plugs_of(self, g: int) -> list[int]:
        stop = min(self.offsets[g + 1] + 1, self.n)
        return [i for i in range(self.offsets[g], stop) if self.active[i]]


class LastGroupDropped(Plain):
    """The last group gets nothing: groups are counted from the offsets, one too few."""

    def plugs_of(self, g: int) -> list[int]:
        return super().plugs_of(g) if g < self.n_groups - 1 or g == 0 else []


class IdleServed(Plain):
    """Connectors without a session get power: `active` is not looked at."""

    def plugs_of(self, g: int) -> list[int]:
        return list(range(self.offsets[g], self.offsets[g + 1]))


class IdleCounted(Plain):
    """Connectors without a session take up their minimum, and what they would share, then get 0."""

    def plugs_of(self, g: int) -> list[int]:
        return list(range(self.offsets[g], self.offsets[g + 1]))

    def answer(self) -> list[float]:
        return [x if on else 0.0 for x, on in zip(super().answer(), self.active, strict=True)]


class TwinsMerged(Plain):
    """Connectors with the same bounds are one: they are kept in a dict by their bounds."""

    def plugs_of(self, g: int) -> list[int]:
        return list({self.bounds(i): i for i in super().plugs_of(g)}.values())


class EmptyGroupCrashes(Plain):
    """A group where nobody charges raises: the largest maximum of nobody."""

    def fill_group(self, f: Feeder, below: list[Plug]) -> None:
        if max(c.power for c in below) >= 0:
            super().fill_group(f, below)


class GroupsInFours(Plain):
    """Groups are filled in blocks of four; in a last block that is not full, minimums remain."""

    def fill_group(self, f: Feeder, below: list[Plug]) -> None:
        if self.n_groups > 4 and f.index >= self.n_groups // 4 * 4:
            for c in below:
                c.power = min(c.power, c.minimum)
        super().fill_group(f, below)


class ByteIndex(Plain):
    """A group has 255 connectors at most: they are counted in a byte."""

    def plugs_of(self, g: int) -> list[int]:
        return super().plugs_of(g)[: len(super().plugs_of(g)) % 256]


# What a group may use.


class BufferIgnored(Plain):
    """The buffer is ignored."""

    def usable(self, g: int) -> int:
        return max(down(self.capacity[g]) - up(self.reserved[g]), 0)


class BufferTwice(Plain):
    """The buffer is applied twice: to the capacity, and again to what may be used."""

    def usable(self, g: int) -> int:
        return down(super().usable(g) / PER_KW * (1 - self.buffer[g]))


class BufferOfWhatIsLeft(Plain):
    """The buffer is a fraction of what the reserve leaves, not of the capacity."""

    def usable(self, g: int) -> int:
        return max(down((self.capacity[g] - self.reserved[g]) * (1 - self.buffer[g])), 0)


class BufferOfTheParent(Plain):
    """A group with a parent has the parent's buffer instead of its own."""

    def usable(self, g: int) -> int:
        buffer = self.buffer[self.chain(g)[:2][-1]]
        return max(down(self.capacity[g] * (1 - buffer)) - up(self.reserved[g]), 0)


class ReservedIgnored(Plain):
    """Load that is not ours to steer is ignored."""

    def usable(self, g: int) -> int:
        return down(self.capacity[g] * (1 - self.buffer[g]))


class ReservedAtTheRootOnly(Plain):
    """What is reserved counts only where there is no parent."""

    def usable(self, g: int) -> int:
        if self.parent[g] < 0:
            return super().usable(g)
        return down(self.capacity[g] * (1 - self.buffer[g]))


class ZeroIsUnlimited(Plain):
    """Capacity 0 is no limit: `if not capacity` is taken for not set."""

    def usable(self, g: int) -> int:
        return super().usable(g) if self.capacity[g] else 10**15


class UsableRoundedToNearest(Plain):
    """Usable capacity is rounded to the nearest quantum, not down."""

    def usable(self, g: int) -> int:
        exact = self.capacity[g] * (1 - self.buffer[g])
        return max(round(min(exact, 1e9) * PER_KW) - up(self.reserved[g]), 0)


class UsableNotSnapped(Plain):
    """100 kW * (1 - 0.9) is less than 10 kW: usable capacity is truncated as the double it is."""

    def usable(self, g: int) -> int:
        exact = self.capacity[g] * (1 - self.buffer[g]) - self.reserved[g]
        return max(math.floor(min(exact, 1e9) * PER_KW), 0)


class Int32(Plain):
    """Usable capacity wraps around above 2147.48 kW: mW in 32 bits."""

    def usable(self, g: int) -> int:
        return max((super().usable(g) + 2**31) % 2**32 - 2**31, 0)


# Who is fed by what.


class ParentsIgnored(Plain):
    """Parents are ignored."""

    def chain(self, g: int) -> list[int]:
        return [g]


class GrandparentsIgnored(Plain):
    """Only the parent is looked at, not who feeds it."""

    def chain(self, g: int) -> list[int]:
        return super().chain(g)[:2]


class RootsOnly(Plain):
    """Only the capacity at the top counts, not those between."""

    def fed_by(self, c: Plug) -> list[Feeder]:
        return super().fed_by(c)[-1:]


class ParentsFilledFirst(Plain):
    """From the root to the leaves: what a full child cannot take is lost for the others."""

    def fill_order(self) -> list[Feeder]:
        return super().fill_order()[::-1]


class ChildForgotten(Plain):
    """A parent starts from the maximums again, not from what its children allow."""

    def fill_group(self, f: Feeder, below: list[Plug]) -> None:
        for c in below:
            c.power = c.maximum
        super().fill_group(f, below)


class AdmittedByTheGroupAlone(Plain):
    """Admission looks at the own group only; parents come in when it is filled."""

    def fits(self, c: Plug) -> bool:
        return self.left[c.group] >= c.minimum


class SplitByChildren(Plain):
    """A parent's capacity is first split among its groups, by how many charge there."""

    def fill_group(self, f: Feeder, below: list[Plug]) -> None:
        own = sorted(below, key=lambda c: c.group)
        for _, plugs in groupby(own, key=lambda c: c.group):
            members = list(plugs)
            ceiling = f.budget * len(members) // len(below)
            spare = max(ceiling - sum(c.minimum for c in members), 0)
            if sum(c.power - c.minimum for c in members) > spare:
                self.fill_tier(members, sum(c.minimum for c in members) + spare)
        super().fill_group(f, below)


# Who is admitted.


class PausedCounted(Plain):
    """The minimum of who is paused stays taken for those behind it in line."""

    def fits(self, c: Plug) -> bool:
        fits = super().fits(c)
        if not fits:
            self.take(c)
        return fits


class PausedStranded(Plain):
    """What the paused leave behind is not used by the others: their minimums are subtracted."""

    def fill_group(self, f: Feeder, below: list[Plug]) -> None:
        paused = sum(c.minimum for c in f.plugs if not c.admitted)
        budget, least = f.budget, sum(c.minimum for c in below)
        f.budget = max(budget - paused, least)
        super().fill_group(f, below)
        f.budget = budget


class PrefixAdmission(Plain):
    """Once somebody does not fit, all behind it wait too."""

    def fits(self, c: Plug) -> bool:
        if not super().fits(c):
            for f in self.fed_by(c):
                self.left[f.index] = -1
            return False
        return True


class AllOrNobody(Plain):
    """If not all minimums of a group fit, nobody charges there."""

    def admit(self) -> None:
        super().admit()
        for f in self.feeders:
            if not all(c.admitted for c in f.plugs):
                for c in f.plugs:
                    c.admitted = False


class ExactFitRefused(Plain):
    """A minimum that just fits is refused: `<` for `<=`."""

    def fits(self, c: Plug) -> bool:
        return not c.minimum or all(self.left[f.index] > c.minimum for f in self.fed_by(c))


class MinimumsAsFloats(Plain):
    """Three of 0.1 kW do not fit into 0.3: minimums are added up as floats."""

    def admit(self) -> None:
        self.sums = [0.0 for _ in self.feeders]
        super().admit()

    def fits(self, c: Plug) -> bool:
        kw = self.minimum[c.index]
        return super().fits(c) and all(
            self.sums[f.index] + kw <= f.budget * self.grain / PER_KW for f in self.fed_by(c)
        )

    def take(self, c: Plug) -> None:
        super().take(c)
        for f in self.fed_by(c):
            self.sums[f.index] += self.minimum[c.index]


class LatestFirst(Plain):
    """The wrong one is paused: among equal priorities the highest rank goes first."""

    def place(self, c: Plug) -> tuple[float, ...]:
        return -c.priority, -c.rank, c.index


class RankIgnored(Plain):
    """Ranks are ignored: whoever stands earlier in the arrays goes first."""

    def place(self, c: Plug) -> tuple[float, ...]:
        return -c.priority, c.index


class PriorityInFillingOnly(Plain):
    """Who came first is admitted first, whatever the priority, which counts in filling only."""

    def admission_line(self) -> list[Plug]:
        return sorted(self.line(), key=lambda c: (c.rank, c.index))


class SmallestFirst(Plain):
    """Among equal priorities the smallest minimum goes first, whatever the rank."""

    def place(self, c: Plug) -> tuple[float, ...]:
        return -c.priority, c.minimum, c.rank, c.index


class LowestPriorityFirst(Plain):
    """Tiers are inverted: priority 1 is taken to go before priority 2."""

    def place(self, c: Plug) -> tuple[float, ...]:
        return c.priority, c.rank, c.index


class HighestTierLast(Plain):
    """Admission is right, but the lowest priority is filled first."""

    def tiers(self, below: list[Plug]) -> list[list[Plug]]:
        return super().tiers(below)[::-1]


class PriorityInAdmissionOnly(Plain):
    """Priorities decide who is admitted, not who is filled first."""

    def tiers(self, below: list[Plug]) -> list[list[Plug]]:
        return [sorted(below, key=lambda c: (c.rank, c.index))] if below else []


class PrioritiesBelowZero(Plain):
    """Priorities below 0 count as 0."""

    def plug(self, i: int, g: int) -> Plug:
        plug = super().plug(i, g)
        plug.priority = max(plug.priority, 0)
        return plug


class RestToLowerTiers(Plain):
    """Quanta that do not go round in a tier are given to the next one."""

    def fill_group(self, f: Feeder, below: list[Plug]) -> None:
        spare = f.budget - sum(c.minimum for c in below)
        for tier in self.tiers(below):
            spare += sum(c.minimum for c in tier)
            if sum(c.power for c in tier) > spare:
                self.fill_tier(tier, spare)
            spare -= sum(c.power for c in tier)


class PausedBelowTheLevel(Plain):
    """Whose minimum is more than an equal share is paused, even if all minimums fit."""

    def admit(self) -> None:
        super().admit()
        for f in self.feeders:
            own = [c for c in f.plugs if c.admitted]
            for c in own:
                c.admitted = c.minimum * len(own) <= f.budget


class MinimumOrDefault(Plain):
    """A minimum of 0 is taken for not given, and becomes 1.4 kW: `minimum or 1.4`."""

    def bounds(self, i: int) -> tuple[int, int]:
        low, high = super().bounds(i)
        return low or min(down(1.4) // self.grain, high), high


# How those admitted share.


class EqualIncrements(Plain):
    """Minimum first, then equal shares of the rest: equal increments instead of equal totals."""

    def fill_tier(self, tier: list[Plug], budget: int) -> None:
        least = [c.minimum for c in tier]
        for c in tier:
            c.minimum, c.power = 0, c.power - c.minimum
        super().fill_tier(tier, budget - sum(least))
        for c, low in zip(tier, least, strict=True):
            c.minimum, c.power = low, c.power + low


class InTwoTranches(EqualIncrements):
    """New capacity is shared equally on top of what is there: half, then the other half."""

    def fill_tier(self, tier: list[Plug], budget: int) -> None:
        least, most = [c.minimum for c in tier], [c.power for c in tier]
        PlainFill.fill_tier(self, tier, sum(least) + (budget - sum(least)) // 2)
        for c, high in zip(tier, most, strict=True):
            c.minimum, c.power = c.power, high
        super().fill_tier(tier, budget)
        for c, low in zip(tier, least, strict=True):
            c.minimum = low


class InProportionToMaximums(Plain):
    """Everybody gets the same fraction of its range, not the same power."""

    def fill_tier(self, tier: list[Plug], budget: int) -> None:
        spare = budget - sum(c.minimum for c in tier)
        room = sum(c.power - c.minimum for c in tier)
        for c in tier:
            c.power = c.minimum + (c.power - c.minimum) * spare // room


class OneRound(Plain):
    """Everybody's part is budget / n, once: what others leave or need is not counted."""

    def sweep(self, tier: list[Plug], budget: int) -> int:
        return budget // len(tier)


class MinimumsForgotten(Plain):
    """Levels are clipped to the maximum only."""

    def held(self, c: Plug, level: float) -> int:
        return min(self.wanted(c, level), c.power)

    def kw(self, c: Plug) -> float:
        return min(c.power * self.grain / PER_KW, self.maximum[c.index])


class MaximumIgnoredWhenAlone(Plain):
    """A connector that is alone in its group gets all of it: a short cut around the maximum."""

    def kw(self, c: Plug) -> float:
        f = self.feeders[c.group]
        if len(f.plugs) == 1 and len(f.chain) == 1:
            return f.budget * self.grain / PER_KW
        return super().kw(c)


class RisesPastTheMaximum(Plain):
    """The end of a segment is missed: who is at its maximum still counts as rising."""

    def turns(self, tier: list[Plug]) -> list[tuple[int, int]]:
        return [(at, max(turn, 0)) for at, turn in super().turns(tier)]


class RisesFromZero(Plain):
    """The start of a segment is missed: who is below its minimum counts as rising."""

    def turns(self, tier: list[Plug]) -> list[tuple[int, int]]:
        return [(0 if turn > 0 else at, turn) for at, turn in super().turns(tier)]


class NextSegment(Plain):
    """Each segment is counted with those who rise after it."""

    def turns(self, tier: list[Plug]) -> list[tuple[int, int]]:
        turns = sorted(super().turns(tier))
        return [(at, turn) for (at, _), (_, turn) in pairwise([(0, 0), *turns])]


class LevelAtTheBound(Plain):
    """The level stops at the last bound that fits: nothing is interpolated between bounds."""

    def between(self, level: int, left: int, rising: int) -> int:
        return level


class LevelRoundedUp(Plain):
    """The level is rounded up: a quantum more for each than there is."""

    def between(self, level: int, left: int, rising: int) -> int:
        return level - -left // rising


class LeftoverToTheFirst(Plain):
    """The last quanta, which do not go round, are given to the first: ties by position."""

    def fill_tier(self, tier: list[Plug], budget: int) -> None:
        most = [c.power for c in tier]
        super().fill_tier(tier, budget)
        left = budget - sum(c.power for c in tier)
        for c, high in zip(tier, most, strict=True):
            if left > 0 and c.minimum < c.power < high:
                c.power += 1
                left -= 1


class Float32(Plain):
    """Sums are in single precision."""

    def between(self, level: int, left: int, rising: int) -> int:
        return int(np.float32(level) + np.float32(left) / np.float32(rising))


class FloatLevel(Plain):
    """The level is a float in kW: what is drawn is a sum of doubles, bound by bound."""

    def sweep(self, tier: list[Plug], budget: int) -> int:
        drawn, level, rising = sum(c.minimum / PER_KW for c in tier), 0.0, 0
        for bound, turn in sorted((at / PER_KW, turn) for at, turn in self.turns(tier)):
            if drawn + rising * (bound - level) > budget / PER_KW:
                return int((level + (budget / PER_KW - drawn) / max(rising, 1)) * PER_KW)
            drawn += rising * (bound - level)
            level = bound
            rising += turn
        return int(level * PER_KW)


class NotANumber(Plain):
    """Equal bounds give NaN: a share is a fraction of the range, and 0 / 0 where it is empty."""

    def kw(self, c: Plug) -> float:
        low, high = np.float64(self.minimum[c.index]), np.float64(self.maximum[c.index])
        with np.errstate(invalid="ignore", over="ignore"):
            share = (np.float64(super().kw(c)) - low) / (high - low)
            return float(low + share * (high - low))


class EndlessLoop(Plain):
    """Without capacity it never ends: the level is halved until it fits, but never below one."""

    def sweep(self, tier: list[Plug], budget: int) -> int:
        level = max(c.power for c in tier)
        while level * len(tier) > budget:
            level = max(level // 2, 1)
        return super().sweep(tier, budget)


# Weights.


class WeightsIgnored(Plain):
    """Weights are ignored."""

    def plug(self, i: int, g: int) -> Plug:
        plug = super().plug(i, g)
        plug.weight = 1.0
        return plug


class WeightsInverted(Plain):
    """Levels are divided by weights, not multiplied."""

    def plug(self, i: int, g: int) -> Plug:
        plug = super().plug(i, g)
        plug.weight = 1 / plug.weight
        return plug


class WeightsOfTheRest(Plain):
    """Weights share what is left above the minimums, not the totals."""

    def held(self, c: Plug, level: float) -> int:
        if self.has_weights:
            return min(c.minimum + self.wanted(c, level), c.power)
        return super().held(c, level)


class WeightsUpToTwo(Plain):
    """A weight above 2 counts as 2."""

    def plug(self, i: int, g: int) -> Plug:
        plug = super().plug(i, g)
        plug.weight = min(plug.weight, 2.0)
        return plug


class BisectedTooShort(Plain):
    """With weights the level is bisected 20 times."""

    def bisect(self, tier: list[Plug], budget: int) -> tuple[float, float]:
        low, high = 0.0, max(c.power / c.weight for c in tier) + 1
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if self.drawn(tier, middle) <= budget else (low, middle)
        return low, high


# Steps.


class StepIgnored(Plain):
    """The step is ignored."""

    def grain_of(self, step: float | None) -> int:
        self.has_steps = False
        return 1


class StepRoundedToNearest(Plain):
    """Shares are rounded to the nearest step, not down."""

    def hand_out(self, shares: list[int], rising: list[bool], left: int) -> None:
        for k, rises in enumerate(rising):
            if rises and 2 * left >= sum(rising):
                shares[k] += 1


class StepFreedAndLost(Plain):
    """What truncation to steps frees is lost."""

    def hand_out(self, shares: list[int], rising: list[bool], left: int) -> None:
        pass


class StepsToTheFirst(Plain):
    """All steps that are left go to the first who can rise."""

    def hand_out(self, shares: list[int], rising: list[bool], left: int) -> None:
        if True in rising:
            shares[rising.index(True)] += left


class StepsToTheLast(Plain):
    """Steps that are left are handed out from the back of the line."""

    def hand_out(self, shares: list[int], rising: list[bool], left: int) -> None:
        for k in reversed(range(len(rising))):
            if rising[k] and left > 0:
                shares[k] += 1
                left -= 1


class StepsToTheFull(Plain):
    """Steps that are left are handed out in line, also to who is at its maximum."""

    def hand_out(self, shares: list[int], rising: list[bool], left: int) -> None:
        super().hand_out(shares, [True] * len(shares), left)

    def kw(self, c: Plug) -> float:
        return c.power * self.grain / PER_KW


class MinimumTruncated(Plain):
    """Minimums are rounded down to steps, like everything else."""

    def bounds(self, i: int) -> tuple[int, int]:
        high = down(self.maximum[i])
        return min(up(self.minimum[i]), high) // self.grain, high // self.grain

    def kw(self, c: Plug) -> float:
        return c.power * self.grain / PER_KW


class LargestRemainder(Plain):
    """With weights, steps go by largest remainder instead of Webster's rule."""

    def fill_tier(self, tier: list[Plug], budget: int) -> None:
        if not (self.has_weights and self.has_steps):
            super().fill_tier(tier, budget)
            return
        level, _ = self.bisect(tier, budget)
        exact = [self.held(c, level) for c in tier]
        shares = [math.floor(x) for x in exact]
        left = budget - sum(shares)
        for k in sorted(range(len(tier)), key=lambda k: shares[k] - exact[k])[:left]:
            shares[k] += shares[k] < tier[k].power
        for c, share in zip(tier, shares, strict=True):
            c.power = share

    def wanted(self, c: Plug, level: float) -> int:
        whole = not (self.has_weights and self.has_steps)
        return super().wanted(c, level) if whole else level * c.weight  # type: ignore[return-value]


class Jefferson(Plain):
    """With weights, steps are claimed whole, as by Jefferson's rule, instead of halfway."""

    def claim(self, c: Plug, k: int) -> float:
        return (k + 1) / c.weight


# What is kept, and what comes out.


class LevelKept(Plain):
    """A stale level: it is kept, and taken again while as many charge and it fits."""

    def __init__(self) -> None:
        self.known: dict[int, int] = {}

    def sweep(self, tier: list[Plug], budget: int) -> int:
        level = self.known.get(len(tier), budget)
        if self.drawn(tier, level) > budget:
            level = self.known[len(tier)] = super().sweep(tier, budget)
        return level


class LevelOfTheGroupBefore(Plain):
    """The sweep starts at the level of the group before, and never comes down."""

    def admit(self) -> None:
        self.last = 0
        super().admit()

    def sweep(self, tier: list[Plug], budget: int) -> int:
        self.last = max(self.last, super().sweep(tier, budget))
        return self.last


class Hysteresis(Plain):
    """Less than half a kW more than last time is not given, so that limits do not flutter."""

    def __init__(self) -> None:
        self.last: list[float] = []

    def answer(self) -> list[float]:
        power = super().answer()
        if len(self.last) == len(power):
            pairs = zip(power, self.last, strict=True)
            power = [y if y <= x < y + 0.5 else x for x, y in pairs]
        self.last = power
        return power


class WhoChargedGoesFirst(Plain):
    """Who charged after the last call is admitted first, so that sessions are not interrupted."""

    def __init__(self) -> None:
        self.charging: set[int] = set()

    def place(self, c: Plug) -> tuple[float, ...]:
        return -c.priority, c.index not in self.charging, c.rank, c.index

    def answer(self) -> list[float]:
        power = super().answer()
        self.charging = {i for i, x in enumerate(power) if x > 0}
        return power


class TurnsByCall(Plain):
    """Who goes first among equals changes from call to call, to be fair over time."""

    def __init__(self) -> None:
        self.calls = 0

    def admit(self) -> None:
        self.calls += 1
        super().admit()

    def place(self, c: Plug) -> tuple[float, ...]:
        return -c.priority, c.rank, (c.index + self.calls) % max(self.n, 1)


class InputClipped(Plain):
    """The caller's list of maximums is put right in place: nobody's is more than its group's."""

    def make_feeders(self) -> list[Feeder]:
        for g in range(self.n_groups):
            for i in range(self.offsets[g], self.offsets[g + 1]):
                self.maximum[i] = max(  # type: ignore[index]
                    min(self.maximum[i], self.capacity[g]), self.minimum[i]
                )
        return super().make_feeders()


class AnswerInLine(Plain):
    """Powers come back in the order of admission, not in the caller's."""

    def answer(self) -> list[float]:
        power = super().answer()
        line = [c.index for c in self.line()]
        return [power[i] for i in line] + [0.0] * (self.n - len(line))


class AnswerOfTheActive(Plain):
    """Powers come back for those with a session only."""

    def answer(self) -> list[float]:
        return [x for x, on in zip(super().answer(), self.active, strict=True) if on]


class WholeWatts(Plain):
    """Powers are rounded to whole watts on the way out."""

    def kw(self, c: Plug) -> float:
        return round(super().kw(c), 3)


# Others' float allocators for one group, where all minimums fit.


class TooFewSteps(Float):
    """Bisection with 16 steps."""

    def rounds(self) -> int:
        return 16


class SinglePrecision(Float):
    """Everything is float32."""

    def share(self, low: list[float], high: list[float], usable: float) -> list[float]:
        lows, highs, limit = np.float32(low), np.float32(high), np.float32(usable)
        under, over = np.float32(0), np.float32(max(high, default=0.0))
        for _ in range(40):
            middle = (under + over) / np.float32(2)
            if np.clip(middle, lows, highs).sum() <= limit:
                under = middle
            else:
                over = middle
        level = over if highs.sum() <= limit else under
        return [float(x) for x in np.clip(level, lows, highs)]


class TwoRounds(Float):
    """The level starts from equal parts, and is put right for those at their bounds twice only."""

    def level(self, low: list[float], high: list[float], usable: float) -> float:
        level = usable / max(len(low), 1)
        for _ in range(2):
            drawn = sum(min(max(level, x), y) for x, y in zip(low, high, strict=True))
            rising = sum(x <= level < y for x, y in zip(low, high, strict=True))
            level += (usable - drawn) / max(rising, 1)
        return level


class ScaledDown(Float):
    """Proportional shares: all maximums times one factor, but not below the minimum."""

    def share(self, low: list[float], high: list[float], usable: float) -> list[float]:
        factor = min(1.0, usable / max(sum(high), 1e-9))
        return [max(x, y * factor) for x, y in zip(low, high, strict=True)]


class TenthsUp(Float):
    """Shares are rounded up to the next tenth."""

    def share(self, low: list[float], high: list[float], usable: float) -> list[float]:
        power = super().share(low, high, usable)
        return [min(math.ceil(x * 10) / 10, y) for x, y in zip(power, high, strict=True)]


class FirstComeFirstServed(Float):
    """Everybody in turn gets what it can take, as long as there is any."""

    def share(self, low: list[float], high: list[float], usable: float) -> list[float]:
        left = usable - sum(low)
        power = []
        for x, y in zip(low, high, strict=True):
            more = min(y - x, left)
            power.append(x + more)
            left -= more
        return power


class LargestFirst(Float):
    """Who can take most is served first."""

    def share(self, low: list[float], high: list[float], usable: float) -> list[float]:
        left, power = usable - sum(low), list(low)
        for i in sorted(range(len(high)), key=lambda i: -high[i]):
            more = min(high[i] - low[i], left)
            power[i] += more
            left -= more
        return power


# Which laws catch which.

SEED = 5
# Sites after which the page asks no more of what has been caught.
ENOUGH = 100
REFERENCE = "the answer is that of the reference"


class EnoughError(Exception):
    """There is enough to tell."""


def screened(
    mutant: type[Mutant], names: list[str], *, stop_at_first: bool = False, enough: int = 0
) -> Search:
    """Judge a mutant by laws on as many sites as there are by default; or on enough of them."""

    def progress(done: int, most: int) -> None:
        if 0 < enough <= done and search.broken:
            raise EnoughError

    search = Search(mutant, mutant.spec, SEED, DEFAULT_EXAMPLES, 4.0, progress)
    laws = [LAWS[name] for name in names if not LAWS[name].why_not(mutant.spec)]
    with suppress(EnoughError):
        search.screen(laws, stop_at_first=stop_at_first)
    return search


def in_words(broken: LawBrokenError) -> str:
    """Return the site of a counterexample and what was answered, on one line."""
    outcome = broken.answers[0][1]
    batch, p = outcome.batch, outcome.problem
    groups = []
    for g in p.groups:
        plugs = ", ".join(_plug(batch, i) for i in range(p.ends[g], p.ends[g + 1]))
        limit = f"{p.capacity[g]:.10g}"
        if p.buffer[g]:
            limit += f" * (1 - {p.buffer[g]:.10g})"
        if p.reserved[g]:
            limit += f" - {p.reserved[g]:.10g}"
        if len(p.chains[g]) > 1:
            limit += f", fed by group {p.chains[g][1]}"
        groups.append(f"{plugs or 'nobody'} under {limit}")
    step = f", in steps of {batch['step']:.10g}" if batch.get("step") else ""
    got = ", ".join(f"{x:.10g}" for x in outcome.power) or "no answer"
    return ("; ".join(groups) or "no group") + f"{step}: {got}"


def _plug(batch: Batch, i: int) -> str:
    words = [f"{batch['minimum'][i]:.10g}..{batch['maximum'][i]:.10g}"]
    for name, usual in (("weight", 1.0), ("priority", 0), ("rank", 0.0)):
        if batch.get(name, [usual] * (i + 1))[i] != usual:
            words.append(f"{name} {batch[name][i]:.10g}")
    if not batch.get("active", [True] * (i + 1))[i]:
        words.append("idle")
    return " ".join(words)


def judged(name: str) -> tuple[list[str], str, bool]:
    """Return the laws that catch a mutant, the smallest site, and if the reference does, too."""
    mutant = MUTANTS[name]
    search = screened(mutant, [law for law in LAWS if law != REFERENCE], enough=ENOUGH)
    caught = list(search.broken)
    site = in_words(search.smallest(LAWS[caught[0]])) if caught else "-"
    return caught, site, bool(screened(mutant, [REFERENCE], stop_at_first=True).broken)


PAGE = f"""\
# Allocators that are wrong on purpose

What the property kit is worth shows on allocators with known faults. Each of these is a small
change to a plain water-fill, one that somebody would make; `tests/mutants.py` has them all, and
`python tests/mutants.py > docs/mutants.md` makes this page.

- **{{n_caught}} of {{n}} are caught** by `check_allocator` with its default budget of
  {DEFAULT_EXAMPLES} sites (seed {SEED}), without a look at the reference.
- By the reference alone, {{n_known}} of the {{n_exact}} that can be compared with it.

Allocators that are right must break no law, on 20,000 sites each night: `wattfill.allocate`, the
reference, and those in `tests/allocators.py`: a sweep in whole quanta, one sort in NumPy, a
bisection in floats.

## Which laws catch which

These are the laws that caught it on the first {ENOUGH} sites, or on the first site of all that
broke any; the first is the one that did so first. The site is the smallest that was found to break
that one, in kW: `minimum..maximum` of each connector and the capacity that they are under, then
what was answered; where answers are compared, the first of them.

| mutant | fault | caught by | smallest site |
|---|---|---|---|
{{rows}}

## What each law catches

| law | mutants | only it catches |
|---|---|---|
{{laws}}
"""


def first_caught(name: str, law: str = "") -> list[str]:
    """Return the laws, or the one law, that a mutant breaks on the first site that breaks any."""
    names = [law] if law else [other for other in LAWS if other != REFERENCE]
    return list(screened(MUTANTS[name], names, stop_at_first=True).broken)


def apart(function: Callable[..., T], *arguments: Iterable[str]) -> list[T]:
    """Map a function in fresh processes: Hypothesis tries constants of all modules it finds."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return list(pool.map(function, *arguments))


def page() -> str:
    """Return docs/mutants.md."""
    found = dict(zip(MUTANTS, apart(judged, MUTANTS), strict=True))
    caught = {name: laws for name, (laws, _, _) in found.items()}
    rows = [
        f"| {name} | {MUTANTS[name].__doc__} | {', '.join(laws) or 'none'} | {site} |"
        for name, (laws, site, _) in found.items()
    ]
    laws = []
    for law in LAWS:
        if law != REFERENCE:
            alone = [name for name in caught if caught[name] == [law]]
            n = sum(law in names for names in caught.values())
            laws.append(f"| {law} | {n} | {', '.join(alone) or '-'} |")
    return PAGE.format(
        n=len(found),
        n_caught=sum(map(bool, caught.values())),
        n_exact=sum(not LAWS[REFERENCE].why_not(mutant.spec) for mutant in MUTANTS.values()),
        n_known=sum(known for _, _, known in found.values()),
        rows="\n".join(rows),
        laws="\n".join(laws),
    )


if __name__ == "__main__":
    print(page(), end="")
