"""Tables of sessions wherever they are: files, data frames, arrays; a batch of rows at a time.

A source can be read more than once, so that what is wrong with a row is looked for only when
something is. Files are told apart by what they hold; one that is not what its name says is refused.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError, InputTypeError
from wattfill.simulation._pyarrow import pa
from wattfill.simulation.readers.acn import acn_columns

Rows = npt.NDArray[np.int64]

BATCH = 1 << 18
# Arrow reads dozens of blocks ahead.
BLOCK_BYTES = 1 << 22
# How much of a file is looked at to tell what it is.
HEAD_BYTES = 1 << 16
DELIMITERS = ",;\t"

CSV, PARQUET, ARROW, JSON = "CSV", "Parquet", "an Arrow file", "JSON"
ENDINGS = {
    ".csv": CSV,
    ".tsv": CSV,
    ".txt": CSV,
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".arrow": ARROW,
    ".feather": ARROW,
    ".json": JSON,
}
MAGIC = {
    b"PAR1": PARQUET,
    b"ARROW1": ARROW,
    b"PK\x03\x04": "a ZIP archive or a workbook",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
}
GZIP = b"\x1f\x8b"


class Source(Protocol):
    """A table whose rows can be read again."""

    name: str
    """What a message calls it."""
    columns: list[str]
    """What its columns are called."""

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows, of these columns."""

    def places(self, rows: Rows) -> list[int]:
        """Return the number of the line or row, as people count, for each of some rows."""

    @property
    def counts_in(self) -> str:
        """What a place is: line or row."""

    def cells(self, rows: Rows) -> list[list[str]]:
        """Return what stands in all columns of some rows."""

    def misshapen(self) -> list[tuple[int, str, list[str]]]:
        """Return the place, what is wrong, and the cells of lines that are no rows."""


class Table:
    """A table in memory, or one whose batches can be asked for again."""

    counts_in = "row"

    def __init__(
        self, name: str, schema: pa.Schema, read: Callable[[Sequence[str]], Iterable[Any]]
    ) -> None:
        self.name = name
        self.columns = list(schema.names)
        self._read = read

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self._read(columns)

    def places(self, rows: Rows) -> list[int]:
        # As all of Python does, rows count from 0.
        return cast(list[int], rows.tolist())

    def cells(self, rows: Rows) -> list[list[str]]:
        cells, start = [], 0
        for batch in self._read(self.columns):
            here = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
            start += batch.num_rows
            taken = [column.take(pa.array(here)).to_pylist() for column in batch.columns]
            cells += [
                ["" if x is None else str(x) for x in row] for row in zip(*taken, strict=True)
            ]
        return cells

    def misshapen(self) -> list[tuple[int, str, list[str]]]:
        return []


def table_source(name: str, table: pa.Table) -> Table:
    def read(columns: Sequence[str]) -> list[pa.RecordBatch]:
        return cast(list[Any], table.select(columns).to_batches(max_chunksize=BATCH))

    return Table(name, table.schema, read)


