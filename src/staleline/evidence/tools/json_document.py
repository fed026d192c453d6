# SPDX-License-Identifier: GPL-2.0-or-later
"""A JSON document of a tool, whole or refused."""

from __future__ import annotations

import json
from typing import Any

from staleline.errors import EvidenceError
from staleline.inputfile import whole_number

__all__ = ["json_document"]


def json_document(text: str, where: str, again: str) -> Any:
    """What `text` holds; `again` says what to do if it is not whole.

    Raises:
        EvidenceError: It is not whole.
    """
    try:
        return json.loads(text, parse_int=whole_number)
    except (json.JSONDecodeError, RecursionError) as error:
        raise EvidenceError("is not whole JSON", where=where, do=again) from error
    except ValueError as error:
        raise EvidenceError(f"has a {error}", where=where, do=again) from error
