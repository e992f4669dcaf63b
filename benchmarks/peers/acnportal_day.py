"""acnportal's simulator on one site, with its round robin: period by period, all in Python.

It counts in amperes; at 1 kV one of them is one kW. Sessions come and go on whole periods, each at
a station that is free then. Its rule does not know what a vehicle takes, only what a station gives.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from acnportal import acnsim, algorithms  # type: ignore[import-untyped]
from acnportal.acnsim.network import Current  # type: ignore[import-untyped]

VOLTAGE = 1000.0


class Visit(NamedTuple):
    """A session in whole periods."""

    arrival: int
    departure: int
    energy: float
    """kWh wanted."""
    connector: int


def prepare(
    visits: Sequence[Visit], rating: Sequence[float], capacity: float, period: float
) -> Any:
    """Return a simulator of a site with this capacity and connectors of these ratings, in kW."""
    network = acnsim.ChargingNetwork()
    names = [str(i) for i in range(len(rating))]
    for name, most in zip(names, rating, strict=True):
        network.register_evse(acnsim.EVSE(name, max_rate=most), VOLTAGE, 0)
    network.add_constraint(Current(names), capacity, name="site")
    events = [
        acnsim.PluginEvent(
            visit.arrival,
            acnsim.EV(
                *(visit.arrival, visit.departure, visit.energy, names[visit.connector], str(k)),
                acnsim.Battery(visit.energy, 0.0, max(rating)),
            ),
        )
        for k, visit in enumerate(visits)
    ]
    # In steps of 0.1 A, its finest.
    rule = algorithms.RoundRobin(algorithms.first_come_first_served, continuous_inc=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return acnsim.Simulator(
            network, rule, acnsim.EventQueue(events), datetime(2026, 3, 2, tzinfo=UTC), period,
            verbose=False,
        )  # fmt: skip


def run(simulator: Any) -> list[float]:
    """Run it and return the energy of each visit, in kWh."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulator.run()
    history = simulator.ev_history
    return [float(history[str(k)].energy_delivered) for k in range(len(history))]
