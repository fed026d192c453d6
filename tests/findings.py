# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that README.md and docs/findings/ show, and the output they quote."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FINDINGS", "ROOT", "Quoted", "quotations", "quoted_in_order"]

ROOT = Path(__file__).parents[1]
FINDINGS = ROOT / "docs" / "findings"
_BLOCK = re.compile(
    r"```(?:console)?\n\$ (?P<command>(?:[^\n]*\\\n)*[^\n]+)\n(?P<output>.*?)```", re.DOTALL
)
_LEFT_OUT = "…"


@dataclass(frozen=True)
class Quoted:
    """One command and its output; runs of lines between which others were left out."""

    arguments: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...]

    @property
    def images(self) -> tuple[str, ...]:
        """The kernel images among the arguments."""
        return tuple(word for word in self.arguments if word.startswith(("vmlinuz-", "built/")))

    def command(self, images: Mapping[str, Path]) -> list[str]:
        """What to run: images where they are, dumps from the root of the repository."""
        words = (images.get(word, word) for word in self.arguments)
        return [str(ROOT / w if str(w).startswith("tests/data/") else w) for w in words]


def quotations(page: Path) -> Iterator[Quoted]:
    """All of one page."""
    for block in _BLOCK.finditer(page.read_text()):
        program, *arguments = shlex.split(block["command"].replace("\\\n", " "))
        assert program == "staleline"
        runs = "\n".join(_words(line) for line in block["output"].splitlines()).split(_LEFT_OUT)
        lines = (tuple(line for line in run.split("\n") if line) for run in runs)
        yield Quoted(tuple(arguments), tuple(run for run in lines if run))


def quoted_in_order(quoted: Quoted, output: str) -> bool:
    """Is every run of lines there, one after the other? Blanks between words do not count."""
    lines = [words for line in output.splitlines() if (words := _words(line))]
    for run in quoted.runs:
        starts = (at for at in range(len(lines)) if lines[at : at + len(run)] == list(run))
        start = next(starts, None)
        if start is None:
            return False
        del lines[: start + len(run)]
    return True


def _words(line: str) -> str:
    return " ".join(line.split())
