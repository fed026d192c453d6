# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings as SARIF 2.1.0, the format that code-scanning services and editors read.

A finding is a result; its explanation is the help of the result's rule. Files are artifacts, kernel
functions are logical locations, and a counterexample is a code flow with a thread per CPU.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from staleline.check.runs.trace import Counterexample
from staleline.printable import printable
from staleline.report.formats.findings import Finding, Findings, HandoverFindings, Level
from staleline.report.words.commonmark import prose
from staleline.report.words.explanations import Explanation, Kind, explanations
from staleline.vocabulary import Verdict

__all__ = ["SCHEMA", "sarif_document"]

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

_SAFE = "safe-handover"


def sarif_document(several: Sequence[Findings], *, together: bool = False) -> dict[str, Any]:
    """One log with a run per audit or policy.

    Args:
        several: The findings.
        together: All of them in one run instead, as results of one reading of many files.
    """
    runs = [_run_of_all(several)] if together else [_run(one) for one in several]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": runs}


def _run_of_all(several: Sequence[Findings]) -> dict[str, Any]:
    """Each result says what it is of, and is found in a file of its own."""
    files = list(dict.fromkeys(file for findings in several for file in findings.files))
    results = []
    for findings in several:
        for result in _results(findings):
            result["properties"] |= findings.properties
            for location in result["locations"]:
                if "physicalLocation" in location:
                    place = location["physicalLocation"]["artifactLocation"]
                    # Until now it was numbered among its own.
                    place["index"] = files.index(findings.files[place["index"]])
            results.append(result)
    return {**_tool(results), **_made_of(files, results)}


def _run(findings: Findings) -> dict[str, Any]:
    results = list(_results(findings))
    return {
        **_tool(results),
        # Services keep one run of each category, which this is up to its last slash (2.1.0,
        # section 3.17.3), so that of two machines in one log both are there.
        "automationDetails": {"id": f"{'/'.join(map(_category, _told_apart(findings)))}/"},
        **_made_of(findings.files, results),
        "properties": {
            "subject": findings.subject,
            "kernel": findings.kernel,
            "kernelEvidence": findings.kernel_evidence,
            **findings.asked,
            "verdicts": {str(path): verdict for path, verdict in findings.by_path.items()},
        },
    }


def _told_apart(findings: Findings) -> Iterator[str]:
    yield "staleline"
    yield from findings.properties.values()


def _category(text: str) -> str:
    """A part of a category, without what ends one."""
    return quote(os.fsencode(text), safe=" ,:")


def _made_of(files: Sequence[str], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "artifacts": [{"location": {"uri": _uri(file)}} for file in files],
        "results": list(results),
        "columnKind": "utf16CodeUnits",
    }


