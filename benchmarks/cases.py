"""What is timed: each case makes workloads, and contenders that check every answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

import wattfill
from benchmarks import exact, workloads
from benchmarks.certificate import assert_close, assert_exact, assert_within
from benchmarks.peers import Peer
from benchmarks.roofline import read_two_write_one
from benchmarks.timing import Contender, race
from benchmarks.workloads import Floats, Workload

ROOFLINE = "roofline"
# Into the memory of an earlier answer, as the roofline writes into memory that is ready; the same
# and reasons, which are made when somebody reads them; starting from the levels that there were
# while capacities were a little larger; and plainly.
INTO, REASONS = "wattfill, out=", "wattfill, out=, reasons read"
WARM, PLAIN = "wattfill, out= and level=", "wattfill"
A_LITTLE = 1.001
TWO_THREADS = "wattfill, out= and threads=2"
LISTS = "wattfill, lists"
UNADORNED = "the same groups without"
EVENT, EVENT_READ = "event and allocation", "event, allocation, powers read"

SIZES = (
    *(1, 2, 3, 5, 8, 12, 20, 32, 50, 80, 125, 200, 320, 500, 800),
    *(1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000),
)
TOTALS = (
    *(10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000),
    *(10_000_000, 20_000_000, 50_000_000),
)
SWEPT = ("Numba, Newton", "NumPy, Newton in blocks")
N_CALLS = 256  # groups of which each is a call of its own, or has events of its own
WITHIN_KW = 1e-3  # what other rules may be off, who stop when they are near enough


@dataclass(frozen=True)
class Figure:
    """How long one contender takes on one workload."""

    case: str
    workload: str
    contender: str
    ns: float
    """Per connector, or per call or event: the best."""
    median_ns: float
    rounds: int
    n_connectors: int
    n_groups: int
    n_groups_timed: int


@dataclass(frozen=True)
class Effort:
    """How much is run."""

    seconds: float
    """For each contender on each workload."""
    shrink: int
    """How many times smaller workloads are than they should be."""
    peers: tuple[Peer, ...]


Case: TypeAlias = Callable[[Effort], Iterator[tuple[Workload, list[Contender]]]]


def run(name: str, effort: Effort) -> Iterator[Figure]:
    """Time all contenders of a case, workload after workload."""
    for workload, contenders in CASES[name](effort):
        timings = race(contenders, len(workload.capacities), effort.seconds)
        timed = {peer.name: peer.most_groups for peer in effort.peers}
        for contender, timing in timings.items():
            yield Figure(
                name,
                workload.name,
                contender,
                timing.best,
                timing.median,
                timing.rounds,
                workload.n_connectors,
                workload.n_groups,
                min(timed.get(contender) or workload.n_groups, workload.n_groups),
            )


def shapes(effort: Effort) -> Iterator[tuple[Workload, list[Contender]]]:
    """Make groups of every kind of size, with discrete and with continuous values."""
    for name in workloads.NAMES:
        workload = workloads.load(name, effort.shrink)
        yield workload, [*_own(workload), *_peers(workload, effort.peers)]


def large(effort: Effort) -> Iterator[tuple[Workload, list[Contender]]]:
    """Make more connectors than any cache holds."""
    workload = workloads.equal(400_000 // effort.shrink, 50)
    yield workload, [*_own(workload), *_peers(workload, _swept(effort))]


def threads(effort: Effort) -> Iterator[tuple[Workload, list[Contender]]]:
    """Let one thread work, and two."""
    workload = workloads.load(workloads.NAMES[0], effort.shrink)
    yield workload, [_wattfill(workload, INTO), _wattfill(workload, TWO_THREADS, threads=2)]


def variants(effort: Effort) -> Iterator[tuple[Workload, list[Contender]]]:
    """Add weights, priorities, steps and parents, each beside the same groups without."""
    plain = workloads.load(workloads.NAMES[0], effort.shrink)
    for name in workloads.VARIANTS:
        workload = workloads.load(name, effort.shrink)
        yield workload, [_wattfill(plain, UNADORNED), _wattfill(workload, INTO)]


def sizes(effort: Effort) -> Iterator[tuple[Workload, list[Contender]]]:
    """Part a million connectors into groups of one size after another."""
    n = 1_000_000 // effort.shrink
    for size in (size for size in SIZES if size <= n):
        workload = workloads.equal(n // size, size)
        yield workload, [*_own(workload)[:2], *_peers(workload, _swept(effort))]


def totals(effort: Effort) -> Iterator[tuple[Workload, list[Contender]]]:
    """Make groups of 50, from what the nearest cache holds to what none does."""
    for total in TOTALS:
        workload = workloads.equal(max(total // effort.shrink // 50, 1), 50)
        yield workload, [*_own(workload)[:2], *_peers(workload, _swept(effort)[:1])]


def calls(effort: Effort) -> Iterator[tuple[Workload, list[Contender]]]:
    """Call after call for one group of 20, as from an event loop."""
    workload = workloads.equal(N_CALLS, 20)
    low = list(workload.minimum.reshape(N_CALLS, -1))
    high = list(workload.maximum.reshape(N_CALLS, -1))
    budgets = workload.capacities[0].tolist()
    arrays = list(zip(low, high, budgets, strict=True))
    lists = [(least.tolist(), most.tolist(), budget) for least, most, budget in arrays]
    out = wattfill.allocate(*arrays[0])

    def into(k: int) -> None:
        for minimum, maximum, capacity in arrays:
            wattfill.allocate(minimum, maximum, capacity, out=out)

    def plain(k: int) -> None:
        for minimum, maximum, capacity in arrays:
            wattfill.allocate(minimum, maximum, capacity)

    def from_lists(k: int) -> None:
        for minimum, maximum, capacity in lists:
            wattfill.allocate(minimum, maximum, capacity)

    def check(k: int, answer: None) -> None:
        for way in (
            [wattfill.allocate(*call, out=out).power.copy() for call in arrays],
            [wattfill.allocate(*call).power for call in arrays],
            [wattfill.allocate(*call).power for call in lists],
        ):
            assert_exact(np.concatenate(way), workload.batch)

    ways = {INTO: into, PLAIN: plain, LISTS: from_lists}
    own = [Contender(name, way, check, N_CALLS) for name, way in ways.items()]
    yield (
        replace(workload, capacities=workload.capacities[:1]),
        [*own, *(_called(workload, peer) for peer in effort.peers if not peer.largest_group)],
    )


def registry(effort: Effort) -> Iterator[tuple[Workload, list[Contender]]]:
    """Let a session end or start, and allocate its group anew."""
    workload = workloads.equal(max(10_000 // effort.shrink, N_CALLS), 20)
    keeper, low, high = wattfill.Registry(), workload.minimum.tolist(), workload.maximum.tolist()
    for g, capacity in enumerate(workload.capacities[0].tolist()):
        keeper.create_group(str(g), capacity, id=str(g))
        plugs = [wattfill.Connector(str(i), high[20 * g + i], low[20 * g + i]) for i in range(20)]
        keeper.add_charge_station(str(g), str(g), plugs)
        for plug in plugs:
            keeper.start_session(str(g), plug.id)
    keeper.allocate()
    rng = np.random.default_rng(10)
    groups = rng.choice(workload.n_groups, N_CALLS, replace=False)
    events = [(str(g), str(i)) for g, i in zip(groups, rng.integers(0, 20, N_CALLS), strict=True)]

    def happen(read: Callable[[wattfill.RegistryAllocation], object]) -> None:
        for group, plug in events:
            keeper.stop_session(group, plug)
            read(keeper.allocate(group))
            keeper.start_session(group, plug)
            read(keeper.allocate(group))

    def check(k: int, answer: Any) -> None:
        for g in groups.tolist():
            allocation = keeper.allocate(str(g))
            place = slice(20 * g, 20 * g + 20)
            due = wattfill.allocate(
                workload.minimum[place], workload.maximum[place], workload.capacities[0][g]
            )
            power = [allocation.connectors[str(g), str(i)].power for i in range(20)]
            assert power == due.power.tolist(), "a registry's powers are not those of its arrays"

    yield (
        replace(workload, capacities=workload.capacities[:1]),
        [
            Contender(EVENT, lambda k: happen(lambda answer: None), check, 2 * N_CALLS),
            Contender(EVENT_READ, lambda k: happen(_read), check, 2 * N_CALLS),
        ],
    )


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (shapes, large, calls, variants, registry, threads, sizes, totals)
}


def _read(answer: wattfill.RegistryAllocation) -> object:
    return answer.powers()


def _swept(effort: Effort) -> tuple[Peer, ...]:
    return tuple(peer for peer in effort.peers if peer.name in SWEPT)


def _own(workload: Workload) -> list[Contender]:
    """Call wattfill in each way that there is, between two looks at the roofline."""
    ways = [_wattfill(workload, INTO), _plain(workload), _explained(workload), _warm(workload)]
    return [_roofline(workload), *ways, _roofline(workload)]


def _roofline(workload: Workload) -> Contender:
    power = np.empty(workload.n_connectors)

    def call(k: int) -> Floats:
        return read_two_write_one(workload.minimum, workload.maximum, power)

    def check(k: int, answer: Floats) -> None:
        assert answer[-1] == workload.minimum[-1] + workload.maximum[-1]

    return Contender(ROOFLINE, call, check, workload.n_connectors)


def _wattfill(workload: Workload, name: str, **options: Any) -> Contender:
    options |= workload.options
    batches = workload.batches
    out = wattfill.allocate(*batches[0], **options)

    def call(k: int) -> Floats:
        return wattfill.allocate(*batches[k], out=out, **options).power

    return Contender(name, call, _judge(workload), workload.n_connectors)


def _explained(workload: Workload) -> Contender:
    batches = workload.batches
    out = wattfill.allocate(*batches[0])

    def call(k: int) -> Floats:
        allocation = wattfill.allocate(*batches[k], out=out)
        assert allocation.reason.size == allocation.bound_by.size
        return allocation.power

    return Contender(REASONS, call, _judge(workload), workload.n_connectors)


def _plain(workload: Workload) -> Contender:
    batches = workload.batches

    def call(k: int) -> Floats:
        return wattfill.allocate(*batches[k]).power

    return Contender(PLAIN, call, _judge(workload), workload.n_connectors)


def _warm(workload: Workload) -> Contender:
    batches = workload.batches
    levels = [
        wattfill.allocate(low, high, A_LITTLE * capacity, offsets).level
        for low, high, capacity, offsets in batches
    ]
    out = wattfill.allocate(*batches[0])

    def call(k: int) -> Floats:
        return wattfill.allocate(*batches[k], out=out, level=levels[k]).power

    return Contender(WARM, call, _judge(workload), workload.n_connectors)


def _peers(workload: Workload, peers: Sequence[Peer]) -> list[Contender]:
    largest = int(np.diff(workload.offsets).max())
    return [_peer(workload, p) for p in peers if largest <= (p.largest_group or largest)]


def _peer(workload: Workload, peer: Peer) -> Contender:
    """Time a peer on a sample of the groups, if need be; it stands for all, group by group."""
    timed = workload.sample(peer.most_groups) if peer.most_groups else workload
    batches, solve, power = timed.batches, peer.load(), np.empty(timed.n_connectors)

    def call(k: int) -> Floats:
        solve(*batches[k], power)
        return power

    def check(k: int, answer: Floats) -> None:
        if peer.close_to_kw is None:
            assert_within(answer, batches[k], WITHIN_KW)
        else:
            assert_close(answer, wattfill.allocate(*batches[k]).power, peer.close_to_kw)

    return Contender(
        peer.name, call, check, workload.n_connectors * timed.n_groups / workload.n_groups
    )


def _called(workload: Workload, peer: Peer) -> Contender:
    """Call a peer for one group after another."""
    batches = [workload.group(g) for g in range(workload.n_groups)]
    solve, power = peer.load(), np.empty(workload.n_connectors)
    shares = power.reshape(workload.n_groups, -1)

    def call(k: int) -> Floats:
        for batch, share in zip(batches, shares, strict=True):
            solve(*batch, share)
        return power

    def check(k: int, answer: Floats) -> None:
        assert_close(answer, wattfill.allocate(*workload.batch).power)

    return Contender(peer.name, call, check, workload.n_groups)


def _judge(workload: Workload) -> Callable[[int, Floats], None]:
    """Return what raises unless powers are the exact ones."""
    if not workload.options:
        batches = workload.batches
        return lambda k, power: assert_exact(power, batches[k])
    due = [exact.powers(workload, k) for k in range(len(workload.capacities))]

    def check(k: int, power: Floats) -> None:
        assert np.array_equal(power, due[k]), "powers are not the exact ones"

    return check
