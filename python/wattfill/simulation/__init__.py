"""Batch simulation: sessions in, outcomes out, from event to event.

Needs the extra ``simulation``; the core never imports this package.
"""

from wattfill.simulation.tables import ANY_CONNECTOR as ANY_CONNECTOR
from wattfill.simulation.tables import Schedule as Schedule
from wattfill.simulation.tables import Sessions as Sessions
from wattfill.simulation.tables import Site as Site
from wattfill.simulation.tables import Taper as Taper
