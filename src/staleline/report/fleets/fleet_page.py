# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet as one HTML file: counts, what to do next, classes at risk with their runs, and hosts.

It loads nothing. Names of hosts, files and CPUs are anybody's text: data that only ever becomes
text nodes, or escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from staleline.errors import StalelineError
from staleline.fleet.asked import ASKED
from staleline.fleet.result import AskedFleet
from staleline.fleet.subjects import FleetSubject
from staleline.report.explorer.page import (
    STYLES,
    content_policy,
    data_block,
    page_head,
    script_of,
    style_of,
)
from staleline.report.explorer.runs import Numbers, Runs
from staleline.report.fleets.overview import FleetOverview, counted_as, next_steps
from staleline.report.words.markup import html_escape, shortened
from staleline.verdict.audit.audit import Audit
from staleline.vocabulary import WORST_FIRST, Verdict

__all__ = ["fleet_page"]

_SCRIPTS = (
    *("dom.js", "report.js", "words.js", "fleet/fleet.js", "fleet/listing.js"),
    *(f"player/{name}.js" for name in ("entry", "narration", "player", "run", "stage", "steps")),
    "player/transport.js",
)
_ENTRY = "fleet.js"
#: A class has one line of the page, and runs; of more than so many those of most hosts are there.
_CLASSES_MAX = 5000
_NAME_MAX = 200
#: Lists of the project's own ids: cut, they would name less than is missing.
_OWN_WORDS = frozenset({"missing", "broken", "faults"})
#: Of what was not read, so many are there without JavaScript.
_UNREAD_MAX = 50
_FACTS_SAID = (
    *("vendor", "hypervisor", "sme", "sev", "coherency_enforced", "sme_enabled", "mem_encrypt"),
    *("sme_active", "sev_guests_run", "tdx_module", "sev_guest", "snp_guest", "tdx_guest"),
    *("reboot_force", "offline_cpus"),
)


def fleet_page(asked: AskedFleet, overview: FleetOverview) -> str:
    """The whole page."""
    texts, classes = Numbers(), _AtRisk()
    document = {
        "groups": [_group(texts, row) for row in overview.groups],
        "classes": list(classes.rows(asked, texts)),
        "left_out": classes.left_out,
        "rows": None if overview.rows is None else [_row(texts, row) for row in overview.rows],
        "faults": [[_short(one.file), _short(one.place), one.reason] for one in overview.faults],
    }
    script = script_of(_SCRIPTS, _ENTRY)
    style = style_of((*STYLES, "fleet.css"))
    return Template(page_head() + _template()).substitute(
        policy=html_escape(content_policy(script, style)),
        title=html_escape(f"A fleet of {counted_as(overview.hosts, 'host')}"),
        summary=_summary(overview),
        style=style,
        script=script,
        runs=data_block(classes.document),
        data=data_block({**document, "texts": texts.all}),
    )


def _template() -> str:
    return files(__package__).joinpath("styles", "fleet.html").read_text("utf-8")


def _group(texts: Numbers, row: Mapping[str, Any]) -> list[Any]:
    names = ("release", "model", "rule", "kernel_evidence", "broken")
    own = (_text(texts, row[name], whole=name in _OWN_WORDS) for name in names)
    return [row["verdict"], *own, int(row["hosts"])]


def _row(texts: Numbers, row: Mapping[str, Any]) -> list[Any]:
    names = ("release", "rule", "kernel_evidence", "model", "missing", "broken", "faults", "note")
    own = [_text(texts, row[name], whole=name in _OWN_WORDS) for name in names]
    return [_short(row["host"]), row["verdict"], *own]


def _text(texts: Numbers, text: str | None, *, whole: bool = False) -> int | None:
    return texts.number(text if whole else _short(text)) if text else None


def _short(text: str) -> str:
    return shortened(text, _NAME_MAX)


# ---- classes at risk -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of the page, by the address of its case."""

    case: str
    label: str


