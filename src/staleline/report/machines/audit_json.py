# SPDX-License-Identifier: GPL-2.0-or-later
"""An audit as ``staleline/audit/1``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from staleline.check.answer import Answer
from staleline.facts import MachineFacts
from staleline.kernel.boot.decision import Store
from staleline.report.litmus.litmus_json import aliases_document
from staleline.report.machines.cost import cost_fields
from staleline.report.words.identity import identity_fields
from staleline.report.words.words import state_word
from staleline.verdict.audit.audit import Audit, Handover
from staleline.verdict.audit.cost import Cost
from staleline.vocabulary import Site

__all__ = ["audit_document", "handover_document", "left_document", "trace_name"]


def audit_document(
    audit: Audit, traces: Mapping[str, str], cost: Cost | None = None
) -> dict[str, Any]:
    """The JSON document.

    Args:
        audit: What was found.
        traces: `trace_name` of a handover -> path of its written counterexample.
        cost: What the flushes cost, where that was asked for.
    """
    return {
        "schema": "staleline/audit/1",
        "verdict": audit.verdict,
        "paths": {str(path): verdict for path, verdict in audit.by_path.items()},
        "handovers": [
            handover_document(handover, traces.get(trace_name(handover)))
            for handover in audit.handovers
        ],
        "unknown": list(dict.fromkeys(audit.unknown)),
        "contradictions": [],
        "kernel": {"name": audit.kernel, "evidence": audit.kernel_evidence},
        **identity_fields(audit.identity),
        "given": list(audit.given),
        "layers": _layers(audit.facts),
        "cost": _flushes(audit) | (cost_fields(cost) if cost is not None else {}),
        **_measured(cost),
    }


def _measured(cost: Cost | None) -> dict[str, Any]:
    if cost is None or cost.measured is None or cost.measured.litmus is None:
        return {}
    return {"measured": aliases_document(cost.measured.litmus)}


def handover_document(handover: Handover, trace: str | None) -> dict[str, Any]:
    """One handover; shared with the documents of other commands."""
    return {
        "old": state_word(handover.old),
        "next": state_word(handover.next),
        "path": handover.path,
        "verdict": handover.verdict,
        "because": handover.because,
        "flushes": dict(handover.flushes),
        "required": dict(handover.needed),
        "attainable": handover.attainable,
        "unneeded": [
            {"site": site, "reason": reason} for site, reason in handover.unneeded.items()
        ],
        "faults": list(handover.faults),
        "left_behind": [
            left_document(site, store)
            for site, stores in handover.left_behind.items()
            for store in stores
        ],
        "unknown": list(handover.unknown),
        "counterexample": trace,
        "steps": _steps(handover.answer),
        "check": _check(handover.answer),
    }


def left_document(site: Site, store: Store) -> dict[str, Any]:
    """A store after the flush of a site, whose line stays dirty."""
    return {
        "site": site,
        "line": store.line,
        "code": store.code,
        "size": store.size,
        "through": store.through,
    }


def trace_name(handover: Handover) -> str:
    """File name of the handover's counterexample, e.g. ``kexec-on-off.itf.json``."""
    return f"{handover.path}-{state_word(handover.old)}-{state_word(handover.next)}.itf.json"


def _steps(answer: Answer | None) -> list[str]:
    if answer is None or answer.counterexample is None:
        return []
    return [step.sentence for step in answer.counterexample.steps]


def _check(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {
        "answer": answer.kind,
        "property": answer.property,
        "states": answer.states,
        "cpus": answer.cpus,
        "symmetry": answer.symmetry,
    }


def _layers(facts: MachineFacts) -> dict[str, Any]:
    return {
        layer: {fact.name: fact.value for fact in facts.layer(layer)}
        for layer in ("hardware", "firmware", "kernel")
    }


def _flushes(audit: Audit) -> dict[str, Any]:
    """WBINVDs that one kexec executes; None where it depends on what is unknown."""
    kexecs = [handover for handover in audit.handovers if Site.STOP_THIS_CPU in handover.flushes]
    return {
        "wbinvd": {
            "jumping_cpu": _count(kexecs, Site.RELOCATE_KERNEL),
            "each_secondary": _count(kexecs, Site.STOP_THIS_CPU),
        }
    }


def _count(handovers: list[Handover], site: Site) -> int | None:
    found = {handover.flushes[site] for handover in handovers}
    value = found.pop() if len(found) == 1 else None
    return None if value is None else int(value)
