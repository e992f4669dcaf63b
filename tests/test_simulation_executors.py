"""Tasks on executors: what is done again, what is not, and what dies meanwhile."""

import os
import signal
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from wattfill.errors import ConflictError, InputError
from wattfill.simulation.executors import processes, run

TASKS = range(12)


def note(folder, task):
    """Leave a trace of each time a task is done."""
    with open(Path(folder) / f"{task}.txt", "a") as file:
        file.write("x")
    return task * task


def times_done(folder):
    return [len((Path(folder) / f"{task}.txt").read_text()) for task in TASKS]


def die_once(folder, task):
    """Do a task; the first time, take the process down in the middle of one of them."""
    if task == 5 and not (Path(folder) / "5.txt").exists():
        note(folder, task)
        os.kill(os.getpid(), signal.SIGKILL)
    return note(folder, task)


def fail_twice(folder, task):
    note(folder, task)
    if task == 5 and len((Path(folder) / "5.txt").read_text()) < 3:
        raise OSError("the file server is away")
    return task * task


def always_fail(task):
    raise OSError("the file server is away")


def refuse(folder, task):
    note(folder, task)
    raise InputError("task must be another")


def always_die(task):
    os.kill(os.getpid(), signal.SIGKILL)


SQUARES = [task * task for task in TASKS]


def test_results_stand_in_the_order_of_the_tasks(tmp_path):
    results = run(TASKS, partial(note, tmp_path), ThreadPoolExecutor)

    assert results == SQUARES
    assert times_done(tmp_path) == [1] * 12


def test_no_tasks_have_no_results():
    assert run([], print, ThreadPoolExecutor) == []


def test_a_task_is_taken_when_there_is_room_for_it(tmp_path):
    taken, done = [], []

    def tasks():
        for task in TASKS:
            # What has been taken and is not done is in flight.
            assert len(taken) - len(done) < 3
            taken.append(task)
            yield task

    results = run(
        tasks(), partial(note, tmp_path), ThreadPoolExecutor, in_flight=3, done=done.append
    )

    assert results == SQUARES
    assert sorted(done) == list(TASKS)


def test_what_fails_is_done_again(tmp_path):
    results = run(TASKS, partial(fail_twice, tmp_path), ThreadPoolExecutor)

    assert results == SQUARES
    assert times_done(tmp_path) == [1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1]


def test_what_fails_time_and_again_fails():
    with pytest.raises(OSError, match="the file server is away"):
        run(TASKS, always_fail, ThreadPoolExecutor)


def test_what_is_refused_is_not_done_again(tmp_path):
    with pytest.raises(InputError, match="task must be another"):
        run([0], partial(refuse, tmp_path), ThreadPoolExecutor)

    assert (tmp_path / "0.txt").read_text() == "x"


def test_an_executor_of_somebody_else_is_left_open(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        run(TASKS, partial(note, tmp_path), pool)

        assert pool.submit(int).result() == 0


def test_a_killed_process_costs_what_was_in_flight_and_nothing_else(tmp_path):
    made = []

    def make():
        made.append(processes(2)())
        return made[-1]

    results = run(TASKS, partial(die_once, tmp_path), make, in_flight=2)

    assert results == SQUARES
    assert len(made) == 2
    again = [task for task, times in enumerate(times_done(tmp_path)) if times > 1]
    # With two in flight, the pool took one other task down with it, if any.
    assert 5 in again
    assert len(again) <= 2


def test_a_task_that_kills_its_process_each_time_fails():
    with pytest.raises(BrokenExecutor):
        run([0], always_die, processes(1), retries=0)


def test_a_broken_pool_that_nobody_can_make_again_is_told_of(tmp_path):
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(ConflictError, match="executor must be what makes one"),
    ):
        run(TASKS, partial(die_once, tmp_path), pool)
