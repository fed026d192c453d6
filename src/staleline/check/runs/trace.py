# SPDX-License-Identifier: GPL-2.0-or-later
"""A run of the model as a counterexample that people can read.

Every step says who did what in one sentence, and which values that changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from staleline.check.meaning.interpreter import Move, State
from staleline.check.search.search import Run
from staleline.model.form import Actor, Model
from staleline.model.properties import P1, P2
from staleline.model.scenario import Scenario
from staleline.model.state.cpus import (
    ABSENT,
    DRAM,
    NEWEST,
    SEAMCALLED,
    Data,
    JumpingAt,
    SecondaryAt,
)
from staleline.model.state.lines import Alias, Line
from staleline.model.state.sharedcache import shared_entry

__all__ = [
    "DRAM_NAME",
    "JUMPING_NAME",
    "SHARED_NAME",
    "Change",
    "Counterexample",
    "Step",
    "View",
    "actor_name",
    "counterexample_of",
    "step_of",
    "view_of",
]

JUMPING_NAME = "jumping CPU"
DRAM_NAME = "DRAM"
SHARED_NAME = "shared cache"

#: What a reader sees of one state: (CPU or DRAM, variable) -> value.
View = dict[tuple[str, str], str]

_JUMPING_PLACES = {
    JumpingAt.RUNNING: "old kernel",
    JumpingAt.WAITING: "waits for stops",
    JumpingAt.RELOCATING: "relocate_kernel",
    JumpingAt.FLUSHING: "in WBINVD",
    JumpingAt.COPYING: "copies image",
    JumpingAt.EARLY: "next kernel, early",
    JumpingAt.ENC_FLUSHING: "in WBINVD",
    JumpingAt.ENCRYPTING: "__enc_copy",
    JumpingAt.NEXT: "next kernel",
    JumpingAt.FAULTED: "faulted",
    JumpingAt.MTRR_FLUSHING: "in WBINVD",
}
_SECONDARY_PLACES = {
    SecondaryAt.RUNNING: "old kernel",
    SecondaryAt.STOPPING: "stopping",
    SecondaryAt.REPORTED: "reported stopped",
    SecondaryAt.FLUSHING: "in WBINVD",
    SecondaryAt.HALTED: "halted",
    SecondaryAt.STARTING: "in WBINVD",
    SecondaryAt.NEXT: "next kernel",
    SecondaryAt.FAULTED: "faulted",
    SecondaryAt.REENTERED: "stopping again",
    SecondaryAt.REFLUSHING: "in WBINVD again",
    SecondaryAt.OFFLINING: "in WBINVD",
    SecondaryAt.OFFLINE: "offline",
}
#: Where a secondary that breaks P2 is; it still runs only where the jumping CPU gives up.
_BEFORE_HALT = (
    SecondaryAt.RUNNING,
    SecondaryAt.STOPPING,
    SecondaryAt.REPORTED,
    SecondaryAt.FLUSHING,
    SecondaryAt.REENTERED,
    SecondaryAt.REFLUSHING,
    SecondaryAt.OFFLINING,
)
_DRAM = {
    Data.OLD: "old",
    Data.NEWEST: "next",
    Data.LOST: "destroyed",
    Data.OVERWRITTEN: "overwritten by the old kernel",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One value that a step changed.

    Attributes:
        cpu: ``"jumping CPU"``, ``"secondary 1"``, ``"shared cache"`` or ``"DRAM"``.
        variable: ``"at"``, ``"SEAMCALL"``, ``"line"``, or an alias, e.g. ``"C-bit"``.
        before: The value before, e.g. ``"absent"``.
        after: The value after, e.g. ``"dirty, old"``.
    """

    cpu: str
    variable: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a counterexample.

    Attributes:
        actor: ``"jumping CPU"`` or ``"secondary 1"``, counted from 1.
        function: Kernel function, ``"old kernel"``, ``"next kernel"`` or ``"cache"``.
        action: The model's name of the action.
        source: Where hardware or kernel source says that this happens; may be empty.
        sentence: The step in plain English.
        changes: The values that changed, those of the acting CPU first.
    """

    actor: str
    function: str
    action: str
    source: str
    sentence: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A shortest run that breaks a property.

    Attributes:
        line: Role of the line that it happens to, e.g. ``"image"``.
        property: Name of the property, e.g. ``"P1"``.
        title: The property as a sentence.
        cpus: ``("jumping CPU", "secondary 1", ...)``.
        steps: The steps from the initial state.
        scenario: The handover.
        model: The model of the line in that handover.
        run: The run, from which the steps were made.
    """

    line: str
    property: str
    title: str
    cpus: tuple[str, ...]
    steps: tuple[Step, ...]
    scenario: Scenario
    model: Model
    run: Run


