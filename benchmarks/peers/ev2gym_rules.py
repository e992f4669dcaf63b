"""The heuristics of EV2Gym that share a power among chargers, each group as a site of its own.

They answer in fractions of what each charger can give; what comes of that is asked of EV2Gym's own
models of a charger and a car. These count in amperes; at 1 kV and one phase one of them is one kW.
Needs no more of EV2Gym than ``pip install --no-deps ev2gym``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from types import SimpleNamespace
from typing import Any

import numpy as np
from ev2gym.baselines import heuristics  # type: ignore[import-untyped]
from ev2gym.models.ev import EV  # type: ignore[import-untyped]
from ev2gym.models.ev_charger import EV_Charger  # type: ignore[import-untyped]

VOLTAGE, PHASES, MINUTES, BATTERY_KWH = 1000, 1, 5, 1e4

# Heuristics that are told a limit when they are made; the others read it from the simulation.
_LIMITED = ("ChargeAsFastAsPossibleWithPowerLimit",)


def share(low: Sequence[float], high: Sequence[float], budget: float, *, rule: str) -> list[float]:
    """Share one limit by a heuristic: the powers in kW that the cars draw in the first period.

    Parameters
    ----------
    low, high : sequence of float, shape (n_connectors,)
        Bounds in kW. A charger that can give nothing is left out.
    budget : float
        The limit, or set point, in kW.
    rule : str
        Name of the heuristic. Chance is the same at each call.

    """
    there = [i for i, most in enumerate(high) if most > 0]
    power = [0.0] * len(high)
    if not there:
        return power
    chargers = [_charger(i, low[i], high[i]) for i in there]
    site = SimpleNamespace(
        charging_stations=chargers,
        number_of_ports=len(chargers),
        number_of_ports_per_cs=1,
        action_space=SimpleNamespace(shape=(len(chargers),)),
        power_setpoints=[budget],
        current_step=0,
    )
    limits = {"power_limit": budget} if rule in _LIMITED else {}
    np.random.seed(0)  # noqa: NPY002, as it is this generator that is asked
    with redirect_stdout(io.StringIO()):
        actions = getattr(heuristics, rule)(site, **limits).get_action(site)
    for i, charger, action in zip(there, chargers, actions, strict=True):
        charger.step([float(action)], 0.0, 0.0)
        power[i] = float(charger.current_power_output)
    return power


def _charger(i: int, least: float, most: float) -> Any:
    """Return a charger with an almost empty car, which takes all that the charger gives."""
    charger = EV_Charger(
        *(i, 0, 0),
        min_charge_current=least * 1000 / VOLTAGE,
        max_charge_current=most * 1000 / VOLTAGE,
        voltage=VOLTAGE,
        n_ports=1,
        phases=PHASES,
        timescale=MINUTES,
    )
    charger.spawn_ev(
        EV(
            *(0, i, 0.1 * BATTERY_KWH, 0, 10),
            battery_capacity=BATTERY_KWH,
            max_ac_charge_power=most,
            transition_soc=1,
            timescale=MINUTES,
        )
    )
    return charger
