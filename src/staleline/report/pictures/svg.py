# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as SVG: a lane per CPU, shared cache and DRAM, a row per step with its sentence.

One file without scripts, styles or links, which a page may hold as it is; what a step changed
stands in the lane that it changed. Colours are never alone: every value is written out.
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from staleline.check.runs.trace import DRAM_NAME, SHARED_NAME, Change, Counterexample, Step
from staleline.report.words.lanes import change_words
from staleline.report.words.markup import html_escape, shortened

__all__ = ["svg"]

_LANE, _TEXT, _NUMBER, _MARGIN = 150, 470, 34, 16
_LINE, _PADDING, _HEAD = 17, 7, 34
_TEXT_COLUMNS, _LANE_COLUMNS = 60, 20
#: Room for a letter of the title, bold and of 15 units.
_TITLE_LETTER = 10
_FONT = "ui-sans-serif, system-ui, sans-serif"
#: Value -> fill and text, readable on light and on dark grounds.
_BAD, _STALE, _PLAIN = ("#b3261e", "#ffffff"), ("#f2c14e", "#1b1b1b"), ("#dfe6ee", "#1b1b1b")


def svg(run: Counterexample, title: str = "") -> str:
    """The picture.

    Args:
        run: The run.
        title: What it is of; for who cannot see it, too.
    """
    changed = {change.cpu for step in run.steps for change in step.changes}
    lanes = (*run.cpus, *((SHARED_NAME,) if SHARED_NAME in changed else ()), DRAM_NAME)
    heights = [_height(step, lanes) for step in run.steps]
    width = _MARGIN * 2 + _NUMBER + _TEXT + _LANE * len(lanes)
    top = _MARGIN + (_HEAD if title else 0)
    height = top + _HEAD + sum(heights) + _MARGIN
    label = title or f"{run.property} broken in {len(run.steps)} steps"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="{_FONT}" font-size="13" role="img">',
        f"<title>{html_escape(label)}</title>",
        f"<desc>{html_escape(' '.join(step.sentence for step in run.steps))}</desc>",
        # A ground of its own, as the texts' colours are for a light one.
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *_heading(title, lanes, top, height),
        *_rows(run, lanes, heights, top + _HEAD),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _height(step: Step, lanes: tuple[str, ...]) -> int:
    """Of a row: as many lines as its sentence or its fullest lane has."""
    cells = [sum(len(_pieces(one)) for one in step.changes if one.cpu == lane) for lane in lanes]
    return max(len(wrap(step.sentence, _TEXT_COLUMNS)), *cells) * _LINE + 2 * _PADDING


def _heading(title: str, lanes: tuple[str, ...], top: int, height: int) -> Iterator[str]:
    if title:
        # A name may have any length, and what reaches beyond the picture is cut in silence.
        shown = shortened(title, _lane_x(len(lanes)) // _TITLE_LETTER)
        yield _text(_MARGIN, _MARGIN + 15, shown, weight="bold", size=15)
    for number, lane in enumerate(lanes):
        x = _lane_x(number)
        yield _text(x + 8, top + 20, lane, weight="bold")
        yield (f'<line x1="{x}" y1="{top}" x2="{x}" y2="{height - _MARGIN}" stroke="#c3cbd4"/>')
    bottom = top + _HEAD
    yield (
        f'<line x1="{_MARGIN}" y1="{bottom}" x2="{_lane_x(len(lanes))}" y2="{bottom}" '
        'stroke="#1b1b1b"/>'
    )


def _rows(
    run: Counterexample, lanes: tuple[str, ...], heights: list[int], top: int
) -> Iterator[str]:
    y = top
    for number, (step, height) in enumerate(zip(run.steps, heights, strict=True), 1):
        weight = "bold" if number == len(run.steps) else "normal"
        if number % 2 == 0:
            width = _lane_x(len(lanes)) - _MARGIN
            yield f'<rect x="{_MARGIN}" y="{y}" width="{width}" height="{height}" fill="#f4f6f8"/>'
        yield _text(_MARGIN + 4, y + _PADDING + 13, str(number), weight="bold")
        for line, words in enumerate(wrap(step.sentence, _TEXT_COLUMNS)):
            x = _MARGIN + _NUMBER
            yield _text(x, y + _PADDING + 13 + line * _LINE, words, weight=weight)
        for index, lane in enumerate(lanes):
            yield from _cell(step, lane, _lane_x(index), y + _PADDING)
        y += height


def _cell(step: Step, lane: str, x: int, y: int) -> Iterator[str]:
    for change in step.changes:
        if change.cpu != lane:
            continue
        pieces = _pieces(change)
        fill, ink = _colours(change)
        height = len(pieces) * _LINE - 1
        yield (
            f'<rect x="{x + 4}" y="{y}" width="{_LANE - 8}" height="{height}" rx="3" '
            f'fill="{fill}"/>'
        )
        for line, words in enumerate(pieces):
            yield _text(x + 8, y + 12 + line * _LINE, words, ink=ink, size=12)
        y += len(pieces) * _LINE


def _pieces(change: Change) -> list[str]:
    return wrap(change_words(change), _LANE_COLUMNS) or [""]


def _colours(change: Change) -> tuple[str, str]:
    if change.after in {"destroyed", "faulted", "overwritten by the old kernel"}:
        return _BAD
    return _STALE if change.after == "dirty, old" else _PLAIN


def _lane_x(number: int) -> int:
    return _MARGIN + _NUMBER + _TEXT + number * _LANE


def _text(  # noqa: PLR0913 - a text has a place, words and a look
    x: int, y: int, words: str, *, weight: str = "normal", ink: str = "#1b1b1b", size: int = 13
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{ink}">'
        f"{html_escape(words)}</text>"
    )
