"""Simulated charge points, each a process of its own, for the example `csms.py`.

They speak OCPP 1.6, 2.0.1 or 2.1 by the ``ocpp`` package, over websockets. Vehicles come and go.
Some charge points are slow, some lose their connection, some apply a limit and do not say so, one
reboots. Each keeps an account of the limit in force, by which `most_drawn` tells afterwards what
all of them together could have drawn.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import ocpp.messages
import ocpp.v16
import ocpp.v21
import ocpp.v201
from ocpp.routing import on
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
QUANTA_PER_KW = 10**6
GONE = (OSError, WebSocketException, TimeoutError)


@dataclass(frozen=True)
class Time:
    """Simulated seconds, the same in all processes of a machine; at 0 it is noon in UTC."""

    start: float
    speed: float

    def now(self) -> float:
        return round((time.monotonic() - self.start) * self.speed, 3)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.speed)


@dataclass(frozen=True)
class Model:
    """What a charge point is."""

    id: str
    version: str
    unit: str
    phases: int
    rating: float
    """kW"""
    fallback: float
    """kW: what it allows as long as it was told nothing."""
    manners: str
    """"good", "slow", "flaky", "mute" (applies a limit and does not say so) or "reboots"."""
    clock_error: float
    """Seconds by which its clock is fast."""
    reaction: float
    """Seconds that a vehicle takes to draw less."""
    voltage: float = 230.0

    @property
    def protocol(self) -> str:
        return f"ocpp{self.version}"


def run(model: Model, clock: Time, port: int, end: float, seed: str, folder: Path) -> None:
    """Be a charge point until a time."""
    logging.disable()
    # Checking in threads takes longer than the check.
    ocpp.messages.ASYNC_VALIDATION = False
    asyncio.run(_Station(model, clock, seed, folder).live(port, end))


class _Station:
    """A charge point of one connector, whatever version of OCPP it speaks."""

    def __init__(self, model: Model, clock: Time, seed: str, folder: Path) -> None:
        self.model = model
        self.clock = clock
        self.random = random.Random(f"{seed} {model.id}")
        self.account = folder / f"{model.id}.jsonl"
        self.session: dict[str, Any] | None = None
        self.draw = 0.0
        """kW that the vehicle takes if it may."""
        self.events: list[tuple[str, dict[str, Any]]] = []
        """What the CSMS has not been told yet."""
        self.news = asyncio.Event()
        self.socket: Any = None
        self.forget()

    def forget(self) -> None:
        """Begin as it came out of the factory."""
        self.must_boot = True
        self.default, self.maximum = self.model.fallback, math.inf
        self.granted, self.valid_to, self.max_offline = math.inf, -math.inf, math.inf
        self.note()

    # What is in force

    def in_force(self, now: float) -> float:
        """Return the limit in kW."""
        return min(self.granted if now < self.valid_to else self.default, self.maximum)

    def note(self) -> None:
        """Write down what is in force from now on, until when, and what is after that."""
        now = self.clock.now()
        until = self.valid_to if now < self.valid_to < math.inf else None
        record = [now, self.in_force(now), until, self.in_force(math.inf), self.model.reaction]
        self.changed_at = now
        with self.account.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def install(self, profile: dict[str, Any]) -> str:
        """Take a charging profile."""
        schedule = profile["charging_schedule"]
        schedule = schedule[0] if isinstance(schedule, list) else schedule
        [period] = schedule["charging_schedule_period"]
        watts = float(period["limit"])
        if schedule["charging_rate_unit"] == "A":
            watts *= self.model.voltage * period["number_phases"]
        kw = round(watts * 1000) / QUANTA_PER_KW
        if profile["charging_profile_purpose"] == "TxDefaultProfile":
            self.default = kw
        elif profile["charging_profile_purpose"] == "TxProfile":
            if self.session is None or profile["transaction_id"] != self.session["id"]:
                return "Rejected"
            self.granted, self.valid_to = kw, math.inf
            self.max_offline = profile.get("max_offline_duration", math.inf)
            if "valid_to" in profile:
                valid_to = datetime.fromisoformat(profile["valid_to"]) - NOON
                self.valid_to = valid_to.total_seconds() - self.model.clock_error
        else:
            self.maximum = kw
        self.note()
        return "Accepted"

    def clear(self) -> str:
        """Take out what was granted."""
        if self.valid_to == -math.inf:
            return "Unknown"
        self.granted, self.valid_to = math.inf, -math.inf
        self.note()
        return "Accepted"

    # What happens

    async def live(self, port: int, end: float) -> None:
        """Run until a time, and stop dead."""
        tasks = [asyncio.ensure_future(each) for each in (self.talk(port), self.vehicles())]
        if self.model.manners == "reboots":
            tasks.append(asyncio.ensure_future(self.reboot(end / 2)))
        left = (end - self.clock.now()) / self.clock.speed
        await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_EXCEPTION)
        await _stop(tasks)

    async def vehicles(self) -> None:
        """Plug in and out; without a connection, too."""
        await self.clock.sleep(self.random.uniform(0, 120))
        while True:
            self.draw = self.random.choice([7.36, 11.04, 22.08])
            # In OCPP 1.6 the CSMS gives the id.
            id = None if self.model.version == "1.6" else f"{self.model.id} {self.random.random()}"
            self.session = {"id": id}
            self.tell("start", self.session)
            await self.clock.sleep(self.random.uniform(100, 300))
            self.plug_out()
            await self.clock.sleep(self.random.uniform(40, 200))

    def plug_out(self) -> None:
        if self.session is not None:
            self.tell("stop", self.session)
        self.session, self.draw = None, 0.0
        self.clear()

    async def reboot(self, at: float) -> None:
        """Lose every profile, the transaction and the connection."""
        await self.clock.sleep(at - self.clock.now())
        self.plug_out()
        self.forget()
        if self.socket is not None:
            self.socket.transport.abort()

    def tell(self, kind: str, session: dict[str, Any]) -> None:
        self.events.append((kind, session))
        self.news.set()

    # Connections

    async def talk(self, port: int) -> None:
        """Connect, again and again."""
        url = f"ws://127.0.0.1:{port}/{self.model.id}"
        while True:
            try:
                async with connect(url, subprotocols=[self.model.protocol]) as socket:
                    await self.serve(POINTS[self.model.version](self, socket), socket)
            except GONE:
                pass
            away = self.random.uniform(*((5, 60) if self.model.manners == "flaky" else (1, 5)))
            if away > self.max_offline:
                await self.clock.sleep(self.max_offline)
                self.clear()
                away -= self.max_offline
            await self.clock.sleep(away)

    async def serve(self, point: Any, socket: Any) -> None:
        """Answer and report until the connection is lost."""
        self.socket = socket
        tasks = [asyncio.ensure_future(point.start()), asyncio.ensure_future(self.report(point))]
        if self.model.manners == "flaky":
            tasks.append(asyncio.ensure_future(self.clock.sleep(self.random.uniform(20, 120))))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # What has begun to be processed is processed to its end: the order is kept.
        async with point.processing:
            socket.transport.abort()
            await _stop(tasks)

    async def report(self, point: Any) -> None:
        """Tell the CSMS what happened, and now and then what is drawn."""
        while True:
            if self.must_boot:
                self.must_boot = False
                await point.boot()
            while self.events:
                await point.tell(*self.events[0])
                del self.events[0]
            self.news.clear()
            try:
                async with asyncio.timeout(20 / self.clock.speed):
                    await self.news.wait()
            except TimeoutError:
                now = self.clock.now()
                if self.session is not None and now > self.changed_at + self.model.reaction:
                    await point.meter(self.session, min(self.draw, self.in_force(now)))


async def _stop(tasks: list[asyncio.Future[Any]]) -> None:
    """End tasks; raise what ended one of them if that was not the connection."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, GONE):
            raise outcome


