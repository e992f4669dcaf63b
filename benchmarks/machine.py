"""What a run ran on: figures mean little without it."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import wattfill

CPU = Path("/sys/devices/system/cpu/cpu0")
PACKAGES = ("numpy", "numba", "scipy", "cvxpy", "clarabel", "osqp", "highspy", "acnportal")
# Another job on one of two cores already costs the memory that both share.
BUSY = 0.5


def describe() -> dict[str, str]:
    """Return the date, the machine and the versions of what is compared."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "caches": ", ".join(f"{name} {size >> 10:,} KiB" for name, size in caches().items())
        or "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "wattfill": wattfill.__version__,
        **{name: installed for name in PACKAGES if (installed := _version(name))},
    }


def load() -> float:
    """Return how many jobs wanted to run in the last minute, 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def caches() -> dict[str, int]:
    """Return the bytes of each level of cache that holds data, as far as the system says."""
    return {
        f"L{_read(cache, 'level')}": int(_read(cache, "size").removesuffix("K")) * 1024
        for cache in sorted(CPU.glob("cache/index*"))
        if _read(cache, "type") != "Instruction"
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _read(cache: Path, name: str) -> str:
    return (cache / name).read_text().strip()
