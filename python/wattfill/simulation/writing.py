"""Sessions written down, in a form that `read_sessions` reads."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError
from wattfill.simulation._files import whole_file
from wattfill.simulation._pyarrow import pa
from wattfill.simulation.tables import Sessions

INSTANT = pa.timestamp("ms", "UTC")


def sessions_to_arrow(sessions: Sessions) -> pa.Table:
    """Return a table with a row for each session, of the columns that `read_sessions` knows.

    Examples
    --------
    >>> from wattfill.simulation import generate
    >>> sessions_to_arrow(generate("workplace", groups=1, days=1)).column_names
    ['group', 'arrival', 'departure', 'energy', 'maximum', 'battery', 'soc']

    """
    columns: dict[str, Any] = {}
    if sessions.group is not None:
        columns["group"] = _decoded(sessions.group, sessions.groups)
    if sessions.connector is not None:
        stations, plugs = (
            zip(*sessions.connectors, strict=True) if sessions.connectors else ((), ())
        )
        columns["chargestation"] = _decoded(sessions.connector, stations)
        columns["connector"] = _decoded(sessions.connector, [plug or None for plug in plugs])
    columns["arrival"] = pa.array(sessions.arrival).cast(pa.timestamp("ms")).cast(INSTANT)
    columns["departure"] = pa.array(sessions.departure).cast(pa.timestamp("ms")).cast(INSTANT)
    for name in ("energy", "maximum", "minimum", "weight", "priority", "battery", "soc"):
        if (values := getattr(sessions, name)) is not None:
            columns[name] = pa.array(values, mask=_says_nothing(name, values))
    return pa.table(columns)


def write_sessions(sessions: Sessions, path: str | PathLike[str]) -> None:
    """Write sessions to a Parquet file, or to a CSV file if that is the ending of its name.

    Parameters
    ----------
    sessions : Sessions
        What to write; times are told in UTC.
    path : path
        Where to; the file is there whole or not at all.

    Raises
    ------
    InputError
        It cannot be written there, or its name ends otherwise.

    Examples
    --------
    >>> import tempfile
    >>> from wattfill.simulation import generate, read_sessions
    >>> week = generate("depot", groups=1, days=7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_sessions(week, f"{folder}/week.parquet")
    ...     len(read_sessions(f"{folder}/week.parquet")) == len(week)
    True

    """
    write = {".parquet": pa.parquet.write_table, ".csv": pa.csv.write_csv}.get(Path(path).suffix)
    if write is None:
        raise InputError(f"path must end in .parquet or .csv, got {str(path)!r}")
    table = sessions_to_arrow(sessions)
    if write is pa.csv.write_csv:
        # Arrow has no CSV of dictionaries.
        table = table.cast(
            pa.schema(
                (
                    field.name,
                    field.type.value_type if pa.types.is_dictionary(field.type) else field.type,
                )
                for field in table.schema
            )
        )
    with whole_file(path) as file:
        write(table, file)


def _decoded(codes: npt.NDArray[np.int32], names: Any) -> pa.Array:
    names = pa.array(names, pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), names)


def _says_nothing(name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    nothing: npt.NDArray[np.bool_] = np.isinf(values) if name == "maximum" else np.isnan(values)
    return nothing
