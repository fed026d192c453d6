# SPDX-License-Identifier: GPL-2.0-or-later
"""What an explorer page shows without JavaScript: the shortest run, and where it all comes from."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from staleline.check.runs.trace import Counterexample
from staleline.report.explorer.cases import ExploredKernels, run_title
from staleline.report.words.dates import today
from staleline.report.words.markup import html_escape
from staleline.vocabulary import Verdict

__all__ = ["provenance_html", "worst_run"]


def worst_run(explored: ExploredKernels) -> tuple[str, Counterexample] | None:
    """The shortest counterexample of all, with its name."""
    runs = [
        (run_title(kernel, case), run)
        for case, results in explored.results.items()
        for kernel, result in results.items()
        if result.finding.verdict is Verdict.AT_RISK
        and result.finding.answer is not None
        and (run := result.finding.answer.counterexample) is not None
    ]
    return min(runs, key=lambda one: len(one[1].steps), default=None)


def provenance_html(explored: ExploredKernels) -> str:
    """Which program wrote it, when, and of which files."""
    return "".join(f"<p>{html_escape(line)}</p>" for line in _provenance(explored))


def _provenance(explored: ExploredKernels) -> Iterator[str]:
    yield f"staleline {version('staleline')}, {today()}."
    for name, digest in explored.files.items():
        yield f"{name}: {digest}"
