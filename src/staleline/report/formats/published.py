# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON Schemas of what the program prints: they are installed with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from staleline.errors import UsageError

__all__ = ["published_schemas", "schema_text"]


@cache
def published_schemas() -> Mapping[str, str]:
    """Identifier as documents have it, ``staleline/audit/1``, -> what such a document is."""
    described = {}
    for entry in sorted(_folder().iterdir(), key=lambda entry: entry.name):
        schema = json.loads(entry.read_text(encoding="utf-8"))
        described[str(schema["title"])] = str(schema["description"])
    return described


def schema_text(name: str) -> str:
    """One schema as it is published.

    Args:
        name: An identifier, or a part that can mean nothing else: ``audit``, ``audit/1``.

    Raises:
        UsageError: There is none of this name.
    """
    wanted = name.removeprefix("staleline/")
    known = [identifier.removeprefix("staleline/") for identifier in published_schemas()]
    # A name without a version means the newest one.
    meant = max(
        (full for full in known if wanted in (full, full.rpartition("/")[0])),
        key=lambda full: int(full.rpartition("/")[2]),
        default=None,
    )
    if meant is None:
        near = get_close_matches(wanted, known, n=1)
        raise UsageError(
            f"no schema named {name!r}" + (f"; did you mean {near[0]}?" if near else ""),
            do="`staleline schema` lists them",
        )
    return (_folder() / f"{meant.replace('/', '-')}.json").read_text(encoding="utf-8")


def _folder() -> Traversable:
    return files("staleline") / "schemas"