class _Point:
    """The messages that all versions have."""

    def __init__(self, station: _Station, socket: Any) -> None:
        super().__init__(station.model.id, socket, response_timeout=120 / station.clock.speed)
        self.station = station
        self.results = self._call_result
        self.processing = asyncio.Lock()

    def timestamp(self) -> str:
        """Return the time by its own clock."""
        now = self.station.clock.now() + self.station.model.clock_error
        return (NOON + timedelta(seconds=now)).isoformat(timespec="milliseconds")

    @on("SetChargingProfile")
    async def on_set_charging_profile(self, **request: Any) -> Any:
        profile = request.get("cs_charging_profiles") or request["charging_profile"]
        status = await self.process(lambda: self.station.install(profile))
        return self.results.SetChargingProfile(status=status)

    @on("ClearChargingProfile")
    async def on_clear_charging_profile(self, **request: Any) -> Any:
        status = await self.process(self.station.clear)
        return self.results.ClearChargingProfile(status=status)

    async def process(self, apply: Any) -> str:
        """Apply something, sooner or later, and perhaps say so."""
        station, clock = self.station, self.station.clock
        manners, chance = station.model.manners, station.random
        async with self.processing:
            if manners == "slow":
                await clock.sleep(chance.uniform(1, 12))
            status: str = apply()
            if manners == "flaky" and chance.random() < 0.1:
                self.station.socket.transport.abort()
            if manners == "mute" and chance.random() < 0.2:
                await clock.sleep(60)
        return status

    @on("GetCompositeSchedule")
    def on_get_composite_schedule(self, duration: int, **request: Any) -> Any:
        watts = round(1000 * self.station.in_force(self.station.clock.now()), 1)
        periods = [{"start_period": 0, "limit": watts}]
        schedule: dict[str, Any] = {
            "charging_rate_unit": "W",
            "charging_schedule_period": periods,
            "duration": duration,
        }
        if "connector_id" in request:
            return self.results.GetCompositeSchedule(
                "Accepted", 1, schedule_start=self.timestamp(), charging_schedule=schedule
            )
        schedule |= {"evse_id": 1, "schedule_start": self.timestamp()}
        return self.results.GetCompositeSchedule("Accepted", schedule=schedule)