def counterexample_of(
    scenario: Scenario, line: Line, model: Model, violated: str, run: Run
) -> Counterexample:
    """A run of one line's model that breaks a property, told in sentences."""
    titles = {item.name: item.title for item in model.properties}
    titles[model.goal_name] = model.goal_title
    transitions = zip(run.states, run.moves, run.states[1:], strict=False)
    *steps, last = [step_of(line, model, *transition) for transition in transitions]
    ending = _ending(line, model, violated, run.states[-1])
    return Counterexample(
        line=str(line.role),
        property=violated,
        title=titles[violated],
        cpus=(JUMPING_NAME, *(_secondary(i) for i in range(len(run.states[0][1])))),
        steps=(*steps, replace(last, sentence=" ".join([last.sentence, *ending]))),
        scenario=scenario,
        model=model,
        run=run,
    )


def step_of(line: Line, model: Model, before: State, move: Move, after: State) -> Step:
    """One move of a line's model, told in a sentence."""
    actor = actor_name(move)
    action = move.action
    newest = _shared(model, before)[NEWEST.name]
    sentence = action.sentence.format(
        cpu=_article(actor), newest="" if newest == "none" else line.name_of(Alias(newest))
    )
    changes = _changes(view_of(line, model, before), view_of(line, model, after))
    return Step(
        actor=actor,
        function=action.function,
        action=action.name,
        source=action.source,
        sentence=sentence[0].upper() + sentence[1:],
        changes=tuple(sorted(changes, key=lambda change: change.cpu != actor)),
    )


def _ending(line: Line, model: Model, violated: str, state: State) -> list[str]:
    """What the last step's own sentence leaves unsaid about the violation, as sentences."""
    shared = _shared(model, state)
    # Of the halves of P1, a write-back that destroys says so itself, and a stale read does not.
    if violated == P1 and shared[DRAM.name] == Data.NEWEST:
        newest = line.name_of(Alias(shared[NEWEST.name]))
        return [f"What it gets is stale: the next kernel wrote through the {newest} alias."]
    if violated == P2:
        return [
            f"{_secondary(index).capitalize()} still has its flush ahead of it."
            for index, local in enumerate(state[1])
            if local[0] in _BEFORE_HALT
        ]
    if violated == model.goal_name:
        return ["From here on the next kernel is out of reach."]
    return []


def _shared(model: Model, state: State) -> dict[str, str]:
    return dict(zip([variable.name for variable in model.globals], state[0], strict=True))


def actor_name(move: Move) -> str:
    """The CPU that moves: ``jumping CPU``, or ``secondary 1``."""
    if move.action.actor is Actor.JUMPING or move.secondary is None:
        return JUMPING_NAME
    return _secondary(move.secondary)


def _secondary(index: int) -> str:
    return f"secondary {index + 1}"


def _article(actor: str) -> str:
    return f"the {actor}" if actor == JUMPING_NAME else actor


def _changes(before: View, after: View) -> list[Change]:
    return [
        Change(cpu, variable, before[cpu, variable], value)
        for (cpu, variable), value in after.items()
        # The model clears the SEAMCALL flag only to tell fewer states apart.
        if value != before[cpu, variable] and (variable, value) != ("SEAMCALL", "no")
    ]


def view_of(line: Line, model: Model, state: State) -> View:
    """What a reader sees of a state."""
    shared = _shared(model, state)
    newest = shared[NEWEST.name]
    jumping = {name.removeprefix("jumping_"): value for name, value in shared.items()}
    view = _cpu_view(line, JUMPING_NAME, jumping, newest)
    for index, values in enumerate(state[1]):
        local = dict(zip([v.name for v in model.locals], values, strict=True))
        view |= _cpu_view(line, _secondary(index), local, newest)
    for alias in line.aliases:
        if (held := shared.get(shared_entry(alias).name)) is not None:
            view[SHARED_NAME, line.name_of(alias)] = _entry(held, alias == newest)
    view[DRAM_NAME, "line"] = _DRAM[Data(shared[DRAM.name])]
    return view


def _cpu_view(line: Line, cpu: str, values: Mapping[str, str], newest: str) -> View:
    place = (
        _JUMPING_PLACES[JumpingAt(values["pc"])]
        if cpu == JUMPING_NAME
        else _SECONDARY_PLACES[SecondaryAt(values["pc"])]
    )
    view = {(cpu, "at"): place}
    if SEAMCALLED in values:
        view[cpu, "SEAMCALL"] = values[SEAMCALLED]
    for alias in line.aliases:
        view[cpu, line.name_of(alias)] = _entry(values[alias], alias == newest)
    return view


def _entry(held: str, is_newest: bool) -> str:
    # With whose data it holds: the next kernel's newest if it was written through this alias, else
    # the old kernel's, or outdated.
    return held if held == ABSENT else f"{held}, {'next' if is_newest else 'old'}"
