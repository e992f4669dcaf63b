"""What a plan costs beyond the allocation: ``python -m benchmarks.dispatch``.

One event in a site of 20 connectors, and one of 100 connectors changing in 10,000 groups of 20. All
is without a journal: with one, an increase waits for the disk. Every figure comes from answers
that are looked at: the commands are those that the allocation calls for, and once they are
confirmed, what is committed is what was allocated.
"""

from __future__ import annotations

import argparse
import gc
from statistics import median
from time import perf_counter

from wattfill import Connector, Dispatcher, Plan, Registry

N_CONNECTORS, N_CHARGING = 20, 10
EAGER = {"smallest_change": 0.0, "smallest_share": 0.0, "between_increases": 0.0, "lag": 0.0}


class Fleet:
    """Groups of 20 connectors, ten of them charging, and a dispatcher that knows all of them."""

    def __init__(self, n_groups: int) -> None:
        self.registry = Registry()
        for g in range(n_groups):
            self.registry.create_group(f"g{g}", 100, id=f"g{g}")
            for i in range(N_CONNECTORS):
                plugs = [Connector("1", 22, 4, fallback=0)]
                self.registry.add_charge_station(f"g{g}", f"g{g}-{i}", plugs)
                if i < N_CHARGING:
                    self.registry.start_session(f"g{g}-{i}", "1")
        self.dispatcher = Dispatcher(self.registry, **EAGER)
        self.now = 0.0
        self.settle()

    def plan(self) -> tuple[float, Plan]:
        """Allocate, then plan; return how long the plan took."""
        self.now += 1.0
        self.registry.allocate(at=self.now)
        start = perf_counter()
        plan = self.dispatcher.plan(self.now)
        return perf_counter() - start, plan

    def confirm(self, plan: Plan) -> None:
        for command in plan.commands:
            self.dispatcher.confirm(command.station, command.connector, command.seq, self.now)

    def settle(self) -> None:
        """Confirm until there is nothing more to send; then all have what they are to have."""
        while (plan := self.plan()[1]).commands:
            self.confirm(plan)
        assert self.dispatcher.committed().connectors == self.registry.allocate().powers()
        assert not plan.over


def one_event(rounds: int) -> dict[str, list[float]]:
    """Time the plans after a session came, after what it takes was confirmed, and after it left."""
    fleet = Fleet(1)
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        fleet.registry.start_session("g0-15", "1")
        for name in ("a session starts: 10 decreases", "confirmed: 1 increase"):
            took, plan = fleet.plan()
            assert len(plan.commands) == (10 if "10" in name else 1)
            seconds.setdefault(name, []).append(took)
            fleet.confirm(plan)
        fleet.settle()
        fleet.registry.stop_session("g0-15", "1")
        for name in ("it stops: 1 decrease", "confirmed: 10 increases"):
            took, plan = fleet.plan()
            assert len(plan.commands) == (10 if "10" in name else 1)
            seconds.setdefault(name, []).append(took)
            fleet.confirm(plan)
        took, plan = fleet.plan()
        assert not plan.commands
        seconds.setdefault("nothing happened", []).append(took)
    return seconds


def one_in_a_hundred(n_groups: int, rounds: int) -> dict[str, list[float]]:
    """Time the plan after one of 100 connectors changed, in as many groups as that takes."""
    fleet = Fleet(n_groups)
    changed = range(0, n_groups, 5)
    seconds: dict[str, list[float]] = {}
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for g in changed:
            fleet.registry.update_session(f"g{g}-0", "1", maximum=5.0)
        took, plan = fleet.plan()
        assert len(plan.commands) == len(changed)
        seconds.setdefault(f"{len(changed):,} sessions take less", []).append(took)
        fleet.confirm(plan)
        took, plan = fleet.plan()
        assert len(plan.commands) == 9 * len(changed)
        seconds.setdefault(f"confirmed: {len(plan.commands):,} increases", []).append(took)
        fleet.confirm(plan)
        for g in changed:
            fleet.registry.update_session(f"g{g}-0", "1", maximum=None)
        took, plan = fleet.plan()
        assert len(plan.commands) == 9 * len(changed)
        name = f"they take it again: {len(plan.commands):,} decreases"
        seconds.setdefault(name, []).append(took)
        fleet.confirm(plan)
        fleet.settle()
    return seconds


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dispatch", description=__doc__)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    print("a site of 20 connectors, ten charging; plan() beyond the allocation, median")
    for name, took in one_event(options.rounds).items():
        print(f"  {name:<44} {median(took) * 1e6:8.1f} us")
    print(f"{options.groups:,} groups of 20, one of 100 connectors changing")
    for name, took in one_in_a_hundred(options.groups, max(3, options.rounds // 40)).items():
        print(f"  {name:<44} {median(took) * 1e3:8.1f} ms")


if __name__ == "__main__":
    main()
