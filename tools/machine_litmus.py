# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask the caches of the simulated machine: run the litmus programs and compare their outcomes.

Prints one line per program and machine that is not as machine/litmus/litmus.toml allows, and a
count at the end.

Exit status: 0 all outcomes are allowed, 1 some are not, or a program had none.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.build_machine import MACHINE, BuildError, installed

from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import Configuration, CpuModel, EndedRun, RunBounds, run

__all__ = ["Finding", "Program", "assembled", "judged", "outcome", "programs"]

_LITMUS: Final = MACHINE / "litmus"
_BOUNDS: Final = RunBounds(seconds=60, resets=1)  # a program resets the machine
_MEGABYTES: Final = 16
_FLOPPY: Final = 1440 * 1024
_SECOND_TRACK: Final = 18 * 512
_MASK: Final = (1 << 64) - 1
_PLACES: Final = (0x200000, 0x201040, 0x20E040)  # X, Y and Z
_NAMES: Final = {
    0: "0",
    0xAAAA_AAAA_AAAA_AAAA: "A",
    0xBBBB_BBBB_BBBB_BBBB: "B",
    0xCCCC_CCCC_CCCC_CCCC: "C",
    0xDDDD_DDDD_DDDD_DDDD: "D",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One entry of litmus.toml, as its head describes it."""

    name: str
    asks: str
    source: str
    code: str
    outcomes: frozenset[str]
    coherent: frozenset[str] = frozenset()
    counts: bool = False
    every: bool = False
    seeds: int = 1
    model: CpuModel = CpuModel.ROME
    nmi_delay: int = 0
    caches: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of a program on one machine.

    Attributes:
        program: What was run.
        model: On which CPUs.
        allowed: What it may show.
        seen: What it has shown; "no outcome: …" where a run came to no end of its own.
    """

    program: Program
    model: CpuModel
    allowed: frozenset[str]
    seen: frozenset[str]

    @property
    def right(self) -> bool:
        """Whether nothing was seen but what is allowed, and all of it where that is asked for."""
        return self.seen == self.allowed if self.program.every else self.seen <= self.allowed


def main(arguments: list[str] | None = None) -> int:
    """Run the programs that are asked for."""
    options = _options(arguments)
    try:
        emulator = installed()
        wanted = _wanted(options.program)
    except BuildError as error:
        sys.stderr.write(f"machine_litmus: {error}\n")
        return 1
    runs = wrong = 0
    for program in wanted:
        for finding in judged(program, emulator):
            runs += 1
            wrong += not finding.right
            if options.verbose or not finding.right:
                sys.stdout.write(_line(finding) + "\n")
                sys.stdout.flush()
    sys.stdout.write(f"{len(wanted)} programs, {runs} machines, {wrong} not as allowed\n")
    return 1 if wrong else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("program", nargs="*", help="by name (default: all)")
    parser.add_argument("--verbose", action="store_true", help="also tell what is as allowed")
    return parser.parse_args(arguments)


def _wanted(names: list[str]) -> list[Program]:
    known = {program.name: program for program in programs()}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise BuildError(f"no litmus program is called {', '.join(unknown)}")
    return [known[name] for name in names] if names else list(known.values())


def _line(finding: Finding) -> str:
    verdict = "as allowed" if finding.right else "NOT AS ALLOWED"
    seen, allowed = " | ".join(sorted(finding.seen)), " | ".join(sorted(finding.allowed))
    return f"{finding.program.name} on {finding.model}: {verdict}: {seen} (allowed: {allowed})"


def programs() -> list[Program]:
    """All programs of litmus.toml."""
    entries = tomllib.loads((_LITMUS / "litmus.toml").read_text())["program"]
    return [_program(entry) for entry in entries]


def _program(entry: Mapping[str, Any]) -> Program:
    lists = {name: frozenset(entry.get(name, ())) for name in ("outcomes", "coherent")}
    caches = tuple(entry.get("caches", {}).items())
    model = CpuModel(entry.get("model", CpuModel.ROME))
    return Program(**{**entry, **lists, "caches": caches, "model": model})


def judged(program: Program, emulator: BuiltMachine) -> Iterator[Finding]:
    """Run a program on each machine that litmus.toml has outcomes for."""
    machines = [(program.model, program.outcomes)]
    if program.coherent:
        machines.append((CpuModel.MILAN, program.coherent))
    with tempfile.TemporaryDirectory(prefix="litmus-") as work:
        floppy = Path(work) / "floppy"
        floppy.write_bytes(assembled(program, Path(work)))
        for model, allowed in machines:
            seen = {
                _outcome_of(program, _run(program, model, seed, floppy, emulator))
                for seed in range(1, program.seeds + 1)
            }
            yield Finding(program, model, allowed, frozenset(seen))


def _run(
    program: Program, model: CpuModel, seed: int, floppy: Path, emulator: BuiltMachine
) -> EndedRun:
    caches = {"check": 1, "seed": seed, **dict(program.caches)}
    machine = Configuration(
        model=model, megabytes=_MEGABYTES, nmi_delay=program.nmi_delay, caches=caches, floppy=floppy
    )
    return run(emulator, machine, floppy.parent / "run", _BOUNDS)


def assembled(program: Program, work: Path) -> bytes:
    """A floppy disk that runs the program, and has a sector full of D on its second track."""
    (work / "program.S").write_text(program.code)
    runtime = str(_LITMUS / "runtime.S")
    _tool("gcc", "-c", f"-I{work}", "-o", str(work / "runtime.o"), runtime)
    link = ("-Ttext=0x7c00", "--oformat=binary", "--entry=_start", "--build-id=none")
    _tool("ld", *link, "-o", str(work / "binary"), str(work / "runtime.o"))
    binary = (work / "binary").read_bytes()
    if len(binary) > _SECOND_TRACK:
        raise BuildError(f"{program.name}: does not fit the first track of a floppy disk")
    return (binary.ljust(_SECOND_TRACK, b"\0") + b"\xdd" * 512).ljust(_FLOPPY, b"\0")


def _tool(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["failed"])[-1]
        raise BuildError(f"{command[0]}: {reason}")


def _outcome_of(program: Program, ended: EndedRun) -> str:
    if not program.counts:
        return outcome(ended)
    counted = [
        (sum(event["destroyed"].values()), event["destroyed_loads"])
        for event in ended.events("summary")
    ]
    destroyed, loaded = counted[-1] if counted else ("no", "none")
    return f"{outcome(ended)}, {destroyed} destroyed, {loaded} loaded"


def outcome(ended: EndedRun) -> str:
    """What a run has shown, by the names that litmus.toml uses."""
    words = ended.console.split()
    if not ended.console.endswith("\n") or not all(len(word) == 16 for word in words):
        return f"no outcome: {ended.ending}: {ended.reason}"
    return " ".join(_name(int(word, 16)) for word in words)


def _name(value: int) -> str:
    for place in _PLACES:
        name = _NAMES.get(value ^ _keystream(place))
        if name is not None and name != "0":
            return f"enc({name})"
    return _NAMES.get(value, "junk")


def _keystream(address: int) -> int:
    """The quadword that the machine's cipher adds at an address (crypt() in its caches.cc)."""
    mixed = (address // 8 + 1) * 0x9E37_79B9_7F4A_7C15 & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58_476D_1CE4_E5B9 & _MASK
    return mixed ^ mixed >> 27


if __name__ == "__main__":
    sys.exit(main())
