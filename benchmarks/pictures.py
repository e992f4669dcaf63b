"""Draw two pictures of a run: time by size of group, and by number of connectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from benchmarks.cases import INTO, ROOFLINE, Figure
from benchmarks.report import Figures

# Okabe and Ito's colours can be told apart by everybody; line and marker say the same again.
STYLES = (
    (ROOFLINE, "roofline: read two doubles, write one", "#555555", "--", ""),
    (INTO, "wattfill", "#0072B2", "-", "o"),
    ("Numba, Newton", "Numba, Newton", "#D55E00", "-", "s"),
    ("NumPy, Newton in blocks", "NumPy, Newton", "#009E73", "-", "^"),
)
BYTES_PER_CONNECTOR = 24
DPI = 110


def draw(figures: Figures, caches: Mapping[str, int], folder: Path) -> list[Path]:
    """Draw what the figures fill, and where caches of so many bytes do; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if figures.workloads("sizes"):
        picture, axes = _axes("connectors in a group (one million in all)")
        _curves(axes, figures, "sizes", lambda f: f.n_connectors / f.n_groups)
        drawn.append(_save(picture, folder / "ns-by-group-size.png"))
    if figures.workloads("totals"):
        picture, axes = _axes("connectors in all (groups of 50)")
        _curves(axes, figures, "totals", lambda f: f.n_connectors)
        _mark(axes, caches)
        drawn.append(_save(picture, folder / "ns-by-total.png"))
    return drawn


def _axes(x_label: str) -> tuple[Picture, Axes]:
    picture = Picture(figsize=(8, 4.5), layout="constrained")
    axes = picture.subplots()
    axes.set(xscale="log", yscale="log", xlabel=x_label, ylabel="ns per connector, one thread")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return picture, axes


def _curves(axes: Axes, figures: Figures, case: str, x: Callable[[Figure], float]) -> None:
    for name, label, color, line, marker in STYLES:
        taken = [f for f in figures.all if f.case == case and f.contender == name]
        if taken:
            axes.plot(
                [x(f) for f in taken],
                [f.ns for f in taken],
                label=label,
                color=color,
                linestyle=line,
                marker=marker,
                markersize=4,
            )


def _mark(axes: Axes, caches: Mapping[str, int]) -> None:
    """Draw a line where bounds and powers no longer fit a cache."""
    least, most = axes.get_xlim()
    for name, size in caches.items():
        n_connectors = size / BYTES_PER_CONNECTOR
        if least < n_connectors < most:
            axes.axvline(n_connectors, color="#999999", linewidth=0.8, linestyle=":")
            axes.annotate(
                f"{name} full",
                (n_connectors, 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(3, -2),
                textcoords="offset points",
                va="top",
                color="#666666",
                fontsize=8,
            )


def _save(picture: Picture, path: Path) -> Path:
    picture.legend(loc="outside upper left", ncols=len(STYLES), frameon=False, fontsize=9)
    picture.savefig(path, dpi=DPI)
    return path
