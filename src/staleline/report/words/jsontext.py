# SPDX-License-Identifier: GPL-2.0-or-later
"""A JSON document as text; apart from the console because its library is slow to import."""

from __future__ import annotations

import json
import re
from typing import Any

from staleline.pattern import Pattern

__all__ = ["json_line", "json_text"]

#: A surrogate in JSON that is none of a pair, which other readers refuse.
# A backslash by itself and whole pairs match before, and without a group.
_LONE = Pattern(r"\\\\|\\ud[89ab]..\\ud[c-f]..|\\u(d[89a-f]..)")


def json_text(document: dict[str, Any]) -> str:
    """The document as indented JSON in ASCII, with a line end."""
    return _LONE.sub(_as_bytes, json.dumps(document, indent=2)) + "\n"


def json_line(document: dict[str, Any]) -> str:
    """The same on one line."""
    return _LONE.sub(_as_bytes, json.dumps(document, separators=(",", ":"))) + "\n"


def _as_bytes(found: re.Match[str]) -> str:
    r"""A byte of a file's name that is not UTF-8 (PEP 383) as the text ``\xff``."""
    code = found[1]
    return found[0] if code is None else f"\\\\x{int(code, 16) & 0xFF:02x}"
