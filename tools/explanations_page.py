# SPDX-License-Identifier: GPL-2.0-or-later
"""All explanations as one document, which is docs/explanations.md."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby

from staleline.report.words.commonmark import escaped, prose
from staleline.report.words.explanations import Explanation, explanations
from staleline.report.words.explanations_text import HEADINGS

__all__ = ["explanations_markdown"]

_WIDTH = 100
_PREFACE = """\
# Explanations

Reports name what they found by an id. `staleline explain ID` prints its page; the same text is
the help of SARIF rules. This file is made by `tools/generate_docs.py`.
"""


def explanations_markdown() -> str:
    """All pages as one document."""
    lines = [_PREFACE]
    for kind, group in groupby(explanations().values(), key=lambda page: page.kind):
        lines += [f"## {HEADINGS[kind]}", ""]
        for page in group:
            lines += _markdown(page)
    return "\n".join(lines).rstrip("\n") + "\n"


def _markdown(page: Explanation) -> Iterator[str]:
    yield from (f"### {page.id}", "", f"*{escaped(page.title)}*", "")
    yield from (*_wrapped(prose(page.means)), "")
    yield from _wrapped(f"- **It rests on:** {prose(page.evidence)}", indent=2)
    yield from _wrapped(f"- **What to do:** {prose(page.do)}", indent=2)
    if page.sources:
        yield "- **Sources:**"
    for source in page.sources:
        yield from _wrapped(f"  - {escaped(source)}", indent=4)
    yield ""


def _wrapped(text: str, indent: int = 0) -> list[str]:
    """Lines as in the other documents; names of files and options stay whole."""
    return textwrap.wrap(
        text,
        width=_WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
