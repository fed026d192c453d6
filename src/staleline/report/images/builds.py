# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed between two builds, as text or as a part of ``staleline/kernel/1``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from staleline.kernel.rule.policychanges import PolicyChanges, RuleChange
from staleline.report.policies.difference import difference_document, print_handovers
from staleline.report.words.console import markup_escape
from staleline.verdict.policies.builds import BuildChange

__all__ = ["change_document", "print_change"]


def change_document(change: BuildChange) -> dict[str, Any]:
    """Plain values; pairs are old and new."""
    rules, difference = change.rules, change.difference
    return {
        "kernels": list(change.names),
        "equals": [list(names) for names in rules.equals],
        "reported_stopped": list(rules.reported),
        "sites": {site: _rule_document(rule) for site, rule in rules.sites.items()},
        "encrypts": _rule_document(rules.encrypts),
        "sets": [
            {"of": one.of, "added": list(one.added), "removed": list(one.removed)}
            for one in rules.sets
        ],
        "handovers": None if difference is None else difference_document(difference),
        "unknown": change.unknown,
    }


def _rule_document(change: RuleChange) -> dict[str, Any]:
    return {
        "added": None if change.added is None else str(change.added),
        "dropped": None if change.dropped is None else str(change.dropped),
        "unknown": list(change.unknown),
    }


def print_change(console: Console, change: BuildChange) -> None:
    """What differs in the builds, then which handovers that changes."""
    console.print(
        f"[bold]{markup_escape(change.names[0])}[/] → [bold]{markup_escape(change.names[1])}[/]"
    )
    console.print()
    for line in _lines(change.rules):
        console.print(markup_escape(line))
    console.print()
    if change.difference is not None:
        print_handovers(console, change.difference)
    else:
        console.print(
            f"[bold yellow]handovers not compared[/] {markup_escape(str(change.unknown))}"
        )


def _lines(rules: PolicyChanges) -> Iterator[str]:
    """A line for each change; ``+`` and ``-`` as in a patch, ``~`` for what was replaced."""
    before, after = (names[0] if names else "none of the catalogue" for names in rules.equals)
    yield f"  rule: {after}" if before == after else f"~ rule: {after}, was {before}"
    for site, change in rules.sites.items():
        yield from _rule_lines(site, "one more WBINVD where", "one WBINVD less where", change)
    yield from _rule_lines("encryption", "now also where", "no longer where", rules.encrypts)
    old, new = (order or "unknown" for order in rules.reported)
    if old != new:
        yield f"~ a CPU is reported stopped {new}, was {old}".replace("-", " ")
    for one in rules.sets:
        yield from (f"- {one.of}: {name}" for name in one.removed)
        yield from (f"+ {one.of}: {name}" for name in one.added)


def _rule_lines(name: str, more: str, less: str, change: RuleChange) -> Iterator[str]:
    if change.added is not None:
        yield f"+ {name}: {more} {change.added}"
    if change.dropped is not None:
        yield f"- {name}: {less} {change.dropped}"
    yield from (f"? {name}: not compared: {reason}" for reason in change.unknown)
    if not change:
        yield f"  {name}: the same rule"
