"""A small CSMS: 20 charge points of three versions of OCPP share 66 kW, whatever the network does.

    pip install ".[ocpp]" websockets && python docs/examples/csms.py

Each charge point is a process of its own (see `charge_points.py`) on the other end of a real
websocket. Vehicles come and go, answers are late or lost, connections break, one charge point
reboots. The dispatcher says what may be sent, `wattfill.ocpp` makes messages of it, and at the end
the charge points' own accounts are added up. The exit status is 1 if they could ever have drawn
more than the capacity; with ``--careless``, which sends each allocation at once, they can.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import multiprocessing
import random
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import charge_points
import ocpp.messages
import ocpp.v16
import ocpp.v21
import ocpp.v201
from charge_points import GONE, NOON, Model, Time
from ocpp.routing import after, on
from websockets.asyncio.server import ServerConnection, serve

from wattfill import Command, Connector, Dispatcher, FileJournal, Plan, Registry
from wattfill.dispatch import Committed, Waiting
from wattfill.ocpp import Clock, Evse, Outcome, SmartCharging, Supply
from wattfill.testing.history import check_history

CAPACITY = 66.0
SKEW, LAG = 3.0, 5.0
ANSWER_WITHIN = 25.0


class Careless:
    """What is often done instead of dispatching: each allocation is sent at once, and believed."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.sent: dict[tuple[str, str], float] = {}
        self.seqs = count(1)

    def plan(self, now: float) -> Plan:
        powers = self.registry.allocate(at=now).powers()
        new = {key: power for key, power in powers.items() if self.sent.get(key) != power}
        self.sent |= new
        commands = [
            Command(*key, next(self.seqs), power, None, "increase") for key, power in new.items()
        ]
        return Plan(tuple(commands), math.inf, (), None)

    def committed(self, now: float) -> Committed:
        return Committed(self.sent, {"garage": sum(self.sent.values())})

    def waiting(self) -> tuple[Waiting, ...]:
        return ()

    def ignore(self, *what: object, **more: object) -> None: ...

    confirm = reject = read_back = meter = offline = online = ignore


class Csms:
    """What is known of the site, and who is told what."""

    def __init__(
        self, models: list[Model], clock: Time, journal: FileJournal, careless: bool
    ) -> None:
        self.clock = clock
        self.registry = Registry()
        self.charging: dict[str, SmartCharging] = {}
        self.connections: dict[str, ServerConnection] = {}
        self.transactions: dict[int | str, str] = {}
        """Which charge station each is of."""
        self.numbers = count(1)
        self.counts = Counter[str]()
        self.news = asyncio.Event()
        self.is_over = False
        self.failure: Exception | None = None
        self.log: list[dict[str, Any]] = []
        self.registry.create_group("Garage", CAPACITY, id="garage")
        self.note(clock.now(), "group", group="garage", maximum_capacity=CAPACITY)
        for model in models:
            self.add(model)
        self.dispatcher: Any = (
            Careless(self.registry)
            if careless
            else Dispatcher(
                self.registry, journal, lease=90, skew=SKEW, lag=LAG, between_increases=10
            )
        )

    def add(self, model: Model) -> None:
        supply = Supply(model.unit, model.voltage, model.phases)
        least = Supply("A", model.voltage, model.phases).power(6)
        self.charging[model.id] = SmartCharging(
            model.id,
            model.version,
            {"1": Evse(supply, fallback=model.fallback, minimum=least)},
            clock=Clock(0.0, NOON),
            maximum=model.rating,
            max_offline=30 if model.version == "2.1" else None,
        )
        connector = Connector("1", model.rating, least, fallback=model.fallback)
        self.registry.add_charge_station("garage", model.id, [connector])
        self.note(
            self.clock.now(),
            "connector",
            model.id,
            group="garage",
            maximum_capacity=model.rating,
            floor=model.fallback,
        )

    def note(self, now: float, kind: str, station: str | None = None, /, **what: Any) -> None:
        """Write down for `check_history` what is known, before it is acted upon.

        The dispatcher is told the same time: what it sends is due by what it knows then.
        """
        if station is not None:
            what = {"station": station, "connector": "1", **what}
            if kind in ("offline", "online", "boot"):
                del what["connector"]
        self.log.append({"at": now, "kind": kind, **what})

    # What may be sent

    async def dispatch(self) -> None:
        """Hand out what may be sent, after every event and when something is due."""
        while self.failure is None:
            self.news.clear()
            now = self.clock.now()
            plan = self.dispatcher.plan(now)
            for command in plan.commands:
                self.note(
                    now,
                    "command",
                    command.station,
                    seq=command.seq,
                    limit=command.limit,
                    expires=command.expires,
                )
                self.charging[command.station].command(command)
                self.counts["command"] += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(min(plan.wake_at - now, 60.0) / self.clock.speed):
                    await self.news.wait()
        raise self.failure

    def tell(self, outcome: Outcome) -> None:
        """Take what an answer proved."""
        kinds = {"confirm": "confirmation", "reject": "rejection", "read-back": "read-back"}
        what = {"seq": outcome.seq}
        if outcome.kind == "read-back":
            what["limit"] = outcome.limit
        now = self.clock.now()
        self.note(now, kinds[outcome.kind], outcome.station, **what)
        outcome.tell(self.dispatcher, now)
        self.counts[kinds[outcome.kind]] += 1
        self.news.set()

    # Charge points

    async def serve(self, connection: ServerConnection) -> None:
        """Talk to a charge point over a connection until it is lost."""
        assert connection.request is not None
        station = connection.request.path.strip("/")
        old = self.connections.pop(station, None)
        if old is not None:
            await old.close()
        self.connections[station] = connection
        charging = self.charging[station]
        point = POINTS[charging.version](self, connection, ANSWER_WITHIN / self.clock.speed)
        now = self.clock.now()
        self.note(now, "online", station)
        self.dispatcher.online(station, now)
        self.news.set()
        tasks = [
            asyncio.ensure_future(point.start()),
            asyncio.ensure_future(
                charging.run(
                    lambda request: point.call(request, suppress=False), self.clock.now, self.tell
                )
            ),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.transport.abort()
            if self.connections.get(station) is connection:
                self.gone(station)
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, GONE):
                    self.failure = outcome

    def gone(self, station: str) -> None:
        del self.connections[station]
        self.charging[station].disconnected()
        if not self.is_over:
            now = self.clock.now()
            self.note(now, "offline", station)
            self.dispatcher.offline(station, now)
            self.counts["lost connection"] += 1
            self.news.set()

    def booted(self, station: str) -> None:
        self.note(self.clock.now(), "boot", station)
        self.charging[station].booted()

    def started(self, station: str, transaction_id: int | str) -> None:
        if transaction_id in self.transactions:
            return  # It is told again, as the answer was lost.
        for old in [t for t, of in self.transactions.items() if of == station]:
            self.ended(old)
        self.transactions[transaction_id] = station
        self.charging[station].transaction_started("1", transaction_id)
        self.registry.start_session(station, "1", at=self.clock.now())
        self.news.set()

    def ended(self, transaction_id: int | str) -> None:
        station = self.transactions.pop(transaction_id, None)
        if station is not None:
            self.charging[station].transaction_ended("1")
            self.registry.stop_session(station, "1")
            self.news.set()

    def metered(self, station: str, values: list[dict[str, Any]]) -> None:
        [value] = values[0]["sampled_value"]
        measured_at = datetime.fromisoformat(values[0]["timestamp"]) - NOON
        power, at = float(value["value"]) / 1000, measured_at.total_seconds()
        now = self.clock.now()
        self.note(now, "meter", station, power=power, measured_at=at)
        self.dispatcher.meter(station, "1", power, now, at)
        self.news.set()


