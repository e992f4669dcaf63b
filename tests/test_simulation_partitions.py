"""Parts of a simulation: that together they are the whole."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattfill import Connector, Registry
from wattfill.errors import InputError
from wattfill.simulation import Sessions, Site, simulate
from wattfill.simulation.executors import processes
from wattfill.simulation.partitions import simulate_parts, split_fleet, split_sessions
from wattfill.simulation.synthetic import generate, synthetic_site

COLUMNS = ("arrival", "departure", "energy", "maximum", "battery", "soc")


def campus(n):
    """Return a site of n trees: a group with two below it, one of these without connectors.

    The first and the last tree are much larger than the others.
    """
    registry = Registry()
    for k in range(n):
        top = registry.create_group(f"top-{k}", 50, id=f"top-{k}")
        for floor in "ab":
            registry.create_group(f"{k}{floor}", 20, id=f"{k}{floor}", parent=top.id)
        for group in (f"top-{k}", f"{k}a"):
            for station in range(9 if k in (0, n - 1) else 1):
                plugs = [Connector("1", 11), Connector("2", 7)]
                registry.add_charge_station(group, f"CS-{group}-{station}", plugs)
    return Site.of(registry)


def visits(site, n, seed):
    """Return sessions at groups, stations and connectors of a site, without columns of defaults."""
    rng = np.random.default_rng(seed)
    arrival = rng.integers(0, 1000, n) * 1000
    which = rng.integers(0, len(site.connectors), n)
    station = [site.connectors[i][0] for i in which]
    plug = ["" for _ in which]
    group = [site.groups[site.owner[i]] for i in which]
    how = rng.integers(0, 3, n)
    return Sessions.of(
        group=[name if how[i] != 1 else "" for i, name in enumerate(group)],
        station=[name if how[i] else "" for i, name in enumerate(station)],
        connector=plug,
        arrival=arrival,
        departure=arrival + 500,
        energy=rng.random(n),
        maximum=np.where(rng.random(n) < 0.5, np.inf, 11),
    )


def rows(sessions):
    """Return what each row says, by its place among all."""
    places = sessions.row if sessions.row is not None else range(len(sessions))
    group = [sessions.groups[g] if g >= 0 else "" for g in sessions.group]
    plug = [sessions.connectors[i] if i >= 0 else ("", "") for i in sessions.connector]
    most = sessions.maximum if sessions.maximum is not None else np.full(len(sessions), np.inf)
    return dict(
        zip(
            np.array(places).tolist(),
            zip(group, plug, sessions.arrival.tolist(), sessions.departure.tolist(),
                sessions.energy.tolist(), most.tolist(), strict=True),
            strict=True,
        )
    )  # fmt: skip


@given(groups=st.integers(1, 40), parts=st.integers(1, 50))
def test_parts_of_a_fleet_have_each_group_once(groups, parts):
    made = split_fleet("depot", groups, parts, fleet={}, site={})

    assert [g for part in made for g in part.groups] == list(range(groups))
    assert len(made) == min(groups, parts)
    sizes = {len(part.groups) for part in made}
    assert max(sizes) - min(sizes) <= 1


def test_a_part_of_a_fleet_makes_what_the_whole_has():
    fleet, site = {"connectors": 3, "days": 9, "seed": 4}, {"connectors": 3, "capacity": 9.0}
    whole = generate("workplace", groups=7, **fleet)

    loaded = [part.load() for part in split_fleet("workplace", 7, 3, fleet=fleet, site=site)]

    for name in COLUMNS:
        assert np.array_equal(
            np.concatenate([getattr(sessions, name) for sessions, _ in loaded]),
            getattr(whole, name),
        )
    groups = [group for _, site in loaded for group in site.groups]
    assert tuple(groups) == synthetic_site("workplace", groups=7, **site).groups


@given(
    trees=st.integers(1, 6),
    parts=st.integers(1, 8),
    n=st.integers(0, 40),
    piece=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_parts_in_files_have_each_row_and_each_group_once(
    trees, parts, n, piece, seed, tmp_path_factory
):
    site = campus(trees)
    sessions = visits(site, n, seed)
    pieces = [sessions.take(slice(start, start + piece)) for start in range(0, n, piece)]

    made = split_sessions(pieces, site, tmp_path_factory.mktemp("parts"), parts)

    assert len(made) == min(trees, parts)
    there, groups, plugs = {}, [], []
    for part in made:
        own, own_site = part.load()
        assert own.row.tolist() == sorted(own.row.tolist())
        for g in own_site.parent.tolist():
            assert g < len(own_site.groups)
        if len(own):
            there |= rows(own)
        assert own_site.groups
        groups += own_site.groups
        plugs += own_site.connectors
    assert there == (rows(sessions) if n else {})
    assert tuple(groups) == site.groups
    assert tuple(plugs) == site.connectors


def test_there_must_be_a_part(tmp_path):
    with pytest.raises(InputError, match="parts must be at least 1, got 0"):
        split_sessions(visits(campus(1), 3, 0), campus(1), tmp_path, 0)


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match="file: the folder cannot be made: File exists"):
        split_sessions(visits(campus(1), 3, 0), campus(1), tmp_path / "file", 1)


# What comes of them


FLEET = {"connectors": 3, "days": 20, "seed": 9}
SITE = {"connectors": 3, "capacity": 12.0, "policy": "rotate"}


@pytest.fixture(scope="module")
def whole():
    """Return what one call makes of a fleet."""
    sessions = generate("workplace", groups=12, **FLEET)
    return simulate(sessions, synthetic_site("workplace", groups=12, **SITE))


def assert_same_bits(parted, whole):
    sessions, groups = parted.sessions(), parted.groups()
    expected = whole.sessions.to_arrow()
    # Rows of a fleet are counted from 0 in each part.
    assert sessions.drop(["row"]).equals(expected.drop(["row"]))
    assert groups.equals(whole.groups.to_arrow())
    assert parted.n_sessions == len(whole.source)
    assert (
        parted.n_full == whole.sessions["full_at"].size - np.isnat(whole.sessions["full_at"]).sum()
    )
    assert parted.paused == whole.paused.sum()
    assert parted.period == (whole.start, whole.stop)


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor])
def test_parts_of_a_fleet_come_to_the_same_bits_on_any_executor(executor, whole, tmp_path):
    parts = split_fleet("workplace", 12, 5, fleet=FLEET, site=SITE)
    seen = []

    result = simulate_parts(
        parts, tmp_path, executor=executor, progress=lambda done, of: seen.append((done, of))
    )

    assert_same_bits(result, whole)
    assert seen == [(done, 5) for done in range(1, 6)]


def test_parts_in_files_come_to_the_same_bits(whole, tmp_path):
    shuffled = whole.source.take(np.random.default_rng(1).permutation(len(whole.source)))
    parts = split_sessions(shuffled, whole.site, tmp_path / "parts", 4)

    result = simulate_parts(
        parts, tmp_path / "out", executor=partial(ThreadPoolExecutor, 2), in_flight=2
    )

    # By the place that each session had.
    got = result.sessions().sort_by("row")
    assert got.equals(whole.sessions.to_arrow())
    assert result.groups().equals(whole.groups.to_arrow())


class DyingPart(NamedTuple):
    """A part whose worker dies the first time, when half of the files are written."""

    part: object
    folder: Path

    def load(self):
        trace = self.folder / "died"
        if not trace.exists():
            trace.touch()
            # As whole_file() names what is not whole yet.
            (self.folder / "out" / ".sessions-00003.parquet.x.parquet").write_bytes(b"PAR1")
            os.kill(os.getpid(), signal.SIGKILL)
        return self.part.load()


def dying(tmp_path):
    first, *others = split_fleet("workplace", 12, 5, fleet=FLEET, site=SITE)
    return [*others[:2], DyingPart(first, tmp_path), *others[2:]]


def in_order(parts):
    return sorted(parts, key=lambda part: getattr(part, "part", part).groups.start)


def test_a_killed_process_costs_a_repeat_and_nothing_else(whole, tmp_path):
    parts = in_order(dying(tmp_path))

    result = simulate_parts(
        parts, tmp_path / "out", executor=processes(2), period=(whole.start, whole.stop)
    )

    assert (tmp_path / "died").exists()
    assert_same_bits(result, whole)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(
        f"{what}-{k:05}.parquet" for what in ("groups", "sessions") for k in range(5)
    )


def test_a_killed_worker_of_dask_costs_a_repeat_and_nothing_else(whole, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs wattfill[dask]")
    parts = in_order(dying(tmp_path))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        result = simulate_parts(parts, tmp_path / "out", executor=client.get_executor())

    assert (tmp_path / "died").exists()
    assert_same_bits(result, whole)


def test_sessions_that_are_refused_end_it_at_once(tmp_path):
    sessions = generate("depot", groups=2, connectors=2, days=3)
    late = replace(sessions, departure=sessions.arrival - 1)
    parts = split_sessions(late, synthetic_site("depot", groups=2, connectors=2), tmp_path, 2)

    with pytest.raises(InputError, match="departure must not be before arrival"):
        simulate_parts(parts, tmp_path / "out")


def test_parts_without_sessions_are_told_of(tmp_path):
    sessions = generate("depot", groups=2, connectors=2, days=3).take(slice(0, 0))
    parts = split_sessions(sessions, synthetic_site("depot", groups=2, connectors=2), tmp_path, 2)

    with pytest.raises(InputError, match="parts must have a session, got none in all of them"):
        simulate_parts(parts, tmp_path / "out")


def test_sessions_that_overlap_across_pieces_are_told_by_their_row(tmp_path):
    site = campus(1)
    sessions = Sessions.of(
        station=["CS-0a-0"] * 3, connector=["1"] * 3,
        arrival=[0, 5, 7], departure=[6, 9, 9], energy=[1, 1, 1],
    )  # fmt: skip
    pieces = [sessions.take(slice(0, 1)), sessions.take(slice(1, 3))]
    parts = split_sessions(pieces, site, tmp_path, 1)

    with pytest.raises(InputError, match="row 1: arrival must not be before the session before it"):
        simulate_parts(parts, tmp_path / "out")
