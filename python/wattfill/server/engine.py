"""One thread that does everything: reads, changes, plans, one after another.

Changes that wait are committed together, as bringing one to the disk takes as long as bringing
many; each is answered when it is there. If a commit fails nothing of it happened, neither in the
database nor in memory, and each change is tried again alone.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from wattfill.errors import JournalError
from wattfill.server import commissioning
from wattfill.server.clock import Clock
from wattfill.server.database import Busy, Database, DatabaseError, NoSpace, Unreachable
from wattfill.server.dispatching import Manner, take_lead, take_up
from wattfill.server.refusal import Refusal, unavailable
from wattfill.server.service import LAST_USED_STEP, Service
from wattfill.server.store import Organisation, Store, Tree

log = logging.getLogger("wattfill.engine")

T = TypeVar("T")
Kind: TypeAlias = Literal["read", "write", "alone"]
"""Whether something looks, changes, or speaks with a dispatcher, whose journal has transactions
of its own."""

MOST_TOGETHER = 64
LOOK_ROUND = 0.5
"""Seconds between looks at what other servers changed and at turns that began."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5


@dataclass(slots=True)
class Job(Generic[T]):
    """Something to do, and where its outcome goes."""

    kind: Kind
    run: Callable[[Service], T]
    done: Future[T] = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class Follower:
    """Somebody who follows a group: what it is to be told is put into a queue of its loop."""

    tenant: str
    group: str
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[tuple[str, Any] | None]
    watches: bool = False
    """Whether it only looks: it is told no commands, and nothing counts as sent by it."""
    shown: Any = None
    """The allocation as it was told last."""
    versions: dict[str, int] | None = None
    """Of its groups, when it was told last."""

    def tell(self, kind: str, data: Any) -> None:
        """Put an event into the queue; whoever is too slow is let go, and begins anew."""
        self.loop.call_soon_threadsafe(self._put, (kind, data))

    def let_go(self) -> None:
        """End the stream, behind what it was told before."""
        self.loop.call_soon_threadsafe(self._put, None)

    def _put(self, event: tuple[str, Any] | None) -> None:
        try:
            self.events.put_nowait(event)
        except asyncio.QueueFull:
            while not self.events.empty():
                self.events.get_nowait()
            self.events.put_nowait(None)


