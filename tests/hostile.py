# SPDX-License-Identifier: GPL-2.0-or-later
"""Text that terminals and pages would obey, and what would be obeyed in a command's output."""

from __future__ import annotations

import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from markdown_it import MarkdownIt
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["EVIL", "EVIL_WORD", "FORMATS", "elements_of", "obeyed", "replaced_texts", "taken"]

FORMATS = ("text", "json", "sarif", "junit", "prometheus", "markdown")

_MARK = "HOSTILE"
#: Rich's markup, HTML, Markdown, a SARIF link and the ends of what XML and tables quote.
_MARKUP = (
    f"{_MARK}[red]<script>x<img/src=x/onerror=x>![i](x)[l](javascript:x)`*b*|&lt;]]>"
).replace("/", "\u2215")
#: Colours, titles, the order of text, what takes no place; none of it ends a word.
EVIL_WORD = f"\x1b[31m\x9b2J\x1b]0;t\x07\u202e\u2066\u200f\u200b\U000e0041{_MARKUP}"
#: The same with line ends, which neither a name of a file nor a line of a log may have.
EVIL = f"{EVIL_WORD}\r\u2028\u0085"

_WILD = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JUNIT = {
    *("testsuites", "testsuite", "testcase", "properties", "property"),
    *("failure", "error", "system-out"),
}
_LINK = re.compile(r"\]\(")


def obeyed(text: str) -> set[str]:
    """Characters that a terminal or the order of text obeys."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in _WILD}


def taken(form: str, text: str) -> set[str]:
    """What a reader of a format takes for markup of ours, and is none."""
    match form:
        case "text":
            return _console_markup(text)
        case "junit":
            root = ET.fromstring(text)
            return {one.tag for one in root.iter()} - _JUNIT | obeyed("".join(root.itertext()))
        case "sarif":
            return set().union(*map(_in_sarif, json.loads(text)["runs"]))
        case "prometheus":
            families = list(text_string_to_metric_families(text))
            return {family.name for family in families if not family.name.startswith("staleline_")}
        case "markdown":
            return _in_markdown(text)
        case _:
            json.loads(text)
            return set()


def _console_markup(text: str) -> set[str]:
    """A console that read the payload as its own markup leaves the name of the colour out."""
    return {_MARK} if text.count(_MARK) != text.count(f"{_MARK}[red]") else set()


def _in_markdown(text: str) -> set[str]:
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = reader.parse(text)
    tokens += [inner for token in tokens for inner in token.children or ()]
    # Code stands for itself, and what is ours to stress is never the payload's.
    wild = {"html_inline", "html_block", "link_open", "image", "s_open", "em_open"}
    return {token.type for token in tokens if token.type in wild}


def _in_sarif(run: dict[str, Any]) -> set[str]:
    """Links in plain texts are links too (SARIF 2.1.0, 3.11.6)."""
    texts = [message["text"] for message in _objects(run, "message")]
    marked = [part["markdown"] for part in _objects(run, "help")]
    links = {"link" for text in texts if _LINK.search(text)}
    return links.union(*map(obeyed, texts), *map(_in_markdown, marked))


def _objects(document: Any, name: str) -> Iterator[Any]:
    """Every object of this name, at any depth."""
    if isinstance(document, dict):
        if name in document:
            yield document[name]
        for inner in document.values():
            yield from _objects(inner, name)
    elif isinstance(document, list):
        for inner in document:
            yield from _objects(inner, name)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, tuple[str, ...]]] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def elements_of(page: str) -> tuple[set[tuple[str, tuple[str, ...]]], str]:
    """The kinds of elements of an HTML page with their attributes' names, and its text."""
    reader = _Elements()
    reader.feed(page)
    return reader.seen, reader.text


def replaced_texts(document: Any, text: str) -> Iterator[tuple[str, Any]]:
    """Copies of a JSON document, in each another string or key is `text`; with its place.

    Of the elements of a list the first stands for all.
    """
    if isinstance(document, str):
        yield "", text
    elif isinstance(document, dict):
        for name, inner in document.items():
            for place, changed in replaced_texts(inner, text):
                yield f".{name}{place}", {**document, name: changed}
        if document:
            name = next(iter(document))
            rest = {other: inner for other, inner in document.items() if other != name}
            yield ".KEY", {text: document[name], **rest}
    elif isinstance(document, list) and document:
        for place, changed in replaced_texts(document[0], text):
            yield f"[0]{place}", [changed, *document[1:]]
