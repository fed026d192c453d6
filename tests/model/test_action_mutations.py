# SPDX-License-Identifier: GPL-2.0-or-later
"""Every guarded command of the model, mutated once: does anybody notice?

A mutant is one command, wherever it occurs, without its guard or without one of its updates.
It is noticed if in some scenario the number of reachable states (two secondaries, up to
symmetry), the first property that breaks, or the length of the shortest run to it changes.
What nobody notices is listed below, with the reason why it changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from staleline.check.search.search import search
from staleline.errors import ModelError
from staleline.model.form import TRUE, Action, Model
from staleline.model.scenario import (
    Flush,
    ForeignLines,
    Offline,
    ReportOrder,
    Scenario,
    SharedCache,
    Stop,
)
from staleline.model.world import world
from tests.check.scenarios import crash, kexec

NOTICED = 0.95
#: Ten times the states of the largest model here; a mutant may have many more.
_LIMIT = 5_000

_SEV, _TDX = ForeignLines.SEV_GUESTS, ForeignLines.TDX
_NEVER, _AFTER = Flush.NEVER, Flush.AFTER_SEAMCALL
_OWN_CORE, _ALL_CORES = SharedCache.OWN_CORE, SharedCache.ALL_CORES

#: Safe handovers, so that losing something shows, and unsafe ones, so that gaining does.
_SCENARIOS: tuple[Scenario, ...] = (
    kexec("on→on"),
    kexec("on→off"),
    kexec("on→off", flush_jumping=_NEVER),
    kexec("on→off", flush_jumping=_NEVER, flush_secondary=_NEVER),
    kexec("off→on", flush_jumping=_NEVER, flush_secondary=_NEVER),
    kexec("on→off", report=ReportOrder.BEFORE_FLUSH),
    kexec("on→off", clears_stop_mask=False),
    kexec("off→on", foreign=_SEV),
    kexec("on→off", foreign=_SEV, flush_jumping=_NEVER, flush_secondary=_NEVER),
    kexec("off→off", foreign=_TDX, flush_secondary=_AFTER, flush_jumping=_AFTER),
    kexec("off→off", foreign=_TDX, flush_secondary=_NEVER, flush_jumping=_AFTER),
    kexec("off→off", foreign=_TDX, flush_secondary=_AFTER, flush_jumping=_NEVER),
    kexec("on→on", incoherent=False, flush_faults=True),
    kexec("on→on", incoherent=False, flush_faults=True, flush_secondary=_NEVER),
    kexec(
        "on→on",
        incoherent=False,
        flush_faults=True,
        flush_secondary=_NEVER,
        flush_jumping=_NEVER,
    ),
    crash("off→on"),
    crash("off→on", load_settled=True),
    crash("on→off", flush_at_load=False),
    crash("on→on", flush_secondary=Flush.ALWAYS),
    kexec("on→off", late_nmi=True),
    kexec("on→off", stop=Stop.GIVES_UP),
    kexec("on→on", stop=Stop.SKIPPED),
    kexec("on→off", offline=Offline.WOKEN),
    kexec("on→on", preserve_context=True),
    kexec("on→off", preserve_context=True, flush_jumping=_NEVER),
    kexec("on→off", preserve_context=True, play_dead_settled=False),
    kexec("on→off", shared_cache=_OWN_CORE),
    kexec("on→off", shared_cache=_OWN_CORE, flush_jumping=_NEVER, flush_secondary=_NEVER),
    kexec("off→on", shared_cache=_OWN_CORE, flush_jumping=_NEVER, flush_secondary=_NEVER),
    kexec("off→on", shared_cache=_ALL_CORES),
    kexec("off→on", work_area=True),
    kexec("off→on", work_area=True, mtrr_flush=True),
)


class Mutant(NamedTuple):
    """One command, and what it is without: ``"guard"``, or an update as text."""

    command: str
    without: str


_EVICTED = (
    "The store that made the line dirty was optional, and the jumping CPU's own store may take "
    "the line away, so every state without the entry is reached, and no WBINVD waits forever. "
    "On guests' lines and on the jumping CPU, where nobody takes it away, this is noticed."
)
_ANYWHERE = "Without its guard it drops an entry in a state that is also reached without the entry."
_CLEAN_LEFT = (
    "The old kernel's entries are clean here at most, and a clean entry of an alias that the "
    "next kernel reads only after its first store, or never, changes nothing."
)
_SHARED_REPORT = (
    "The shared cache is empty of what a WBINVD has just written back; the update is that of "
    "every store, which takes the line from all other caches."
)
SURVIVORS: dict[Mutant, str] = {
    Mutant("secondary_writes_back_cbit", "own cbit:=absent"): _EVICTED,
    Mutant("secondary_writes_back_plain", "own plain:=absent"): _EVICTED,
    Mutant("secondary_writes_back_foreign", "guard"): _ANYWHERE,
    Mutant("jumping_writes_back_foreign", "guard"): _ANYWHERE,
    Mutant("enc_copy_flushed", "global jumping_cbit:=absent"): _CLEAN_LEFT,
    Mutant("enc_copy_flushed", "global jumping_foreign:=absent"): _CLEAN_LEFT,
    Mutant("jumping_mtrr_flushed", "global jumping_cbit:=absent"): _CLEAN_LEFT,
    Mutant("secondary_halts_flushed", "global shared_cbit:=absent"): _SHARED_REPORT,
    Mutant("secondary_halts_flushed", "global shared_plain:=absent"): _SHARED_REPORT,
    Mutant("enc_copy_copies", "global shared_cbit:=absent"): _SHARED_REPORT,
    Mutant("secondary_reports", "own cbit:=dirty"): (
        "Where the report comes before the flush, the old kernel may have left the stop mask's "
        "line dirty as well: the same states, and the flush comes after it."
    ),
    Mutant("shared_cache_destroys_through_plain", "global dram:=lost"): (
        "Whatever the shared cache can destroy, the private cache that handed the line down "
        "could have destroyed in fewer steps."
    ),
}


class _Place(NamedTuple):
    """One occurrence of a command: case, index of the action, index of the update or None."""

    case: int
    action: int
    update: int | None


@dataclass(frozen=True)
class _Observed:
    """What the tests would see of a model."""

    states: int | None
    violated: str | None
    steps: int | None


def _cases() -> list[Model]:
    return [model for scenario in _SCENARIOS for _, model in world(scenario)]


def _mutants(cases: list[Model]) -> dict[Mutant, list[_Place]]:
    """Every mutant and the places where its command occurs."""
    places: dict[Mutant, list[_Place]] = defaultdict(list)
    for case, model in enumerate(cases):
        for index, action in enumerate(model.actions):
            if action.guard != TRUE:
                places[Mutant(action.name, "guard")].append(_Place(case, index, None))
            for update, assign in enumerate(action.assigns):
                text = f"{assign.target.whose} {assign.target.name}:={assign.value}"
                places[Mutant(action.name, text)].append(_Place(case, index, update))
    return places


def _mutated(model: Model, place: _Place) -> Model:
    actions = list(model.actions)
    actions[place.action] = _without(actions[place.action], place.update)
    return replace(model, actions=tuple(actions))


def _without(action: Action, update: int | None) -> Action:
    if update is None:
        return replace(action, guard=TRUE)
    assigns = action.assigns[:update] + action.assigns[update + 1 :]
    return replace(action, assigns=assigns)


def _states(model: Model) -> int | None:
    """All reachable states, whatever breaks; None for too many."""
    everything = replace(model, properties=(), goal=TRUE)
    try:
        return search(everything, 2, limit=_LIMIT).states
    except ModelError:
        return None


def _observed(model: Model) -> _Observed:
    found = search(model, 2, limit=_LIMIT)
    steps = len(found.run.moves) if found.run else None
    return _Observed(_states(model), found.violated, steps)


def _is_noticed(model: Model, place: _Place, before: _Observed) -> bool:
    mutated = _mutated(model, place)
    # The number of states tells most mutants; only else is the shortest run looked at.
    return _states(mutated) != before.states or _observed(mutated) != before


def _survivors(cases: list[Model]) -> Iterator[Mutant]:
    before = [_observed(model) for model in cases]
    for mutant, places in _mutants(cases).items():
        smallest_first = sorted(places, key=lambda place: before[place.case].states or _LIMIT)
        if not any(_is_noticed(cases[one.case], one, before[one.case]) for one in smallest_first):
            yield mutant


def test_nearly_every_mutated_command_is_noticed_and_the_others_are_explained() -> None:
    cases = _cases()
    assert max(_states(model) or _LIMIT for model in cases) < _LIMIT
    mutants = _mutants(cases)
    survivors = set(_survivors(cases))
    assert survivors == set(SURVIVORS)
    assert 1 - len(survivors) / len(mutants) >= NOTICED