class Engine:
    """The thread, and what is waiting for it.

    Parameters
    ----------
    database : Database
    patience : float
        Seconds for which a database that cannot be reached, or is locked, is waited for.
    manner : Manner
        How stations take their commands.
    two_person : str
        Whether raising what is commissioned needs two persons: one of `commissioning.MODES`.
    takeover : float
        Seconds without a sign of life of the server that dispatches after which this one does.
    is_one_of_many : bool
        Whether other processes of the same server get some of the requests.

    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        patience: float = 5.0,
        manner: Manner | None = None,
        two_person: str = "auto",
        takeover: float = 10.0,
        is_one_of_many: bool = False,
    ) -> None:
        self.clock = clock or Clock()
        self.database = database
        self.store = Store(database, self.clock)
        self.service = Service(
            self.store,
            self.clock,
            manner or Manner(),
            two_person,
            is_one_of_many=is_one_of_many,
        )
        self.patience = patience
        self.takeover = takeover
        self._sign: tuple[tuple[object, ...] | None, float] = None, 0.0
        """The last sign of life of the server that dispatches, and since when it is the last."""
        self.followers: set[Follower] = set()
        self.leads = False
        self.is_ready = False
        self.trouble: str | None = None
        """Why the database could not be used, if something was not written since."""
        self.n_groups = 0
        self.n_commands = 0
        self.n_pending = 0
        self.n_disobeying = 0
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._held: Job[Any] | None = None
        self._thread = threading.Thread(target=self._work, name="wattfill-engine", daemon=True)
        self._next_look = 0.0
        self._next_flush = time.monotonic() + LAST_USED_STEP
        self._due: dict[tuple[str, str], float] = {}
        """When a tree is planned next, by its organisation and root."""
        self._told: set[tuple[str, str]] = set()
        """Trees whose stations were told anew since this server dispatches."""
        self._is_stopping = False

    # From other threads

    def start(self) -> None:
        """Read the database, and begin to work."""
        self.n_groups = self.store.load()
        self._thread.start()
        self.is_ready = True

    def stop(self) -> None:
        """Finish what was asked for, and stop."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        self.database.close()

    def submit(self, kind: Kind, run: Callable[[Service], T]) -> Future[T]:
        """Have something done; its refusals come as `Refusal`."""
        job = Job(kind, run)
        if self._is_stopping or not self._thread.is_alive():
            job.done.set_exception(unavailable("the server is stopping"))
        else:
            self._jobs.put(job)
        return job.done

    async def read(self, run: Callable[[Service], T]) -> T:
        """Look something up."""
        return await asyncio.wrap_future(self.submit("read", run))

    async def write(self, run: Callable[[Service], T]) -> T:
        """Change something, in a transaction that is on the disk when this returns."""
        return await asyncio.wrap_future(self.submit("write", run))

    async def alone(self, run: Callable[[Service], T]) -> T:
        """Speak with a dispatcher."""
        return await asyncio.wrap_future(self.submit("alone", run))

    async def follow(self, follower: Follower) -> None:
        """Tell a follower what holds, and whatever changes from now on."""

        def begin(service: Service) -> None:
            organisation = service.store.organisation(follower.tenant)
            self.followers.add(follower)
            root = organisation.group_root.get(follower.group)
            if root is not None and not follower.watches:
                self._take_up(organisation, organisation.trees[root])
                service.tell_anew(organisation, organisation.trees[root])
            self._tell(organisation, {root} if root else set(), [follower])

        await self.alone(begin)

    def unfollow(self, follower: Follower) -> None:
        """Tell it no more."""
        self.submit("alone", lambda _: self.followers.discard(follower))

    def let_followers_go(self) -> None:
        """End all streams."""
        for follower in list(self.followers):
            follower.let_go()

    # The thread

    def _work(self) -> None:
        while True:
            jobs = self._wait_for_jobs()
            if jobs is None:
                break
            try:
                if jobs:
                    self._do(jobs)
                self._look_round()
            except Exception as error:
                log.exception("the engine goes on after a fault")
                self._give_up_transaction()
                self._read_again_after(error)
                for job in jobs:
                    if not job.done.done():
                        job.done.set_exception(error)
        self._is_stopping = True
        while True:
            try:
                left = self._jobs.get_nowait()
            except queue.Empty:
                break
            if left is not None and left.done.set_running_or_notify_cancel():
                left.done.set_exception(unavailable("the server is stopping"))
        self._flush_used()

    def _flush_used(self) -> None:
        try:
            self.service.flush_used()
        except DatabaseError as error:
            log.warning("last use of keys not noted", extra={"reason": str(error)})

    def _expire_raises(self) -> None:
        try:
            is_due = bool(commissioning.overdue(self.database, self.clock.now()))
        except DatabaseError as error:
            log.warning("raises not looked at", extra={"reason": str(error)})
            return
        if is_due:
            self._do([Job("write", lambda service: service.expire_raises())])

    def _wait_for_jobs(self) -> list[Job[Any]] | None:
        """Return what may be done together, nothing if something else is due; None to stop."""
        first, self._held = self._held, None
        if first is None:
            due = min((self._next_look, *self._monotonic_due()), default=self._next_look)
            try:
                first = self._jobs.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                return []
            if first is None:
                return None
        jobs = [first]
        # Whoever gave up meanwhile is left out below; from then on nobody can.
        while first.kind != "alone" and len(jobs) < MOST_TOGETHER:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            if job.kind == "alone":
                self._held = job
                break
            jobs.append(job)
        return [job for job in jobs if job.done.set_running_or_notify_cancel()]

    def _monotonic_due(self) -> Iterable[float]:
        ahead = time.monotonic() - self.clock.now()
        return (at + ahead for at in self._due.values())

    def _do(self, jobs: list[Job[Any]]) -> None:
        """Do jobs in one transaction, and answer them."""
        deadline = time.monotonic() + self.patience
        pause = FIRST_PAUSE
        while True:
            outcomes: list[tuple[bool, Any]] = []
            touched: dict[str, set[str]] = {}
            writes = any(job.kind == "write" for job in jobs)
            try:
                if writes:
                    self.database.begin(write=True)
                outcomes = [self._outcome(job) for job in jobs]
                if writes:
                    touched = self._commit()
                    self.trouble = None
            except DatabaseError as error:
                self._give_up_transaction()
                self._note_trouble(error)
                is_over = time.monotonic() + pause > deadline
                if (
                    isinstance(error, NoSpace)
                    or is_over
                    or not isinstance(error, (Busy, Unreachable))
                ):
                    log.error("the database failed", extra={"reason": str(error)})
                    self._answer_unavailable(jobs, error)
                    return
                # SQLite has waited for its lock already.
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            except Exception as error:
                self._give_up_transaction()
                if len(jobs) > 1:
                    for job in jobs:
                        self._do([job])
                    return
                log.exception("a request failed")
                if jobs[0].kind == "alone" or isinstance(error, MemoryError):
                    self._read_again_after(error)
                jobs[0].done.set_exception(error)
                return
            break
        for job, (is_well, outcome) in zip(jobs, outcomes, strict=True):
            if is_well:
                job.done.set_result(outcome)
            else:
                job.done.set_exception(outcome)
        if jobs[0].kind == "alone":
            touched, self.service.spoken_of = self.service.spoken_of, {}
        for tenant, roots in touched.items():
            self._after(tenant, roots)

    def _outcome(self, job: Job[Any]) -> tuple[bool, Any]:
        try:
            return True, job.run(self.service)
        except Refusal as refusal:
            return False, refusal

    def _commit(self) -> dict[str, set[str]]:
        token = self.store.first_token
        try:
            self.database.commit()
        except Unreachable:
            # It may have been committed before the connection broke.
            if token is None or not self._has_happened(token):
                raise
            self.database.in_transaction = False
        return self.store.committed()

    def _has_happened(self, token: str) -> bool:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return self.store.has_happened(token)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(FIRST_PAUSE)

    def _give_up_transaction(self) -> None:
        self.database.rollback()
        self.store.rolled_back()

    def _note_trouble(self, error: Exception) -> None:
        self.trouble = str(error)
        if isinstance(error, Unreachable) and self.leads:
            # The lock may be gone with the connection.
            self._step_down()

    def _read_again_after(self, error: Exception) -> None:
        """Take a fault for the end of the process, as far as memory is concerned.

        What a dispatcher was half-way through is in its journal or did not happen; without memory
        anything may be half done.
        """
        self._step_down()
        if isinstance(error, MemoryError):
            self.store.read_all_again()

    def _answer_unavailable(self, jobs: list[Job[Any]], error: DatabaseError) -> None:
        """Answer reads if they can be, and refuse the rest."""
        for job in jobs:
            outcome: tuple[bool, Any] = False, unavailable(f"nothing was changed: {error}")
            if isinstance(error, Unreachable):
                outcome = False, unavailable(f"it is not known what is stored: {error}")
            elif job.kind == "read":
                try:
                    outcome = self._outcome(job)
                except DatabaseError as again:
                    outcome = False, unavailable(str(again))
                except Exception as fault:
                    log.exception("a request failed")
                    outcome = False, fault
            if outcome[0]:
                job.done.set_result(outcome[1])
            else:
                job.done.set_exception(outcome[1])

    # What follows from changes

    def _after(self, tenant: str, roots: set[str]) -> None:
        """Tell followers of changed trees, and plan what is dispatched."""
        try:
            organisation = self.store.organisation(tenant)
            for root in roots:
                tree = organisation.trees.get(root)
                if tree is None:
                    self._due.pop((tenant, root), None)
                elif tree.is_dispatched:
                    self._take_up(organisation, tree)
            self._tell(organisation, roots, self.followers)
        except DatabaseError as error:
            self._note_trouble(error)
            log.error("followers are not told", extra={"reason": str(error)})

    def _take_up(self, organisation: Organisation, tree: Tree) -> None:
        """Dispatch a tree, if it is to be and this server does that."""
        if not tree.is_dispatched or tree.dispatcher is not None or tree.dispatch_error:
            return
        if not (self.leads and self.database.still_leads()) and not self._try_to_lead():
            return
        take_up(self.database, self.clock, self.service.manner, organisation, tree)
        if (organisation.id, tree.root) not in self._told:
            # What the server before this one was about to send is not known.
            self._told.add((organisation.id, tree.root))
            self.service.tell_anew(organisation, tree)

    def _try_to_lead(self) -> bool:
        """Become the server that dispatches, if none does or that one shows no sign of life."""
        self.leads = take_lead(self.database, self.clock)
        if self.leads:
            return True
        sign, now = self.database.sign_of_leader(), time.monotonic()
        if sign is None or sign != self._sign[0]:
            self._sign = sign, now
        elif now >= self._sign[1] + self.takeover:
            log.warning("the server that dispatches shows no sign of life: its place is taken")
            self._sign = None, now
            self.database.depose(sign)
            self.leads = take_lead(self.database, self.clock)
        return self.leads

    def _step_down(self) -> None:
        """Dispatch no more until the lock is held again; what is known then is in the journals."""
        self.leads = False
        self._due.clear()
        self._told.clear()
        for organisation in self.store.organisations():
            organisation.stale.update(
                tree.root for tree in organisation.trees.values() if tree.dispatcher is not None
            )

    def _tell(
        self, organisation: Organisation, roots: set[str], followers: Iterable[Follower]
    ) -> None:
        """Tell followers what is new in these trees; send what is due there."""
        here = [f for f in followers if f.tenant == organisation.id]
        if not here:
            return
        for root in roots:
            tree = organisation.trees.get(root)
            if tree is None or tree.dispatcher is None:
                continue
            watching = [
                f
                for f in self.followers
                if f.tenant == organisation.id
                and not f.watches
                and organisation.group_root.get(f.group) == root
            ]
            # What nobody would send is not planned: it would count as sent.
            if not watching:
                self._due.pop((organisation.id, root), None)
                continue
            commands, error = self.service.plan(tree)
            if error is not None:
                log.error("limits are only lowered", extra={"root": root, "reason": str(error)})
                if isinstance(error, JournalError):
                    log.warning("another server dispatches now")
                else:
                    self._note_trouble(error)
                if isinstance(error, (JournalError, Unreachable)):
                    self._step_down()
                    return
            self._due[organisation.id, root] = tree.wake_at
            self.n_commands += len(commands)
            if commands:
                for follower in watching:
                    follower.tell("commands", commands)
        for follower in here:
            root_of = organisation.group_root.get(follower.group)
            if root_of is None:
                follower.tell("deleted", {"_id": follower.group})
                follower.let_go()
                self.followers.discard(follower)
            elif root_of in roots:
                shown = self.service.tree_allocation(organisation, follower.group)
                assert shown is not None
                if follower.shown is None or _differs(shown, follower.shown):
                    follower.shown = shown
                    follower.tell("allocation", shown)
                self._tell_settings(organisation, follower)

    def _tell_settings(self, organisation: Organisation, follower: Follower) -> None:
        """Tell a follower which groups have other settings, or hold something else, than before."""
        before = follower.versions
        follower.versions = now = self.service.versions(organisation, follower.group)
        news = [] if before is None else [id for id in now if now[id] != before.get(id)]
        if news:
            told = self.service.configuration(organisation, sorted(news))
            follower.tell("configuration", {"_id": follower.group, **told})

    def _look_round(self) -> None:
        """Do what is due by the clock."""
        now = time.monotonic()
        if self._due:
            at = self.clock.now()
            for tenant, root in [key for key, due in self._due.items() if due <= at]:
                self._due.pop((tenant, root))
                self._after(tenant, {root})
        if now < self._next_look:
            return
        self._next_look = now + LOOK_ROUND
        try:
            if self.leads and not self.database.still_leads():
                log.warning("another server dispatches now")
                self._step_down()
        except DatabaseError as error:
            self._note_trouble(error)
        self.n_groups = sum(len(o.group_root) for o in self.store.organisations())
        if now >= self._next_flush:
            self._next_flush = now + LAST_USED_STEP
            self._flush_used()
            self._expire_raises()
        for tenant in {follower.tenant for follower in self.followers}:
            try:
                organisation = self.store.organisation(tenant)
            except DatabaseError as error:
                self._note_trouble(error)
                return
            roots = {
                organisation.group_root.get(f.group) for f in self.followers if f.tenant == tenant
            }
            self._after(tenant, {root for root in roots if root is not None})
        dispatchers = [
            tree.dispatcher
            for organisation in self.store.organisations()
            for tree in organisation.trees.values()
            if tree.dispatcher is not None
        ]
        self.n_pending = sum(len(dispatcher.waiting()) for dispatcher in dispatchers)
        self.n_disobeying = sum(len(dispatcher.disobeying()) for dispatcher in dispatchers)


def _differs(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Say whether there is more news than the time."""
    return {**now, "at": None} != {**before, "at": None}