class _Point16(_Point, ocpp.v16.ChargePoint):
    async def boot(self) -> None:
        await self.call(self._call.BootNotification("Simulated", "wattfill"), suppress=False)

    async def tell(self, kind: str, session: dict[str, Any]) -> None:
        if kind == "start":
            request = self._call.StartTransaction(1, "driver", 0, self.timestamp())
            session["id"] = (await self.call(request, suppress=False)).transaction_id
        else:
            request = self._call.StopTransaction(0, self.timestamp(), session["id"])
            await self.call(request, suppress=False)

    async def meter(self, session: dict[str, Any], kw: float) -> None:
        value = {"value": f"{1000 * kw:.3f}", "measurand": "Power.Active.Import", "unit": "W"}
        values = [{"timestamp": self.timestamp(), "sampled_value": [value]}]
        await self.call(self._call.MeterValues(1, values, session["id"]), suppress=False)


class _Point2(_Point):
    async def boot(self) -> None:
        station = {"model": "Simulated", "vendor_name": "wattfill"}
        await self.send("BootNotification", charging_station=station, reason="PowerUp")

    async def tell(self, kind: str, session: dict[str, Any]) -> None:
        begins = kind == "start"
        await self.event(
            session,
            event_type="Started" if begins else "Ended",
            trigger_reason="CablePluggedIn" if begins else "EVDeparted",
        )

    async def meter(self, session: dict[str, Any], kw: float) -> None:
        value = {"value": round(1000 * kw, 3), "measurand": "Power.Active.Import"}
        values = [{"timestamp": self.timestamp(), "sampled_value": [value]}]
        await self.event(
            session,
            event_type="Updated",
            trigger_reason="MeterValuePeriodic",
            meter_value=values,
        )

    async def event(self, session: dict[str, Any], **what: Any) -> None:
        session["n"] = session.get("n", -1) + 1
        await self.send(
            "TransactionEvent",
            timestamp=self.timestamp(),
            seq_no=session["n"],
            transaction_info={"transaction_id": session["id"]},
            evse={"id": 1},
            **what,
        )

    async def send(self, action: str, **what: Any) -> None:
        await self.call(getattr(self._call, action)(**what), suppress=False)


class _Point201(_Point2, ocpp.v201.ChargePoint):
    pass


class _Point21(_Point2, ocpp.v21.ChargePoint):
    pass


POINTS: dict[str, Any] = {"1.6": _Point16, "2.0.1": _Point201, "2.1": _Point21}


# Afterwards


def most_drawn(accounts: Iterable[Path]) -> tuple[float, float]:
    """Return the most in kW that the charge points of these accounts could have drawn, and when.

    A vehicle may draw what was in force until it has reacted to less.
    """
    changes: list[tuple[float, int, int]] = []
    for account in accounts:
        lines = account.read_text(encoding="utf-8").splitlines()
        for begin, end, quanta in _largest(list(_spans([json.loads(line) for line in lines]))):
            changes += ((begin, 1, quanta), (end, 0, -quanta))
    total, most, at = 0, 0, 0.0
    for when, _, quanta in sorted(changes):
        total += quanta
        if total > most:
            most, at = total, when
    return most / QUANTA_PER_KW, at


def _spans(records: list[list[Any]]) -> Iterator[tuple[float, float, int]]:
    """Yield from when until when a vehicle could draw how much; they overlap."""
    ends = [record[0] for record in records[1:]] + [math.inf]
    for (begin, limit, until, then, reaction), end in zip(records, ends, strict=True):
        over = end if until is None else min(until, end)
        yield begin, over + reaction, round(limit * QUANTA_PER_KW)
        if over < end:
            yield over, end + reaction, round(then * QUANTA_PER_KW)


def _largest(spans: list[tuple[float, float, int]]) -> Iterator[tuple[float, float, int]]:
    """Yield spans that do not overlap, of the largest at each time."""
    times = sorted({time for begin, end, _ in spans for time in (begin, end)})
    for begin, end in pairwise(times):
        yield begin, end, max((q for b, e, q in spans if b <= begin < e), default=0)