class _Point:
    """The other end of a connection: what a charge point says, in all versions."""

    def __init__(self, csms: Csms, connection: ServerConnection, timeout: float) -> None:
        assert connection.request is not None
        station = connection.request.path.strip("/")
        super().__init__(station, connection, response_timeout=timeout)
        self.station = station
        self.csms = csms
        self.results = self._call_result

    @on("BootNotification")
    def on_boot_notification(self, **request: Any) -> Any:
        self.csms.booted(self.station)
        now = NOON + timedelta(seconds=self.csms.clock.now())
        return self.results.BootNotification(
            current_time=now.isoformat(), interval=300, status="Accepted"
        )


class _Point16(_Point, ocpp.v16.ChargePoint):
    @on("StartTransaction")
    def on_start_transaction(self, **request: Any) -> Any:
        self.transaction_id = next(self.csms.numbers)
        return self.results.StartTransaction(self.transaction_id, {"status": "Accepted"})

    @after("StartTransaction")
    def after_start_transaction(self, **request: Any) -> None:
        # It knows its number now, so that a profile can be set for it.
        self.csms.started(self.station, self.transaction_id)

    @on("StopTransaction")
    def on_stop_transaction(self, transaction_id: int, **request: Any) -> Any:
        self.csms.ended(transaction_id)
        return self.results.StopTransaction()

    @on("MeterValues")
    def on_meter_values(self, meter_value: list[dict[str, Any]], **request: Any) -> Any:
        self.csms.metered(self.station, meter_value)
        return self.results.MeterValues()


class _Point2(_Point):
    @on("TransactionEvent")
    def on_transaction_event(
        self, event_type: str, transaction_info: dict[str, Any], **request: Any
    ) -> Any:
        if event_type == "Started":
            self.csms.started(self.station, transaction_info["transaction_id"])
        elif event_type == "Ended":
            self.csms.ended(transaction_info["transaction_id"])
        else:
            self.csms.metered(self.station, request["meter_value"])
        return self.results.TransactionEvent()


class _Point201(_Point2, ocpp.v201.ChargePoint):
    pass


class _Point21(_Point2, ocpp.v21.ChargePoint):
    pass


