"""What a request may hold: models that read a body, and describe themselves.

A model finds all that is wrong at once, and gives the schema for the published description.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias

from wattfill._records import TOO_MUCH_KW
from wattfill.server.refusal import Fault, Refusal

Kind: TypeAlias = Literal["id", "text", "number", "whole", "flag", "choice", "list"]

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
ID_RULE = "must be 1 to 64 of the characters A-Z a-z 0-9 _ -"
MOST_KW = TOO_MUCH_KW / 2
"""A body's numbers stay well below what the kernel counts to."""
MOST_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a body."""

    name: str
    kind: Kind
    about: str
    example: Any = None
    required: bool = False
    null: bool = False
    """Whether null is a value of its own; elsewhere it is refused."""
    least: float = 0.0
    above: bool = False
    """Whether `least` itself is too little."""
    most: float = MOST_KW
    choices: tuple[str, ...] = ()
    of: Model | None = None
    """Of a list, what each item is."""
    most_items: int = 1000
    default: Any = None

    def read(self, value: Any, place: str, faults: list[Fault]) -> Any:
        """Return the value as it is kept; add what is wrong with it to the faults."""
        if value is None and self.null:
            return None
        if self.kind == "list":
            return self._read_list(value, place, faults)
        rule = self._broken_rule(value)
        if rule is not None:
            faults.append(Fault(place, f"{place} {rule}, got {_shown(value)}"))
            return None
        if self.kind == "number":
            return float(value)
        return str(value) if self.kind == "id" else value

    def _broken_rule(self, value: Any) -> str | None:
        match self.kind:
            case "id":
                if type(value) is int and 0 <= value < 10**18:
                    return None
                is_id = isinstance(value, str) and ID.fullmatch(value)
                return None if is_id else ID_RULE
            case "text":
                fits = isinstance(value, str) and len(value) <= self.most
                return None if fits else f"must be text of at most {self.most:.0f} characters"
            case "flag":
                return None if isinstance(value, bool) else "must be true or false"
            case "choice":
                ok = isinstance(value, str) and value in self.choices
                return None if ok else f"must be one of {', '.join(self.choices)}"
        is_number = type(value) is int or (type(value) is float and self.kind == "number")
        low = f"above {self.least:g}" if self.above else f"at least {self.least:g}"
        if (
            is_number
            and self.least <= value <= self.most
            and not (self.above and value == self.least)
        ):
            return None
        thing = "number" if self.kind == "number" else "whole number"
        return f"must be a {thing}, {low} and at most {self.most:g}"

    def _read_list(self, value: Any, place: str, faults: list[Fault]) -> list[Any]:
        assert self.of is not None
        if not isinstance(value, list) or not 1 <= len(value) <= self.most_items:
            shown = f"{len(value)} items" if isinstance(value, list) else _shown(value)
            rule = f"must be a list of 1 to {self.most_items} objects"
            faults.append(Fault(place, f"{place} {rule}, got {shown}"))
            return []
        return [self.of.collect(item, f"{place}[{i}]", faults) for i, item in enumerate(value)]

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the value."""
        schema: dict[str, Any]
        match self.kind:
            case "id":
                schema = {
                    "oneOf": [
                        {"type": "string", "pattern": f"^{ID.pattern}$"},
                        {"type": "integer", "minimum": 0, "exclusiveMaximum": 10**18},
                    ]
                }
            case "text":
                schema = {"type": "string", "maxLength": int(self.most)}
            case "flag":
                schema = {"type": "boolean"}
            case "choice":
                schema = {"type": "string", "enum": list(self.choices)}
            case "list":
                assert self.of is not None
                schema = {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": self.most_items,
                    "items": self.of.schema(),
                }
            case _:
                least = "exclusiveMinimum" if self.above else "minimum"
                kind = "number" if self.kind == "number" else "integer"
                schema = {"type": kind, least: self.least, "maximum": self.most}
        if self.null:
            schema = {"oneOf": [*schema.get("oneOf", [schema]), {"type": "null"}]}
        schema["description"] = self.about
        if self.default is not None:
            schema["default"] = self.default
        return schema


@dataclass(frozen=True, slots=True)
class Model:
    """What an object in a body may have. Nothing else may be in it."""

    name: str
    fields: tuple[Field, ...]
    by_name: Mapping[str, Field] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {f.name: f for f in self.fields})

    def optional(self) -> Model:
        """Return the model of a change, where nothing is required and nothing has a default."""
        return Model(
            self.name,
            tuple(replace(f, required=False, default=None) for f in self.fields),
        )

    def read(self, value: Any) -> dict[str, Any]:
        """Return what a body holds, by name; what is left out is not there.

        Raises
        ------
        Refusal
            With status 422, naming every field that is wrong.

        """
        faults: list[Fault] = []
        found = self.collect(value, "", faults)
        if faults:
            more = f" ({len(faults)} fields are wrong)" if len(faults) > 1 else ""
            raise Refusal(422, faults[0].message + more, faults[:100])
        return found

    def collect(self, value: Any, place: str, faults: list[Fault]) -> dict[str, Any]:
        """Return what an object holds; add what is wrong with it to the faults."""
        if not isinstance(value, dict):
            shown = place or "the body"
            faults.append(Fault(place, f"{shown} must be a JSON object, got {_shown(value)}"))
            return {}
        prefix = f"{place}." if place else ""
        found = {}
        for name, item in value.items():
            known = self.by_name.get(name)
            if known is None:
                near = get_close_matches(name[:80], self.by_name, 1)
                rule = f"; did you mean {near[0]}?" if near else f": {', '.join(self.by_name)}"
                shown = f"{prefix}{name[:80]}"
                faults.append(Fault(shown, f"{shown} must be one of the known fields{rule}"))
                continue
            found[name] = known.read(item, f"{prefix}{name}", faults)
        for known in self.fields:
            if known.required and known.name not in value:
                shown = f"{prefix}{known.name}"
                faults.append(Fault(shown, f"{shown} must be given, and it is missing"))
        return found

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the object."""
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {f.name: f.schema() for f in self.fields},
            "required": [f.name for f in self.fields if f.required],
        }

    def example(self) -> dict[str, Any]:
        """Return an object of the examples of the fields that have one."""
        return {
            f.name: [f.of.example()] if f.of is not None else f.example
            for f in self.fields
            if f.example is not None or f.of is not None
        }


def take_id(field: str, value: str) -> str:
    """Return an id out of a path or a query, or refuse it with status 422."""
    if not ID.fullmatch(value):
        message = f"{field} {ID_RULE}, got {_shown(value)}"
        raise Refusal(422, message, [Fault(field, message)])
    return value


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = "null" if value is None else repr(value)
    if isinstance(value, bool):
        text = str(value).lower()
    return text if len(text) <= 60 else f"{text[:50]}..."
