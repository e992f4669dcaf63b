"""An allocator that is another program: a JSON request a line, a JSON answer a line.

The format is that of ``protocol.schema.json``, and docs/verify-protocol.md tells it.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

from wattfill.errors import InputError
from wattfill.testing.trial import NoAnswerError, TookTooLongError

# Up to so many allocators each get a process that nobody has asked; then fewer and fewer do.
ALL_FRESH = 32
IDLE = 2
LEAVING = 8
SECONDS_TO_LEAVE = 2.0
# An answer for a million connectors is shorter.
LONGEST_LINE = 2**26
TAIL = 400
SHOWN = 80


class Program:
    """A factory of allocators that are another program, each in a process of its own.

    A process starts when it is first asked, and is ended when its allocator is no longer used.
    Starting takes time, so of many allocators not each has a process that is fresh: the first 31
    have, then every third, from the 64th on every fifth, and so on. It depends on nothing else, so
    that a run can be repeated.

    Parameters
    ----------
    command : str or sequence of str
        The program and its arguments. A string is split as by a shell; no shell runs it.
    time_limit : float
        Seconds that an answer may take. A program that takes longer is ended, and started again.

    Raises
    ------
    InputError
        If there is no such program.

    Examples
    --------
    >>> import sys
    >>> share = '''
    ... import json, sys
    ... for line in sys.stdin:
    ...     request = json.loads(line)
    ...     n = len(request["minimum"])
    ...     print(json.dumps({"id": request["id"], "power": [request["capacity"] / n] * n}))
    ...     sys.stdout.flush()
    ... '''
    >>> with Program([sys.executable, "-c", share]) as program:
    ...     allocate = program()
    ...     allocate(minimum=[0.0, 0.0], maximum=[7.0, 7.0], capacity=10.0)
    [5.0, 5.0]

    """

    def __init__(self, command: str | Sequence[str], *, time_limit: float = 10.0) -> None:
        try:
            self.command = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as error:
            raise InputError(f"the command {command!r} cannot be split: {error}") from None
        if not self.command:
            raise InputError("the command must name a program, got nothing")
        if shutil.which(self.command[0]) is None:
            raise InputError(f"there is no program {self.command[0]!r} that can be run")
        self.time_limit = time_limit
        self._made = 0
        self._idle: list[_Process] = []
        self._leaving: deque[_Process] = deque()
        self._running: set[_Process] = set()
        # Also when the interpreter ends.
        self._finalizer = weakref.finalize(self, _end_all, self._running)

    def __call__(self) -> Callable[..., list[float]]:
        """Return an allocator."""
        self._made += 1
        return _Instance(self, fresh=_is_fresh(self._made))

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        self._idle.clear()
        self._leaving.clear()
        _end_all(self._running)

    def lend(self, fresh: bool) -> _Process:
        """Return a process that nobody else uses; a fresh one, or else whichever waits."""
        if self._idle and not fresh:
            return self._idle.pop()
        process = _Process(self.command)
        self._running.add(process)
        return process

    def take_back(self, process: _Process) -> None:
        """Keep a process for others, and let go of one that has been kept for long."""
        if process not in self._running:
            return
        self._idle.append(process)
        if len(self._idle) > IDLE:
            oldest = self._idle.pop(0)
            oldest.let_go()
            self._leaving.append(oldest)
        while len(self._leaving) > LEAVING:
            self._end(self._leaving.popleft())

    def discard(self, process: _Process) -> None:
        """Kill a process that cannot be asked again."""
        process.kill()
        self._running.discard(process)

    def _end(self, process: _Process) -> None:
        process.end()
        self._running.discard(process)


def _is_fresh(k: int) -> bool:
    """Whether the allocator number k gets a fresh process.

    The strides are odd: what is made in pairs, one to be asked before and one not, is fresh in
    turns.
    """
    return k % (2 * (k // ALL_FRESH) + 1) == 0


def _end_all(running: set[_Process]) -> None:
    for process in running:
        process.let_go()
    while running:
        running.pop().end()


class _Instance:
    """An allocator: what it is asked goes to its process, which starts with the first."""

    def __init__(self, program: Program, fresh: bool) -> None:
        self._program, self._fresh = program, fresh
        self._process: _Process | None = None

    def __call__(self, **batch: Any) -> list[float]:
        if self._process is None:
            self._process = self._program.lend(self._fresh)
        try:
            answer = self._process.ask(batch, self._program.time_limit)
        except BaseException:
            # Whatever it still answers belongs to a request that nobody waits for.
            self._program.discard(self._process)
            self._process, self._fresh = None, True
            raise
        return _powers(answer)

    def __del__(self) -> None:
        if self._process is not None:
            self._program.take_back(self._process)


def _powers(answer: dict[str, Any]) -> list[float]:
    if "error" in answer:
        raise NoAnswerError(f"it answered the error {_shown(answer['error'])}")
    powers = answer.get("power")
    if not isinstance(powers, list):
        raise NoAnswerError("it answered neither a list as power nor an error")
    for i, x in enumerate(powers):
        if isinstance(x, bool) or not isinstance(x, int | float):
            raise NoAnswerError(f"it answered {_shown(x)} for connector {i}, which is no number")
    return [_double(x) for x in powers]


def _double(x: float) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.inf


def _shown(value: Any) -> str:
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


class _Process:
    """A running program and the ends of its pipes, none of which is ever waited for alone."""

    def __init__(self, command: Sequence[str]) -> None:
        try:
            # A group of its own, so that whatever it starts can be ended with it.
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                process_group=0,
            )
        except OSError as error:
            raise NoAnswerError(f"it cannot be started: {error.strerror}") from None
        pipes = self._child.stdin, self._child.stdout, self._child.stderr
        self._in, self._out, self._err = (pipe for pipe in pipes if pipe is not None)
        self._selector = selectors.PollSelector()
        for pipe in (self._in, self._out, self._err):
            os.set_blocking(pipe.fileno(), False)
        for pipe in (self._out, self._err):
            self._selector.register(pipe, selectors.EVENT_READ)
        self._asked = 0
        self._unread = bytearray()
        self._complaints = b""

    def ask(self, batch: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return what is answered to a batch.

        Raises
        ------
        NoAnswerError
            If that is no answer. The process cannot be asked again.

        """
        self._asked += 1
        request = json.dumps({"id": self._asked, **batch}) + "\n"
        line = self._exchange(request.encode(), seconds)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise self._no_answer(f"it answered {_shown(line)!r}, which is no JSON") from None
        if not isinstance(answer, dict):
            raise self._no_answer(f"it answered {_shown(line)!r}, which is no object")
        if answer.get("id") != self._asked:
            raise self._no_answer(
                f"it answered with id {_shown(answer.get('id'))} to request {self._asked}"
            )
        return answer

    def _exchange(self, request: bytes, seconds: float) -> bytes:
        """Write a line and read one, and whatever it complains of meanwhile.

        A program may fill any pipe before it reads on, so nothing is written or read that would
        have to be waited for.
        """
        deadline = time.monotonic() + seconds
        unsent = memoryview(request)
        self._selector.register(self._in, selectors.EVENT_WRITE)
        try:
            while (end := self._unread.find(b"\n")) < 0:
                left = deadline - time.monotonic()
                ready = self._selector.select(max(left, 0.0))
                if not ready and left <= 0.0:
                    raise TookTooLongError(
                        self._with_complaints(f"it did not answer within {seconds:.3g} s")
                    )
                for key, _ in ready:
                    if key.fileobj is self._in:
                        unsent = self._write(unsent)
                        if not unsent:
                            self._selector.unregister(self._in)
                    elif key.fileobj is self._err:
                        self._listen()
                    elif not self._read():
                        raise self._gone()
        finally:
            with suppress(KeyError):
                self._selector.unregister(self._in)
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        return line

    def _write(self, unsent: memoryview) -> memoryview:
        try:
            return unsent[os.write(self._in.fileno(), unsent) :]
        except BlockingIOError:
            return unsent
        except BrokenPipeError:
            # What it has written before it went is still to be read.
            return unsent[:0]

    def _read(self) -> bool:
        """Read what there is of an answer; return whether there may be more."""
        part = _take(self._out)
        self._unread += part or b""
        if len(self._unread) > LONGEST_LINE:
            raise self._no_answer(f"it answered {LONGEST_LINE} bytes without the end of a line")
        return part != b""

    def _listen(self) -> bool:
        part = _take(self._err)
        if part:
            self._complaints = (self._complaints + part)[-4 * TAIL :]
        elif part == b"":
            self._selector.unregister(self._err)
        return bool(part)

    def _gone(self) -> NoAnswerError:
        try:
            status = self._child.wait(SECONDS_TO_LEAVE)
        except subprocess.TimeoutExpired:
            return self._no_answer("it closed its standard output")
        if status < 0:
            return self._no_answer(f"it was ended by {signal.Signals(-status).name}")
        return self._no_answer(f"it ended with exit status {status}")

    def _no_answer(self, why: str) -> NoAnswerError:
        return NoAnswerError(self._with_complaints(why))

    def _with_complaints(self, why: str) -> str:
        """Add the end of what the program has written to standard error."""
        with suppress(KeyError, ValueError):
            self._selector.get_key(self._err)
            while self._listen():
                pass
        words = " ".join(self._complaints.decode(errors="backslashreplace").split())
        if not words:
            return why
        tail = words if len(words) <= TAIL else f"...{words[-TAIL:]}"
        return f"{why}; the end of its standard error: {tail}"

    def let_go(self) -> None:
        """Close its pipes, which tells a program to end."""
        for pipe in (self._in, self._out, self._err):
            pipe.close()

    def end(self) -> None:
        """Wait until it has ended; kill it if it does not."""
        self.let_go()
        try:
            self._child.wait(SECONDS_TO_LEAVE)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it, and what it has started, at once."""
        # It does not get to see its pipes closed, which might make it do something yet.
        if self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        self.let_go()
        self._child.wait()


def _take(pipe: IO[bytes]) -> bytes | None:
    """Return what a pipe holds, nothing at its end, and None where it holds nothing yet."""
    try:
        return os.read(pipe.fileno(), 65536)
    except BlockingIOError:
        return None
