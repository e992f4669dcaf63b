"""What the server says no with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong in one place of a request."""

    field: str
    message: str


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer that says no: a status, a sentence, and which fields are wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.faults = tuple(faults)
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the envelope of the answer."""
        return {
            "ok": False,
            "message": self.message,
            "errors": [{"field": f.field, "message": f.message} for f in self.faults],
        }


def refuse_field(status: int, field: str, rule: str) -> Refusal:
    """Return a refusal for one field, whose name begins the sentence."""
    message = f"{field} {rule}"
    return Refusal(status, message, [Fault(field, message)])


def not_found(field: str, what: str, value: str) -> Refusal:
    """Return the one answer for what is not there and for what is another organisation's."""
    return refuse_field(404, field, f"must be the id of a {what}, got {value!r}")


def unavailable(message: str, retry_after: int = 1) -> Refusal:
    """Return the answer for what may work soon."""
    return Refusal(503, message, headers={"Retry-After": str(retry_after)})
