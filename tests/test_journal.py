"""What a journal brings back: exactly what was committed, or a refusal; and what leaves without."""

import os
import resource
import subprocess
import sys

import pytest

from wattfill import Connector, Dispatcher, FileJournal, JournalError, Registry

EAGER = {"smallest_change": 0.0, "smallest_share": 0.0, "between_increases": 0.0}


class Lines:
    """A journal in memory: any object with these two methods will do."""

    def __init__(self):
        self.records = []
        self.synced = 0
        self.is_full = False

    def read(self):
        return list(self.records)

    def write(self, records, *, replace, sync):
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.records = list(records) if replace else self.records + list(records)
        if sync:
            self.synced = len(self.records)


def registry(capacity=20):
    r = Registry()
    r.create_group("Yard", capacity, id="yard")
    for station in "AB":
        r.add_charge_station("yard", station, [Connector("1", 22, 4, fallback=0)])
    return r


def again(r):
    """Return the registry as another process has it from its database."""
    return Registry.from_dict(r.to_dict())


def confirm(d, plan, now):
    for c in plan.commands:
        d.confirm(c.station, c.connector, c.seq, now)


def charging(r, journal, **options):
    """Return a dispatcher of which A has 20 kW and nobody else anything."""
    d = Dispatcher(r, journal, **{**EAGER, **options})
    confirm(d, d.plan(0), 0)
    r.start_session("A", "1")
    confirm(d, d.plan(10), 10)
    return d


# Recovery


def test_what_is_committed_is_brought_back():
    r, journal = registry(), Lines()
    d = charging(r, journal)
    r.start_session("B", "1")
    d.plan(20)

    recovered = Dispatcher(again(r), journal, **EAGER)

    assert recovered.committed() == d.committed()
    assert recovered.committed().connectors == {("A", "1"): 20.0, ("B", "1"): 0.0}


def test_a_command_in_flight_at_the_crash_counts():
    r, journal = registry(), Lines()
    charging(r, journal)
    r2 = again(r)
    d = Dispatcher(r2, journal, **EAGER)
    r2.stop_session("A", "1")
    r2.start_session("B", "1")
    confirm(d, d.plan(20), 21)
    d.plan(40)

    recovered = Dispatcher(again(r2), journal, **EAGER)

    assert recovered.committed().connectors == {("A", "1"): 0.0, ("B", "1"): 20.0}


def test_what_still_settles_counts_for_as_long_as_before():
    r, journal = registry(), Lines()
    d = charging(r, journal, lag=5.0)
    r.stop_session("A", "1")
    confirm(d, d.plan(20), 21)

    recovered = Dispatcher(again(r), journal, **EAGER)

    assert recovered.committed(25.9).connectors["A", "1"] == 20.0
    assert recovered.committed(26).connectors["A", "1"] == 0.0


def test_numbers_go_on_where_they_were():
    r, journal = registry(), Lines()
    d = charging(r, journal)
    r.start_session("B", "1")
    before = d.plan(20).commands[0].seq

    r2 = again(r)
    d = Dispatcher(r2, journal, **EAGER)
    d.plan(20)
    [command] = d.plan(60).commands

    assert command.seq > before
    d.confirm("A", "1", before, 61)  # What it says is still understood.
    assert d.committed(70).connectors["A", "1"] == 10.0


def test_every_start_has_an_epoch_of_its_own():
    r, journal = registry(), Lines()
    first, second = (Dispatcher(again(r), journal) for _ in range(2))

    assert [d.plan(0).commands[0].seq >> 32 for d in (first, second)] == [1, 2]


def test_a_station_that_is_new_to_the_journal_is_unknown():
    r, journal = registry(), Lines()
    charging(r, journal)
    r2 = again(r)
    r2.add_charge_station("yard", "C", [Connector("1", 11, fallback=0)])

    recovered = Dispatcher(r2, journal)

    assert recovered.committed().connectors["C", "1"] == 11.0


def test_a_station_that_is_gone_is_left_out():
    r, journal = registry(), Lines()
    charging(r, journal)
    r2 = again(r)
    r2.remove_charge_station("A")

    recovered = Dispatcher(r2, journal)

    assert recovered.committed().connectors == {("B", "1"): 0.0}


def test_a_station_that_comes_back_goes_on_with_its_numbers():
    # What was sent to it before it was removed may arrive, and be answered, after it is back.
    r, journal = registry(), Lines()
    d = charging(r, journal)
    r.update_session("A", "1", maximum=10)
    [old] = d.plan(20).commands
    r.remove_charge_station("A")
    d.plan(21)
    d = Dispatcher(again(r), journal, **EAGER)
    r = d._registry
    r.add_charge_station("yard", "A", [Connector("1", 22, 4, fallback=0)])
    [new] = d.plan(22).commands

    d.confirm("A", "1", old.seq, 23)

    assert new.seq > old.seq
    assert d.committed(60).connectors["A", "1"] == 10.0


