# SPDX-License-Identifier: GPL-2.0-or-later
"""What tools say of a fact: weaker than the registers and flags themselves."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.errors import EvidenceError
from staleline.evidence.snapshot import Snapshot
from staleline.facts.observation import Observation, observed_as

__all__ = ["stated"]


def stated(name: str, snapshot: Snapshot, kind: type) -> Iterator[Observation]:
    """What the statements of `snapshot` say of the fact `name`, in their order.

    Raises:
        EvidenceError: One of them says what is not of the type `kind`.
    """
    for statement in snapshot.statements:
        if statement.name == name:
            if type(statement.value) is not kind:
                raise EvidenceError(
                    f"the statement of {name} is {statement.value!r}, which it cannot be",
                    where=statement.source,
                    do="make the snapshot again from what the tool printed",
                )
            yield observed_as(statement.value, statement.source)
