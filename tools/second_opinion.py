# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask rumur and spin about a model: how many states it has, and what it breaks.

Both turn a model into C and need a compiler. Each question is asked in a directory of its
own, and the processes' peak memory and times are kept for benchmarks.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from staleline.check.export.murphi import murphi
from staleline.check.export.promela import promela
from staleline.model.form import Model

__all__ = ["Opinion", "Ran", "ask_rumur", "ask_spin", "install_checkers", "run_measured"]

_TOOLS = ("rumur", "spin", "gcc")
_RUMUR_STATES = re.compile(r"^\s*(\d+) states, (\d+) rules fired", re.MULTILINE)
_RUMUR_BROKEN = re.compile(r'^\s*(?:invariant|liveness property) "(\w+)"', re.MULTILINE)
_RUMUR_ERRORS = re.compile(r"^\s*(\d+) error\(s\) found", re.MULTILINE)
_SPIN_STATES = re.compile(r"^\s*(\d+) states, stored", re.MULTILINE)
_SPIN_ERRORS = re.compile(r"errors: (\d+)")


@dataclass(frozen=True)
class Opinion:
    """What another checker says.

    Attributes:
        states: States that it visited.
        errors: Number of violations that it reports.
        broken: Names of the properties that it says are broken; spin names none.
        setup_seconds: Wall time to generate and compile its program.
        search_seconds: Wall time of that program.
        peak_bytes: Largest resident memory of that program.
    """

    states: int
    errors: int
    broken: frozenset[str]
    setup_seconds: float
    search_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Ran:
    """A process that ended: its output, wall time and largest resident memory."""

    output: str
    seconds: float
    peak_bytes: int


def install_checkers() -> None:
    """Install what is absent of rumur, spin and gcc, as Debian packages; needs root then.

    Raises:
        RuntimeError: It could not be installed.
    """
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if not absent:
        return
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", *absent]):
        done = subprocess.run(  # noqa: S603
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    if any(shutil.which(tool) is None for tool in absent):
        raise RuntimeError(
            f"cannot install {', '.join(absent)}: {done.stderr.strip()[-200:]}; "
            "as root: apt-get install rumur spin gcc"
        )


def ask_rumur(  # noqa: PLR0913 - what rumur and the compiler can be told
    model: Model,
    secondaries: int,
    *,
    symmetry: bool = False,
    threads: int = 1,
    optimise: Sequence[str] = ("-O0",),
    seconds: float | None = None,
) -> Opinion:
    """Explore a model with rumur.

    A state that breaks an invariant is not followed further, so the number of states is
    that of the whole model only if there is none: give a model without properties for it.

    Args:
        model: The model.
        secondaries: Number of secondaries.
        symmetry: Identify states that differ by a permutation of the secondaries.
        threads: Threads of its program.
        optimise: Options for the compiler.
        seconds: Wall time that its program may take.

    Raises:
        TimeoutError: It took longer.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.m").write_text(murphi(model, secondaries, symmetry=symmetry))
        generate = ["rumur", "--deadlock-detection", "off", "--threads", str(threads)]
        generate += ["--max-errors", "100000", "--counterexample-trace", "off"]
        wide = ["-mcx16"] if platform.machine() == "x86_64" else []
        compile_ = [
            "gcc",
            "-std=c11",
            "-w",
            *optimise,
            *wide,
            "-o",
            "model",
            "model.c",
            "-lpthread",
        ]
        setup = [
            run_measured([*generate, "--output", "model.c", "model.m"], folder, {0}),
            run_measured(compile_, folder, {0}),
        ]
        ran = run_measured(["./model"], folder, {0, 1}, seconds)
    errors = _RUMUR_ERRORS.search(ran.output)
    return Opinion(
        states=int(_found(_RUMUR_STATES, ran.output)),
        errors=int(errors[1]) if errors else 0,
        broken=frozenset(_RUMUR_BROKEN.findall(ran.output)),
        setup_seconds=sum(one.seconds for one in setup),
        search_seconds=ran.seconds,
        peak_bytes=ran.peak_bytes,
    )


def ask_spin(
    model: Model,
    secondaries: int,
    *,
    optimise: Sequence[str] = ("-O0",),
    arguments: Sequence[str] = ("-c0", "-m1000000"),
    seconds: float | None = None,
) -> Opinion:
    """Explore a model with spin, going on after violations; it knows no symmetry.

    Args:
        model: The model.
        secondaries: Number of secondaries.
        optimise: Options for the compiler.
        arguments: Options for its program; its default depth of 10,000 cuts long runs off.
        seconds: Wall time that its program may take.

    Raises:
        TimeoutError: It took longer.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.pml").write_text(promela(model, secondaries))
        setup = [
            run_measured(["spin", "-a", "model.pml"], folder, {0}),
            run_measured(["gcc", *optimise, "-w", "-DSAFETY", "-o", "pan", "pan.c"], folder, {0}),
        ]
        ran = run_measured(["./pan", *arguments], folder, {0}, seconds)
    if "max search depth too small" in ran.output:
        raise RuntimeError("spin's search was cut off: give a larger -m")
    return Opinion(
        states=int(_found(_SPIN_STATES, ran.output)),
        errors=int(_found(_SPIN_ERRORS, ran.output)),
        broken=frozenset(),
        setup_seconds=sum(one.seconds for one in setup),
        search_seconds=ran.seconds,
        peak_bytes=ran.peak_bytes,
    )


def _found(pattern: re.Pattern[str], output: str) -> str:
    match = pattern.search(output)
    if match is None:
        raise RuntimeError(f"no {pattern.pattern!r} in: {output[-400:]}")
    return match[1]


def run_measured(
    command: Sequence[str], folder: Path, expected: set[int], seconds: float | None = None
) -> Ran:
    """Run a process and measure its time and peak memory.

    Args:
        command: The command line.
        folder: Its working directory.
        expected: Exit statuses that are no error.
        seconds: Wall time after which it is killed.

    Raises:
        TimeoutError: It was killed.
        RuntimeError: It ended otherwise than expected.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)  # noqa: S603
        end = threading.Timer(seconds or threading.TIMEOUT_MAX, process.kill)
        end.daemon = True
        end.start()
        _, status, usage = os.wait4(process.pid, 0)
        end.cancel()
        took = time.perf_counter() - start
        out.seek(0)
        output = out.read().decode(errors="replace")
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == -signal.SIGKILL and seconds is not None and took >= seconds:
        raise TimeoutError(f"{command[0]} did not end in {seconds:.0f} s")
    if process.returncode not in expected:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {output[-400:]}")
    return Ran(output, took, usage.ru_maxrss * 1024)
