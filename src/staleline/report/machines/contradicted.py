# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence that contradicts itself: no verdict, and each contradiction a finding.

Nobody can tell which of two fields is wrong, so nothing is taken from either: no handover is
judged, no fact is shown, and what was asked for is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from staleline.evidence.contradiction import Contradiction
from staleline.report.formats.findings import Finding, Findings, Level
from staleline.report.words.identity import identity_fields
from staleline.vocabulary import Path, Verdict

__all__ = [
    "Contradicted",
    "contradicted_audit",
    "contradicted_findings",
    "contradicted_preflight",
    "contradiction_document",
]

_EVIDENCE = "not looked at, because the evidence of the machine contradicts itself"


@dataclass(frozen=True, slots=True)
class Contradicted:
    """An audit that evidence did not allow.

    Attributes:
        contradictions: The contradictions.
        paths: What was asked for.
        kernel: The old kernel, as the user named it; None if the evidence was to name it.
        asked: What else was asked for, as of an audit's findings.
    """

    contradictions: Sequence[Contradiction]
    paths: Sequence[Path]
    kernel: str | None
    asked: Mapping[str, str]

    @property
    def kernel_name(self) -> str:
        """The old kernel, or that it was not named."""
        return self.kernel or "not determined"


def contradicted_findings(audit: Contradicted, *, machine: str, files: Sequence[str]) -> Findings:
    """The findings; `machine` and `files` are as of an audit's."""
    return Findings(
        subject=machine,
        kernel=audit.kernel_name,
        kernel_evidence=_EVIDENCE,
        files=tuple(files),
        by_path=dict.fromkeys(audit.paths, Verdict.UNKNOWN),
        handovers=(),
        other=tuple(
            Finding(one.id, Level.ERROR, one.what, fields=one.fields)
            for one in audit.contradictions
        ),
        asked=audit.asked,
    )


def contradicted_audit(audit: Contradicted) -> dict[str, Any]:
    """The JSON document, as of any audit."""
    return {
        "schema": "staleline/audit/1",
        "verdict": Verdict.UNKNOWN,
        "paths": dict.fromkeys(map(str, audit.paths), Verdict.UNKNOWN),
        "handovers": [],
        "unknown": [one.what for one in audit.contradictions],
        "contradictions": [contradiction_document(one) for one in audit.contradictions],
        "kernel": {"name": audit.kernel_name, "evidence": _EVIDENCE},
        **identity_fields(None),
        "given": [],
        "layers": {"hardware": {}, "firmware": {}, "kernel": {}},
        "cost": {"wbinvd": {"jumping_cpu": None, "each_secondary": None}},
    }


def contradicted_preflight(audit: Contradicted, image: str, reason: str) -> dict[str, Any]:
    """The JSON document of a preflight with such an audit; `image` was not looked at."""
    return {
        "schema": "staleline/preflight/1",
        "verdict": Verdict.UNKNOWN,
        "accepted": [],
        "exit_status": 1,
        "reason": reason,
        "path": audit.paths[0],
        "refused": None,
        "next": {"image": image, "release": None, "command_line": None, "can_encrypt": None},
        "remarks": [],
        "audit": contradicted_audit(audit),
    }


def contradiction_document(one: Contradiction) -> dict[str, Any]:
    """One contradiction in any JSON document: its id, fields, and what to do."""
    return {"id": one.id, "what": one.what, "fields": list(one.fields), "do": one.kind.do}