def test_how_a_station_takes_its_commands_is_brought_back():
    r, journal = registry(), Lines()
    d = Dispatcher(r, journal)
    d.set_station("A", lease=60.0, ordered=False)

    recovered = Dispatcher(again(r), journal)

    assert [c.expires for c in recovered.plan(0).commands] == [60.0, None]


def test_a_clock_that_began_anew_ends_no_lease_early():
    # The lease has 80 s to go, on whatever clock.
    r, journal = registry(), Lines()
    charging(r, journal, lease=100.0, skew=0.0, lag=0.0).committed(30)
    journal.records.append('["station", 30.0, "B", null, true]')

    recovered = Dispatcher(registry(), journal, lag=0.0)

    assert recovered.committed(0.0).connectors["A", "1"] == 20.0
    assert recovered.committed(79.9).connectors["A", "1"] == 20.0
    assert recovered.committed(80.0).connectors["A", "1"] == 0.0


def test_records_are_replaced_when_they_are_many():
    r, journal = registry(), Lines()
    d = charging(r, journal, lag=0.0)
    most = 0
    for now in range(20, 12000, 2):
        r.update_session("A", "1", maximum=5 + now % 4)
        confirm(d, d.plan(now), now)
        most = max(most, len(journal.records))

    assert most < 5000
    assert Dispatcher(again(r), journal).committed() == d.committed()


# What is written when


def test_an_increase_is_on_the_disk_before_it_leaves():
    r, journal = registry(), Lines()
    d = charging(r, journal)
    r.start_session("B", "1")
    confirm(d, d.plan(20), 20)

    [command] = d.plan(25).commands

    assert command.why == "increase"
    assert journal.synced == len(journal.records)
    assert f'"B", "1",{command.seq},' in journal.records[-1]


def test_a_decrease_need_not_wait_for_the_disk():
    r, journal = registry(), Lines()
    d = charging(r, journal)
    r.start_session("B", "1")
    synced = journal.synced

    assert [c.why for c in d.plan(20).commands] == ["decrease"]
    assert journal.synced == synced < len(journal.records)


def test_a_longer_lease_is_on_the_disk_before_it_leaves():
    r, journal = registry(), Lines()
    d = charging(r, journal, lease=100.0)

    assert [c.why for c in d.plan(60).commands] == ["refresh"]
    assert journal.synced == len(journal.records)


# Without a journal that can be written


def test_without_a_journal_that_can_be_written_only_decreases_leave():
    r, journal = registry(), Lines()
    d = charging(r, journal, lag=0.0)
    r.start_session("B", "1")
    journal.is_full = True

    plan = d.plan(20)
    assert [(c.station, c.limit) for c in plan.commands] == [("A", 10.0)]
    assert str(plan.journal_error) == "[Errno 28] No space left on device"
    confirm(d, plan, 21)
    plan = d.plan(21)

    assert plan.commands == ()
    assert plan.wake_at <= 51
    journal.is_full = False
    plan = d.plan(22)
    assert [(c.station, c.limit, plan.journal_error) for c in plan.commands] == [("B", 10.0, None)]
    assert Dispatcher(again(r), journal).committed() == d.committed()


def test_an_increase_that_was_not_written_down_was_not_sent():
    r, journal = registry(), Lines()
    d = charging(r, journal, lag=0.0)
    r.update_group("yard", maximum_capacity=30)
    journal.is_full = True
    before = d.committed()

    plan = d.plan(20)

    assert plan.commands == ()
    assert d.committed() == before


def test_a_lease_is_not_renewed_without_a_journal():
    r, journal = registry(), Lines()
    d = charging(r, journal, lease=100.0, skew=0.0, lag=0.0)
    journal.is_full = True

    assert d.plan(60).commands == ()
    assert d.committed(110).connectors["A", "1"] == 0.0


def test_a_decrease_without_a_journal_ends_with_the_lease_that_is_written_down():
    r, journal = registry(), Lines()
    d = charging(r, journal, lease=100.0, skew=0.0, lag=0.0)
    r.update_session("A", "1", maximum=5)
    journal.is_full = True

    [command] = d.plan(30).commands

    assert (command.limit, command.expires) == (5.0, 110.0)


def test_nothing_is_sent_before_the_epoch_is_written():
    r, journal = registry(), Lines()
    charging(r, journal)
    journal.is_full = True
    r.stop_session("A", "1")
    d = Dispatcher(again(r), journal)

    plan = d.plan(100)
    assert (plan.commands, str(plan.journal_error)) == ((), "[Errno 28] No space left on device")
    journal.is_full = False

    assert [c.seq >> 32 for c in d.plan(101).commands] == [2]


# In a file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "site.journal"


def written(path, records, *, replace=False):
    with FileJournal(path) as journal:
        journal.write(records, replace=replace, sync=True)


