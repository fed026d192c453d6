# SPDX-License-Identifier: GPL-2.0-or-later
"""What a text says of facts, gathered; of CPUs that differ the machine has no one value."""

from __future__ import annotations

from collections.abc import Iterable

from staleline.evidence.snapshot import Statement

__all__ = ["agreed"]


def agreed(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """Each fact once, in order, without those of which two values are told."""
    first: dict[str, Statement] = {}
    differ = set()
    for statement in statements:
        if first.setdefault(statement.name, statement).value != statement.value:
            differ.add(statement.name)
    return tuple(one for name, one in first.items() if name not in differ)
