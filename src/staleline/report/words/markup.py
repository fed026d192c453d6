# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody else's text inside HTML."""

from __future__ import annotations

import html

from staleline.printable import printable

__all__ = ["html_escape"]


def html_escape(text: str) -> str:
    """Text that means itself in HTML, and does not turn the order of what is around it round."""
    return html.escape(printable(text))
