"""What has to be known of one charge point so that its answers prove what they seem to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from ocpp.exceptions import OCPPError, UnknownCallErrorCodeError

from wattfill import _validate
from wattfill.errors import InputError, InputTypeError, UnknownIdError
from wattfill.ocpp.answers import Outcome, limit_in_force, verdict
from wattfill.ocpp.messages import (
    Call,
    Profile,
    Version,
    check_transaction_id,
    check_version,
    clear_profile,
    get_composite_schedule,
    set_profile,
)
from wattfill.ocpp.supply import Clock, Supply

if TYPE_CHECKING:
    from wattfill.dispatch import Command

# An absolute schedule starts so long before it is sent that it has begun on a clock that is behind.
HEAD_START = timedelta(minutes=1)
# The maximum must be absolute (OCPP 2.0.1, K01.FR.38), and begun on a clock that was never set.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_CALL_ERRORS = (OCPPError, UnknownCallErrorCodeError)
# The default is on the lowest level of the stack, what is granted above it.
DEFAULT_LEVEL, GRANT_LEVEL = 0, 1


@dataclass(frozen=True, slots=True)
class Evse:
    """What a connector of a registry is to its charge point.

    Parameters
    ----------
    supply : Supply
        How its limits are written.
    fallback : float
        kW, at least 0: what the connector may draw without a command. It is the limit of the
        default profile, and must be at most the `fallback` that the registry has of the connector.
    minimum : float
        kW, at least 0: the least that sustains a session; no limit lies between 0 and it.
    id : int, optional
        ``connectorId`` of OCPP 1.6, ``evseId`` of 2.0.1 and 2.1, at least 1; by default the number
        that the connector's id is.

    """

    supply: Supply
    fallback: float = 0.0
    minimum: float = 0.0
    id: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.supply, Supply):
            raise InputTypeError(f"supply must be a Supply, got {type(self.supply).__name__}")
        for name in ("fallback", "minimum"):
            value = _validate.number_within(name, getattr(self, name), "finite and at least 0 (kW)")
            object.__setattr__(self, name, value)
        if self.id is not None and (type(self.id) is not int or self.id < 1):
            raise InputError(f"id must be a whole number, at least 1, got {self.id!r}")


@dataclass(slots=True, eq=False)
class _State:
    """What is known of one connector; powers are kW as they were written, so after truncation."""

    connector: str
    id: int
    evse: Evse
    default: float
    """What the default profile allows."""
    default_is_set: bool = False
    transaction_id: int | str | None = None
    newest: int = -1
    """The seq of the newest command."""
    command: Command | None = None
    """That command, as long as it may be sent: what is told as rejected must not be."""
    due: bool = False
    n_sent: int = 0
    """How often the newest was sent."""
    sent: int | None = None
    """The seq of what was sent last."""
    is_proved: bool = True
    """Whether that was confirmed."""
    most: float = math.inf
    """The largest limit that may be in force, in kW: unknown until something was confirmed."""
    ask: bool = False
    """Whether to ask what is in force."""


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    call: Call
    kind: Literal["maximum", "default", "ask", "command"]
    state: _State | None = None
    command: Command | None = None
    is_first: bool = True
    """Whether the command was not sent before."""


class SmartCharging:
    """Smart charging of one charge point: its profiles, one call at a time, and what answers prove.

    OCPP numbers no profile and promises little about order. So this sends one call and waits; after
    a time-out it sends nothing more on that connection; on the next it asks what is in force, and
    sends the newest command again. Nothing that raises a limit leaves before the maximum of the
    station and the default of the connector are installed, and no answer counts before. It has no
    clock and does no input or output: `next_call` says what to send, `answer` takes what came.
    `run` is a loop around these for one connection.

    Parameters
    ----------
    station : str
        Id of the charge station in the registry.
    version : "1.6", "2.0.1" or "2.1"
        Of OCPP.
    evses : mapping of str to Evse
        By the connectors' ids in the registry.
    clock : Clock
        UTC on the dispatcher's clock. Assign a new one to `clock` when UTC was stepped.
    maximum : float or None
        kW: what the charge point may draw in all, installed as ChargePointMaxProfile
        (ChargingStationMaxProfile). None installs none, for charge points that take none.
    supply : Supply, optional
        How `maximum` is written; by default as the limits of the connectors, if these are all one.
    max_offline : int, optional
        OCPP 2.1: seconds after which a charge point that is offline drops what it was granted.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from ocpp.v16 import call_result
    >>> from wattfill import Command
    >>> cs = SmartCharging("CS-1", "1.6", {"1": Evse(Supply("A", phases=3), minimum=4.14)},
    ...                    maximum=None, clock=Clock(0.0, datetime(2026, 1, 1, tzinfo=UTC)))
    >>> accepted = call_result.SetChargingProfile("Accepted")
    >>> cs.connected()
    >>> call = cs.next_call(0.0)
    >>> call.cs_charging_profiles.charging_profile_purpose.value
    'TxDefaultProfile'
    >>> cs.answer(call, accepted, 0.2)
    ()
    >>> cs.transaction_started("1", 4711)
    >>> cs.command(Command(station="CS-1", connector="1", seq=1, limit=11.0, expires=60.0,
    ...                    why="increase"))
    >>> call = cs.next_call(1.0)
    >>> call.cs_charging_profiles.valid_to
    '2026-01-01T00:01:00Z'
    >>> call.cs_charging_profiles.charging_schedule.charging_schedule_period[0].limit
    15.9
    >>> cs.answer(call, accepted, 1.2)
    (Outcome(kind='confirm', station='CS-1', connector='1', seq=1, limit=None),)

    """

    def __init__(
        self,
        station: str,
        version: Version,
        evses: Mapping[str, Evse],
        *,
        clock: Clock,
        maximum: float | None,
        supply: Supply | None = None,
        max_offline: int | None = None,
    ) -> None:
        self.station = _validate.identifier("station", station)
        check_version(version)
        self.version = version
        if not isinstance(clock, Clock):
            raise InputTypeError(f"clock must be a Clock, got {type(clock).__name__}")
        self.clock = clock
        if not evses:
            raise InputError("evses must have at least one connector, got none")
        self._states = {name: _state(name, evse) for name, evse in evses.items()}
        ids = [state.id for state in self._states.values()]
        if len(set(ids)) < len(ids):
            raise InputError(f"evses must have an id each, got {', '.join(map(str, ids))}")
        if max_offline is not None:
            if version != "2.1":
                raise InputError(
                    f"max_offline must be left out before OCPP 2.1, got {max_offline!r}"
                )
            if type(max_offline) is not int or max_offline < 0:
                raise InputError(
                    f"max_offline must be a whole number, at least 0 (s), got {max_offline!r}"
                )
        self._max_offline = max_offline
        self._maximum: Profile | None = None
        if maximum is not None:
            supplies = {evse.supply for evse in evses.values()}
            if supply is None and len(supplies) > 1:
                raise InputError(
                    "supply must be given where those of the connectors differ, got none"
                )
            supply = supply or supplies.pop()
            limit = supply.limit(_validate.number_within("maximum", maximum, "at least 0 (kW)"))
            self._maximum = Profile(1, 0, "maximum", limit, supply, start=LONG_AGO)
        self._maximum_is_set = maximum is None
        self._setup: list[_Step] = []
        self._refusals: dict[str, str] = {}
        self._step: _Step | None = None
        self._is_connected = False
        self._n_connections = 0
        self._work = asyncio.Event()

    # What happens to the charge point

    def connected(self) -> None:
        """Note a new connection, over which calls can be sent."""
        self.disconnected()
        self._is_connected = True
        self._n_connections += 1
        self._set_up()

    def disconnected(self) -> None:
        """Note that the connection is lost: what was outstanding may or may not take effect."""
        if self._step is not None:
            self._lost(self._step)
        self._is_connected = False
        self._work.set()

    def booted(self) -> None:
        """Note a BootNotification: what was installed may be gone, and is installed again."""
        self._maximum_is_set = self._maximum is None
        for state in self._states.values():
            state.default_is_set = False
            state.due = state.command is not None
        self._set_up()

    def transaction_started(self, connector: str, transaction_id: int | str) -> None:
        """Note a transaction, for which a limit above the fallback can be set from now on.

        Parameters
        ----------
        connector : str
            Its id in the registry.
        transaction_id : int or str
            A whole number in OCPP 1.6, a string in 2.0.1 and 2.1.

        """
        state = self._known(connector)
        check_transaction_id(self.version, transaction_id)
        state.transaction_id = transaction_id
        state.due = state.command is not None
        self._work.set()

    def transaction_ended(self, connector: str) -> None:
        """Note that a transaction is over: what was granted for it is taken out when commanded."""
        self._known(connector).transaction_id = None

    def command(self, command: Command) -> None:
        """Take a command of a plan; of a connector only the newest is sent.

        Raises
        ------
        InputError
            If it is for another station, or older than one before.
        UnknownIdError
            If the station has no such connector.

        """
        if command.station != self.station:
            raise InputError(f"station must be {self.station!r}, got {command.station!r}")
        state = self._known(command.connector)
        if command.seq < state.newest:
            raise InputError(f"seq must not fall, got {command.seq} after {state.newest}")
        if command.seq > state.newest:
            state.newest, state.n_sent = command.seq, 0
        state.command, state.due = command, True
        self._work.set()

    # What to send

    def next_call(self, now: float) -> Call | None:
        """Return the request to send now, None if there is none or one is outstanding."""
        if self._step is None and self._is_connected:
            self._step = self._next_step(now)
            return None if self._step is None else self._step.call
        return None

    def ready(self, connector: str) -> bool:
        """Return whether the profiles that must be there before the first grant are."""
        return self._maximum_is_set and self._known(connector).default_is_set

    @property
    def refusals(self) -> tuple[str, ...]:
        """Which of these profiles the charge point did not take, in words."""
        return tuple(self._refusals.values())

    @property
    def is_connected(self) -> bool:
        """Whether calls can be sent: not before `connected`, nor after one without an answer."""
        return self._is_connected

    # What came back

    def answer(self, call: Call, answer: object, now: float) -> tuple[Outcome, ...]:
        """Take what a call returned or raised, and return what that proves.

        Parameters
        ----------
        call : request
            From `next_call`; an answer to any other is too late, and proves nothing.
        answer : object
            What the ``call(..., suppress=False)`` of a ``ChargePoint`` returned or raised. A call
            error and None are answers. Any other exception is none: close the connection then.
        now : float
            On the dispatcher's clock.

        Returns
        -------
        tuple of Outcome
            For the dispatcher: ``for outcome in outcomes: outcome.tell(dispatcher, now)``.

        """
        step = self._step
        if step is None or step.call is not call:
            return ()
        if isinstance(answer, BaseException) and not isinstance(answer, _CALL_ERRORS):
            self.disconnected()
            return ()
        self._step = None
        self._work.set()
        if step.kind in ("maximum", "default"):
            self._installed(step, answer)
            return ()
        assert step.state is not None
        if step.kind == "ask":
            return self._in_force(step.state, answer, now)
        return self._answered(step, step.state, answer)

    async def run(
        self,
        call: Callable[[Call], Awaitable[object]],
        now: Callable[[], float],
        tell: Callable[[Outcome], object],
    ) -> None:
        """Send what is due over one connection, until a call is not answered.

        Parameters
        ----------
        call : coroutine function
            Sends a request and returns the answer, or raises: ``lambda request:
            charge_point.call(request, suppress=False)``.
        now : function
            The dispatcher's clock.
        tell : function
            Takes each outcome.

        Close the connection when it ends. It raises what `call` raised, but for call errors and
        time-outs. When the connection is closed, call `disconnected` and cancel it; what was
        called for a newer connection ends it as well.

        """
        self.connected()
        mine = self._n_connections
        try:
            while self._is_connected and self._n_connections == mine:
                self._work.clear()
                request = self.next_call(now())
                if request is None:
                    await self._work.wait()
                    continue
                try:
                    answer = await call(request)
                except (*_CALL_ERRORS, TimeoutError) as error:
                    answer = error
                for outcome in self.answer(request, answer, now()):
                    tell(outcome)
        finally:
            if self._n_connections == mine:
                self.disconnected()

    # Inside

    def _known(self, connector: str) -> _State:
        if connector not in self._states:
            raise UnknownIdError(f"charge station {self.station!r} has no connector {connector!r}")
        return self._states[connector]

    def _set_up(self) -> None:
        """Make the requests for the profiles that are not known to be installed."""
        self._setup.clear()
        if not self._maximum_is_set:
            assert self._maximum is not None
            self._setup.append(_Step(set_profile(self.version, self._maximum), "maximum"))
        for state in self._states.values():
            if not state.default_is_set:
                evse = state.evse
                limit = evse.supply.limit(evse.fallback, evse.minimum)
                # Relative, so that it holds on a clock that lost its time.
                profile = Profile(
                    10 * state.id + 2, state.id, "default", limit, evse.supply, DEFAULT_LEVEL
                )
                self._setup.append(_Step(set_profile(self.version, profile), "default", state))
        self._work.set()

    def _next_step(self, now: float) -> _Step | None:
        if self._setup:
            return self._setup.pop(0)
        states = self._states.values()
        for state in states:
            if state.ask:
                state.ask = False
                unit = state.evse.supply.unit
                return _Step(get_composite_schedule(self.version, state.id, unit), "ask", state)
        due = [state for state in states if self._may_send(state, now)]
        if due:
            return self._send(min(due, key=_decreases_first), now)
        return None

    def _may_send(self, state: _State, now: float) -> bool:
        command = state.command
        if command is None or not state.due:
            return False
        if command.expires is not None:
            # What is over would not be taken, and is counted for no longer.
            state.due = self._valid_to(command.expires) > self.clock.utc_at(now)
            if not state.due:
                return False
        if command.why == "increase" and not self.ready(state.connector):
            return False
        # Without a transaction there is nothing that a grant could be set for.
        return state.transaction_id is not None or command.limit <= state.evse.fallback

    def _send(self, state: _State, now: float) -> _Step:
        command, evse = state.command, state.evse
        assert command is not None
        is_first = state.n_sent == 0
        state.due = state.is_proved = False
        state.n_sent += 1
        state.sent = command.seq
        if state.transaction_id is None:
            # It is at most the fallback, which holds where nothing is granted.
            call = clear_profile(self.version, _grant_id(state))
            return _Step(call, "command", state, command, is_first)
        limit = evse.supply.limit(command.limit, evse.minimum)
        state.most = max(state.most, evse.supply.power(limit))
        profile = Profile(
            _grant_id(state),
            state.id,
            "transaction",
            limit,
            evse.supply,
            GRANT_LEVEL,
            start=self.clock.utc_at(now) - HEAD_START,
            valid_to=None if command.expires is None else self._valid_to(command.expires),
            transaction_id=state.transaction_id,
            max_offline=self._max_offline,
        )
        return _Step(set_profile(self.version, profile), "command", state, command, is_first)

    def _valid_to(self, expires: float) -> datetime:
        """Return the end of a lease in whole seconds, as it is written."""
        return self.clock.utc_at(expires).replace(microsecond=0)

    def _installed(self, step: _Step, answer: object) -> None:
        is_set = verdict(answer) == "confirm"
        if step.state is None:
            self._maximum_is_set = is_set
        else:
            step.state.default_is_set = is_set
        self._refusals.pop(_profile_of(step), None)
        if not is_set:
            self._refused(step, getattr(answer, "status", None) or repr(answer))
        for state in self._states.values():
            # What was sent before counts only when it is sent again.
            if is_set and not state.is_proved and self.ready(state.connector):
                state.due = True

    def _refused(self, step: _Step, why: object) -> None:
        what = _profile_of(step)
        self._refusals[what] = f"{self.station!r} did not take the {what}: {why}"

    def _answered(self, step: _Step, state: _State, answer: object) -> tuple[Outcome, ...]:
        assert step.command is not None
        seq, found = step.command.seq, verdict(answer)
        if found is None:
            state.ask = True  # It is sent again when the dispatcher says so.
        elif found == "reject":
            # Of two that were sent one may have been taken.
            if step.is_first:
                if seq == state.newest:
                    state.command = None
                return (self._outcome("reject", state, seq),)
        elif self.ready(state.connector):
            state.is_proved = True
            state.most = state.evse.supply.power(state.evse.supply.limit(step.command.limit))
            return (self._outcome("confirm", state, seq),)
        return ()

    def _in_force(self, state: _State, answer: object, now: float) -> tuple[Outcome, ...]:
        limit = limit_in_force(answer, state.evse.supply, self.clock.utc_at(now))
        # What was sent may be in force and held down by another limit of the charge point, at what
        # was sent later, too. So only more than may be in force tells something.
        if limit is None or limit <= max(state.default, state.most):
            return ()
        return (self._outcome("read-back", state, state.sent, limit),)

    def _lost(self, step: _Step) -> None:
        """Leave open what became of a call: it is asked for once, and sent again."""
        self._step = None
        if step.state is None or step.kind == "default":
            self._refused(step, "no answer")
        else:
            step.state.ask = step.kind == "command"
            step.state.due = True

    def _outcome(
        self,
        kind: Literal["confirm", "reject", "read-back"],
        state: _State,
        seq: int | None,
        limit: float | None = None,
    ) -> Outcome:
        return Outcome(kind, self.station, state.connector, seq, limit)


def _state(connector: str, evse: Evse) -> _State:
    if not isinstance(evse, Evse):
        raise InputTypeError(f"evses must be of Evse, got {type(evse).__name__} for {connector!r}")
    id = evse.id
    if id is None:
        # Of an id without a number nobody knows which connector of the charge point it is.
        if not (connector.isascii() and connector.isdigit() and int(connector) > 0):
            raise InputError(f"id must be given for connector {connector!r}, which is no number")
        id = int(connector)
    default = evse.supply.power(evse.supply.limit(evse.fallback, evse.minimum))
    return _State(connector, id, evse, default)


def _grant_id(state: _State) -> int:
    return 10 * state.id + 3


def _decreases_first(state: _State) -> bool:
    assert state.command is not None
    return state.command.why != "decrease"


def _profile_of(step: _Step) -> str:
    return "maximum" if step.state is None else f"default of {step.state.connector!r}"