class _AtRisk:
    """Classes at risk, each with its shortest runs; runs that are the same are there once."""

    def __init__(self) -> None:
        self._texts, self._results = Numbers(), Numbers()
        self._runs = Runs(self._texts)
        self._cases: dict[int, dict[str, Any]] = {}
        #: Subjects whose class is not on the page.
        self.left_out = 0

    @property
    def document(self) -> dict[str, Any]:
        """Of the runs, as the player takes them (``staleline/explorer/1``)."""
        return {
            "schema": "staleline/explorer/1",
            "machines": [],
            "kernels": [{"name": "the old kernel", "note": "", "rule": []}],
            "cases": list(self._cases.values()),
            "results": self._results.all,
            "facts": [],
            "runs": [{**run, "trace": None} for run in self._runs.documents],
            "texts": self._texts.all,
        }

    def rows(self, asked: AskedFleet, texts: Numbers) -> Iterator[list[Any]]:
        """Name, rule, hosts, facts and runs of each class with a kernel."""
        representatives: dict[int, FleetSubject] = {}
        for (number, _), subject in asked.subjects.items():
            representatives.setdefault(number, subject)
        known: dict[str, list[Any]] = {}
        for row in asked.running.rows(_SUBJECTS_AT_RISK):
            judged = asked.judge.asked(representatives[row["subject"]])
            # Subjects of which the same is asked are one class here.
            key = repr((judged.values, judged.key))
            if key in known:
                known[key][2] += int(row["hosts"])
            elif len(known) == _CLASSES_MAX:
                self.left_out += 1
            else:
                try:
                    audit = asked.judge.audit(judged)
                except StalelineError:
                    # Its hosts are counted above, and what is not here is.
                    self.left_out += 1
                    continue
                runs = [[run.case, run.label] for run in self._of(audit)]
                facts = texts.number(_facts(judged.values))
                name = f"class {len(known) + 1}"
                known[key] = [name, texts.number(audit.kernel), int(row["hosts"]), facts, runs]
        yield from sorted(known.values(), key=lambda subject: -subject[2])

    def _of(self, audit: Audit) -> Iterator[_Run]:
        for row in audit.handovers:
            answer = row.answer
            if row.verdict is not Verdict.AT_RISK or answer is None or not answer.counterexample:
                continue
            number = self._runs.of(answer.counterexample)
            check = [answer.kind, answer.cpus, answer.states]
            result = {"verdict": "at-risk", "run": number, "followed": {}, "check": check}
            case: dict[str, Any] = {"id": f"run-{number + 1}", "machine": "", "path": row.path}
            case |= {"old": row.old, "next": row.next, "guests": False}
            self._cases.setdefault(number, {**case, "results": {"0": self._results.number(result)}})
            yield _Run(f"run-{number + 1}", f"{row.path} {row.transition}")


_SUBJECTS_AT_RISK = """
SELECT subject, SUM(hosts) AS hosts FROM judged WHERE verdict = 'at-risk'
GROUP BY subject ORDER BY hosts DESC, subject
"""


def _facts(values: Sequence[Any]) -> str:
    told = dict(zip(ASKED, values, strict=True))
    words = {True: "yes", False: "no", None: "unknown"}
    said = (
        (name, told[name] if isinstance(told[name], str) else words[told[name]])
        for name in _FACTS_SAID
        # Most is not so, and would bury the rest.
        if told[name] is not False
    )
    return ", ".join(f"{name} {word}" for name, word in said)


# ---- what is there without JavaScript ------------------------------------------------------


def _summary(overview: FleetOverview) -> str:
    counts = "".join(
        f'<li class="{name}"><strong>{overview.counts[name]:,}</strong>'
        f'<span class="verdict {name}"><svg aria-hidden="true" class="icon stroked">'
        f'<use href="#mark-{name}"/></svg>{name.words}</span></li>'
        for name in WORST_FIRST
    )
    share = "".join(
        f'<span class="{name}" data-share="{_share(overview, name)}"></span>'
        for name in WORST_FIRST
        if overview.counts[name]
    )
    steps = "".join(f"<li>{html_escape(step)}</li>" for step in _steps(overview))
    return (
        f'<ul class="counts">{counts}</ul>'
        f'<div class="share" aria-hidden="true" hidden>{share}</div>'
        f'<p class="note">{html_escape(overview.asked_words)}</p>'
        f'<div class="overall"><p class="open">What to do next</p><ol class="next">{steps}</ol>'
        f"</div>"
        f"{_without_script(overview)}"
    )


def _share(found: FleetOverview, name: str) -> int:
    # A share that rounds to nothing is one all the same.
    return max(1, round(1000 * found.counts[name] / max(1, found.hosts)))


def _steps(overview: FleetOverview) -> Iterator[str]:
    yield from (step.replace("`", "") for step in next_steps(overview))
    if overview.again:
        yield (
            f"Told more than once: {counted_as(overview.again_count, 'host')}. Their notes name "
            "the files; where nothing tells which is newer they are unknown."
        )
    if overview.doubtful:
        yield (
            f"Of {counted_as(overview.doubtful, 'host')} the time of collecting is none, or in the "
            "future, and is not trusted."
        )
    if overview.rows is None:
        fleet = shlex.quote(overview.fleet)
        yield f"A row for each host: staleline fleet audit {fleet} -o hosts.parquet"


def _without_script(overview: FleetOverview) -> str:
    """A few of what was not read, for readers without JavaScript."""
    if not overview.faults:
        return ""
    shown = overview.faults[:_UNREAD_MAX]
    rows = "".join(
        f"<li>{html_escape(f'{_short(one.where)}: {_short(one.reason)}')}</li>" for one in shown
    )
    left = len(overview.faults) - len(shown)
    more = f"<p>and {left:,} more</p>" if left else ""
    return f"<noscript><p>Not read:</p><ul>{rows}</ul>{more}</noscript>"
