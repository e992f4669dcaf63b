"""The pictures of a command: of one group of what was simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np

from wattfill.errors import InputError
from wattfill.simulation import pictures
from wattfill.simulation.partitions import one_tree
from wattfill.simulation.report import Picture
from wattfill.simulation.result import SimulationResult
from wattfill.simulation.run import Strategy, simulate

DAY = 86_400_000
WEEK = 7 * DAY


class View:
    """A group of what was simulated, and a day.

    Parameters
    ----------
    results : sequence of SimulationResult
        Of the same sessions by several strategies, or one.
    zone : ZoneInfo or None
        Whose local times are shown.
    group : str, optional
        By default that in which most energy was wanted and not delivered by the first strategy.
    day : str, optional
        In ISO 8601; by default that on which most was delivered in the group.

    """

    def __init__(
        self,
        results: Sequence[SimulationResult],
        zone: ZoneInfo | None,
        *,
        group: str | None = None,
        day: str | None = None,
    ) -> None:
        self.results = results
        self.zone = zone
        first = results[0]
        if group is None:
            group = first.site.groups[int(np.argmax(first.groups["unmet_kwh"]))]
        elif group not in first.site.groups:
            raise InputError(f"--group must be a group of the site, got {group!r}")
        self.group = group
        self.period = (first.start, first.stop)
        self._day = day

    @cached_property
    def details(self) -> list[SimulationResult]:
        """Of the tree of the group alone, with all curves."""
        first = self.results[0]
        sessions, site = one_tree(first.source, first.site, self.group)
        options: dict[str, Any] = {"period": self.period, "curves": "sessions"}
        return [
            simulate(sessions, site, strategy=cast(Strategy, result.strategy), **options)
            for result in self.results
        ]

    @cached_property
    def day(self) -> tuple[int, int]:
        """From when to when the day is, in local time."""
        if self._day is not None:
            try:
                return self._all_of(date.fromisoformat(self._day))
            except ValueError:
                raise InputError(
                    f"--day must be a day such as 2026-03-02, got {self._day!r}"
                ) from None
        first = self._midnight(self._local(self.period[0]).date())
        # By whole days, the last one, too.
        stop = first + DAY * max(-(-(self.period[1] - first) // DAY), 1)
        loads = self.details[0].curve(self.group).sampled(DAY, first, stop)
        busiest = first + DAY * int(np.argmax(loads["mean_kw"]))
        # Where clocks have been set in between, midnight is an hour away.
        return self._all_of(self._local(busiest + DAY // 2).date())

    @cached_property
    def week(self) -> tuple[int, int]:
        """Monday to Sunday around the day, or all there is if it is less."""
        day = self._local(self.day[0]).date()
        monday = self._midnight(day - timedelta(days=day.weekday()))
        start, stop = max(monday, self.period[0]), min(monday + WEEK, self.period[1])
        return (start, stop) if start < stop else self.day

    def load(self) -> Any:
        """Draw the load of the group against its limit, over all the time."""
        (detail, *_) = self.details
        start, stop = self.period
        return pictures.load_picture(
            detail.curve(self.group),
            detail.limit(self.group),
            (start, max(stop, start + 1)),
            title=self.group,
            zone=self.zone,
        )

    def connectors(self) -> Any:
        """Draw what each connector of the group draws on the day."""
        (detail, *_) = self.details
        return pictures.connectors_picture(
            detail.connector_curves(self.group).values(),
            detail.limit(self.group),
            self.day,
            title=self.group,
            zone=self.zone,
        )

    def energy(self) -> Any:
        """Draw what all sessions got over what they wanted."""
        sessions = self.results[0].sessions
        return pictures.energy_picture(
            sessions["wanted_kwh"], sessions["energy_kwh"], title="all groups"
        )

    def strategies(self) -> Any:
        """Draw the strategies side by side, over the week."""
        return pictures.strategies_picture(
            {detail.strategy: detail.curve(self.group) for detail in self.details},
            {detail.strategy: detail.sessions["share"] for detail in self.details},
            self.details[0].limit(self.group),
            self.week,
            title=self.group,
            zone=self.zone,
        )

    def _all_of(self, day: date) -> tuple[int, int]:
        # 23 or 25 hours where clocks are set.
        return self._midnight(day), self._midnight(day + timedelta(days=1))

    def _local(self, at: int) -> datetime:
        return datetime.fromtimestamp(at / 1000, self.zone or UTC)

    def _midnight(self, day: date) -> int:
        return int(datetime.combine(day, time(), self.zone or UTC).timestamp() * 1000)


def sweep_view(varied: Mapping[str, Sequence[float]], rows: Sequence[Mapping[str, Any]]) -> Any:
    """Draw which part of the energy wanted was not delivered, over one or two things varied."""
    labels = {
        "capacity": "capacity, as a multiple",
        "buffer": "buffer, fraction of the capacity",
        "connectors": "connectors, as a multiple",
    }
    if len(varied) > 2:
        raise InputError(f"a picture has one or two things varied, got {', '.join(varied)}")
    (x, *_), (*_, y) = varied, varied
    across, down = list(varied[x]), list(varied[y]) if len(varied) == 2 else [0.0]
    values = np.zeros((len(down), len(across)))
    for row in rows:
        at = down.index(row[y]) if len(varied) == 2 else 0
        values[at, across.index(row[x])] = 100 * (1 - row["share"])
    return pictures.sweep_picture(
        across,
        down,
        values,
        x_label=labels[x],
        y_label=labels[y] if len(varied) == 2 else "",
        label="not delivered of what was wanted, %",
        title="what if",
    )


def for_page(figure: Any, caption: str) -> Picture:
    """Return a picture as a part of a page."""
    return Picture(caption, pictures.as_svg(figure, caption))
