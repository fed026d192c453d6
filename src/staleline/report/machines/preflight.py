# SPDX-License-Identifier: GPL-2.0-or-later
"""A preflight as one line, as text with what was looked at, and as ``staleline/preflight/1``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.padding import Padding

from staleline.printable import printable
from staleline.report.machines.audit_json import audit_document
from staleline.report.machines.audit_text import because, meaning, print_audit
from staleline.report.words.console import markup_escape
from staleline.verdict.audit.preflight import Preflight
from staleline.verdict.audit.wanted_next import NextImage
from staleline.vocabulary import Verdict

__all__ = ["exit_status", "one_line", "preflight_document", "print_preflight"]

_REFUSED = "; but the running kernel refuses to load it"
_SETTLES = "; safe once what loading wrote has left the caches"


def exit_status(found: Preflight) -> int:
    """0 safe or accepted, 2 at risk, 3 unknown."""
    return 0 if found.goes else found.verdict.status


def one_line(checked: Preflight) -> str:
    """The verdict and its reason, e.g. ``safe: kexec on→off: ...``."""
    transitions = ", ".join(row.transition for row in checked.audit.handovers)
    settles = any(remark.id == "crash-safe-once-settled" for remark in checked.remarks)
    more = f"{_SETTLES if settles else ''}{_REFUSED if checked.refused else ''}"
    return printable(f"{_word(checked)}: {checked.path} {transitions}: {_reasons(checked)}{more}")


def _word(found: Preflight) -> str:
    word = found.verdict.words
    return f"accepted ({', '.join(found.accepted)}) though {word}" if found.accepted else word


def _reasons(checked: Preflight) -> str:
    """The worst first: the audit's reason, or the objections."""
    objections = "; ".join(one.text for one in checked.objections)
    if not objections:
        return _reason(checked)
    if checked.verdict is checked.audit.verdict:
        return f"{_reason(checked)}; also {objections}"
    return f"{objections}; but for that {checked.audit.verdict.words}: {_reason(checked)}"


def _reason(checked: Preflight) -> str:
    audit = checked.audit
    if audit.verdict is Verdict.SAFE:
        reasons = because(audit, checked.path)
        return "; ".join(reason.removeprefix("because ") for reason in reasons)
    if audit.verdict is Verdict.UNKNOWN and audit.unknown:
        return audit.unknown[0]
    return meaning(audit, checked.path)


def print_preflight(console: Console, checked: Preflight, *, machine: str) -> None:
    """The remarks and the whole audit."""
    console.print(f"next kernel  {markup_escape(_next(checked.image))}")
    for line in _remarks(checked):
        console.print(Padding(line, (0, 0, 0, 2), expand=False))
    console.print()
    print_audit(console, checked.audit, machine=machine)


def _next(image: NextImage) -> str:
    carries = "can encrypt its memory" if image.can_encrypt else "cannot encrypt its memory"
    told = "any command line" if image.command_line is None else f"told {image.command_line!r}"
    return f"{image.name}, {carries}, {told}"


def _remarks(found: Preflight) -> Iterator[str]:
    for remark in found.remarks:
        yield f"• {markup_escape(remark.text)} [dim]({markup_escape(remark.source)})[/]"


def preflight_document(checked: Preflight) -> dict[str, Any]:
    """The JSON document, with the audit's in it."""
    return {
        "schema": "staleline/preflight/1",
        "verdict": checked.verdict,
        "accepted": list(checked.accepted),
        "exit_status": exit_status(checked),
        "reason": one_line(checked),
        "path": checked.path,
        "refused": checked.refused,
        "next": {
            "image": checked.image.image.path,
            "release": checked.image.image.release,
            "command_line": checked.image.command_line,
            "can_encrypt": checked.image.can_encrypt,
        },
        "remarks": [
            {"id": one.id, "text": one.text, "source": one.source} for one in checked.remarks
        ],
        "audit": audit_document(checked.audit, {}),
    }
