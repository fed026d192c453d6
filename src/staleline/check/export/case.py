# SPDX-License-Identifier: GPL-2.0-or-later
"""One case for another checker: a scenario, the lines to look at, a number of secondaries.

A case is named by path and transition, e.g. ``kexec:on-off``, everything else being as on
incoherent hardware where every site flushes; or it is the case of a counterexample's trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from staleline.check.answer import Answer, check
from staleline.check.export.combine import combined
from staleline.check.meaning.scenario_json import scenario_from
from staleline.errors import UsageError
from staleline.model.form import Model
from staleline.model.scenario import Flush, Path, Scenario
from staleline.model.state.lines import Role
from staleline.model.world import world

__all__ = ["ExportedCase", "case_named", "case_of_trace", "path_and_transition"]

_FEW = 2
_TRANSITIONS = {
    f"{old}-{following}": (old == "on", following == "on")
    for old in ("off", "on")
    for following in ("off", "on")
}


@dataclass(frozen=True, slots=True)
class ExportedCase:
    """What to print.

    Attributes:
        scenario: The handover, with the number of secondaries.
        roles: Line roles; several are combined in one model. Empty: the first that exists.
    """

    scenario: Scenario
    roles: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Roles of the lines that are looked at, and of those that the scenario has besides."""
        known = tuple(str(line.role) for line, _ in world(self.scenario))
        of = self.roles or known[:1]
        return of, tuple(role for role in known if role not in of)

    def answer(self) -> Answer:
        """What the checker says of these lines with up to two secondaries.

        What these refute, more refute too.

        Raises:
            UsageError: As by `model`.
            ModelError: The search hit its bound.
        """
        # Refuses roles that the scenario does not have; what it makes is not needed here.
        self.model()
        first = str(world(self.scenario)[0][0].role)
        few = replace(self.scenario, secondaries=min(self.scenario.secondaries, _FEW))
        return check(few, frozenset(Role(role) for role in self.roles or (first,)))

    def model(self) -> Model:
        """The model of the case.

        Raises:
            UsageError: The scenario has no line of a role that was asked for.
        """
        lines = {str(line.role): (line, model) for line, model in world(self.scenario)}
        roles = self.roles or tuple(lines)[:1]
        for role in roles:
            if role not in lines:
                raise UsageError(
                    f"the scenario has no line {role!a}",
                    where="--line",
                    do=f"give one of {', '.join(lines)}",
                )
        return combined([lines[role] for role in roles])


def case_named(name: str, changes: Mapping[str, Any], roles: Sequence[str]) -> ExportedCase:
    """The case of a path and a transition.

    Args:
        name: For instance ``"kexec:on-off"``.
        changes: Parameters of `Scenario` as JSON values, where they differ.
        roles: Line roles.

    Raises:
        UsageError: The name is not of that form.
        ModelError: The changes are not a scenario's.
    """
    path, old, following = path_and_transition(name)
    # Hardware and sites that nothing but a change makes unsafe: what is changed is what breaks it.
    document = {
        "path": path,
        "old_encrypts": old,
        "next_encrypts": following,
        "incoherent": True,
        "flush_secondary": str(Flush.ALWAYS),
        "flush_jumping": str(Flush.ALWAYS),
    }
    return ExportedCase(scenario_from({**document, **changes}, "case"), tuple(roles))


def path_and_transition(name: str) -> tuple[Path, bool, bool]:
    """A case by its name: the path, and whether the old and the next kernel encrypt.

    Raises:
        UsageError: The name is not of that form.
    """
    path, _, transition = name.partition(":")
    if path not in set(Path) or transition not in _TRANSITIONS:
        raise UsageError(
            f"no case {name!a}",
            do=f"give PATH:TRANSITION ({', '.join(Path)}; {', '.join(_TRANSITIONS)}) "
            "or a counterexample's .itf.json file",
        )
    return (Path(path), *_TRANSITIONS[transition])


def case_of_trace(
    document: Any, where: str, changes: Mapping[str, Any], roles: Sequence[str]
) -> ExportedCase:
    """The case that a counterexample was found in; it may be of an older model.

    Raises:
        UsageError: The document has no scenario and line role.
        ModelError: It, or the changes, are not a scenario's.
    """
    meta = document.get("#meta") if isinstance(document, dict) else None
    scenario = meta.get("scenario") if isinstance(meta, dict) else None
    role = meta.get("line") if isinstance(meta, dict) else None
    # A list only compares: what JSON has here may be unhashable.
    if not isinstance(scenario, dict) or role not in list(Role):
        raise UsageError(
            "has no scenario and line in its #meta",
            where=where,
            do="give an .itf.json file that staleline wrote",
        )
    return ExportedCase(scenario_from({**scenario, **changes}, where), tuple(roles) or (str(role),))
