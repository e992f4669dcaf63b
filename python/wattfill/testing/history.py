"""Judge a log of the limits sent to stations by the most that these could have drawn.

A log has a line for each thing that the sender of limits knew, in the order in which it knew it:
groups and their capacities, connectors, commands, confirmations, read-backs, meter readings. Each
line is a JSON object, or a dict::

    {"at": 0, "kind": "group", "group": "P3", "maximum_capacity": 10}
    {"at": 0, "kind": "connector", "group": "P3", "station": "CS-1", "connector": 1,
     "maximum_capacity": 22, "floor": 0}
    {"at": 1, "kind": "command", "station": "CS-1", "connector": 1, "seq": 1, "limit": 10}
    {"at": 2, "kind": "confirmation", "station": "CS-1", "connector": 1, "seq": 1}

A connector is counted with what is *committed* there: the largest limit that may still be in force,
whatever became of each message. The sums are exact, in whole quanta of 1 mW, with powers and
usable capacities taken as `wattfill.allocate` takes them, so that what adds up in decimals adds up
here. ``docs/histories.md`` describes every kind of line.
"""

from __future__ import annotations

from wattfill.testing._ledger import Ledger
from wattfill.testing._log import KINDS as KINDS
from wattfill.testing._log import Log, lines_of, seconds
from wattfill.testing._verdict import Above as Above
from wattfill.testing._verdict import Breach as Breach
from wattfill.testing._verdict import Commitment as Commitment
from wattfill.testing._verdict import Message as Message
from wattfill.testing._verdict import Verdict as Verdict
from wattfill.testing._verdict import Violation as Violation


def check_history(log: Log, *, skew: float = 0.0, lag: float = 0.0) -> Verdict:
    """Say whether stations could have drawn more than they may at any instant, and by what.

    Parameters
    ----------
    log : path, open file, or iterable of dict or str
        The lines, each a dict or a JSON object. A string is the path of a file.
    skew : float
        Seconds by which the clock of a station may differ from that of the log. A lease counts
        until its expiry and `skew`, and a meter reading that has a time of its own is compared
        with what was committed up to `skew` before and after it.
    lag : float
        Seconds that a vehicle may take to follow a lower limit. A confirmation frees power when
        they have passed, or when a meter reading is at or below the limit.

    Returns
    -------
    Verdict
        ``safe`` if no command raised what is committed above a usable capacity, the floors always
        fitted, and no station was seen above what is committed. A sum that is above because the
        capacity fell is a violation only if something raises it meanwhile.

    Raises
    ------
    InputError
        If a line is malformed; the message names the line, the key, the value and the rule.
    InputTypeError
        If `log` is no such thing.

    Examples
    --------
    CS-1 has 10 kW. It is told to stop, does not answer, and its power is given to CS-2:

    >>> verdict = check_history([
    ...     {"at": 0, "kind": "group", "group": "P3", "maximum_capacity": 10},
    ...     {"at": 0, "kind": "connector", "group": "P3", "station": "CS-1", "connector": 1,
    ...      "maximum_capacity": 22, "floor": 0},
    ...     {"at": 0, "kind": "connector", "group": "P3", "station": "CS-2", "connector": 1,
    ...      "maximum_capacity": 22, "floor": 0},
    ...     {"at": 1, "kind": "read-back", "station": "CS-1", "connector": 1, "limit": 10},
    ...     {"at": 1, "kind": "read-back", "station": "CS-2", "connector": 1, "limit": 0},
    ...     {"at": 5, "kind": "command", "station": "CS-1", "connector": 1, "seq": 1, "limit": 0},
    ...     {"at": 35, "kind": "timeout", "station": "CS-1", "connector": 1, "seq": 1},
    ...     {"at": 36, "kind": "command", "station": "CS-2", "connector": 1, "seq": 1, "limit": 8},
    ... ])
    >>> verdict.safe
    False
    >>> print(verdict.violations[0])
    At 36 s the connectors below P3 could have drawn 18 kW of 10 kW usable (line 8).
    Enough for it, if all other messages were lost: seq 1 to CS-2 1 (8 kW, sent at 36 s).
    <BLANKLINE>
      station  connector  kW  why
      CS-1     1          10  read back at 1 s; seq 1 (0 kW) timed out, which proves nothing
      CS-2     1           8  seq 1 (8 kW), sent at 36 s, may be in force

    """
    ledger = Ledger(seconds("skew", skew), seconds("lag", lag))
    with lines_of(log) as lines:
        for line in lines:
            ledger.take(line)
    return ledger.verdict()
