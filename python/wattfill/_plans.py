"""What a dispatcher tells: commands, what may be in force, what waits for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from wattfill._records import Key

Why: TypeAlias = Literal["decrease", "increase", "refresh"]


@dataclass(frozen=True, slots=True)
class Command:
    """A limit that may be sent to a connector now."""

    station: str
    connector: str
    seq: int
    """Rises from command to command of a connector, also after a restart."""
    limit: float
    """kW, a whole number of mW: the most that it may draw. 0.0 pauses it."""
    expires: float | None
    """Seconds on the caller's clock at which the station must stop to apply it; None for never."""
    why: Why
    """A decrease, an increase (into proven headroom), or a refresh of what was sent before."""


@dataclass(frozen=True, slots=True)
class Over:
    """A group below which more may be in force than it may draw, as after its capacity fell."""

    group: str
    committed: float
    """kW"""
    usable: float
    """kW"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What may be sent now, and when to ask again at the latest."""

    commands: tuple[Command, ...]
    """Those that raise what is committed come last. Each may be sent at once and in any order."""
    wake_at: float
    """Seconds on the caller's clock when something is due even if nothing happens; infinite if
    nothing is."""
    over: tuple[Over, ...]
    """Groups below which more may be in force than they may draw: nothing is raised there."""
    journal_error: Exception | None
    """Why the journal could not be written, so that only decreases are in the plan."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What may be in force, whatever became of each message."""

    connectors: dict[Key, float]
    """kW by (station id, connector id)."""
    groups: dict[str, float]
    """kW by the id of the group: the sum of those in it and below it."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """A connector whose power an increase waits for."""

    station: str
    connector: str
    committed: float
    """kW that may still be in force there."""
    due: float
    """kW that it is to have."""
    because: str
    """Why it still counts with more, in words."""

    def __str__(self) -> str:
        return (
            f"{self.station} {self.connector} ({_kw_text(self.committed)} kW may be in force "
            f"there, {_kw_text(self.due)} kW are due: {self.because})"
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """An increase that may not be sent yet."""

    station: str
    connector: str
    committed: float
    """kW that may be in force now."""
    limit: float
    """kW that it is to have."""
    group: str
    """Id of the group in which there is no room yet: the nearest to the connector."""
    missing: float
    """kW"""
    on: tuple[Blocker, ...]
    """Where these kW are still committed, those with most first."""

    def __str__(self) -> str:
        blockers = "; ".join(map(str, self.on)) or "nobody: the group may draw less than before"
        return (
            f"{self.station} {self.connector} waits to go from {_kw_text(self.committed)} to "
            f"{_kw_text(self.limit)} kW: {_kw_text(self.missing)} kW are missing in group "
            f"{self.group!r} until they are confirmed by {blockers}"
        )


def _kw_text(kw: float) -> str:
    return f"{kw:.12g}"
