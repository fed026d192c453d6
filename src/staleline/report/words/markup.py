# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody else's text inside HTML, and where there is room for so much."""

from __future__ import annotations

import html

from staleline.printable import printable

__all__ = ["html_escape", "shortened"]


def html_escape(text: str) -> str:
    """Text that means itself in HTML, and does not turn the order of what is around it round."""
    return html.escape(printable(text))


def shortened(text: str, most: int) -> str:
    """Printable text of so many letters; what was cut is told by the last one."""
    shown = printable(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
