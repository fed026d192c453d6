# SPDX-License-Identifier: GPL-2.0-or-later
"""The same cases with rumur, spin and our engines: times, states and memory side by side.

One run series: every engine gets the same model, each in a process of its own. Total time is
set-up (generating and compiling a program; or starting Python, imports, building the model)
plus search. Prints the table and writes it to docs/benchmarks.md.

    python -m benchmarks.checkers            everything: many minutes
    python -m benchmarks.checkers --quick    the small cases only
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.second_opinion import Opinion, ask_rumur, ask_spin, install_checkers, run_measured

from staleline.check.export.combine import combined
from staleline.check.search.search import search
from staleline.check.search.views import views
from staleline.model.form import Model
from staleline.model.scenario import Flush, Scenario
from staleline.model.scenario import Path as HandoverPath
from staleline.model.world import world

REPOSITORY = Path(__file__).resolve().parent.parent
REPORT = REPOSITORY / "docs" / "benchmarks.md"
SECONDS = 120.0  # after which an engine is stopped
FASTEST = ("-O2", "-march=native")

#: (CPUs, line roles): those that every engine is given, and those of our engines alone.
QUICK = ((2, 1), (3, 1), (4, 1), (5, 1), (2, 2), (3, 2))
ALL = (*QUICK, (6, 1), (7, 1), (8, 1), (4, 2), (5, 2), (6, 2), (3, 3), (4, 3))
DIAGRAMS_ONLY = ((64, 1), (64, 2), (256, 1))

#: kexec off→on on incoherent hardware where every site flushes: safe, so that every engine
#: has to look at all states.
SCENARIO = Scenario(
    path=HandoverPath.KEXEC,
    old_encrypts=False,
    next_encrypts=True,
    incoherent=True,
    flush_secondary=Flush.ALWAYS,
    flush_jumping=Flush.ALWAYS,
)


@dataclass(frozen=True)
class Result:
    """One engine on one case; `states` is a text where it is not comparable."""

    setup: float
    search: float
    states: str
    megabytes: float

    @property
    def total(self) -> float:
        """Seconds from the model to the answer."""
        return self.setup + self.search

    def __str__(self) -> str:
        return f"{self.setup:.2f} + {self.search:.2f} = {self.total:.2f} s"


@dataclass(frozen=True)
class Row:
    """One case: engine -> result, or None where it did not end in time."""

    cpus: int
    roles: int
    results: dict[str, Result | None]

    @property
    def name(self) -> str:
        """For instance ``5 CPUs, 2 roles``."""
        return f"{self.cpus} CPUs, {self.roles} role{'s' if self.roles > 1 else ''}"


def model(roles: int) -> Model:
    """The first line roles of the scenario in one model."""
    return combined(world(SCENARIO)[:roles])


# --- our engines, each in a child process ---------------------------------------------------


def search_child(roles: int, secondaries: int) -> tuple[float, str]:
    """Breadth-first search with symmetry; seconds of the search alone, and states."""
    case = model(roles)
    start = time.perf_counter()
    found = search(case, secondaries, limit=10_000_000)
    assert found.violated is None
    return time.perf_counter() - start, f"{found.states:,}"


def views_child(roles: int, _secondaries: int) -> tuple[float, str]:
    """Views, which are for any number of CPUs."""
    case = model(roles)
    start = time.perf_counter()
    found = views(case)
    assert found.proved
    return time.perf_counter() - start, f"{found.count:,} views"


def diagrams_child(roles: int, secondaries: int) -> tuple[float, str]:
    """Binary decision diagrams, without symmetry."""
    # Part of a child's set-up only where it is used, as for the command.
    from staleline.check.diagrams.decisiondiagram import explore  # noqa: PLC0415

    case = model(roles)
    start = time.perf_counter()
    found = explore(case, secondaries)
    assert found.violated is None
    return time.perf_counter() - start, _number(found.states)


CHILDREN: dict[str, Callable[[int, int], tuple[float, str]]] = {
    "search": search_child,
    "views": views_child,
    "diagrams": diagrams_child,
}


def ask_child(engine: str, cpus: int, roles: int) -> Result | None:
    """Run one of our engines as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.checkers"]
    command += ["--child", engine, str(roles), str(cpus - 1)]
    try:
        ran = run_measured(command, REPOSITORY, {0}, SECONDS)
    except TimeoutError:
        return None
    search, states = json.loads(ran.output.splitlines()[-1])
    return Result(ran.seconds - search, search, states, ran.peak_bytes / 2**20)


# --- the other checkers -----------------------------------------------------------------------


def ask_other(ask: Callable[[], Opinion]) -> Result | None:
    """One of the other checkers, or None if it does not end in time."""
    try:
        found = ask()
    except TimeoutError:
        return None
    assert found.errors == 0
    megabytes = found.peak_bytes / 2**20
    return Result(found.setup_seconds, found.search_seconds, f"{found.states:,}", megabytes)


