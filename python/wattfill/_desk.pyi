from collections.abc import Iterable
from typing import Any

from typing_extensions import disjoint_base

from wattfill._plans import Command
from wattfill._records import Group, Key
from wattfill._trees import Layout
from wattfill.registry import Registry

@disjoint_base
class Values: ...

@disjoint_base
class Account:
    fallback: int
    rating: int
    ordered: bool
    known: bool
    disobeys: bool
    confirmed_seq: int
    confirmed_limit: int
    confirmed_until: float
    in_force: int
    committed: int
    def __init__(self, fallback: int, rating: int, ordered: bool) -> None: ...
    def told(self, at: float) -> int: ...
    def recount(self, at: float, lag: float) -> int: ...
    def until(self, limit: int, at: float) -> float: ...
    def next_change(self, at: float) -> float: ...
    def send(self, seq: int, limit: int, until: float, at: float) -> int: ...
    def confirm(self, seq: int) -> bool: ...
    def reject(self, seq: int) -> bool: ...
    def read_back(self, limit: int, seq: int | None) -> bool: ...
    def is_settled(self) -> int: ...
    @property
    def settles_at(self) -> float: ...
    def shift(self, seconds: float) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...

@disjoint_base
class Sum:
    group: Group
    below: range
    committed: int
    usable: int
    def __init__(self, group: Group, below: range) -> None: ...
    def take(self, group: Group) -> None: ...

@disjoint_base
class Site:
    layout: Layout
    sums: list[Sum]
    plugs: list[Plug]
    blocked: dict[Plug, None]
    def __init__(self, layout: Layout) -> None: ...

@disjoint_base
class Plug(Account):
    @property
    def key(self) -> Key: ...
    @property
    def text(self) -> str: ...
    lease: float
    site: Site | None
    place: int
    sums: tuple[Sum, ...]
    least: int
    target: int
    newest_seq: int
    newest_limit: int
    tried_at: float
    raised_at: float
    unanswered_since: float
    wanted_since: float
    offline: bool
    silent: bool
    refuses: bool
    stale: bool
    wake_at: float
    over_since: float
    low_since: float
    released_at: float
    low_peak: int
    ceiling: int
    session: int
    def __init__(
        self, key: Key, fallback: int, rating: int, lease: float, ordered: bool
    ) -> None: ...
    def come_back(self, fallback: int, rating: int, ordered: bool, at: float) -> None: ...
    @property
    def held(self) -> bool: ...

@disjoint_base
class Draft:
    plug: Plug
    command: Command
    raises: bool
    extends: bool

@disjoint_base
class Desk:
    skew: float
    lag: float
    now: float
    epoch: int
    writes: bool
    has_epoch: bool
    is_mute: bool
    records: list[str]
    todo: dict[Plug, None]
    stirred: dict[Site, None]
    over: dict[Sum, None]
    released: dict[Plug, None]
    def __init__(
        self,
        registry: Registry,
        *,
        skew: float,
        lag: float,
        retry: float,
        patience: float,
        between: float,
        probe_after: float,
        smallest_change: int,
        smallest_share: float,
    ) -> None: ...
    def aim(self, site: Site, targets: list[int]) -> None: ...
    def send_due(self) -> list[Draft]: ...
    def hold_back(self, drafts: list[Draft]) -> list[Draft]: ...
    def recount(self, plug: Plug, at: float) -> int: ...
    def watch(self, s: Sum) -> int: ...
    def keep(self, plug: Plug) -> int: ...
    def set_ceiling(self, plug: Plug, ceiling: int) -> int: ...
    def session(self, plug: Plug) -> int: ...
    def advance(self, now: float) -> None: ...
    def schedule(self, plug: Plug, at: float) -> int: ...
    def next_wake(self) -> float: ...
    def turn_back(self, plugs: Iterable[Plug], now: float) -> None: ...

def disobeying(plugs: Iterable[Plug]) -> frozenset[Key]: ...
def turn(plug: Plug) -> tuple[bool, float, int]: ...
