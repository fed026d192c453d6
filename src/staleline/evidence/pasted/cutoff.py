# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts that end within a line, as a copy does that was cut off.

What stands before is evidence, and partial evidence is never an error. What the last line would
have said is not known: a number may lack digits, and "sme" be the beginning of "smep".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from staleline.errors import EvidenceError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.snapshot import Note, Snapshot

__all__ = ["read_before_cut"]

_SHOWN: Final = 40


def read_before_cut(
    parse: Callable[[str, str], Snapshot], text: str, where: str, *, alone: bool = True
) -> Snapshot:
    """What `parse` reads of `text`, without the line in which it ends if that is not a whole row.

    Args:
        parse: The reader.
        text: It may end anywhere.
        where: The file, for error messages.
        alone: Nothing else is known of the machine, so that something has to stand in `text`.

    Raises:
        EvidenceError: Something else is wrong, or there is nothing before that line.
    """
    try:
        return parse(text, where)
    except EvidenceError as error:
        last = f"{where}:{text.count(chr(10)) + 1}"
        whole, _, cut = text.rpartition("\n")
        is_cut = cut.strip() and error.where == last and not isinstance(error, ContradictionError)
        if not is_cut or (alone and not whole.strip()):
            raise
        try:
            machine = parse(f"{whole}\n", where) if whole.strip() else Snapshot(cpus=())
        except EvidenceError:
            raise error from None
    note = Note("last line", f"the text ends within it, so it was left out: {cut[:_SHOWN]!r}")
    return replace(machine, notes=(*machine.notes, note))