def rows(cases: tuple[tuple[int, int], ...], *, others: bool) -> Iterator[Row]:
    """Run every engine on every case."""
    for cpus, roles in cases:
        case, secondaries = model(roles), cpus - 1
        results: dict[str, Result | None] = {}
        if others:
            results["rumur"] = ask_other(
                lambda case=case, n=secondaries: ask_rumur(  # type: ignore[misc]
                    case, n, symmetry=True, threads=2, optimise=FASTEST, seconds=SECONDS
                )
            )
            results["spin"] = ask_other(
                lambda case=case, n=secondaries: ask_spin(  # type: ignore[misc]
                    case, n, optimise=FASTEST, arguments=["-m1000000"], seconds=SECONDS
                )
            )
            results["search"] = ask_child("search", cpus, roles)
        results["views"] = ask_child("views", cpus, roles)
        if has_diagrams():
            results["diagrams"] = ask_child("diagrams", cpus, roles)
        yield Row(cpus, roles, results)


def has_diagrams() -> bool:
    """Is the engine of decision diagrams part of this version?"""
    return (REPOSITORY / "src/staleline/check/diagrams/decisiondiagram.py").exists()


# --- the table --------------------------------------------------------------------------------

HEADINGS = {
    "rumur": "rumur, symmetry, 2 threads",
    "spin": "spin",
    "search": "search, symmetry",
    "views": "views, any number of CPUs",
    "diagrams": "decision diagrams",
}


def cell(result: Result | None, measured: bool) -> str:
    """A result as a cell of the table."""
    if not measured:
        return "-"
    if result is None:
        return f"> {SECONDS:.0f} s"
    return f"{result}; {result.states}; {result.megabytes:.0f} MB"


def ratio(row: Row) -> str:
    """Total time of the faster of the other checkers, over that of the exact engine of ours."""
    others = [one.total for name in ("rumur", "spin") if (one := row.results.get(name))]
    ours = [one.total for name in ("search", "diagrams") if (one := row.results.get(name))]
    return f"{min(others) / min(ours):.1f}" if others and ours else "-"


def table(found: list[Row]) -> Iterator[str]:
    """The rows as Markdown."""
    yield f"| case | {' | '.join(HEADINGS.values())} | faster other / faster exact engine |"
    yield "|---" * (len(HEADINGS) + 2) + "|"
    for row in found:
        cells = [cell(row.results.get(name), name in row.results) for name in HEADINGS]
        yield f"| {row.name} | {' | '.join(cells)} | {ratio(row)} |"


def report(found: list[Row]) -> str:
    """The document."""
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "## Model checkers",
            "",
            "`benchmarks/checkers.py`, one run series. The handover is kexec off→on on incoherent",
            "hardware where every site flushes: it is safe, so that every engine has to look at",
            "all states. Roles are the scenario's first ones (image, rest of RAM, stop mask), in",
            "one model. Cells: set-up + search = total; states; peak memory of the search.",
            "Set-up is generating and compiling a program for rumur and spin (gcc -O2",
            "-march=native); for the others, starting Python, imports and building the model.",
            "rumur and the search count states that are permutations of each other once, spin and",
            "the decision diagrams count each; P4 is checked by rumur, search and decision",
            f"diagrams. An engine is stopped after {SECONDS:.0f} s. spin may go 1,000,000 deep,",
            "which takes 53 MB. Memory below 18 MB cannot be told apart, as a process begins with",
            "that of the one that started it. The last column is the faster of rumur and spin over",
            "the faster of search and decision diagrams, in total time.",
            "",
            f"{_machine()}; mean load at the end {os.getloadavg()[2]:.1f}.",
            "",
            *table(found),
            "",
        ]
    )


def _machine() -> str:
    versions = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
        for command in (["rumur", "--version"], ["spin", "-V"], ["gcc", "-dumpfullversion"])
    ]
    versions[2] = f"gcc {versions[2]}"
    return ", ".join([f"{os.cpu_count()} cores", f"Python {platform.python_version()}", *versions])


def _number(states: int) -> str:
    """Digits as long as they can be read, else the order of magnitude."""
    return f"{states:,}" if states < 10**12 else f"about 10^{len(str(states)) - 1}"


def main() -> None:
    """Run the series, or one engine as a child."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the small cases; writes no file")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        engine, roles, secondaries = arguments.child
        print(json.dumps(CHILDREN[engine](int(roles), int(secondaries))))
        return
    install_checkers()
    found: list[Row] = []
    series = [rows(QUICK if arguments.quick else ALL, others=True)]
    if not arguments.quick and has_diagrams():
        series.append(rows(DIAGRAMS_ONLY, others=False))
    for part in series:
        for row in part:
            found.append(row)
            print(list(table([row]))[-1], flush=True)
    if not arguments.quick:
        REPORT.write_text(report(found))
        print(f"written to {REPORT.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