def read(path):
    with FileJournal(path) as journal:
        return list(journal.read())


def test_a_file_gives_back_what_was_written(path):
    written(path, ["a", "b"])
    written(path, ["c ü"])

    assert read(path) == ["a", "b", "c ü"]


def test_a_file_is_replaced_as_a_whole(path):
    written(path, ["a", "b"])
    written(path, ["c"], replace=True)
    written(path, ["d"])

    assert read(path) == ["c", "d"]
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]


def test_a_record_that_was_not_written_to_its_end_is_left_out(path):
    written(path, ["first", "second"])
    whole = path.read_bytes()
    start = len(whole) - len(b"00000000 second\n")

    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert read(path) == (["first"] if size >= start else [])
        written(path, ["third"])
        assert read(path)[-1] == "third"


def test_a_last_record_with_another_checksum_is_left_out(path):
    written(path, ["first", "second"])
    path.write_bytes(path.read_bytes().replace(b"second", b"sec\0nd"))

    assert read(path) == ["first"]


@pytest.mark.parametrize("place", [0, 9, 25, 30])
def test_a_damaged_middle_is_refused_with_its_line(path, place):
    written(path, ["first", "second"])
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)

    message = "line 2 of 3 does not have the checksum" if place > 18 else "must be a journal of"
    with pytest.raises(JournalError, match=message):
        FileJournal(path)
    assert path.read_bytes() == content


def test_a_line_that_is_missing_is_damage(path):
    written(path, ["first", "second", "third"])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *lines[3:], b"x\n"]))

    with pytest.raises(JournalError, match="line 3 of 4 does not have the checksum"):
        FileJournal(path)


def test_a_file_is_open_once(path):
    with FileJournal(path), pytest.raises(JournalError, match="must be open once"):
        FileJournal(path)
    FileJournal(path).close()


@pytest.mark.parametrize("replace", [False, True])
def test_a_closed_journal_is_not_written_to(path, replace):
    journal = FileJournal(path)
    journal.close()

    with pytest.raises(JournalError, match="must be open to be written to, and it is closed, or"):
        journal.write(["a"], replace=replace, sync=True)


@pytest.mark.parametrize("text", ["no JSON", "[]", '["command", 1.0, "A", "1", 1, 1, 1]', "{}"])
def test_what_no_dispatcher_wrote_is_refused(path, text):
    written(path, [text])

    with FileJournal(path) as journal, pytest.raises(JournalError, match="record 1 of the journal"):
        Dispatcher(registry(), journal)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of the size of files")
def test_a_full_disk_lets_decreases_leave_and_is_recovered_from(path):
    # A process of its own, whose files may not grow: writing fails as on a full disk.
    script = f"""
import resource, signal, os
from wattfill import Connector, Dispatcher, FileJournal, Registry
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
r = Registry()
r.create_group("Yard", 20, id="yard")
for station in "AB":
    r.add_charge_station("yard", station, [Connector("1", 22, 4, fallback=0)])
d = Dispatcher(r, FileJournal({os.fspath(path)!r}), lag=0, between_increases=0)
for c in d.plan(0).commands:
    d.confirm(c.station, c.connector, c.seq, 0)
r.start_session("A", "1")
for c in d.plan(1).commands:
    d.confirm(c.station, c.connector, c.seq, 1)
size = os.path.getsize({os.fspath(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
r.start_session("B", "1")
for now in (2, 3):
    plan = d.plan(now)
    print([(c.station, c.limit) for c in plan.commands], plan.journal_error.errno)
    for c in plan.commands:
        d.confirm(c.station, c.connector, c.seq, now)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
plan = d.plan(4)
print([(c.station, c.limit) for c in plan.commands], plan.journal_error)
print(d.committed().connectors)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    first, second, third, committed = done.stdout.splitlines()
    assert (first, second) == ("[('A', 10.0)] 27", "[] 27")
    assert third == "[('B', 10.0)] None"
    with FileJournal(path) as journal:
        assert str(Dispatcher(registry(), journal).committed().connectors) == committed


@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_killed_process_forgets_nothing(path, when):
    # It is killed right before, or right after, the plan that raises B leaves.
    script = f"""
import os, signal
from wattfill import Connector, Dispatcher, FileJournal, Registry
r = Registry()
r.create_group("Yard", 20, id="yard")
for station in "AB":
    r.add_charge_station("yard", station, [Connector("1", 22, 4, fallback=0)])
d = Dispatcher(r, FileJournal({os.fspath(path)!r}), lag=0, between_increases=0)
for c in d.plan(0).commands:
    d.confirm(c.station, c.connector, c.seq, 0)
r.start_session("B", "1")
if {when!r} == "behind":
    d.plan(1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9

    with FileJournal(path) as journal:
        committed = Dispatcher(registry(), journal).committed()

    assert committed.connectors["B", "1"] == (20.0 if when == "behind" else 0.0)
