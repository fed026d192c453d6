# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings as JUnit XML, in the dialect of Jenkins: a suite per path, a case per handover.

At risk is a failure and unknown an error, so that neither passes unseen; unneeded flushes
are in the case's output.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from staleline.report.findings import Finding, Findings, HandoverFindings, Level
from staleline.vocabulary import Path

__all__ = ["junit_xml"]

_ELEMENTS = {Level.ERROR: "failure", Level.WARNING: "error"}

#: What XML 1.0 does not allow (section 2.2); ElementTree would write it all the same.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(several: Sequence[Findings]) -> str:
    """One document for all audits or policies."""
    root = ET.Element("testsuites", name="staleline")
    for found in several:
        for path in found.by_path:
            root.append(_suite(found, path))
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(found: Findings, path: Path) -> ET.Element:
    rows = [row for row in found.handovers if row.path is path]
    cases = [_case(found, row) for row in rows]
    suite = ET.Element(
        "testsuite",
        name=_text(f"{found.subject} {path}"),
        tests=str(len(cases)),
        failures=str(_with(cases, "failure")),
        errors=str(_with(cases, "error")),
        skipped="0",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(found, path):
        ET.SubElement(properties, "property", name=name, value=_text(value))
    suite.extend(cases)
    return suite


def _with(cases: Sequence[ET.Element], element: str) -> int:
    return sum(case.find(element) is not None for case in cases)


def _properties(found: Findings, path: Path) -> Iterator[tuple[str, str]]:
    yield "kernel", found.kernel
    yield "kernel evidence", found.kernel_evidence
    yield "verdict", found.by_path[path]
    yield from (("file", file) for file in found.files)
    yield from ((finding.id, finding.message) for finding in found.other)


def _case(found: Findings, row: HandoverFindings) -> ET.Element:
    where = [found.subject, *([row.platform] if row.platform else []), row.path]
    case = ET.Element("testcase", classname=_text(" ".join(where)), name=_text(row.transition))
    for finding in row.findings:
        if finding.level in _ELEMENTS:
            element = ET.SubElement(
                case, _ELEMENTS[finding.level], type=finding.id, message=_text(finding.message)
            )
            element.text = _text("\n".join(_details(finding)))
    output = list(_output(row))
    if output:
        ET.SubElement(case, "system-out").text = _text("\n".join(output))
    return case


def _details(finding: Finding) -> Iterator[str]:
    if finding.counterexample is not None:
        steps = enumerate(finding.counterexample.steps, 1)
        yield from (f"{number}. {step.sentence}" for number, step in steps)
    yield f"staleline explain {finding.id}"


def _output(row: HandoverFindings) -> Iterator[str]:
    if row.because:
        yield f"{row.verdict}: {row.because}"
    for finding in row.findings:
        if finding.level is Level.NOTE:
            yield f"{finding.id}: {finding.message}"


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
