# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as a picture: all of it is there, inside the frame, and as well-formed XML."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

import pytest
from rich.console import Console

from staleline.check.answer import check
from staleline.check.runs.trace import _DRAM, DRAM_NAME, Change, Counterexample
from staleline.model.scenario import Flush
from staleline.model.state.cpus import Data
from staleline.report.pictures.sequence import mermaid, plantuml
from staleline.report.pictures.svg import svg
from staleline.report.words.lanes import lanes
from tests.check.scenarios import kexec

NAMESPACE = "{http://www.w3.org/2000/svg}"


def run(transition: str = "on→off") -> Counterexample:
    found = check(kexec(transition, flush_secondary=Flush.NEVER)).counterexample
    assert found is not None
    return found


@pytest.mark.parametrize("transition", ["off→on", "on→off", "on→on"])
def test_every_step_and_lane_is_in_the_picture(transition: str) -> None:
    shown = run(transition)
    root = ET.fromstring(svg(shown, "a <title> & more"))
    texts = [one.text or "" for one in root.iter(f"{NAMESPACE}text")]
    told = " ".join(texts)
    assert texts[0] == "a <title> & more"
    assert {*shown.cpus, "DRAM"} <= set(texts)
    for number, step in enumerate(shown.steps, 1):
        assert str(number) in texts
        assert step.sentence.split()[-1] in told
        assert all(change.after.split(",")[0] in told for change in step.changes)
    assert "destroyed" in told


def test_nothing_lies_outside_the_frame_and_nothing_is_loaded() -> None:
    root = ET.fromstring(svg(run()))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    for one in root.iter(f"{NAMESPACE}rect"):
        assert float(one.get("x", 0)) + float(one.attrib["width"]) <= width
        assert float(one.get("y", 0)) + float(one.attrib["height"]) <= height
    for one in root.iter(f"{NAMESPACE}text"):
        assert float(one.attrib["y"]) < height
    tags = {one.tag.removeprefix(NAMESPACE) for one in root.iter()}
    assert tags == {"svg", "title", "desc", "rect", "line", "text"}
    assert not any("href" in name or "style" in name for one in root.iter() for name in one.attrib)


@pytest.mark.parametrize(("write", "arrow"), [(mermaid, "->>"), (plantuml, " -> ")])
def test_a_message_per_step_and_a_note_per_change(
    write: Callable[[Counterexample, str], str], arrow: str
) -> None:
    shown = run()
    lines = write(shown, "title").splitlines()
    messages = [line for line in lines if arrow in line]
    notes = [line for line in lines if "note over" in line.lower()]
    assert len(messages) == len(shown.steps)
    assert len(notes) == sum(len(step.changes) for step in shown.steps)
    for step, message in zip(shown.steps, messages, strict=True):
        assert message.strip().startswith(step.actor.replace(" ", "_"))
        assert ";" not in message


@pytest.mark.parametrize("lost", [Data.LOST, Data.OVERWRITTEN])
def test_what_is_lost_looks_so_in_every_way_to_show_a_run(lost: Data) -> None:
    """The picture, the terminal's lanes and the player: memory that no kernel wanted so."""
    value = view_words(lost)
    change = Change(DRAM_NAME, "line", "next", value)
    assert "#b3261e" in svg(with_last_change(run(), change))
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=200, color_system="standard")
    console.print(lanes(with_last_change(run(), change)))
    assert f"\x1b[1;31m{value.split()[0]}" in written.getvalue()
    style = files("staleline.report.explorer").joinpath("styles/player.css").read_text()
    rule = re.search(r"\n([^\n]*) \.state \{ color: var\(--risk\); \}", style)
    assert rule is not None
    assert f'[data-holds="{value}"]' in rule[1]


def view_words(data: Data) -> str:
    """As a view tells it."""
    return _DRAM[data]


def with_last_change(shown: Counterexample, change: Change) -> Counterexample:
    """The run, whose last step changes this alone."""
    *steps, last = shown.steps
    return replace(shown, steps=(*steps, replace(last, changes=(change,))))
