"""Pictures of a simulation, for paper and for pages.

Each draws on a figure of matplotlib that it returns; nothing is shown, and no state is kept.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError, MissingExtraError
from wattfill.simulation._files import whole_file
from wattfill.simulation.result import Curve

try:
    from matplotlib import dates, rc_context
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
except ImportError:
    raise MissingExtraError(
        "pictures take matplotlib, which is not installed: pip install 'wattfill[simulation]'"
    ) from None

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

# Okabe and Ito's colours can be told apart by everybody.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
)
BANDS = (BLUE, ORANGE, GREEN, PURPLE, SKY)
INK, SOFT, RULE, PAPER = "#1c2126", "#59636e", "#d5dae0", "#ffffff"
COLOURS = {
    "blue": BLUE,
    "orange": ORANGE,
    "green": GREEN,
    "vermillion": VERMILLION,
    "purple": PURPLE,
    "sky": SKY,
    "ink": INK,
    "soft": SOFT,
    "rule": RULE,
    "paper": PAPER,
}
"""By the variable of a page that stands for each."""
# The lines of strategies differ in more than colour.
LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"), (SKY, "-"), (SOFT, "--"))
FEW_TO_MANY = LinearSegmentedColormap.from_list("few to many", ["#8fc4e8", "#7a7a9c", "#c04f00"])
STYLE = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 9,
    "ncols": 4,
    "loc": "lower right",
    "bbox_to_anchor": (1.0, 1.0),
}
DPI = 110
DAY = 86_400_000.0
# A picture is not a thousand wide: of a longer curve each column has the most and the mean.
WIDEST = 800
# Of so many days or more, each day has them.
LONG = 60
# More points than this are shown by how many there are, in colours for light and dark paper.
MANY_POINTS = 3000


@dataclass(frozen=True, eq=False)
class _Spans:
    """Powers over spans of time side by side."""

    edges: Times
    """(n + 1,) Milliseconds since the epoch, UTC, rising."""
    power: Floats
    """(n,) kW in each span."""

    @classmethod
    def of(cls, curve: Curve, start: int, stop: int) -> _Spans:
        part = curve.between(start, stop)
        return cls(np.append(part.at, stop), part.power)

    def at(self, edges: Times) -> Floats:
        """Return the power from each of these edges on, but the last; 0 beyond the spans."""
        power = np.concatenate([[0.0], self.power, [0.0]])
        found: Floats = power[np.searchsorted(self.edges, edges[:-1], side="right")]
        return found


def load_picture(
    load: Curve,
    limit: Curve,
    period: tuple[int, int],
    *,
    title: str = "",
    zone: ZoneInfo | None = None,
) -> Figure:
    """Draw a load over time, and what is usable.

    Of a curve with more changes than a picture has room for, a line has the mean and a band goes up
    to the most; of a long one both are those of days.

    Parameters
    ----------
    load, limit : Curve
        As `SimulationResult.curve` and `SimulationResult.limit` return them.
    period : tuple of two ints
        From when to when, in milliseconds since the epoch.
    title : str
        What stands above it.
    zone : ZoneInfo, optional
        Whose local time is shown; by default UTC.

    """
    with rc_context(STYLE):
        figure, axes = _new(title)
        _draw_load(axes, load, period)
        _draw_limit(axes, limit, period)
        _finish(axes, period, zone)
    return figure


def connectors_picture(
    powers: Iterable[Curve],
    limit: Curve,
    period: tuple[int, int],
    *,
    title: str = "",
    zone: ZoneInfo | None = None,
) -> Figure:
    """Draw what each connector draws as bands on top of each other, the first one at the bottom.

    Parameters
    ----------
    powers : iterable of Curve
        As `SimulationResult.connector_curves` has them.
    limit, period, title, zone
        As of `load_picture`; the period is best a day.

    """
    with rc_context(STYLE):
        figure, axes = _new(title)
        spans = [_Spans.of(curve, *period) for curve in powers]
        edges = np.unique(np.concatenate([period, *(span.edges for span in spans)]))
        below = np.zeros(len(edges) - 1)
        for i, span in enumerate(spans):
            above = below + span.at(edges)
            axes.fill_between(
                _days(edges),
                _steps(below),
                _steps(above),
                step="post",
                facecolor=BANDS[i % len(BANDS)],
                edgecolor=PAPER,
                linewidth=0.3,
            )
            below = above
        _draw_limit(axes, limit, period)
        _finish(axes, period, zone)
        axes.set_ylabel("power, kW: a band for each connector")
    return figure


def energy_picture(wanted: Floats, delivered: Floats, *, title: str = "") -> Figure:
    """Draw for each session what it got over what it wanted; of very many, how many there are."""
    with rc_context(STYLE):
        figure, axes = _new(title)
        most = float(max(wanted.max(initial=0.0), 1.0)) * 1.02
        if len(wanted) > MANY_POINTS:
            # The few that want most do not make the others small.
            most = float(np.quantile(wanted, 0.999)) * 1.02
            drawn = axes.hexbin(
                wanted,
                delivered,
                gridsize=60,
                extent=(0, most, 0, most),
                bins="log",
                mincnt=1,
                cmap=FEW_TO_MANY,
                linewidths=0.1,
            )
            figure.colorbar(drawn, ax=axes, label="sessions", format="{x:,g}")
        else:
            axes.plot(wanted, delivered, "o", color=BLUE, markersize=3, alpha=0.5, mew=0)
        axes.plot([0, most], [0, most], color=SOFT, linewidth=1, linestyle="--")
        axes.annotate(
            "all that was wanted",
            (0.6 * most, 0.6 * most),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            color=SOFT,
            fontsize=9,
        )
        axes.set(
            xlabel="energy wanted, kWh",
            ylabel="energy delivered, kWh",
            xlim=(0, most),
            ylim=(0, most),
        )
    return figure


def sweep_picture(
    across: Sequence[float],
    down: Sequence[float],
    values: Floats,
    *,
    x_label: str,
    y_label: str,
    label: str,
    title: str = "",
) -> Figure:
    """Draw a table as a heat map, each value written in its cell.

    Parameters
    ----------
    across, down : sequence of float
        What the columns and the rows stand for.
    values : ndarray of float64, shape (len(down), len(across))
        What to draw, in the unit that `label` names.
    x_label, y_label, label, title : str
        What these are called.

    """
    with rc_context(STYLE):
        figure, axes = _new(title, (8, 1.8 + 0.45 * len(down)))
        axes.grid(visible=False)
        drawn = axes.pcolormesh(values, cmap="cividis", edgecolors=PAPER, linewidth=1)
        figure.colorbar(drawn, ax=axes, label=label)
        for (row, column), value in np.ndenumerate(values):
            # White on dark and black on light, by how bright the cell is.
            red, green, blue, _ = drawn.to_rgba(np.asarray(value))
            ink = "#000000" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "#fefefe"
            text = f"{value:.3g}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink)
        axes.set_xticks(np.arange(len(across)) + 0.5, [f"{x:g}" for x in across])
        axes.set_yticks(np.arange(len(down)) + 0.5, [f"{y:g}" for y in down])
        axes.tick_params(length=0)
        axes.set(xlabel=x_label, ylabel=y_label)
    return figure


def strategies_picture(
    loads: Mapping[str, Curve],
    shares: Mapping[str, Floats],
    limit: Curve,
    period: tuple[int, int],
    *,
    title: str = "",
    zone: ZoneInfo | None = None,
) -> Figure:
    """Draw strategies side by side: what the group draws, and what its drivers get.

    Parameters
    ----------
    loads : mapping of str to Curve
        By strategy the load of a group.
    shares : mapping of str to ndarray
        By strategy what each session got of what it wanted, 0 to 1.
    limit, period, title, zone
        As of `load_picture`.

    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 1.9 * len(loads) + 3.2), layout="constrained")
        heights = [1.0] * len(loads) + [1.5]
        *upper, lower = figure.subplots(len(heights), 1, height_ratios=heights)
        spans = [_Spans.of(curve, *period) for curve in (limit, *loads.values())]
        most = max(float(span.power.max()) for span in spans)
        for axes, (strategy, load) in zip(upper, loads.items(), strict=True):
            _dress(axes, strategy)
            _draw_load(axes, load, period)
            _draw_excess(axes, load, limit, period)
            _draw_limit(axes, limit, period)
            _finish(axes, period, zone, legend=False)
            axes.set_ylim(0, 1.08 * most)
            if axes is not upper[-1]:
                axes.set_xlabel("")
        with_most = max(upper, key=lambda axes: len(axes.get_legend_handles_labels()[0]))
        upper[0].legend(*with_most.get_legend_handles_labels(), **LEGEND)
        _dress(lower, "")
        for (strategy, share), (color, line) in zip(
            shares.items(), LINES * len(shares), strict=False
        ):
            got = np.sort(share)
            x = np.linspace(0, 100, 401)
            y = (
                100 * np.quantile(got, x / 100, method="inverted_cdf")
                if len(got)
                else np.zeros(401)
            )
            lower.plot(x, y, label=strategy, color=color, linestyle=line)
        lower.set(
            xlabel="% of the sessions, those who got least first",
            ylabel="got of what they\nwanted, %",
            xlim=(0, 100),
            ylim=(0, 103),
        )
        lower.legend(frameon=False, loc="lower right", fontsize=9)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def save_picture(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a picture to a file: PNG, SVG or PDF, by the ending of its name.

    Raises
    ------
    InputError
        It cannot be written there, or not as such.

    """
    known = ("png", "svg", "pdf")
    if Path(path).suffix[1:] not in known:
        raise InputError(f"a picture must end in .png, .svg or .pdf, got {str(path)!r}")
    with whole_file(path) as file, rc_context(STYLE):
        figure.savefig(file, dpi=DPI, facecolor=PAPER)


def as_svg(figure: Figure, title: str) -> str:
    """Return a picture as a part of a page, which takes its colours from the page's variables."""
    text = io.StringIO()
    with rc_context(STYLE | {"svg.hashsalt": title, "svg.fonttype": "none"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # On one page ids must differ; only those that are referred to are needed, and they are salted.
    needed = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([\w.:-]+)"', lambda id: id[0] if id[1] in needed else "", svg)
    for name, color in COLOURS.items():
        svg = svg.replace(color, f"var(--{name})")
    _, _, rest = svg.partition(">")
    box = re.search(r'viewBox="[^"]+"', svg)
    assert box is not None
    return (
        f'<svg {box[0]} role="img" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f"<title>{escape(title)}</title>{rest}"
    )


def _new(title: str, size: tuple[float, float] = (8, 4)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    _dress(axes, title)
    return figure, axes


def _dress(axes: Axes, title: str) -> None:
    axes.grid(visible=True, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=11)


def _draw_load(axes: Axes, load: Curve, period: tuple[int, int]) -> None:
    spans = _Spans.of(load, *period)
    if len(spans.power) <= 2 * WIDEST:
        axes.stairs(spans.power, _days(spans.edges), fill=True, color=SKY, alpha=0.5)
        axes.stairs(spans.power, _days(spans.edges), color=BLUE, linewidth=1, label="load")
        return
    edges, mean, most, of = _sampled(load, period)
    axes.stairs(
        most, _days(edges), baseline=mean, fill=True, color=SKY, label=f"up to the most{of}"
    )
    axes.stairs(mean, _days(edges), color=BLUE, linewidth=1, baseline=None, label=f"mean{of}")


def _sampled(load: Curve, period: tuple[int, int]) -> tuple[Times, Floats, Floats, str]:
    """Return edges, the mean and the most between these, and of what these are."""
    start, stop = period
    is_long = stop - start > LONG * DAY
    step = int(DAY) if is_long else -(-(stop - start) // WIDEST)
    table = load.sampled(step, start, stop)
    edges = np.append(table["at"].astype(np.int64), stop)
    return edges, table["mean_kw"], table["peak_kw"], " of a day" if is_long else ""


def _draw_limit(axes: Axes, limit: Curve, period: tuple[int, int]) -> None:
    spans = _Spans.of(limit, *period)
    axes.stairs(
        spans.power,
        _days(spans.edges),
        baseline=None,
        color=VERMILLION,
        linewidth=1.5,
        linestyle="--",
        label="usable capacity",
    )


def _draw_excess(axes: Axes, load: Curve, limit: Curve, period: tuple[int, int]) -> None:
    """Draw by how much the load is above what is usable."""
    loads, limits = _Spans.of(load, *period), _Spans.of(limit, *period)
    edges = np.union1d(loads.edges, limits.edges)
    most = loads.at(edges)
    if len(edges) > 2 * WIDEST:
        edges, _, most, _ = _sampled(load, period)
    usable = limits.at(edges)
    if (most > usable).any():
        axes.stairs(
            np.maximum(most, usable),
            _days(edges),
            baseline=usable,
            fill=True,
            color=VERMILLION,
            alpha=0.8,
            label="above it",
        )


def _finish(
    axes: Axes, period: tuple[int, int], zone: ZoneInfo | None, legend: bool = True
) -> None:
    start, stop = period
    clock = UTC if zone is None else zone
    locator = dates.AutoDateLocator(tz=clock, minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    within_a_day = stop - start <= 1.5 * DAY
    axes.xaxis.set_major_formatter(
        dates.ConciseDateFormatter(locator, tz=clock, show_offset=not within_a_day)
    )
    begin = datetime.fromtimestamp(start / 1000, clock)
    axes.set(
        xlabel=f"{f'{begin:%d %B %Y}' if within_a_day else 'time'}, {zone or 'UTC'}",
        ylabel="power, kW",
        xlim=(_days(start), _days(stop)),
    )
    axes.set_ylim(bottom=0)
    if legend:
        axes.legend(**LEGEND)


def _days(at: Any) -> Any:
    """Return times as matplotlib counts them."""
    return at / DAY


def _steps(values: Floats) -> Floats:
    """Repeat the last value, up to where it holds."""
    return np.append(values, values[-1:])
