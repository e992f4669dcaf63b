"""Commands of a dispatcher as OCPP messages: smart charging by OCPP 1.6, 2.0.1 and 2.1.

A `Command` becomes a SetChargingProfile, made of the objects of the ``ocpp`` package, and what the
charge point answers becomes the confirmation, rejection or read-back that a
`wattfill.Dispatcher` takes. `SmartCharging` holds what this needs to know of one charge point, and
keeps one call outstanding; it does no input or output itself. ``docs/ocpp.md`` has the mapping.
"""

from wattfill.errors import MissingExtraError

try:
    import ocpp as _ocpp  # noqa: F401
except ImportError:
    raise MissingExtraError("wattfill.ocpp needs ocpp: pip install 'wattfill[ocpp]'") from None

from wattfill.ocpp.answers import Outcome as Outcome
from wattfill.ocpp.answers import limit_in_force as limit_in_force
from wattfill.ocpp.answers import verdict as verdict
from wattfill.ocpp.messages import VERSIONS as VERSIONS
from wattfill.ocpp.messages import Profile as Profile
from wattfill.ocpp.messages import Version as Version
from wattfill.ocpp.messages import clear_profile as clear_profile
from wattfill.ocpp.messages import get_composite_schedule as get_composite_schedule
from wattfill.ocpp.messages import set_profile as set_profile
from wattfill.ocpp.smart_charging import Evse as Evse
from wattfill.ocpp.smart_charging import SmartCharging as SmartCharging
from wattfill.ocpp.supply import Clock as Clock
from wattfill.ocpp.supply import Supply as Supply
