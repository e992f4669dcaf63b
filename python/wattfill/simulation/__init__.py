"""Batch simulation: sessions in, outcomes out, from event to event.

Needs the extra ``simulation``; the core never imports this package.
"""

from wattfill.simulation.result import Curve as Curve
from wattfill.simulation.result import SimulationResult as SimulationResult
from wattfill.simulation.result import Table as Table
from wattfill.simulation.run import STRATEGIES as STRATEGIES
from wattfill.simulation.run import Strategy as Strategy
from wattfill.simulation.run import compare as compare
from wattfill.simulation.run import simulate as simulate
from wattfill.simulation.run import sweep as sweep
from wattfill.simulation.tables import ANY_CONNECTOR as ANY_CONNECTOR
from wattfill.simulation.tables import Schedule as Schedule
from wattfill.simulation.tables import Sessions as Sessions
from wattfill.simulation.tables import Site as Site
from wattfill.simulation.tables import Taper as Taper
from wattfill.simulation.validate import Fault as Fault
from wattfill.simulation.validate import faults as faults
