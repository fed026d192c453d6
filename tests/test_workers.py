# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to one input never reaches the others, nor the process that asked."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from staleline.errors import KernelImageError
from staleline.workers import Failure, ProcessLimits, aside, run_each

MEMORY = 1 << 30


def behave(how: str) -> object:
    return BEHAVIOURS[how]()


def die_by_fault() -> object:
    os.kill(os.getpid(), signal.SIGSEGV)
    return None


def leave() -> object:
    os._exit(7)


def hang() -> object:
    time.sleep(3600)
    return None


def allocate() -> object:
    return len(bytearray(2 * MEMORY))


def refuse() -> object:
    raise KernelImageError("not a kernel image", where="vmlinuz+0x0", do="copy it again")


def stumble() -> object:
    raise ZeroDivisionError("in a reader")


def limits_seen() -> object:
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_CORE)
    return tuple(resource.getrlimit(kind) for kind in kinds)


def do_a_part_aside(how: str) -> Callable[[], object]:
    """Have it do something, and answer with its result and the process it was done by."""

    def work() -> object:
        found = aside(lambda: (BEHAVIOURS[how](), os.getpid(), os.getpgrp()))
        part, process, group = found()
        return part, process != os.getpid(), group == os.getpgrp() == os.getpid()

    return work


def hang_aside(told: str) -> object:
    """Put the number of the process that hangs into a file, and hang as well."""

    def write_and_hang() -> object:
        Path(told).write_text(str(os.getpid()))
        return hang()

    aside(write_and_hang)
    return hang()


BEHAVIOURS: dict[str, Callable[[], object]] = {
    "answer": lambda: "x" * 1_000_000,  # more than a pipe holds
    "die": die_by_fault,
    "leave": leave,
    "hang": hang,
    "allocate": allocate,
    "refuse": refuse,
    "stumble": stumble,
    "limits": limits_seen,
    **{f"{how} aside": do_a_part_aside(how) for how in ("answer", "die", "refuse", "limits")},
}


def run(*how: str, jobs: int = 3, seconds: float = 30.0) -> list[object]:
    limits = ProcessLimits(seconds=seconds, memory=MEMORY)
    found = dict(run_each(behave, how, jobs=jobs, limits=limits))
    assert sorted(found) == list(range(len(how)))
    return [found[index] for index in range(len(how))]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("die", "the process that read it was ended by SIGSEGV"),
        ("leave", "the process that read it ended with status 7"),
        ("allocate", "needs more than 1024 MiB of memory: stopped"),
        ("refuse", "vmlinuz+0x0: not a kernel image; copy it again"),
        ("stumble", "ZeroDivisionError while it was read: in a reader"),
        ("die aside", "the process that read a part of it was ended by SIGSEGV"),
        ("refuse aside", "vmlinuz+0x0: not a kernel image; copy it again"),
    ],
)
def test_a_failure_is_that_of_one_input(how: str, reason: str) -> None:
    before, failed, after = run("answer", how, "answer")
    assert failed == Failure(reason)
    assert before == after == "x" * 1_000_000


def test_a_process_that_hangs_is_stopped_and_the_next_gets_its_place() -> None:
    start = time.monotonic()
    hung, answered = run("hang", "answer", jobs=1, seconds=1.0)
    assert hung == Failure("not done after 1 s: stopped")
    assert answered == "x" * 1_000_000
    assert 1.0 <= time.monotonic() - start < 20


def test_processes_are_limited_and_the_asking_one_is_not() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert run("limits") == [((MEMORY, MEMORY), (0, 0))]
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_part_done_aside_has_the_same_limits_and_the_same_group() -> None:
    assert run("answer aside") == [("x" * 1_000_000, True, True)]
    assert run("limits aside") == [(((MEMORY, MEMORY), (0, 0)), True, True)]


def test_what_was_done_aside_ends_with_the_process_it_was_done_for(tmp_path: Path) -> None:
    told = tmp_path / "told"
    limits = ProcessLimits(seconds=3.0, memory=MEMORY)
    [(_, found)] = run_each(hang_aside, [str(told)], jobs=1, limits=limits)
    assert found == Failure("not done after 3 s: stopped")
    deadline = time.monotonic() + 20
    while is_running(told.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(told.read_text())


def is_running(process: str) -> bool:
    """It is there, and no zombie."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_nothing_goes_on_when_nobody_wants_the_rest() -> None:
    results = run_each(behave, ["answer", "hang"], jobs=2, limits=ProcessLimits(memory=MEMORY))
    assert next(results) == (0, "x" * 1_000_000)
    start = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 5


def test_no_inputs_need_no_process() -> None:
    assert run() == []
