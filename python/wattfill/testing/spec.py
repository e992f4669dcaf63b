"""What an allocator promises, so that it is held to the laws that apply and to no others."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wattfill.errors import InputError

FEATURES = (
    "offsets",
    "buffer",
    "reserved",
    "parent",
    "weight",
    "priority",
    "rank",
    "active",
    "step",
)


@dataclass(frozen=True)
class Spec:
    """What an allocator takes and what it promises.

    Attributes
    ----------
    features : frozenset of str
        The arguments of `wattfill.allocate`, beside ``minimum``, ``maximum`` and ``capacity``, that
        it may be called with: some of `FEATURES`. Without ``offsets`` each call is for one group,
        whose capacity is a number.
    pausing : bool
        Whether it pauses connectors where minimums do not fit. If not, only sites are made where
        all minimums fit.
    ordered : bool
        Whether it admits in order: priority, then rank, then position. If not, who waits is its
        own choice.
    tolerance : float
        By how many kW a power may be off. The default is one quantum, 1 mW. With 0 the allocator
        is held to wattfill's own promise: whole quanta, whatever the values, and the very doubles
        of the reference. Minimums fit or do not fit as decimals; no tolerance applies to that.

    Examples
    --------
    >>> def share(minimum, maximum, capacity, buffer=0.0): ...
    >>> sorted(Spec.of(share, pausing=False).features)
    ['buffer']

    """

    features: frozenset[str] = frozenset(FEATURES)
    pausing: bool = True
    ordered: bool = True
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", frozenset(self.features))
        if unknown := sorted(self.features - set(FEATURES)):
            raise InputError(
                f"features must be some of {', '.join(FEATURES)}, got {', '.join(unknown)}"
            )
        if "parent" in self.features and "offsets" not in self.features:
            raise InputError("features with parent must have offsets: one group has no parent")
        if not 0.0 <= self.tolerance <= 1.0:
            raise InputError(f"tolerance must be within 0..1 kW, got {self.tolerance}")

    @classmethod
    def of(cls, allocator: Callable[..., Any], **promises: Any) -> Spec:
        """Return the spec of an allocator that takes what its signature says.

        One that takes any keyword argument, or whose signature is unknown, takes all features.

        Parameters
        ----------
        allocator : callable
            The allocator.
        **promises
            The other attributes.

        """
        try:
            parameters = inspect.signature(allocator).parameters
        except (TypeError, ValueError):
            return cls(**promises)
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return cls(**promises)
        taken = frozenset(FEATURES).intersection(parameters)
        if "offsets" not in taken:
            taken -= {"parent"}
        return cls(features=taken, **promises)

    @property
    def is_exact(self) -> bool:
        """Whether no power may be off at all."""
        return self.tolerance == 0.0
