# SPDX-License-Identifier: GPL-2.0-or-later
"""The head of an explorer page: a verdict per kernel, readable without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from staleline.report.explorer_cases import Case, Explored, ExploredKernel, Result
from staleline.vocabulary import Path, Verdict

__all__ = ["heading", "summary", "title"]

_MOST_NAMES = 3
_WORDS = {Verdict.SAFE: "safe", Verdict.AT_RISK: "at risk", Verdict.UNKNOWN: "unknown"}
_WORST_FIRST = (Verdict.AT_RISK, Verdict.UNKNOWN, Verdict.SAFE)
_MEANINGS = {
    Verdict.SAFE: "no dirty line of the old kernel can overwrite the next kernel's memory",
    Verdict.AT_RISK: "can go wrong",
    Verdict.UNKNOWN: "not settled by the evidence",
}

#: A symbol of the page.
_MARK = '<svg class="icon stroked" aria-hidden="true"><use href="#mark-{}"/></svg>'

_Row = tuple[Case, Result]


def title(explored: Explored) -> str:
    """What the page is about, in plain text."""
    return f"{heading(explored)} - staleline"


def heading(explored: Explored) -> str:
    """For instance ``linux-6.18 and host-mem-incoherent on hygon-sme-incoherent``."""
    kernels = _named([kernel.name for kernel in explored.kernels], "kernels")
    return f"{kernels} on {_named([one.name for one in explored.machines], 'machines')}"


def summary(explored: Explored) -> str:
    """A list with one verdict per kernel, as HTML."""
    return "\n".join(map("".join, (_verdict(explored, kernel) for kernel in explored.kernels)))


def _named(names: Sequence[str], what: str) -> str:
    if len(names) > _MOST_NAMES:
        return f"{len(names)} {what}"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _verdict(explored: Explored, kernel: ExploredKernel) -> Iterator[str]:
    rows = [
        (case, results[kernel.name])
        for case, results in explored.results.items()
        if kernel.name in results
    ]
    worst = min((result.finding.verdict for _, result in rows), key=_WORST_FIRST.index)
    yield f'<li><span class="verdict {worst}">{_MARK.format(worst)}{_WORDS[worst]}</span>'
    yield f'<div><strong class="name">{escape(kernel.name)}</strong> '
    yield f'<span class="note">{escape(kernel.note)}</span>'
    yield f"<p>{escape(_counts(rows, worst))}</p></div></li>"


def _counts(rows: Sequence[_Row], worst: Verdict) -> str:
    """For instance: 6 of 16 handovers can go wrong: kexec 4 of 8, crash 2 of 8."""
    if worst is Verdict.SAFE:
        flushes = sum(len(result.finding.unneeded) for _, result in rows)
        beside = f"; {flushes} of its WBINVDs are unneeded" if flushes else ""
        return f"All {len(rows)} handovers: {_MEANINGS[worst]}{beside}."
    found = sum(result.finding.verdict is worst for _, result in rows)
    paths = ", ".join(_on_path(rows, path, worst) for path in Path if _of(rows, path))
    return f"{found} of {len(rows)} handovers {_MEANINGS[worst]}: {paths}."


def _on_path(rows: Sequence[_Row], path: Path, worst: Verdict) -> str:
    of_path = _of(rows, path)
    found = sum(result.finding.verdict is worst for result in of_path)
    return f"{path} {found} of {len(of_path)}"


def _of(rows: Sequence[_Row], path: Path) -> list[Result]:
    return [result for case, result in rows if case.path is path]
