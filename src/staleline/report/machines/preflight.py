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

_WORDS = {Verdict.SAFE: "safe", Verdict.AT_RISK: "at risk", Verdict.UNKNOWN: "unknown"}
_STATUS = {Verdict.SAFE: 0, Verdict.AT_RISK: 2, Verdict.UNKNOWN: 3}
_REFUSED = "; but the running kernel refuses to load it"
_SETTLES = "; safe once what loading wrote has left the caches"


def exit_status(found: Preflight) -> int:
    """0 safe or accepted, 2 at risk, 3 unknown."""
    return 0 if found.goes else _STATUS[found.verdict]


def one_line(found: Preflight) -> str:
    """The verdict and its reason, e.g. ``safe: kexec on→off: ...``."""
    transitions = ", ".join(row.transition for row in found.audit.handovers)
    settles = any(remark.id == "crash-safe-once-settled" for remark in found.remarks)
    more = f"{_SETTLES if settles else ''}{_REFUSED if found.refused else ''}"
    return printable(f"{_word(found)}: {found.path} {transitions}: {_reasons(found)}{more}")


def _word(found: Preflight) -> str:
    word = _WORDS[found.verdict]
    return f"accepted ({', '.join(found.accepted)}) though {word}" if found.accepted else word


def _reasons(found: Preflight) -> str:
    """The worst first: the audit's reason, or the objections."""
    objections = "; ".join(one.text for one in found.objections)
    if not objections:
        return _reason(found)
    if found.verdict is found.audit.verdict:
        return f"{_reason(found)}; also {objections}"
    return f"{objections}; but for that {_WORDS[found.audit.verdict]}: {_reason(found)}"


def _reason(found: Preflight) -> str:
    audit = found.audit
    if audit.verdict is Verdict.SAFE:
        reasons = because(audit, found.path)
        return "; ".join(reason.removeprefix("because ") for reason in reasons)
    if audit.verdict is Verdict.UNKNOWN and audit.unknown:
        return audit.unknown[0]
    return meaning(audit, found.path)


def print_preflight(console: Console, found: Preflight, *, machine: str) -> None:
    """The remarks and the whole audit."""
    console.print(f"next kernel  {markup_escape(_next(found.image))}")
    for line in _remarks(found):
        console.print(Padding(line, (0, 0, 0, 2), expand=False))
    console.print()
    print_audit(console, found.audit, machine=machine)


def _next(image: NextImage) -> str:
    carries = "can encrypt its memory" if image.can_encrypt else "cannot encrypt its memory"
    told = "any command line" if image.command_line is None else f"told {image.command_line!r}"
    return f"{image.name}, {carries}, {told}"


def _remarks(found: Preflight) -> Iterator[str]:
    for remark in found.remarks:
        yield f"• {markup_escape(remark.text)} [dim]({markup_escape(remark.source)})[/]"


def preflight_document(found: Preflight) -> dict[str, Any]:
    """The JSON document, with the audit's in it."""
    return {
        "schema": "staleline/preflight/1",
        "verdict": found.verdict,
        "accepted": list(found.accepted),
        "exit_status": exit_status(found),
        "reason": one_line(found),
        "path": found.path,
        "refused": found.refused,
        "next": {
            "image": found.image.image.path,
            "release": found.image.image.release,
            "command_line": found.image.command_line,
            "can_encrypt": found.image.can_encrypt,
        },
        "remarks": [
            {"id": one.id, "text": one.text, "source": one.source} for one in found.remarks
        ],
        "audit": audit_document(found.audit, {}),
    }
