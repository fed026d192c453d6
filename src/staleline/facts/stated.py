# SPDX-License-Identifier: GPL-2.0-or-later
"""What tools say of a fact: weaker than the registers and flags themselves."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.evidence.snapshot import Snapshot
from staleline.facts.observation import Observation, told

__all__ = ["stated"]


def stated(name: str, snapshot: Snapshot) -> Iterator[Observation]:
    """What the statements of `snapshot` say of the fact `name`, in their order."""
    for statement in snapshot.statements:
        if statement.name == name:
            yield told(statement.value, statement.source)
