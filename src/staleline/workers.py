# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a function on many inputs, each in a process of its own, so that none harms the others."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from staleline.errors import StalelineError
from staleline.extras import missing_extra

__all__ = ["AsideError", "Failure", "ProcessLimits", "aside", "preload_workers", "run_each"]

_Input = TypeVar("_Input")
_Result = TypeVar("_Result")

_MIB = 1 << 20
#: Objects that are made before garbage is looked for; the default of 700 takes 5 % of the time,
#: 20,000 still 2 %, and a process that does one thing leaves little.
_COLLECTED_AFTER = 200_000


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What one process may use.

    Attributes:
        seconds: Wall-clock time until it is killed.
        memory: Bytes of address space (RLIMIT_AS). A reading takes less than half of the
            default, of which a quarter is ever touched.
    """

    seconds: float = 120.0
    memory: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result: one line, without the name of the input."""

    reason: str


class AsideError(StalelineError):
    """A part of the work that was done aside has no result."""


def preload_workers(preload: Sequence[str]) -> None:
    """Let another process import what the processes of `run_each` need, meanwhile."""
    _context(preload)
    ensure_running()


def _context(preload: Sequence[str]) -> Any:
    # Not fork: whoever calls may have threads, and a fork has but one of them, and all their locks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *preload])
    return context


def run_each(
    function: Callable[[_Input], _Result],
    inputs: Sequence[_Input],
    *,
    jobs: int,
    limits: ProcessLimits,
    preload: Sequence[str] = (),
) -> Iterator[tuple[int, _Result | Failure]]:
    """Run `function` on every input, at most `jobs` at a time.

    Args:
        function: Of a module's top level, so that another process finds it.
        inputs: Sent to the processes; so they and the results must be picklable.
        jobs: Processes at a time.
        limits: Of each process.
        preload: Modules that every process would import; they are imported once.

    Yields:
        Index of the input and its result, in the order in which they end.
    """
    context = _context(preload)
    waiting = deque(enumerate(inputs))
    running: dict[Connection, _Running[_Result]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, value = waiting.popleft()
                started: _Running[_Result] = _start(context, index, function, value, limits)
                running[started.results] = started
            for connection in _ended(running):
                done = running.pop(connection)
                yield done.index, done.outcome(limits)
    finally:
        for left in running.values():
            left.kill()


def aside(function: Callable[[], _Result]) -> Callable[[], _Result]:
    """Run a function in a process forked from this one, in which no other thread may run.

    Returns:
        Waits for the result, which must be picklable; to be called once. It raises AsideError
        if there is none.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # It has what this one has, the same limits and the same end.
    process = os.fork()
    if process == 0:
        try:
            receiver.close()
            sender.send(_result(lambda _: function(), None))
        finally:
            # Without the handlers and buffers of the process that this one is a copy of.
            os._exit(0)
    sender.close()

    def result() -> _Result:
        try:
            sent: _Result | Failure = receiver.recv()
        except EOFError:
            _, status = os.waitpid(process, 0)
            died = _how_it_died(os.waitstatus_to_exitcode(status))
            raise AsideError(f"the process that read a part of it {died}") from None
        os.waitpid(process, 0)
        if isinstance(sent, Failure):
            raise AsideError(sent.reason)
        return sent

    return result


@dataclass(frozen=True, slots=True)
class _Running(Generic[_Result]):
    """A process at work."""

    index: int
    process: BaseProcess
    results: Connection
    deadline: float

    def outcome(self, limits: ProcessLimits) -> _Result | Failure:
        """What it sent, or why it sent nothing; it does not run any more."""
        # It is out of time: `_ended` names what sent something, died, or is that.
        if not self.results.poll():
            self.kill()
            return Failure(f"not done after {limits.seconds:g} s: stopped")
        try:
            sent: _Result | Failure = self.results.recv()
        except EOFError:
            # A fault in a library, or the kernel's OOM killer: its input has failed, and the others
            # go on.
            self.process.join()
            sent = Failure(f"the process that read it {_how_it_died(self.process.exitcode)}")
        self.kill()
        return sent

    def kill(self) -> None:
        """Leave nothing of it behind, nor of what it does aside."""
        if self.process.pid:
            with contextlib.suppress(ProcessLookupError):  # it has gone, or leads no group yet
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.process.close()
        self.results.close()


def _start(
    context: Any,
    index: int,
    function: Callable[[_Input], _Result],
    value: _Input,
    limits: ProcessLimits,
) -> _Running[_Result]:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, value, limits), daemon=True)
    process.start()
    sender.close()
    return _Running(index, process, receiver, time.monotonic() + limits.seconds)


def _ended(running: dict[Connection, _Running[_Result]]) -> list[Connection]:
    """Those that sent something, died, or are out of time; waits for the first."""
    first = min(process.deadline for process in running.values())
    ready = set(wait(list(running), timeout=max(0.0, first - time.monotonic())))
    now = time.monotonic()
    return [
        connection
        for connection, process in running.items()
        if connection in ready or process.deadline <= now
    ]


def _work(
    sender: Connection, function: Callable[[_Input], object], value: _Input, limits: ProcessLimits
) -> None:
    """What the process does, as the first of its own process group."""
    os.setpgid(0, 0)  # so that what it forks is killed with it
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    # A core of a process with a kernel unpacked is as large, and nobody asked for it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _silence()
    gc.freeze()  # what was imported stays
    gc.set_threshold(_COLLECTED_AFTER)
    sender.send(_result(function, value))


def _result(function: Callable[[_Input], object], value: _Input) -> object:
    """Every exception is the input's failure: what comes of a hostile one is not foreseen."""
    try:
        return function(value)
    except StalelineError as error:
        return Failure(str(error))
    except MemoryError:
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        return Failure(f"needs more than {limit // _MIB} MiB of memory: stopped")
    except Exception as error:
        missing = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
        return Failure(
            str(missing) if missing else f"{type(error).__name__} while it was read: {error}"
        )


def _silence() -> None:
    """A library's last words belong neither to the report nor to the list of errors."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _how_it_died(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was ended by {name}"
