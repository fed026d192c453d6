# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings as Prometheus metrics, for node_exporter's textfile collector."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

from staleline.printable import printable
from staleline.report.formats.findings import Findings, HandoverFindings
from staleline.vocabulary import Verdict

__all__ = ["Metric", "metrics_text", "prometheus_text"]

#: The exposition format's escapes in label values.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

#: What would look like the number that `printable` writes, and what it writes like another one.
_LIKE_A_NUMBER = re.compile(r"\\(?=[xuU])")
_BYTE = re.compile("[\udc80-\udcff]")
#: What was asked for, by the name of its label where a sample has one of that name: of both in one,
#: a sample of the narrower question would pass for one of the whole.
_ASKED = {"path": "asked_path"}

_Labels = Mapping[str, str]
_Samples = Iterable[tuple[_Labels, float]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; all are gauges."""

    name: str
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]

    def lines(self) -> Iterator[str]:
        """In the text exposition format."""
        if self.samples:
            yield f"# HELP {self.name} {self.help}"
            yield f"# TYPE {self.name} gauge"
        for labels, value in self.samples:
            inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            # Fifteen digits hold any time since 1970, and no float shows how it was rounded.
            yield f"{self.name}{{{inside}}} {value:.15g}" if inside else f"{self.name} {value:.15g}"


def prometheus_text(several: Sequence[Findings], *, now: float) -> str:
    """All metrics in the text exposition format 0.0.4.

    Args:
        several: Audits or policies; subject, kernel and what was asked are labels of every
            sample, so that files of several runs can lie side by side. A machine is the subject
            by its host name, if it tells that and no other one here tells the same.
        now: When they were made, in seconds since 1970.
    """
    several = _named_by_host(several)
    metrics = (
        Metric(
            "staleline_info",
            "What was looked at, and how the kernel's behaviour is known.",
            [(_labels(one) | _info(one), 1) for one in several],
        ),
        Metric(
            "staleline_verdict",
            "The verdict on a path, its worst handover's or the load's: the sample that is 1.",
            [sample for one in several for sample in _verdicts(one)],
        ),
        Metric(
            "staleline_handover_verdict",
            "The verdict of a handover: the sample that is 1.",
            [sample for one in several for sample in _handover_verdicts(one)],
        ),
        Metric(
            "staleline_wbinvd_executed",
            "Whether the kernel executes WBINVD at a site; absent where that is unknown.",
            [sample for one in several for sample in _at_sites(one, needed=False)],
        ),
        Metric(
            "staleline_wbinvd_required",
            "Whether the handover requires WBINVD at a site; absent where that depends.",
            [sample for one in several for sample in _at_sites(one, needed=True)],
        ),
        Metric(
            "staleline_findings",
            "Findings by id (staleline explain ID) and level.",
            [sample for one in several for sample in _counts(one)],
        ),
        Metric(
            "staleline_last_run_timestamp_seconds",
            "When this was written, in seconds since 1970.",
            [(_labels(one), now) for one in several],
        ),
    )
    return metrics_text(metrics)


def _named_by_host(several: Sequence[Findings]) -> list[Findings]:
    names = {one.subject: one.host or one.subject for one in several}
    # Two snapshots of one name would be samples of one name, which collectors refuse. A snapshot
    # that keeps its file's name has that one, too.
    told = Counter(name for pair in names.items() for name in set(pair))
    return [
        replace(findings, subject=name) if told[name := names[findings.subject]] == 1 else findings
        for findings in several
    ]


def metrics_text(metrics: Iterable[Metric]) -> str:
    """Metric families, one after the other."""
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())


def _labels(found: Findings) -> dict[str, str]:
    asked = {_ASKED.get(name, name): text for name, text in found.asked.items()}
    return {"subject": found.subject, "kernel": found.kernel, **asked}


def _info(found: Findings) -> dict[str, str]:
    # On every sample these would begin new series with each release and each better evidence.
    return {"evidence": found.kernel_evidence, "version": version("staleline")}


def _verdicts(found: Findings) -> _Samples:
    for path, verdict in found.by_path.items():
        yield from _states(_labels(found) | {"path": path}, verdict)


def _states(labels: _Labels, verdict: Verdict) -> _Samples:
    # A state set, one sample per possible verdict: an alert needs no knowledge of numbers then, as
    # in staleline_verdict{verdict!="safe"} == 1.
    for state in Verdict:
        yield {**labels, "verdict": state}, float(state is verdict)


def _handover_verdicts(found: Findings) -> _Samples:
    for row in found.handovers:
        yield from _states(_labels(found) | _handover(row), row.verdict)


def _handover(row: HandoverFindings) -> dict[str, str]:
    labels = {"path": str(row.path), "old": row.old, "next": row.next}
    if row.platform is not None:
        labels |= {"platform": row.platform, "sev_guests": "yes" if row.sev_guests_run else "no"}
    return labels


def _at_sites(findings: Findings, *, needed: bool) -> _Samples:
    for row in findings.handovers:
        for site, value in (row.needed if needed else row.flushes).items():
            if value is not None:
                yield _labels(findings) | _handover(row) | {"site": site}, float(value)


def _counts(found: Findings) -> _Samples:
    counts = Counter((finding.id, finding.level) for _, finding in found.each())
    for (name, level), count in counts.items():
        yield _labels(found) | {"id": name, "level": level}, count


def _escaped(text: str) -> str:
    """One value for one text: two texts of one value would be one sample told twice.

    Collectors refuse all metrics then, so that a host that calls itself like another one, up to a
    control character, would end the monitoring of all.
    """
    marked = _LIKE_A_NUMBER.sub(r"\\x5c", text)
    bytewise = _BYTE.sub(lambda byte: f"\\u{ord(byte.group()):04x}", marked)
    return printable(bytewise).translate(_ESCAPES)
