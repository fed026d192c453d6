# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to one input never reaches the others, nor the process that asked."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable

import pytest

from staleline.errors import KernelImageError
from staleline.workers import Failure, Limits, run_each

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


BEHAVIOURS: dict[str, Callable[[], object]] = {
    "answer": lambda: "x" * 1_000_000,  # more than a pipe holds
    "die": die_by_fault,
    "leave": leave,
    "hang": hang,
    "allocate": allocate,
    "refuse": refuse,
    "stumble": stumble,
    "limits": limits_seen,
}


def run(*how: str, jobs: int = 3, seconds: float = 30.0) -> list[object]:
    limits = Limits(seconds=seconds, memory=MEMORY)
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


def test_nothing_goes_on_when_nobody_wants_the_rest() -> None:
    results = run_each(behave, ["answer", "hang"], jobs=2, limits=Limits(memory=MEMORY))
    assert next(results) == (0, "x" * 1_000_000)
    start = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 5


def test_no_inputs_need_no_process() -> None:
    assert run() == []
