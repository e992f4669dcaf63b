"""Arrow, or what to install to have it."""

from wattfill.errors import MissingExtraError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.ipc
    import pyarrow.parquet  # noqa: F401
except ImportError:
    raise MissingExtraError(
        "files and tables of sessions take pyarrow, which is not installed: "
        "pip install 'wattfill[simulation]'"
    ) from None

__all__ = ["pa", "pc"]
