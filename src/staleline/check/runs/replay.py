# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples executed again, step by step, on the reference interpreter."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from staleline.check.meaning.fingerprint import fingerprint
from staleline.check.meaning.interpreter import Move, State, holds, initial, moves
from staleline.check.meaning.scenario_json import scenario_from
from staleline.check.runs.itf import SCHEMA, SECONDARIES, itf_values
from staleline.check.runs.trace import Counterexample, actor_name, counterexample_of
from staleline.check.search.search import Run
from staleline.errors import ModelError
from staleline.inputfile import read_input
from staleline.model.form import Model
from staleline.model.scenario import Scenario
from staleline.model.state.lines import Line, lines_of
from staleline.model.world import model_of

__all__ = ["MAX_BYTES", "read_trace", "replay"]

#: The longest counterexamples known are below 64 KiB.
MAX_BYTES = 4 << 20
#: Counterexamples have as few secondaries as show the defect.
_MAX_SECONDARIES = 64
#: States to visit when it has to be seen that the goal cannot be reached.
_MAX_STATES = 50_000

_DO_AGAIN = "make the counterexample again (staleline audit --traces)"
_KINDS: dict[type, str] = {dict: "object", list: "list", str: "string"}
_DO_TRACE = "give an .itf.json file that staleline wrote"


def read_trace(path: str | os.PathLike[str]) -> Any:
    """The JSON document in a trace file, its contents not checked.

    Raises:
        ModelError: It cannot be read, is larger than `MAX_BYTES`, or is not JSON.
    """
    where = os.fspath(path)
    try:
        return json.loads(_read(where))
    # Arrays within arrays exhaust the stack before they are refused.
    except (ValueError, RecursionError):
        _reject("is not JSON", where)


def replay(document: Any, where: str = "ITF document") -> Counterexample:
    """Take every step of an ITF document that `itf_document` made.

    Args:
        document: The parsed JSON; nothing in it is trusted.
        where: The file's name, for errors.

    Returns:
        The counterexample, told again.

    Raises:
        ModelError: The document is not such a trace, the model is another one since, a step
            cannot be taken, or the last state does not break the property.
    """
    trace = _trace(document, where)
    line = _line(trace)
    # A trace is untrusted input: what it says is only compared with what the model, built anew from
    # its scenario, does.
    model = model_of(trace.scenario, line)
    # First, as on another model a step that cannot be taken would read like a forged trace.
    _check_model(trace, model)
    run = _run(trace, model)
    if not _is_broken(trace, model, run.states[-1]):
        _reject(f"the last state does not break {_shown(trace.violated)}", where, _DO_AGAIN)
    return counterexample_of(trace.scenario, line, model, trace.violated, run)


@dataclass(frozen=True, slots=True)
class _Trace:
    """What a trace says, its form checked and nothing else.

    Attributes:
        where: The file's name, for errors.
        scenario: The handover.
        role: Role of the line.
        violated: Name of the property that the run is to break.
        model: Hash of the model that the run was found in.
        states: Variables of each state, as in the file.
        steps: Name of the action and acting CPU, for every state but the first.
        secondaries: Number of secondaries in the run.
    """

    where: str
    scenario: Scenario
    role: str
    violated: str
    model: str
    states: tuple[Mapping[str, Any], ...]
    steps: tuple[tuple[str, str], ...]
    secondaries: int


def _read(where: str) -> bytes:
    return read_input(where, ModelError, limit=MAX_BYTES, do="give a trace in ITF")


def _trace(document: Any, where: str) -> _Trace:
    meta = _field(document, "#meta", dict, where)
    if _field(meta, "schema", str, where) != SCHEMA:
        _malformed(f"field #meta.schema is not {SCHEMA}", where)
    states = _field(document, "states", list, where)
    if not states:
        _malformed("field states is empty", where)
    # A counterexample is told by its steps: of none nothing could be said, even where the goal is
    # out of reach from the start, as where WBINVD faults.
    if len(states) < 2:
        _malformed("no step", where)
    return _Trace(
        where=where,
        scenario=scenario_from(
            _field(meta, "scenario", dict, where), f"{where}, field #meta.scenario"
        ),
        role=_field(meta, "line", str, where),
        violated=_field(meta, "property", str, where),
        model=_field(meta, "model", str, where),
        states=tuple(_variables(state, where) for state in states),
        steps=tuple(_label(state, where) for state in states[1:]),
        secondaries=_secondaries(states[0], where),
    )


