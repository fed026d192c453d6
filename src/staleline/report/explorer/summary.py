# SPDX-License-Identifier: GPL-2.0-or-later
"""The head of an explorer page: a verdict per kernel and path, readable without JavaScript."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from staleline.report.explorer.cases import ExploredKernel, ExploredKernels, Result
from staleline.report.words.markup import html_escape
from staleline.vocabulary import WORST_FIRST, Path, Verdict, worst

__all__ = ["heading", "summary", "title"]

_MOST_NAMES = 3


def title(explored: ExploredKernels) -> str:
    """What the page is about, in plain text."""
    return f"{heading(explored)} - staleline"


def heading(explored: ExploredKernels) -> str:
    """For instance ``linux-6.18 and host-mem-incoherent on hygon-sme-incoherent``."""
    kernels = _named([kernel.name for kernel in explored.kernels], "kernels")
    return f"{kernels} on {_named([one.name for one in explored.machines], explored.called)}"


def summary(explored: ExploredKernels) -> str:
    """What it is under, then per kernel a verdict per path, and what is missing; as HTML."""
    sections = ("".join(_of_kernel(explored, kernel)) for kernel in explored.kernels)
    return "\n".join((*_under(explored), *sections))


def _under(explored: ExploredKernels) -> Iterator[str]:
    if explored.under:
        lines = "".join(f'<p class="open">{html_escape(line)}</p>' for line in explored.under)
        yield f'<section class="overall">{lines}</section>'


def _named(names: Sequence[str], what: str) -> str:
    if len(names) > _MOST_NAMES:
        return f"{len(names)} {what}"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _of_kernel(explored: ExploredKernels, kernel: ExploredKernel) -> Iterator[str]:
    yield f'<section class="overall"><p><strong class="name">{html_escape(kernel.name)}</strong> '
    yield f'<span class="note">{html_escape(kernel.note)}</span></p><dl>'
    for path in Path:
        yield from _on_path(explored, kernel, path)
    yield "</dl>"
    yield from _missing(explored, kernel)
    yield "</section>"


def _on_path(explored: ExploredKernels, kernel: ExploredKernel, path: Path) -> Iterator[str]:
    """The verdict of a path: the worst of all machines'."""
    verdicts = {
        machine: overall.by_path[path]
        for (machine, name), overall in explored.overall.items()
        if name == kernel.name and path in overall.by_path
    }
    if verdicts:
        verdict = worst(verdicts.values())
        counts = _counts(_results(explored, kernel, path), verdict)
        told = "; ".join((counts, *_by_machine(verdicts, explored.called)))
        yield f'<dt>{path}</dt><dd><span class="verdict {verdict}">{_mark(verdict)}{verdict.words}'
        yield f"</span> <span>{html_escape(told)}</span></dd>"


def _by_machine(verdicts: Mapping[str, Verdict], called: str) -> Iterator[str]:
    """Whose verdict is which, of several: handovers that are at risk are no machine that is.

    Which of its handovers a machine takes may be unknown, and with it the machine's verdict.
    """
    if len({*verdicts.values()}) > 1:
        for verdict in WORST_FIRST:
            names = [name for name, its in verdicts.items() if its is verdict]
            if names:
                yield f"{verdict.words}: {_named(names, called)}"


def _mark(verdict: Verdict) -> str:
    """A symbol of the page."""
    return f'<svg class="icon stroked" aria-hidden="true"><use href="#mark-{verdict}"/></svg>'


def _results(explored: ExploredKernels, kernel: ExploredKernel, path: Path) -> list[Result]:
    return [
        results[kernel.name]
        for case, results in explored.results.items()
        if case.path is path and kernel.name in results
    ]


def _counts(results: Sequence[Result], verdict: Verdict) -> str:
    """For instance: 4 handovers: 2 at risk, 2 safe; 3 unneeded WBINVDs."""
    outcomes = [result.finding.verdict for result in results]
    verdicts = (f"{outcomes.count(one)} {one.words}" for one in WORST_FIRST if one in outcomes)
    unneeded = sum(len(result.finding.unneeded) for result in results)
    faults = sum(len(result.finding.faults) for result in results)
    beside = ((unneeded, "unneeded"), (faults, "faulting"))
    flushes = (f"{_several(count, f'{kind} WBINVD')}" for count, kind in beside if count)
    # Each handover is settled, and still not which of them this machine takes: no row shows that.
    is_open = verdict is Verdict.UNKNOWN and verdict not in outcomes
    which = ("which of them the machine can meet is not settled",) if is_open else ()
    counted = f"{_several(len(outcomes), 'handover')}: {', '.join(verdicts)}"
    return "; ".join((counted, *which, *flushes))


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _missing(explored: ExploredKernels, kernel: ExploredKernel) -> Iterator[str]:
    machines = {
        machine: overall.missing
        for (machine, name), overall in explored.overall.items()
        if name == kernel.name
    }
    reasons: dict[str, list[str]] = {}
    for machine, missing in machines.items():
        for reason in missing:
            reasons.setdefault(reason, []).append(machine)
    if reasons:
        items = "".join(
            f"<li>{html_escape(reason)}{_of_which(names, machines, explored.called)}</li>"
            for reason, names in reasons.items()
        )
        yield f'<p class="open">Missing, and how to get it:</p><ul>{items}</ul>'


def _of_which(names: Sequence[str], all_names: Collection[str], called: str) -> str:
    """Of which machines something is missing, where it is not of all."""
    return "" if len(names) == len(all_names) else html_escape(f" (of {_named(names, called)})")
