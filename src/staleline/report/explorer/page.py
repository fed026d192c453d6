# SPDX-License-Identifier: GPL-2.0-or-later
"""The explorer as one HTML file: no server, no network, nothing beside it.

Whatever comes from a machine, an image or a policy is untrusted text. Here it is escaped;
in the page it is data that only ever becomes text nodes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from staleline.printable import printable_values
from staleline.report.explorer.bundle import bundle
from staleline.report.explorer.cases import ExploredKernels
from staleline.report.explorer.summary import heading, summary, title
from staleline.report.explorer.withoutscript import provenance_html, worst_run
from staleline.report.pictures.svg import svg
from staleline.report.words.markup import html_escape

__all__ = [
    "STYLES",
    "content_policy",
    "data_block",
    "explorer_page",
    "page_head",
    "script_of",
    "style_of",
]

_BROWSER = (("browser",), ("browser", "player"))
_ENTRY = "main.js"
_TOLD = "The shortest counterexample is shown as a picture, the others are beside this page."
#: Later ones outweigh earlier ones.
STYLES = (
    *("page.css", "matrix.css", "layers.css", "player.css"),
    *("narrow.css", "wishes.css", "paper.css"),
)

#: A data block ends at the first "</script", and "<!--" changes how it is read; without "<"
#: there is neither. U+2028 and U+2029 are for those who read it as JavaScript.
_ESCAPED = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


def explorer_page(explored: ExploredKernels, document: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        explored: What it is about, for what is there without JavaScript.
        document: The data (`explorer_data`).
    """
    script, style = _script(), style_of(STYLES)
    worst = worst_run(explored)
    return Template(page_head() + _asset("index.html")).substitute(
        policy=html_escape(content_policy(script, style)),
        title=html_escape(title(explored)),
        heading=html_escape(heading(explored)),
        summary=summary(explored),
        told=_TOLD if worst is not None else "No counterexample was found.",
        without="" if worst is None else _picture(svg(worst[1], worst[0])),
        provenance=provenance_html(explored),
        style=style,
        script=script,
        data=data_block(document),
    )


def _picture(drawn: str) -> str:
    # What is wider than a window is scrolled by keys too, which takes a place to be at.
    return f'<div class="picture" tabindex="0" role="group" aria-label="Picture">{drawn}</div>'


def page_head() -> str:
    """What every page begins with, as a template."""
    return _asset("head.html")


def content_policy(script: str, style: str) -> str:
    """What the page lets run and load: this script and style, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            # The empty icon, without which browsers ask for one.
            "img-src data:",
            # The default is for what is fetched, and these two are not (CSP level 3).
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def data_block(document: Mapping[str, Any]) -> str:
    """A document as a data block of a page: whatever is in it ends nothing."""
    text = json.dumps(printable_values(document), ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPED)


@cache
def _script() -> str:
    names = [
        "/".join((*folder[1:], entry.name))
        for folder in _BROWSER
        for entry in files(__package__).joinpath(*folder).iterdir()
        if entry.name.endswith(".js")
    ]
    return script_of(tuple(names), _ENTRY)


@cache
def script_of(names: tuple[str, ...], entry: str) -> str:
    """The modules of these names, below the folder of the browser's, as one script."""
    folder = files(__package__).joinpath("browser")
    modules = {
        name.rpartition("/")[2]: folder.joinpath(*name.split("/")).read_text("utf-8")
        for name in names
    }
    return bundle(modules, entry)


def style_of(names: Iterable[str]) -> str:
    """Style sheets, one after the other."""
    return "".join(map(_asset, names))


def _asset(name: str) -> str:
    return files(__package__).joinpath("styles", name).read_text("utf-8")
