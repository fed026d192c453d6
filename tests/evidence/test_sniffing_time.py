# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding out what a line is takes time in proportion to its length, whatever it holds."""

from __future__ import annotations

import contextlib
import time

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot

LENGTH = 60_000
#: Generous, for busy machines: backtracking took 10 s for the first of them and hours for another.
SECONDS = 2


@pytest.mark.parametrize("begin", ["", "0x0", "CPU 0", "processo", "[    0.0] ", "> "])
@pytest.mark.parametrize(
    "unit", ["<a>", " ", "\t", "$ ", "a/", "rdmsr ", "# rdmsr /", "0x0 ", "=", "> ", "1:", "eax "]
)
def test_a_line_is_known_in_linear_time(begin: str, unit: str) -> None:
    line = begin + unit * (LENGTH // len(unit)) + "!"
    started = time.process_time()
    with contextlib.suppress(EvidenceError):
        parse_snapshot(line, "dump")
    assert time.process_time() - started < SECONDS


#: What opens and never ends, many times: each was looked for to the end of the text.
ENDLESS = {
    "comments": "</p>" + "<!--" * 30_000,
    "scripts": "</p>" + "<script>" * 30_000,
    "tags": "</p>" + "<script " * 30_000,
    "blocks of a page": "<html></p>" + "<pre>" * 30_000,
    "tags of a page": "<html>" + "<pre " * 30_000,
    "other ends": "</p>" + "<script></style>" * 20_000,
    # Time grew by its exponential: 26 comments took a minute.
    "comments before no page": "<!-- a -->\n" * 200 + "processor : 0\n",
    "quotes in JSON": '{"schema": "\u00a0' + '\\"' * 60_000,
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_a_text_is_known_in_linear_time(text: str) -> None:
    started = time.process_time()
    with contextlib.suppress(EvidenceError):
        parse_snapshot(text, "dump")
    assert time.process_time() - started < SECONDS
