# SPDX-License-Identifier: GPL-2.0-or-later
"""What a check was asked of where that is less than everything.

A verdict on some lines or platforms says nothing of the others, and reads like one on all.
"""

from __future__ import annotations

from typing import Any

from staleline.verdict.policies.platforms import Selection

__all__ = ["of_roles_alone", "selected_fields", "selected_labels"]


def selected_fields(selection: Selection) -> dict[str, Any]:
    """For documents; null for all."""
    return {
        "platforms": _sorted(selection.platforms),
        "path": selection.path,
        "roles": _sorted(selection.roles),
    }


def selected_labels(selection: Selection) -> dict[str, str]:
    """What was left out or taken for granted, by names that are labels of metrics too."""
    fields = selected_fields(selection)
    if selection.load_settled:
        fields["accepted"] = "load_settled"
    return {
        name: " ".join(asked) if isinstance(asked, list) else str(asked)
        for name, asked in fields.items()
        if asked is not None
    }


def of_roles_alone(selection: Selection) -> str:
    """Of which lines a headline speaks; nothing where it speaks of all.

    Platforms and paths stand in every table, and which lines were left out in none.
    """
    roles = _sorted(selection.roles)
    if roles is None:
        return ""
    several = "s" if len(roles) > 1 else ""
    return f"asked of lines of the role{several} {', '.join(roles)} alone"


def _sorted(names: frozenset[Any] | None) -> list[str] | None:
    return None if names is None else sorted(map(str, names))
