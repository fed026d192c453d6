# SPDX-License-Identifier: GPL-2.0-or-later
"""A series of builds: which of them first changed what, and which first made it worse.

As text, as findings, and as the part ``since`` of ``staleline/kernel/1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from staleline.report.formats.findings import Finding, Findings, Level
from staleline.report.images.builds import print_change
from staleline.report.policies.difference_findings import difference_findings
from staleline.report.policies.folding import where_words
from staleline.verdict.policies.builds import BuildChange

if TYPE_CHECKING:
    from staleline.verdict.policies.difference import ChangedHandover

__all__ = ["SeriesStep", "change_findings", "first_bad", "print_series", "worse_handovers"]


@dataclass(frozen=True, slots=True)
class SeriesStep:
    """From one build to the next.

    Attributes:
        old: The file of the earlier one.
        new: That of the later one.
        change: What changed; None if one of them could not be read.
    """

    old: str
    new: str
    change: BuildChange | None


def worse_handovers(change: BuildChange | None) -> list[ChangedHandover]:
    """What was safe and is not, as far as both rules are known."""
    if change is None or change.difference is None:
        return []
    return [one for one in change.difference.handovers if one.worse]


def first_bad(steps: Sequence[SeriesStep]) -> str | None:
    """The first build under which something that was safe before it is not safe any more."""
    return next((step.new for step in steps if worse_handovers(step.change)), None)


def print_series(console: Console, steps: Sequence[SeriesStep]) -> None:
    """The first bad build, then each step that changed something."""
    console.print(_headline(steps))
    for step in steps:
        console.print()
        # `print_change` names builds by release: where that is one, or it is not printed, files
        # tell them apart.
        if step.change is None or len(set(step.change.names)) == 1 or not step.change.rules:
            names = Text.assemble((step.old, "bold"), " → ", (step.new, "bold"), overflow="fold")
            console.print(names)
        if step.change is None:
            console.print("  not compared: one of them could not be read", style="bold yellow")
        elif not step.change.rules and not _handovers(step.change):
            unknown = step.change.unknown
            console.print(f"  not compared: {unknown}" if unknown else "  nothing changes")
        else:
            print_change(console, step.change)


def _headline(steps: Sequence[SeriesStep]) -> Text:
    for step in steps:
        worse = worse_handovers(step.change)
        if worse:
            where = _where(worse)
            return Text.assemble(
                ("first bad: ", "bold red"),
                (step.new, "bold"),
                f", {_counted(len(worse))} no longer safe: {where}",
                overflow="fold",
            )
    changing = [step for step in steps if step.change is not None and _handovers(step.change)]
    unknown = [step for step in steps if step.change is None or step.change.difference is None]
    first = f"; first to change a handover: {changing[0].new}" if changing else ""
    # A build that could not be compared may be the first bad one, so that the series is not
    # cleared.
    if unknown:
        return Text.assemble(
            ("unknown: ", "bold yellow"),
            f"{unknown[0].new} could not be compared; no build that could is worse{first}",
            overflow="fold",
        )
    return Text.assemble(("no build is worse", "bold green"), first, overflow="fold")


def _handovers(change: BuildChange) -> bool:
    return change.difference is not None and bool(change.difference.handovers)


def _where(worse: Sequence[ChangedHandover]) -> str:
    paths = dict.fromkeys(one.new.path for one in worse)
    return "; ".join(
        f"{path} {where_words(one.new for one in worse if one.new.path is path)}" for path in paths
    )


def _counted(number: int) -> str:
    return f"{number} handover{'' if number == 1 else 's'}"


def change_findings(step: SeriesStep) -> Findings:
    """What one step brought in, or why that is not known."""
    change = step.change
    if change is not None and change.difference is not None:
        evidence = "read by running the image's own code"
        return difference_findings(
            change.difference, old=step.old, new=step.new, evidence=evidence, files=(step.new,)
        )
    reason = change.unknown if change is not None else "one of the two could not be read"
    return Findings(
        subject=f"{step.old} → {step.new}",
        kernel=step.new if change is None else change.names[1],
        kernel_evidence="not compared",
        files=(step.new,),
        by_path={},
        handovers=(),
        other=(Finding("image-not-read", Level.WARNING, str(reason)),),
    )
