"""Batch simulation: sessions in, outcomes out, from event to event.

`read_sessions` and `read_acn` have sessions from files and tables, `generate` makes those of
synthetic fleets; `simulate` lets them happen at a `Site`, `compare` by several strategies, `sweep`
with other capacities; `simulate_parts` does so on many processes or machines;
`wattfill.simulation.pictures` draws what came of it. Files take pyarrow and pictures matplotlib
(extra ``simulation``). The core never imports this package.
"""

from typing import TYPE_CHECKING

from wattfill._lazy import loader

if TYPE_CHECKING:
    from wattfill.simulation.executors import processes as processes
    from wattfill.simulation.partitions import FilePart as FilePart
    from wattfill.simulation.partitions import PartedResult as PartedResult
    from wattfill.simulation.partitions import SyntheticPart as SyntheticPart
    from wattfill.simulation.partitions import simulate_parts as simulate_parts
    from wattfill.simulation.partitions import split_fleet as split_fleet
    from wattfill.simulation.partitions import split_sessions as split_sessions
    from wattfill.simulation.readers import read_acn as read_acn
    from wattfill.simulation.readers import read_sessions as read_sessions
    from wattfill.simulation.result import Curve as Curve
    from wattfill.simulation.result import SimulationResult as SimulationResult
    from wattfill.simulation.result import Table as Table
    from wattfill.simulation.run import STRATEGIES as STRATEGIES
    from wattfill.simulation.run import Strategy as Strategy
    from wattfill.simulation.run import compare as compare
    from wattfill.simulation.run import simulate as simulate
    from wattfill.simulation.run import sweep as sweep
    from wattfill.simulation.sites import site_of_sessions as site_of_sessions
    from wattfill.simulation.synthetic import generate as generate
    from wattfill.simulation.synthetic import synthetic_site as synthetic_site
    from wattfill.simulation.tables import ANY_CONNECTOR as ANY_CONNECTOR
    from wattfill.simulation.tables import Schedule as Schedule
    from wattfill.simulation.tables import Sessions as Sessions
    from wattfill.simulation.tables import Site as Site
    from wattfill.simulation.tables import Taper as Taper
    from wattfill.simulation.validate import Fault as Fault
    from wattfill.simulation.validate import faults as faults
    from wattfill.simulation.writing import write_sessions as write_sessions

# Loaded when first asked for: to simulate takes NumPy alone.
_HOME = {
    "processes": "executors",
    "FilePart": "partitions",
    "PartedResult": "partitions",
    "SyntheticPart": "partitions",
    "simulate_parts": "partitions",
    "split_fleet": "partitions",
    "split_sessions": "partitions",
    "read_acn": "readers",
    "read_sessions": "readers",
    "Curve": "result",
    "SimulationResult": "result",
    "Table": "result",
    "STRATEGIES": "run",
    "Strategy": "run",
    "compare": "run",
    "simulate": "run",
    "sweep": "run",
    "site_of_sessions": "sites",
    "generate": "synthetic",
    "synthetic_site": "synthetic",
    "ANY_CONNECTOR": "tables",
    "Schedule": "tables",
    "Sessions": "tables",
    "Site": "tables",
    "Taper": "tables",
    "Fault": "validate",
    "faults": "validate",
    "write_sessions": "writing",
}

__all__ = [*_HOME]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted(__all__)
