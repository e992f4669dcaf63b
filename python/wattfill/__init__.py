"""Share a group's electrical capacity among EV connectors: fairly, exactly, and fast.

Examples
--------
>>> import wattfill
>>> wattfill.allocate([6, 6, 6], [16, 32, 10], 50, buffer=0.2).power
array([15., 15., 10.])

"""

from typing import TYPE_CHECKING

from wattfill._lazy import loader

if TYPE_CHECKING:
    from wattfill.allocation import Allocation as Allocation
    from wattfill.allocation import allocate as allocate
    from wattfill.dispatch import Command as Command
    from wattfill.dispatch import Dispatcher as Dispatcher
    from wattfill.dispatch import Plan as Plan
    from wattfill.errors import ConflictError as ConflictError
    from wattfill.errors import InputError as InputError
    from wattfill.errors import InputTypeError as InputTypeError
    from wattfill.errors import JournalError as JournalError
    from wattfill.errors import MissingExtraError as MissingExtraError
    from wattfill.errors import UnknownIdError as UnknownIdError
    from wattfill.errors import WattfillError as WattfillError
    from wattfill.journal import FileJournal as FileJournal
    from wattfill.reason import Reason as Reason
    from wattfill.registry import ChargeStation as ChargeStation
    from wattfill.registry import Connector as Connector
    from wattfill.registry import ConnectorAllocation as ConnectorAllocation
    from wattfill.registry import Group as Group
    from wattfill.registry import GroupAllocation as GroupAllocation
    from wattfill.registry import Registry as Registry
    from wattfill.registry import RegistryAllocation as RegistryAllocation
    from wattfill.registry import Session as Session

__version__ = "0.1.0"

# Loaded when first asked for: the errors and the property kit do without NumPy and the kernel.
_HOME = {
    "Allocation": "allocation",
    "allocate": "allocation",
    "Command": "dispatch",
    "Dispatcher": "dispatch",
    "FileJournal": "journal",
    "Plan": "dispatch",
    "ConflictError": "errors",
    "InputError": "errors",
    "InputTypeError": "errors",
    "JournalError": "errors",
    "MissingExtraError": "errors",
    "UnknownIdError": "errors",
    "WattfillError": "errors",
    "Reason": "reason",
    "ChargeStation": "registry",
    "Connector": "registry",
    "ConnectorAllocation": "registry",
    "Group": "registry",
    "GroupAllocation": "registry",
    "Registry": "registry",
    "RegistryAllocation": "registry",
    "Session": "registry",
}

__all__ = [*_HOME, "__version__", "get_include"]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted(__all__)


def get_include() -> str:
    """Return the folder of ``wattfill.h``, for compiled code that calls the kernel."""
    from importlib.resources import files

    return str(files("wattfill") / "include")
