# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a document comes from: the program, the day, and the files on its command line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import click

__all__ = ["with_provenance"]

#: Options of which the value is written to, not read.
_WRITTEN = frozenset({"-o", "--output", "--certificate", "--traces"})


def with_provenance(document: dict[str, Any], *, files: bool = True) -> dict[str, Any]:
    """The document with ``provenance`` at its end, with or without the files of the command."""
    from importlib.metadata import version

    from staleline.report.words.dates import today

    made = {
        "staleline": version("staleline"),
        "date": today(),
        "files": dict(_digests(_words())) if files else {},
    }
    return {**document, "provenance": made}


def _words() -> Sequence[str]:
    context = click.get_current_context(silent=True)
    words = None if context is None else context.find_root().obj
    return [str(word) for word in words or ()]


def _digests(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """SHA-256 of the regular files that were named to be read."""
    from staleline.kernel.file.source import file_digest

    for before, word in zip(("", *words), words, strict=False):
        file = _named_to_be_read(before, word)
        if file is None or not os.path.isfile(file):
            continue
        try:
            yield file, file_digest(file)
        except OSError:
            continue


def _named_to_be_read(before: str, word: str) -> str | None:
    """What may be a file in `word`: all of it, or what stands in it behind an option's name."""
    if word.startswith("--"):
        option, equals, value = word.partition("=")
        return value if equals and option not in _WRITTEN else None
    return None if before in _WRITTEN or word.startswith("-") else word
