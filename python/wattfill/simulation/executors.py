"""Many tasks on whatever has the shape of `concurrent.futures.Executor`.

Threads and processes of one machine have it, and so has a cluster of Dask
(``Client(...).get_executor()``). A few tasks are in flight at a time, so that neither those that
wait nor their results take memory; one that fails, or whose worker dies, is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from functools import partial
from multiprocessing import get_context
from typing import Generic, TypeVar

from wattfill.errors import ConflictError, WattfillError

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 3
IN_FLIGHT = 8


def processes(n: int) -> Callable[[], Executor]:
    """Return what makes a pool of n processes, for `run` to make anew if one of them dies.

    Each starts afresh, since a copy of a process with threads may never wake up.
    """
    return partial(ProcessPoolExecutor, n, mp_context=get_context("spawn"))


def run(
    tasks: Iterable[T],
    work: Callable[[T], R],
    executor: Executor | Callable[[], Executor] | Pool,
    *,
    in_flight: int = IN_FLIGHT,
    retries: int = RETRIES,
    done: Callable[[int], None] | None = None,
) -> list[R]:
    """Do a piece of work for each task, and return what comes of it, in the order of the tasks.

    Parameters
    ----------
    tasks : iterable
        What is sent to workers, so it should be small: names of files, ranges, seeds. One is taken
        when there is room in flight, not before.
    work : callable
        What to do. On another process or machine it must be found by its name, and it may be done
        more than once for a task, so that it must not matter if it is.
    executor : Executor, callable that makes one, or Pool
        Who does it. What is made here is shut down here. A pool of processes whose process dies is
        broken, and only what makes one (as `processes`) can go on with another.
    in_flight : int
        How many tasks may be with the executor at a time.
    retries : int
        How many times to do one again that raises, or whose worker dies. What wattfill refuses is
        refused at once.
    done : callable, optional
        Called with the place of each task that is done, in any order.

    Raises
    ------
    ConflictError
        A pool is broken, and there is nothing to make another one by.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> run([3, 4], "kW".__mul__, ThreadPoolExecutor)
    ['kWkWkW', 'kWkWkWkW']

    """
    if isinstance(executor, Pool):
        return _Run(tasks, work, executor, in_flight, retries, done).results()
    with Pool(executor) as pool:
        return _Run(tasks, work, pool, in_flight, retries, done).results()


def _attempt(work: Callable[[T], R], task: T, attempt: int) -> R:
    # A cluster knows one task from another by its arguments: with the attempt, a second one is new.
    del attempt
    return work(task)


class Pool:
    """An executor for one `run` after another, which is made anew where it breaks.

    Parameters
    ----------
    executor : Executor, or callable that makes one
        As of `run`.

    """

    def __init__(self, executor: Executor | Callable[[], Executor]) -> None:
        self._make = None if isinstance(executor, Executor) else executor
        self.executor = executor if isinstance(executor, Executor) else executor()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        if self._make is not None:
            self.executor.shutdown(cancel_futures=True)

    def mend(self, broken: Executor, error: BrokenExecutor) -> None:
        """Make another executor, once for all that was in flight with the broken one."""
        if self._make is None:
            raise ConflictError(
                "executor must be what makes one where its processes may die, such as "
                "wattfill.simulation.processes(2), got one that is broken now"
            ) from error
        if self.executor is broken:
            broken.shutdown(wait=False)
            self.executor = self._make()


class _Run(Generic[T, R]):
    def __init__(
        self,
        tasks: Iterable[T],
        work: Callable[[T], R],
        pool: Pool,
        in_flight: int,
        retries: int,
        done: Callable[[int], None] | None,
    ) -> None:
        self._waiting = enumerate(tasks)
        self._work = work
        self._pool = pool
        self._room = in_flight
        self._retries = retries
        self._done = done or (lambda place: None)
        self._again: list[tuple[int, T]] = []
        self._attempts: dict[int, int] = {}
        self._in_flight: dict[Future[R], tuple[int, T, Executor]] = {}
        self._results: dict[int, R] = {}

    def results(self) -> list[R]:
        try:
            while self._submit():
                for future in wait(self._in_flight, return_when=FIRST_COMPLETED).done:
                    self._take(future)
        finally:
            # Also after an error or an interrupt: nothing is left behind that waits for its turn.
            for future in self._in_flight:
                future.cancel()
        return [self._results[place] for place in sorted(self._results)]

    def _submit(self) -> bool:
        """Fill the room in flight; return whether there is anything."""
        while len(self._in_flight) < self._room:
            if self._again:
                place, task = self._again.pop()
            else:
                try:
                    place, task = next(self._waiting)
                except StopIteration:
                    break
            executor = self._pool.executor
            attempt = self._attempts.get(place, 0) + 1
            try:
                future = executor.submit(_attempt, self._work, task, attempt)
            except BrokenExecutor as error:
                self._again.append((place, task))
                self._pool.mend(executor, error)
                continue
            self._attempts[place] = attempt
            self._in_flight[future] = place, task, executor
        return bool(self._in_flight)

    def _take(self, future: Future[R]) -> None:
        place, task, executor = self._in_flight.pop(future)
        try:
            self._results[place] = future.result()
        except WattfillError:
            # The same input is refused every time.
            raise
        except (Exception, CancelledError) as error:
            if self._attempts[place] > self._retries:
                raise
            self._again.append((place, task))
            if isinstance(error, BrokenExecutor):
                self._pool.mend(executor, error)
        else:
            self._done(place)
