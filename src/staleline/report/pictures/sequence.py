# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as the text of a sequence diagram, for Mermaid and for PlantUML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from staleline.check.runs.trace import DRAM_NAME, SHARED_NAME, Counterexample
from staleline.printable import printable
from staleline.report.words.lanes import change_words

__all__ = ["mermaid", "plantuml"]

#: What ends a message or begins something else in either language.
_MEANING = re.compile(r"[;#:<>{}\[\]`\\%]")


def mermaid(run: Counterexample, title: str = "") -> str:
    """A ``sequenceDiagram``; what GitHub, GitLab and many a wiki show as a picture."""
    lines = [*(["---", f"title: {_plain(title)}", "---"] if title else []), "sequenceDiagram"]
    lines += ["    autonumber"]
    lines += [f"    participant {_id(lane)} as {_plain(lane)}" for lane in _lanes(run)]
    for actor, sentence, notes in _told(run):
        lines.append(f"    {_id(actor)}->>{_id(actor)}: {sentence}")
        lines += [f"    Note over {_id(lane)}: {note}" for lane, note in notes]
    return "\n".join(lines) + "\n"


def plantuml(run: Counterexample, title: str = "") -> str:
    """Between ``@startuml`` and ``@enduml``."""
    lines = ["@startuml", *([f"title {_plain(title)}"] if title else []), "autonumber"]
    lines += [f'participant "{_plain(lane)}" as {_id(lane)}' for lane in _lanes(run)]
    for actor, sentence, notes in _told(run):
        lines.append(f"{_id(actor)} -> {_id(actor)} : {sentence}")
        lines += [f"note over {_id(lane)} : {note}" for lane, note in notes]
    return "\n".join([*lines, "@enduml"]) + "\n"


def _told(run: Counterexample) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    for step in run.steps:
        notes = [(change.cpu, _plain(change_words(change))) for change in step.changes]
        yield step.actor, _plain(step.sentence), notes


def _lanes(run: Counterexample) -> tuple[str, ...]:
    changed = {change.cpu for step in run.steps for change in step.changes}
    return (*run.cpus, *((SHARED_NAME,) if SHARED_NAME in changed else ()), DRAM_NAME)


def _id(lane: str) -> str:
    return lane.replace(" ", "_")


def _plain(text: str) -> str:
    return " ".join(_MEANING.sub(",", printable(text)).split())
