"""Pictures: that they show what is there, and say in which unit."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from wattfill.errors import InputError
from wattfill.simulation import Curve, pictures
from wattfill.simulation.report import Picture, Table, as_page

OSLO = ZoneInfo("Europe/Oslo")
DAY = 86_400_000
# A day in Oslo, which is one hour ahead of UTC in winter.
START = int(datetime(2026, 3, 2, tzinfo=OSLO).timestamp() * 1000)
ONE_DAY = (START, START + DAY)


def curve(*changes):
    """Return a curve of (hours after the start, kW)."""
    hours, power = np.array(changes, np.float64).T
    return Curve(START + (hours * 3_600_000).astype(np.int64), (power * 1e6).astype(np.int64))


LIMIT = curve((0, 11))
LOAD = curve((0, 0), (8, 11), (10, 5.5), (12.5, 0))


def texts(figure):
    """Return all that is written in a picture."""
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))}


def steps(axes):
    """Return the data of what is drawn in steps: values, edges in hours after the start."""
    drawn = [patch for patch in axes.patches if hasattr(patch, "get_data")]
    return [(data.values.tolist(), ((data.edges * DAY - START) / 3_600_000).round(6).tolist())
            for data in (patch.get_data() for patch in drawn)]  # fmt: skip


def test_a_load_is_drawn_with_its_limit_in_local_time_and_units():
    figure = pictures.load_picture(LOAD, LIMIT, ONE_DAY, title="Yard", zone=OSLO)

    (axes,) = figure.axes
    assert ([0, 11, 5.5, 0], [0, 8, 10, 12.5, 24]) in steps(axes)
    assert ([11], [0, 24]) in steps(axes)
    written = texts(figure)
    assert {"Yard", "power, kW", "02 March 2026, Europe/Oslo", "load", "usable capacity"} <= written
    assert {"06:00", "12:00", "18:00"} <= written


def test_without_a_zone_times_are_utc():
    figure = pictures.load_picture(LOAD, LIMIT, ONE_DAY)

    assert "01 March 2026, UTC" in texts(figure)


def test_of_a_long_curve_days_have_their_mean_and_their_most():
    # Of every day two hours at 12 kW, a mean of 1 kW; and changes enough to be many.
    days = 100
    hours = [(0, 0), (8, 12), (10, 0), *((11 + quarter / 4, 0) for quarter in range(16))]
    load = curve(*((24 * day + hour, kw) for day in range(days) for hour, kw in hours))

    figure = pictures.load_picture(load, LIMIT, (START, START + days * DAY), zone=OSLO)

    (axes,) = figure.axes
    most, mean, _ = steps(axes)
    assert most[0] == [12] * days
    assert mean[0] == pytest.approx([1] * days)
    assert {"mean of a day", "up to the most of a day"} <= texts(figure)


def test_connectors_are_bands_on_top_of_each_other():
    one, other = curve((0, 0), (8, 5)), curve((0, 0), (9, 3))

    figure = pictures.connectors_picture([one, other], LIMIT, ONE_DAY, zone=OSLO)

    (axes,) = figure.axes
    lower, upper = axes.collections
    assert lower.get_datalim(axes.transData).ymax == 5
    assert (upper.get_datalim(axes.transData).ymin, upper.get_datalim(axes.transData).ymax) == (
        0,
        8,
    )
    assert "power, kW: a band for each connector" in texts(figure)


@pytest.mark.parametrize("n", [0, 10, 5000])
def test_energy_is_drawn_over_what_was_wanted(n):
    wanted = np.linspace(1, 50, n)

    figure = pictures.energy_picture(wanted, wanted / 2)

    assert {"energy wanted, kWh", "energy delivered, kWh"} <= texts(figure)
    assert len(figure.axes) == (2 if n > 3000 else 1)


def test_each_cell_of_a_heat_map_has_its_value():
    values = np.array([[0.5, 12.25, 100.0], [1.0, 2.0, 3.0]])

    figure = pictures.sweep_picture(
        [0.5, 1, 2], [0, 0.1], values, x_label="capacity", y_label="buffer", label="%"
    )

    assert {"0.5", "12.2", "100", "1", "2", "3", "0.1", "capacity", "buffer", "%"} <= texts(figure)


def test_what_is_above_the_limit_stands_out():
    figure = pictures.strategies_picture(
        {"uncontrolled": curve((0, 22), (6, 11)), "wattfill": curve((0, 11))},
        {"uncontrolled": np.ones(3), "wattfill": np.array([0.5, 1, 1])},
        LIMIT, ONE_DAY, title="Yard", zone=OSLO,
    )  # fmt: skip

    upper, lower, shares = figure.axes
    assert ([22, 11], [0, 6, 24]) in steps(upper)
    assert {"uncontrolled", "wattfill", "above it"} <= texts(figure)
    assert len(steps(upper)) == len(steps(lower)) + 1
    assert [line.get_ydata()[0] for line in shares.lines] == [100, 50]


def test_a_picture_for_a_page_takes_its_colours_from_the_page():
    figure = pictures.load_picture(LOAD, LIMIT, ONE_DAY, title="Yard", zone=OSLO)

    svg = pictures.as_svg(figure, "A load & its limit")

    assert svg.startswith('<svg viewBox="')
    assert "<title>A load &amp; its limit</title>" in svg
    assert "var(--blue)" in svg
    assert "var(--vermillion)" in svg
    assert not re.search("#[0-9a-f]{6}", svg)
    assert svg == pictures.as_svg(
        pictures.load_picture(LOAD, LIMIT, ONE_DAY, title="Yard", zone=OSLO), "A load & its limit"
    )


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    figure = pictures.load_picture(LOAD, LIMIT, ONE_DAY)
    path = tmp_path / "a.png"
    path.write_bytes(b"as before")

    with pytest.raises(InputError, match=r"a picture must end in \.png, \.svg or \.pdf, got"):
        pictures.save_picture(figure, tmp_path / "a.xyz")
    with pytest.raises(InputError, match="the file cannot be written: No such file or directory"):
        pictures.save_picture(figure, tmp_path / "none" / "a.png")
    figure.savefig = None
    with pytest.raises(TypeError):
        pictures.save_picture(figure, path)

    assert path.read_bytes() == b"as before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_has_its_tables_and_escapes_what_is_not_ours():
    page = as_page(
        "<b>",
        ["50 % & more"],
        [
            Table("Groups", ["group", "kW"], [["<i>\x1b", "1.5"]], "The worst"),
            Picture("A picture", "<svg></svg>"),
        ],
        command="wattfill simulate '<x>'",
        version="1",
    )

    assert "<h1>&lt;b&gt;</h1>" in page
    assert "<p>50 % &amp; more</p>" in page
    assert r"<td>&lt;i&gt;\x1b</td>" + "\n" + '<td class="number">1.5</td>' in page
    assert "wattfill simulate &#x27;&lt;x&gt;&#x27;" in page
    assert "default-src 'none'" in page
