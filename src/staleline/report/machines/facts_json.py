# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts as a JSON document, ``staleline/facts/1`` (schemas/facts-1.json)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from staleline.evidence.contradiction import Contradiction
from staleline.facts.fact import Layer, MachineFacts, Value
from staleline.report.machines.contradicted import contradiction_document

__all__ = ["SCHEMA", "facts_document"]

SCHEMA = "staleline/facts/1"


def facts_document(
    machines: Iterable[tuple[str, MachineFacts]],
    contradictory: Iterable[tuple[str, Sequence[Contradiction]]] = (),
    unreadable: Iterable[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The document of machines by file name; null where the evidence does not tell.

    Args:
        machines: Their facts.
        contradictory: Files that contradict themselves, of which there are no facts.
        unreadable: Files that could not be read, and why.
    """
    return {
        "schema": SCHEMA,
        "machines": [_machine(file, facts) for file, facts in machines],
        "contradictory": [
            {"file": _text(file), "contradictions": [contradiction_document(one) for one in found]}
            for file, found in contradictory
        ],
        "unreadable": [{"file": _text(file), "error": _text(why)} for file, why in unreadable],
    }


def _machine(file: str, facts: MachineFacts) -> dict[str, Any]:
    maximum = facts.integer("max_extended_leaf")
    return {
        "file": _text(file),
        "vendor": facts.text("vendor"),
        "signature": facts.text("signature"),
        "max_extended_leaf": None if maximum is None else f"{maximum:#010x}",
        "hypervisor": facts.boolean("hypervisor"),
        "hypervisor_name": facts.text("hypervisor_name"),
        **{
            layer.value: {fact.name: _json(fact.value) for fact in facts.layer(layer)}
            for layer in (Layer.HARDWARE, Layer.FIRMWARE, Layer.KERNEL)
        },
    }


def _text(file: str) -> str:
    """A file name may hold bytes that are no text; JSON cannot."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")


def _json(value: Value) -> bool | int | str | list[int] | None:
    return list(value) if isinstance(value, tuple) else value
