# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings as JUnit XML, in the dialect of Jenkins: a suite per path, a case per handover.

Unneeded flushes are in the case's output.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from staleline.printable import printable_lines
from staleline.report.formats.findings import Finding, Findings, HandoverFindings, Level
from staleline.report.words.explanations import Kind
from staleline.vocabulary import Verdict

__all__ = ["junit_xml"]

#: Kinds of findings that tell of no fault, but why there is no verdict.
_WITHOUT_VERDICT = frozenset({Kind.UNKNOWN, Kind.CONTRADICTION})
#: Findings that something could not be read.
_UNREAD = frozenset({"image-unreadable"})


def junit_xml(several: Sequence[Findings]) -> str:
    """One document for all audits, policies or images."""
    root = ET.Element("testsuites", name="staleline")
    for found in several:
        root.extend(_suites(found))
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suites(findings: Findings) -> Iterator[ET.Element]:
    """One per path, and one with what is of no handover, where that may fail."""
    for path in dict.fromkeys(row.path for row in findings.handovers):
        cases = [_handover(findings, row) for row in findings.handovers if row.path is path]
        yield _suite(findings, f"{findings.subject} {path}", cases, findings.by_path.get(path))
    # A document without tests makes some servers fail (docs/decisions.md).
    if not findings.by_path or any(finding.level is not Level.NOTE for finding in findings.other):
        yield _suite(
            findings,
            findings.subject,
            [_case(findings.subject, findings.kernel, findings.other)],
            None,
        )


def _suite(
    findings: Findings, name: str, cases: Sequence[ET.Element], verdict: Verdict | None
) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=_text(name),
        tests=str(len(cases)),
        failures=str(_with(cases, "failure")),
        errors=str(_with(cases, "error")),
        skipped="0",
    )
    properties = ET.SubElement(suite, "properties")
    for label, value in _properties(findings, verdict):
        ET.SubElement(properties, "property", name=label, value=_text(value))
    suite.extend(cases)
    return suite


def _with(cases: Sequence[ET.Element], element: str) -> int:
    return sum(case.find(element) is not None for case in cases)


def _properties(findings: Findings, verdict: Verdict | None) -> Iterator[tuple[str, str]]:
    yield "kernel", findings.kernel
    yield "kernel evidence", findings.kernel_evidence
    if verdict is not None:
        yield "verdict", verdict
    yield from ((name.replace("_", " "), text) for name, text in findings.asked.items())
    yield from (("file", file) for file in findings.files)
    yield from ((finding.id, finding.message) for finding in findings.other)


def _handover(found: Findings, row: HandoverFindings) -> ET.Element:
    where = [found.subject, *([row.platform] if row.platform else []), row.path]
    because = (f"{row.verdict}: {row.because}",) if row.because else ()
    return _case(" ".join(where), row.transition, row.findings, because)


def _case(
    classname: str, name: str, findings: Sequence[Finding], output: Sequence[str] = ()
) -> ET.Element:
    case = ET.Element("testcase", classname=_text(classname), name=_text(name))
    notes = list(output)
    for finding in findings:
        if finding.level is Level.NOTE:
            notes.append(f"{finding.id}: {finding.message}")
        else:
            case.append(_outcome(finding))
    if notes:
        ET.SubElement(case, "system-out").text = _text("\n".join(notes))
    return case


def _outcome(finding: Finding) -> ET.Element:
    # What is at risk fails, and what is unknown or contradicts itself is an error: neither passes
    # unseen.
    unanswered = finding.kind in _WITHOUT_VERDICT or finding.id in _UNREAD
    outcome = "error" if unanswered else "failure"
    element = ET.Element(outcome, type=finding.id, message=_text(finding.message))
    element.text = _text("\n".join(_details(finding)))
    return element


def _details(finding: Finding) -> Iterator[str]:
    if finding.counterexample is not None:
        steps = enumerate(finding.counterexample.steps, 1)
        yield from (f"{number}. {step.sentence}" for number, step in steps)
    yield f"staleline explain {finding.id}"


def _text(text: str) -> str:
    # What XML 1.0 does not allow (section 2.2) is not printable either.
    return printable_lines(text)
