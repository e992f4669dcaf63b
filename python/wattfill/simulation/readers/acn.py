"""ACN-Data: answers of its API, and what drivers have asked for."""

from __future__ import annotations

import ast
import json
from reprlib import repr as shown

from wattfill.errors import InputError
from wattfill.simulation._pyarrow import pa

USER_INPUTS = "userInputs"


def acn_columns(name: str, document: object) -> pa.Table:
    """Return a table of texts with a row for each item, of an answer of the API or of a list."""
    items = document.get("_items") if isinstance(document, dict) else document
    if not isinstance(items, list):
        raise InputError(
            f"{name} must be an answer of ACN-Data, an object with _items or a list of these, got "
            f"{shown(document)}"
        )
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            raise InputError(f"{name}: item {i} must be an object, got {shown(item)}")
    columns = dict.fromkeys(str(key) for item in items for key in item)
    return pa.table(
        {
            column: pa.array([_text(item.get(column)) for item in items], pa.string())
            for column in columns
        }
    )


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value)


def asked_for(delivered: pa.Array, user_inputs: pa.Array) -> pa.Array:
    """Return the energy that each driver asked for last, or else what was delivered, as texts.

    What cannot be read stands for itself, so that it is refused as no number.
    """
    energies = zip(delivered.cast(pa.string()).to_pylist(), user_inputs.to_pylist(), strict=True)
    return pa.array([_last_request(inputs) or energy for energy, inputs in energies], pa.string())


def _last_request(inputs: str | None) -> str | None:
    if not inputs:
        return None
    try:
        # JSON; in tables of others, Python.
        asked = json.loads(inputs) if inputs.startswith('[{"') else ast.literal_eval(inputs)
        return str(asked[-1]["kWhRequested"]) if asked else None
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError):
        return inputs