POINTS: dict[str, Any] = {"1.6": _Point16, "2.0.1": _Point201, "2.1": _Point21}


def site(seed: str) -> list[Model]:
    """Return 20 charge points."""
    chance = random.Random(seed)
    manners = ["slow"] * 4 + ["flaky"] * 4 + ["mute"] * 2 + ["reboots"] + ["good"] * 9
    chance.shuffle(manners)
    models = []
    for i in range(20):
        phases, amperes = chance.choice([(3, 32), (3, 16), (1, 32)])
        # Those on one phase go on with 6 A where nothing is told.
        fallback = 1.38 if phases == 1 else 0.0
        models.append(
            Model(
                id=f"CS-{i + 1:02}",
                version=("1.6", "2.0.1", "2.1")[i % 3],
                unit=chance.choice(["A", "A", "W"]),
                phases=phases,
                rating=round(0.23 * phases * amperes, 2),
                fallback=fallback,
                manners=manners[i],
                clock_error=round(chance.uniform(-1.5, 1.5), 2),
                reaction=round(chance.uniform(0.5, 4.0), 2),
            )
        )
    return models


async def watch(csms: Csms, models: list[Model], every: float) -> None:
    """Print now and then what each charge point may draw."""
    for i in count(1):
        await csms.clock.sleep(i * every - csms.clock.now())
        print(picture(csms, models), flush=True)


def picture(csms: Csms, models: list[Model]) -> str:
    """Return who may draw what."""
    committed = csms.dispatcher.committed(csms.clock.now())
    busy = set(csms.transactions.values())
    waiting = {each.station for each in csms.dispatcher.waiting()}
    cells = []
    for model in models:
        power = committed.connectors[model.id, "1"]
        mark = "!" if model.id not in csms.connections else "+" if model.id in waiting else " "
        shown = f"{power:5.2f}" if power or model.id in busy else "    -"
        cells.append(f"{model.id} {shown}{mark}")
    rows = ["   " + "  ".join(cells[i : i + 5]).rstrip() for i in range(0, len(cells), 5)]
    head = f"{csms.clock.now():4.0f} s  {committed.groups['garage']:6.2f} kW may be in force"
    return "\n".join([f"{head}, {len(busy)} vehicles", *rows])


async def simulate(csms: Csms, models: list[Model], listener: socket.socket, end: float) -> None:
    async with serve(
        csms.serve, sock=listener, subprotocols=[f"ocpp{version}" for version in POINTS]
    ):
        tasks = [
            asyncio.ensure_future(csms.dispatch()),
            asyncio.ensure_future(watch(csms, models, end / 8)),
        ]
        await asyncio.wait(
            [*tasks, asyncio.ensure_future(csms.clock.sleep(end - csms.clock.now()))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        csms.is_over = True
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    options.add_argument("--seconds", type=float, default=720, help="simulated (720)")
    options.add_argument("--speed", type=float, default=30, help="of these in one (30)")
    options.add_argument("--seed", default="wattfill", help="who does what")
    options.add_argument("--careless", action="store_true", help="do without the dispatcher")
    options.add_argument("--log", type=Path, help="where to keep the log for check_history")
    chosen = options.parse_args()
    logging.disable()
    ocpp.messages.ASYNC_VALIDATION = False
    with TemporaryDirectory() as name:
        folder = Path(name)
        return run(folder, chosen)


def run(folder: Path, chosen: argparse.Namespace) -> int:
    models = site(chosen.seed)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    clock = Time(time.monotonic(), chosen.speed)
    processes = multiprocessing.get_context("fork")
    points = [
        processes.Process(
            target=charge_points.run,
            args=(model, clock, port, chosen.seconds, chosen.seed, folder),
            daemon=True,
        )
        for model in models
    ]
    for point in points:
        point.start()
    print(
        f"{len(models)} charge points share {CAPACITY:g} kW. What each may draw, in kW: its rating "
        "until it has confirmed\nsomething; ! not connected, + waits for more, - no vehicle.",
        flush=True,
    )
    with FileJournal(folder / "garage.journal") as journal:
        csms = Csms(models, clock, journal, chosen.careless)
        asyncio.run(simulate(csms, models, listener, chosen.seconds))
    for point in points:
        point.join()
    if chosen.log:
        chosen.log.write_text("".join(json.dumps(line) + "\n" for line in csms.log))
    counts = [f"{what}s: {n}" for what, n in sorted(csms.counts.items())]
    print(f"\n{', '.join(counts).capitalize()}.")
    most, at = charge_points.most_drawn(folder.glob("*.jsonl"))
    print(
        f"By their own accounts the charge points could have drawn at most {most:.2f} kW, of "
        f"{CAPACITY:g} kW (at {at:.0f} s)."
    )
    verdict = check_history(csms.log, skew=SKEW, lag=LAG)
    print(verdict)
    failed = [model.id for model, point in zip(models, points, strict=True) if point.exitcode]
    if failed:
        print(f"These charge points failed: {', '.join(failed)}.")
    return 0 if most <= CAPACITY and verdict.safe and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