class CsvFile:
    """A CSV file, perhaps gzipped; its delimiter is that of the header: comma, semicolon or tab."""

    counts_in = "line"

    def __init__(self, path: Path, zipped: bool) -> None:
        self.name = str(path)
        self._path = path
        self._zipped = zipped
        self._n_misshapen = 0
        with self._refusing(), self._text() as text:
            # Blank lines are no rows, and may stand before the header, too.
            header = next((line for line in text if line.strip()), "")
            self._delimiter = max(DELIMITERS, key=header.count)
            self._header = next(csv.reader([header], delimiter=self._delimiter))
        self.columns = [name.strip() for name in self._header]

    def _bytes(self) -> Any:
        return gzip.open(self._path, "rb") if self._zipped else open(self._path, "rb")

    def _text(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(self._bytes(), encoding="utf-8-sig", newline="")

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Say in our words what cannot be read as CSV."""
        try:
            yield
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise InputError(self._what_is_wrong(error)) from None
        except csv.Error as error:
            raise InputError(f"{self.name} is not CSV: {error}") from None
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise InputError(
                f"{self.name} must be a whole gzip archive, got a part of one"
            ) from None

    def _what_is_wrong(self, error: Exception) -> str:
        with self._bytes() as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode()
                except UnicodeDecodeError as wrong:
                    return (
                        f"{self.name}: line {number} must be text in UTF-8, got byte "
                        f"0x{line[wrong.start]:02x} at column {wrong.start + 1}"
                    )
        return f"{self.name} is not CSV: {error}"

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        self._n_misshapen = 0

        def skip(_: object) -> str:
            self._n_misshapen += 1
            return "skip"

        names = [self._header[self.columns.index(column)] for column in columns]
        with self._refusing(), self._bytes() as file:
            reader = pa.csv.open_csv(
                file,
                pa.csv.ReadOptions(block_size=BLOCK_BYTES),
                pa.csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=skip
                ),
                pa.csv.ConvertOptions(
                    include_columns=names,
                    column_types=dict.fromkeys(names, pa.string()),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
            for batch in reader:
                yield batch.rename_columns(list(columns))

    def places(self, rows: Rows) -> list[int]:
        return [line for line, _ in self._pick(rows)]

    def cells(self, rows: Rows) -> list[list[str]]:
        return [cells for _, cells in self._pick(rows)]

    def misshapen(self) -> list[tuple[int, str, list[str]]]:
        if not self._n_misshapen:
            return []
        n = len(self.columns)
        return [
            (line, f"must have {n} cells, as the header, got {len(cells)}", cells)
            for line, cells in self._lines()
            if len(cells) != n
        ]

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each line that is not blank, after the header, and its number."""
        with self._refusing(), self._text() as text:
            rows = csv.reader(text, delimiter=self._delimiter)
            lines = ((rows.line_num, cells) for cells in rows if cells)
            next(lines)
            yield from lines

    def _pick(self, rows: Rows) -> list[tuple[int, list[str]]]:
        n, wanted = len(self.columns), set(rows.tolist())
        whole = (line for line in self._lines() if len(line[1]) == n)
        return [line for row, line in enumerate(whole) if row in wanted]


def open_source(source: object) -> Source:
    """Return what reads a file, a data frame, an Arrow table or a mapping of arrays.

    Raises
    ------
    InputError
        A file cannot be read, is empty, or is not what its name says.
    InputTypeError
        It is none of these.

    """
    if isinstance(source, (str, PathLike)):
        return _open_file(Path(source))
    if isinstance(source, Mapping):
        return table_source("the table", _table_of(source))
    if hasattr(source, "__arrow_c_stream__"):
        return table_source("the table", pa.RecordBatchReader.from_stream(source).read_all())
    raise InputTypeError(
        "source must be the path of a file, a data frame, an Arrow table or a mapping of arrays, "
        f"got {type(source).__name__}"
    )


def _table_of(columns: Mapping[Any, Any]) -> pa.Table:
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[str(name)] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"{name} must be values of one kind: {error}") from None
    sizes = {name: len(array) for name, array in arrays.items()}
    if len({*sizes.values()}) > 1:
        raise InputError(f"columns must have the same length, got {sizes}")
    return pa.table(arrays)


def _open_file(path: Path) -> Source:
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
            zipped = head.startswith(GZIP)
            if zipped:
                head = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read: {error.strerror}") from None
    except zlib.error:
        raise InputError(f"{path} must be a whole gzip archive, got a part of one") from None
    is_a, says = _kind(head), _kind_by_name(path)
    if is_a is None:
        raise InputError(f"{path} is empty")
    if is_a not in (CSV, PARQUET, ARROW, JSON):
        raise InputError(f"{path} must be CSV, Parquet, Arrow or JSON, got {is_a}")
    if says is not None and says != is_a:
        raise InputError(f"{path} must be {says}, as its name says, got {is_a}")
    if zipped and is_a in (PARQUET, ARROW):
        raise InputError(f"{path} must not be gzipped: Parquet and Arrow files compress themselves")
    if is_a == CSV:
        return CsvFile(path, zipped)
    if is_a == JSON:
        return _open_json(path, zipped)
    return _open_parquet(path) if is_a == PARQUET else _open_arrow(path)


def _kind(head: bytes) -> str | None:
    """Return what a file is by how it begins; None if there is nothing in it."""
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if b"\0" in head:
        return "neither text nor anything known"
    first = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if not first:
        return None
    return JSON if first in b"{[" else CSV


def _kind_by_name(path: Path) -> str | None:
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] == ".gz":
        endings.pop()
    return ENDINGS.get(endings[-1]) if endings else None


def _open_parquet(path: Path) -> Source:
    try:
        schema = pa.parquet.read_schema(path)
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a whole Parquet file: {error}") from None

    def read(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with pa.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(BATCH, columns=list(columns))

    return Table(str(path), schema, read)


def _open_arrow(path: Path) -> Source:
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a whole Arrow file: {error}") from None
    return table_source(str(path), table)


def _open_json(path: Path, zipped: bool) -> Source:
    with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
        content = file.read()
    try:
        document = json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    # The only JSON that is known to hold sessions.
    return acn_source(str(path), document)


def acn_source(name: str, document: object) -> Source:
    """Return what reads an answer of ACN-Data, or a list of its items."""
    source = table_source(name, acn_columns(name, document))
    source.counts_in = "item"
    return source
