"""EV2Gym's step loop on one site where everybody charges as fast as possible.

Its cars and chargers count in amperes; at 1 kV and one phase one of them is one kW. Energies are
rounded up to 0.01 kWh in each step. It imports more than it asks for:
``pip install ev2gym pandapower numba multicopula seaborn psutil``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ev2gym  # type: ignore[import-untyped]
import numpy as np
import yaml  # type: ignore[import-untyped]
from ev2gym.models.ev import EV  # type: ignore[import-untyped]
from ev2gym.models.ev2gym_env import EV2Gym  # type: ignore[import-untyped]

from benchmarks.peers.acnportal_day import Visit

SPARE_KWH = 10.0


def prepare(
    visits: Sequence[Visit], rating: Sequence[float], capacity: float, period: int, periods: int
) -> Any:
    """Return its world with these visits in place of its own, which arrive after the first step."""
    folder = Path(ev2gym.__file__).parent
    config = yaml.safe_load((folder / "example_config_files/PublicPST.yaml").read_text())
    config |= {
        "timescale": period,
        "simulation_length": periods,
        "random_day": False,
        "number_of_charging_stations": len(rating),
        "heterogeneous_ev_specs": False,
        "transformer": {"max_power": capacity},
    }
    config["charging_station"] |= {
        "max_charge_current": max(rating),
        "voltage": 1000,
        "phases": 1,
    }
    with TemporaryDirectory() as there, redirect_stdout(io.StringIO()):
        path = Path(there, "site.yaml")
        path.write_text(yaml.safe_dump(config))
        world = EV2Gym(config_file=str(path), seed=0)
    world.EVs_profiles = [
        EV(
            id=0,
            location=visit.connector,
            battery_capacity_at_arrival=SPARE_KWH,
            time_of_arrival=visit.arrival,
            # It still charges in the step in which it departs.
            time_of_departure=visit.departure - 1,
            battery_capacity=SPARE_KWH + visit.energy,
            max_ac_charge_power=rating[visit.connector],
            ev_phases=1,
            transition_soc=1,
            timescale=period,
        )
        for visit in visits
    ]
    for charger, most in zip(world.charging_stations, rating, strict=True):
        charger.max_charge_current = most
    return world


def run(world: Any) -> list[float]:
    """Run it and return the energy of each visit, in kWh."""
    done = False
    while not done:
        _, _, done, _, _ = world.step(np.ones(world.number_of_ports))
    return [float(car.total_energy_exchanged) for car in world.EVs]
