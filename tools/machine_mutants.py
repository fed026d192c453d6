# SPDX-License-Identifier: GPL-2.0-or-later
"""Do the litmus programs notice mistakes in the simulated caches?

machine/mutants.toml has the mistakes. All are compiled into one emulator, in which a variable of
the environment chooses; each has to be noticed by a litmus program, or by an invariant. The sources
and objects of the emulator are kept beside it. Prints each mutant that nothing has noticed.

Exit status: 0 at least 95 % were noticed, 2 fewer, 1 it could not be run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.build_machine import MACHINE, BuildError, installed, unpacked
from tools.machine_litmus import Program, judged, programs

from staleline.errors import StalelineError
from staleline.simulation.emulator import BuiltMachine, machine_cache

__all__ = ["Mutant", "mutants", "with_mutants"]

_MUTANT: Final = "STALELINE_MUTANT"
_CHOICE: Final = (
    f'static const int bx_mutant = getenv("{_MUTANT}") ? atoi(getenv("{_MUTANT}")) : 0;\n'
)
_AFTER_INCLUDES: Final = "bx_caches_c bx_caches;\n"
_ENOUGH: Final = 0.95
_SOURCE: Final = Path("cpu") / "caches.cc"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake.

    Attributes:
        number: From 1 on.
        function: Where it is.
        old: What stands there.
        new: What stands there in its place.
        ask: Litmus programs that are run first.
    """

    number: int
    function: str
    old: str
    new: str
    ask: tuple[str, ...]


def main(arguments: list[str] | None = None) -> int:
    """Run the litmus programs against each mutant, until one notices it."""
    options = _options(arguments)
    try:
        emulator = _mutated(installed(), options.cache / "mutants")
    except (StalelineError, BuildError, OSError) as error:
        sys.stderr.write(f"machine_mutants: {error}\n")
        return 1
    wanted = [one for one in mutants() if not options.number or one.number in options.number]
    noticed = 0
    for mutant in wanted:
        by = _noticed_by(mutant, emulator)
        noticed += by is not None
        if options.verbose or by is None:
            by_words = f"noticed by {by}" if by else "NOT NOTICED"
            sys.stdout.write(f"{mutant.number} {mutant.function}: {mutant.new!r}: {by_words}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{noticed} of {len(wanted)} mutants noticed\n")
    return 0 if noticed >= _ENOUGH * len(wanted) else 2


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("number", nargs="*", type=int, help="of a mutant (default: all)")
    parser.add_argument("--verbose", action="store_true", help="also tell what noticed a mutant")
    parser.add_argument("--cache", type=Path, default=machine_cache(), help="default: %(default)s")
    return parser.parse_args(arguments)


def mutants() -> list[Mutant]:
    """All of machine/mutants.toml."""
    return [mutant for _, several in _sites() for mutant in several]


def _sites() -> Iterator[tuple[Mapping[str, Any], list[Mutant]]]:
    number = 0
    for site in tomllib.loads((MACHINE / "mutants.toml").read_text())["site"]:
        several = []
        for new in site["new"]:
            number += 1
            function = site["after"].rstrip("(").rpartition("::")[2]
            several.append(Mutant(number, function, site["old"], new, tuple(site["ask"])))
        yield site, several


def with_mutants(source: str) -> str:
    """The caches' source with all mutants, of which the environment chooses.

    Raises:
        BuildError: A site is not there.
    """
    for site, several in _sites():
        start = source.find(site["after"])
        at = source.find(site["old"], start)
        if start < 0 or at < 0:
            raise BuildError(f"mutants.toml: {site['old']!r} is not after {site['after']!r}")
        source = source[:at] + _choice(site, several) + source[at + len(site["old"]) :]
    return source.replace(_AFTER_INCLUDES, _CHOICE + _AFTER_INCLUDES, 1)


def _choice(site: Mapping[str, Any], several: Sequence[Mutant]) -> str:
    """What is there and what is in its place, one expression or statement."""
    text: str = site["old"]
    for mutant in several:
        chosen = f"bx_mutant == {mutant.number}"
        if site.get("expression"):
            text = f"({chosen} ? ({mutant.new}) : ({text}))"
        else:
            text = f"if ({chosen}) {{ {mutant.new} }} else {{ {text} }}"
    return text if site.get("expression") else f"{{ {text} }}"


def _mutated(emulator: BuiltMachine, cache: Path) -> BuiltMachine:
    """The emulator with all mutants in it."""
    tree, objects = unpacked(cache)
    original = tree / _SOURCE
    kept = original.with_suffix(".cc.whole")
    if not kept.exists():
        shutil.copyfile(original, kept)
    mutated = with_mutants(kept.read_text())
    if original.read_text() != mutated:
        original.write_text(mutated)
    done = subprocess.run(
        ["make"],  # noqa: S607
        cwd=objects,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error:" in line]
        raise BuildError((errors or ["make failed"])[0])
    folder = cache / "built"
    shutil.rmtree(folder, ignore_errors=True)  # one that runs goes on with its own files
    shutil.copytree(emulator.folder, folder)
    shutil.copyfile(objects / "bochs", folder / "bochs")
    return BuiltMachine(folder, "mutants")


def _noticed_by(mutant: Mutant, emulator: BuiltMachine) -> str | None:
    os.environ[_MUTANT] = str(mutant.number)
    try:
        for program in _in_order(mutant.ask):
            if not all(finding.right for finding in judged(program, emulator)):
                return program.name
    finally:
        del os.environ[_MUTANT]
    return None


def _in_order(first: Sequence[str]) -> list[Program]:
    return sorted(programs(), key=lambda program: program.name not in first)


if __name__ == "__main__":
    sys.exit(main())
