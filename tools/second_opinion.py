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
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from staleline.check.murphi import murphi
from staleline.check.promela import promela
from staleline.model.form import Model

__all__ = ["Opinion", "ask_rumur", "ask_spin", "install_checkers"]

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
class _Ran:
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


def ask_rumur(
    model: Model,
    secondaries: int,
    *,
    symmetry: bool = False,
    threads: int = 1,
    optimise: Sequence[str] = ("-O0",),
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
            _run([*generate, "--output", "model.c", "model.m"], folder, {0}),
            _run(compile_, folder, {0}),
        ]
        ran = _run(["./model"], folder, {0, 1})
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
) -> Opinion:
    """Explore a model with spin, going on after violations; it knows no symmetry.

    Args:
        model: The model.
        secondaries: Number of secondaries.
        optimise: Options for the compiler.
        arguments: Options for its program; its default depth of 10,000 cuts long runs off.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.pml").write_text(promela(model, secondaries))
        setup = [
            _run(["spin", "-a", "model.pml"], folder, {0}),
            _run(["gcc", *optimise, "-w", "-DSAFETY", "-o", "pan", "pan.c"], folder, {0}),
        ]
        ran = _run(["./pan", *arguments], folder, {0})
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


def _run(command: Sequence[str], folder: Path, expected: set[int]) -> _Ran:
    log = folder / "output"
    start = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)  # noqa: S603
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    output = log.read_text(errors="replace")
    if process.returncode not in expected:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {output[-400:]}")
    return _Ran(output, seconds, usage.ru_maxrss * 1024)