def _tool(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The driver with the rules of these results, which are numbered by them."""
    rules = list(dict.fromkeys(result["ruleId"] for result in results))
    for result in results:
        result["ruleIndex"] = rules.index(result["ruleId"])
    return {
        "tool": {
            "driver": {
                "name": "staleline",
                "semanticVersion": version("staleline"),
                "rules": [_rule(explanations()[name]) for name in rules],
            }
        },
    }


def _rule(page: Explanation) -> dict[str, Any]:
    parts = {"What to do": page.do, "It rests on": page.evidence}
    if page.sources:
        parts["Sources"] = "; ".join(page.sources)
    text = [page.means, *(f"{label}: {part}" for label, part in parts.items())]
    markup = [prose(page.means), *(f"**{label}:** {prose(part)}" for label, part in parts.items())]
    return {
        "id": page.id,
        "shortDescription": {"text": page.title},
        "fullDescription": {"text": page.means},
        "help": {"text": "\n\n".join(text), "markdown": "\n\n".join(markup)},
        "properties": {"kind": page.kind},
    }


def _results(findings: Findings) -> Iterator[dict[str, Any]]:
    for handover, finding in findings.each():
        yield _result(findings, handover, finding)
    for handover in findings.handovers:
        if handover.verdict is Verdict.SAFE:
            because = Finding(_SAFE, Level.NOTE, handover.because, tuple(handover.flushes))
            yield _result(findings, handover, because) | {"kind": "pass", "level": "none"}


def _result(
    findings: Findings, handover: HandoverFindings | None, finding: Finding
) -> dict[str, Any]:
    where = _kernel(findings) if handover is None else _place(findings, handover)
    result = {
        "ruleId": finding.id,
        **_kind(finding),
        "message": {"text": _plain(f"{where}: {finding.message}")},
        "locations": list(_locations(findings.files, finding)),
        "partialFingerprints": {"staleline/v1": _fingerprint(where, finding)},
        "properties": _properties(handover),
    }
    if finding.counterexample is not None:
        result["codeFlows"] = [_code_flow(finding.counterexample)]
    return result


def _kind(finding: Finding) -> dict[str, str]:
    """SARIF wants level ``none`` for every kind but ``fail``."""
    # What SARIF has where too little is known to decide (2.1.0, section 3.27.9).
    if finding.kind is Kind.UNKNOWN:
        return {"kind": "open", "level": "none"}
    return {"kind": "fail", "level": finding.level}


def _place(found: Findings, handover: HandoverFindings) -> str:
    platform = "" if handover.platform is None else f" on {handover.platform}"
    return f"{_kernel(found)}{platform}, {handover.name}"


def _kernel(found: Findings) -> str:
    """The old kernel, and the machine where one was judged: results are shown one by one."""
    audited = found.by_path and found.subject != found.kernel
    return f"{found.kernel} on {found.host or found.subject}" if audited else found.kernel


def _properties(handover: HandoverFindings | None) -> dict[str, Any]:
    if handover is None:
        return {}
    return {
        "platform": handover.platform,
        "path": handover.path,
        "old": handover.old,
        "next": handover.next,
        "sevGuestsRun": handover.sev_guests_run,
        "verdict": handover.verdict,
        "flushes": dict(handover.flushes),
        "required": dict(handover.needed),
        "attainable": handover.attainable,
    }


def _locations(files: Sequence[str], finding: Finding) -> Iterator[dict[str, Any]]:
    """Functions or fields, in the last of the files: the image if one was read."""
    physical: dict[str, Any] = {}
    if files:
        index = len(files) - 1
        location = {"uri": _uri(files[index]), "index": index}
        physical = {"physicalLocation": {"artifactLocation": location}}
    places = [_function(site) for site in finding.sites] + [_field(name) for name in finding.fields]
    if physical or places:
        yield physical | ({"logicalLocations": places} if places else {})


def _function(name: str) -> dict[str, str]:
    return {"name": name, "fullyQualifiedName": name, "kind": "function"}


def _field(name: str) -> dict[str, str]:
    return {"fullyQualifiedName": name, "kind": "property"}


def _code_flow(found: Counterexample) -> dict[str, Any]:
    flows = [_thread(found, cpu) for cpu in found.cpus]
    return {
        "message": {"text": f"{found.property}: {found.title}"},
        # A thread flow has at least one location (2.1.0, section 3.37), and not every CPU moves.
        "threadFlows": [flow for flow in flows if flow["locations"]],
    }


def _thread(found: Counterexample, cpu: str) -> dict[str, Any]:
    steps = enumerate(found.steps, 1)
    return {
        "id": cpu,
        "locations": [
            {
                "executionOrder": number,
                "location": {
                    "message": {"text": step.sentence},
                    "logicalLocations": [_function(step.function)],
                },
                "state": {
                    f"{change.cpu}: {change.variable}": {"text": change.after}
                    for change in step.changes
                },
                "properties": {"action": step.action, "source": step.source},
            }
            for number, step in steps
            if step.actor == cpu
        ],
    }


def _plain(text: str) -> str:
    """Text that means itself: SARIF has links in plain texts too (2.1.0 section 3.11.6)."""
    return printable(text).replace("](", "] (")


def _fingerprint(where: str, finding: Finding) -> str:
    """The same for the same finding of another run, so that results can be followed up."""
    # Without the message, which may be worded anew.
    text = "\0".join((where, finding.id, *finding.sites, *finding.fields))
    # Names of files may hold bytes that are no text.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _uri(file: str) -> str:
    """A file as a URI, or as a relative reference, of which no part can be taken for a scheme."""
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(os.fsencode(path))