def _variables(state: Any, where: str) -> dict[str, Any]:
    _field(state, "#meta", dict, where)
    return {name: state[name] for name in state if name != "#meta"}


def _label(state: Any, where: str) -> tuple[str, str]:
    meta = _field(state, "#meta", dict, where)
    return _field(meta, "action", str, where), _field(meta, "actor", str, where)


def _secondaries(state: Any, where: str) -> int:
    records = _field(_field(state, SECONDARIES, dict, where), "#map", list, where)
    # Asked before a state of that many secondaries is built on the file's word.
    if len(records) > _MAX_SECONDARIES:
        _malformed(f"more than {_MAX_SECONDARIES} secondaries", where)
    return len(records)


def _field(document: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(document, dict):
        _malformed(f"an object with a field {name} is missing", where)
    if not isinstance(document.get(name), kind):
        _malformed(f"field {name} is missing or no {_KINDS[kind]}", where)
    return document[name]


def _line(trace: _Trace) -> Line:
    for line in lines_of(trace.scenario):
        if line.role == trace.role:
            return line
    raise _refusal(f"no line role {_shown(trace.role)} in the scenario", trace.where)


def _check_model(trace: _Trace, model: Model) -> None:
    now = fingerprint(model)
    if trace.model != now:
        raise ModelError(
            f"the model has changed since: the trace is of {_shown(trace.model[:15])}, "
            f"this version's is {now[:15]}",
            where=trace.where,
            do=_DO_AGAIN,
        )


def _run(trace: _Trace, model: Model) -> Run:
    states = [initial(model, trace.secondaries)]
    if trace.states[0] != itf_values(model, states[0]):
        _reject("the first state is not the initial one", f"{trace.where}, state 0", _DO_AGAIN)
    taken = []
    for number, (label, wanted) in enumerate(zip(trace.steps, trace.states[1:], strict=True), 1):
        move, after = _step(model, states[-1], label, f"{trace.where}, state {number}", wanted)
        states.append(after)
        taken.append(move)
    return Run(tuple(states), tuple(taken))


def _step(
    model: Model, state: State, label: tuple[str, str], where: str, wanted: Mapping[str, Any]
) -> tuple[Move, State]:
    for move, after in moves(model, state):
        if (move.action.name, actor_name(move)) == label and itf_values(model, after) == wanted:
            return move, after
    action, actor = map(_shown, label)
    raise _refusal(f"{action} by {actor} does not lead here", where, _DO_AGAIN)


def _is_broken(trace: _Trace, model: Model, last: State) -> bool:
    if trace.violated == model.goal_name:
        return _goal_is_out_of_reach(trace, model, last)
    return any(
        holds(model, item.violated, last)
        for item in model.properties
        if item.name == trace.violated
    )


def _goal_is_out_of_reach(trace: _Trace, model: Model, state: State) -> bool:
    """No state that follows satisfies the goal; secondaries are interchangeable."""
    reached, frontier = {state}, [state]
    while frontier:
        if len(reached) > _MAX_STATES:
            _reject(f"needs more than {_MAX_STATES} states to settle {trace.violated}", trace.where)
        if any(holds(model, model.goal, one) for one in frontier):
            return False
        after = {(s[0], tuple(sorted(s[1]))) for one in frontier for _, s in moves(model, one)}
        frontier = list(after - reached)
        reached |= after
    return True


def _shown(text: str) -> str:
    """Text of the file as part of an error's one line."""
    # An error is one line, and no control character of a file may reach the terminal.
    return text[:60].encode("ascii", "backslashreplace").decode()


def _malformed(what: str, where: str) -> NoReturn:
    _reject(f"not a trace of a handover ({what})", where)


def _reject(what: str, where: str, do: str = _DO_TRACE) -> NoReturn:
    raise _refusal(what, where, do)


def _refusal(what: str, where: str, do: str = _DO_TRACE) -> ModelError:
    return ModelError(what, where=where, do=do)
