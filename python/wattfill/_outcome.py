"""What was allocated: a view of answers that never change, made as it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol

from wattfill._demand import Answer
from wattfill._records import ConnectorAllocation, GroupAllocation, Key

N_SHARDS = 256


class Forest(Mapping[str, Answer]):
    """The answers of many trees by the id of the root. It never changes: results refer to it.

    A changed one shares all shards with it but those that hold a change, so that the cost of an
    event hardly depends on how many other trees there are.
    """

    def __init__(self, shards: Sequence[dict[str, Answer]] = ({},) * N_SHARDS) -> None:
        self._shards = tuple(shards)

    def __getitem__(self, root: str) -> Answer:
        return self._shards[hash(root) % N_SHARDS][root]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._shards)

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def changed(self, answers: Mapping[str, Answer | None]) -> Forest:
        """Return a forest with these answers; None takes a tree out."""
        shards = list(self._shards)
        for root, answer in answers.items():
            at = hash(root) % N_SHARDS
            if shards[at] is self._shards[at]:
                shards[at] = dict(shards[at])
            if answer is None:
                shards[at].pop(root, None)
            else:
                shards[at][root] = answer
        return Forest(shards)

    def differences(self, before: Forest) -> dict[str, Answer | None]:
        """Return the answers that were not there before; None for trees that are gone."""
        found: dict[str, Answer | None] = {}
        for old, new in zip(before._shards, self._shards, strict=True):
            if old is not new:
                found.update(dict.fromkeys(old.keys() - new.keys()))
                found.update(
                    (root, each) for root, each in new.items() if old.get(root) is not each
                )
        return found


class Trees(Protocol):
    """The answers that a result tells of."""

    def answers(self) -> Iterable[Answer]:
        """Return them in the order of the ids of the roots."""

    def find(self, what: Key | str) -> Answer:
        """Return the only one that may hold this connector or group, or raise `KeyError`."""


class OneTree:
    """The answer for one tree."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def answers(self) -> Iterable[Answer]:
        return (self._answer,)

    def find(self, what: Key | str) -> Answer:
        return self._answer


class Directory:
    """Under which root a connector or a group is found.

    Filled when somebody first looks something up, and shared by all answers for the whole
    registry until a group or a charge station is not where it was.
    """

    def __init__(self) -> None:
        self._root: dict[Key | str, str] = {}

    def root(self, trees: Forest, what: Key | str) -> str:
        if not self._root:
            self._root = {
                what: root
                for root, answer in trees.items()
                for place in (answer.layout.place, answer.layout.index)
                for what in place
            }
        return self._root[what]


class AllTrees:
    """The answers for all trees of a registry."""

    __slots__ = ("_directory", "_forest")

    def __init__(self, forest: Forest, directory: Directory) -> None:
        self._forest = forest
        self._directory = directory

    def answers(self) -> Iterable[Answer]:
        return (self._forest[root] for root in sorted(self._forest))

    def find(self, what: Key | str) -> Answer:
        return self._forest[self._directory.root(self._forest, what)]


class _View:
    """What the two mappings of a `RegistryAllocation` have in common."""

    __slots__ = ("_trees",)

    def __init__(self, trees: Trees) -> None:
        self._trees = trees

    def __repr__(self) -> str:
        return repr(dict(self))  # type: ignore[call-overload]


class _Connectors(_View, Mapping[Key, ConnectorAllocation]):
    __slots__ = ()

    def __getitem__(self, key: Key) -> ConnectorAllocation:
        answer = self._trees.find(key)
        return answer.connector(answer.layout.place[key])

    def __iter__(self) -> Iterator[Key]:
        return (key for answer in self._trees.answers() for key in answer.layout.keys)

    def __len__(self) -> int:
        return sum(len(answer.layout.keys) for answer in self._trees.answers())


class _Groups(_View, Mapping[str, GroupAllocation]):
    __slots__ = ()

    def __getitem__(self, group_id: str) -> GroupAllocation:
        answer = self._trees.find(group_id)
        return answer.group(answer.layout.index[group_id])

    def __iter__(self) -> Iterator[str]:
        return (group_id for answer in self._trees.answers() for group_id in answer.layout.groups)

    def __len__(self) -> int:
        return sum(len(answer.layout.groups) for answer in self._trees.answers())


class RegistryAllocation:
    """The outcome for all groups or for one tree of them. What happens later does not change it.

    Examples
    --------
    >>> from wattfill import Connector, Registry
    >>> r = Registry()
    >>> g = r.create_group("Yard", 10)
    >>> _ = r.add_charge_station(g.id, "CS-1", [Connector("1", 11)])
    >>> _ = r.start_session("CS-1", "1")
    >>> allocation = r.allocate()
    >>> allocation.connectors["CS-1", "1"].reason.label
    'sharing'
    >>> allocation.groups[g.id].headroom
    0.0
    >>> allocation.powers()
    {('CS-1', '1'): 10.0}

    """

    __slots__ = ("_trees",)

    def __init__(self, trees: Trees) -> None:
        self._trees = trees

    @property
    def connectors(self) -> Mapping[Key, ConnectorAllocation]:
        """By (station id, connector id): what each may draw, and why."""
        return _Connectors(self._trees)

    @property
    def groups(self) -> Mapping[str, GroupAllocation]:
        """By group id: what each uses of what it may."""
        return _Groups(self._trees)

    def powers(self) -> dict[Key, float]:
        """Return what each connector may draw, in kW, by (station id, connector id).

        The quickest way to read all of them.
        """
        powers: dict[Key, float] = {}
        for answer in self._trees.answers():
            answer.tell_powers(powers)
        return powers

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RegistryAllocation):
            return NotImplemented
        return self.connectors == other.connectors and self.groups == other.groups

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RegistryAllocation(connectors={self.connectors!r}, groups={self.groups!r})"
