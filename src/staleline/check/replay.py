# SPDX-License-Identifier: GPL-2.0-or-later
"""Executing a counterexample again, from its ITF document alone.

The model is built anew from the scenario that the document names, and the reference
interpreter takes every step: what it confirms does not rest on the search that found it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from itertools import pairwise
from typing import Any

from staleline.check.interpreter import Move, State, holds, initial, moves
from staleline.check.itf import SECONDARIES
from staleline.check.search import Run
from staleline.check.trace import JUMPING_NAME, Counterexample, counterexample_of
from staleline.errors import ModelError
from staleline.model.form import Model
from staleline.model.lines import Line, lines_of
from staleline.model.scenario import Flush, ForeignLines, Path, ReportOrder, Scenario
from staleline.model.world import model_of

__all__ = ["replay"]

_ENUMS: dict[str, type[StrEnum]] = {
    "path": Path,
    "foreign": ForeignLines,
    "flush_secondary": Flush,
    "flush_jumping": Flush,
    "report": ReportOrder,
}


def replay(document: Mapping[str, Any]) -> Counterexample:
    """Take every step of an ITF document that `itf_document` made.

    Args:
        document: The parsed JSON.

    Returns:
        The counterexample, told again.

    Raises:
        ModelError: The document is not such a trace, a step cannot be taken, or the last
            state breaks nothing.
    """
    try:
        meta, raw_states = document["#meta"], document["states"]
        scenario = _scenario(meta["scenario"])
        line = _line(scenario, meta["line"])
        model = model_of(scenario, line)
        states = [_state(model, raw) for raw in raw_states]
        labels = [(raw["#meta"]["action"], raw["#meta"]["actor"]) for raw in raw_states[1:]]
        violated, last = str(meta["property"]), states[-1]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(
            f"not a trace of a handover ({type(error).__name__}: {error})",
            where="ITF document",
            do="give a file that staleline wrote",
        ) from error
    run = _run(model, states, labels)
    _check_end(model, violated, last)
    return counterexample_of(scenario, line, model, violated, run)


def _scenario(raw: Mapping[str, Any]) -> Scenario:
    values: dict[str, Any] = {field.name: raw[field.name] for field in fields(Scenario)}
    for name, kind in _ENUMS.items():
        values[name] = kind(values[name])
    return Scenario(**values)


def _line(scenario: Scenario, role: str) -> Line:
    return {str(line.role): line for line in lines_of(scenario)}[role]


def _state(model: Model, raw: Mapping[str, Any]) -> State:
    shared = tuple(raw[variable.name] for variable in model.globals)
    records = [record for _, record in raw[SECONDARIES]["#map"]]
    locals_ = tuple(tuple(record[variable.name] for variable in model.locals) for record in records)
    return shared, locals_


def _run(model: Model, states: list[State], labels: list[tuple[str, str]]) -> Run:
    if states[0] != initial(model, len(states[0][1])):
        raise ModelError("the first state is not the initial one", where="ITF document, state 0")
    taken = [
        _move(model, index, before, after, labels[index - 1])
        for index, (before, after) in enumerate(pairwise(states), 1)
    ]
    return Run(tuple(states), tuple(taken))


def _move(model: Model, index: int, before: State, after: State, label: tuple[str, str]) -> Move:
    for move, reached in moves(model, before):
        actor = JUMPING_NAME if move.secondary is None else f"secondary {move.secondary + 1}"
        if reached == after and (move.action.name, actor) == label:
            return move
    raise ModelError(
        f"{label[0]} by {label[1]} does not lead here", where=f"ITF document, state {index}"
    )


def _check_end(model: Model, violated: str, last: State) -> None:
    expressions = {item.name: item.violated for item in model.properties}
    if violated in expressions and holds(model, expressions[violated], last):
        return
    raise ModelError(
        f"the last state does not break {violated}",
        where="ITF document",
        do="check the scenario again: the model may have changed since",
    )
