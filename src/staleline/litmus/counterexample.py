# SPDX-License-Identifier: GPL-2.0-or-later
"""The litmus test of a counterexample: its stores, loads, write-backs and flushes, in its order.

The jumping CPU is x, a secondary y.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from staleline.check.meaning.interpreter import State
from staleline.check.runs.trace import DRAM_NAME, JUMPING_NAME, Counterexample, Step
from staleline.errors import UsageError
from staleline.litmus.kit import standard_tests
from staleline.litmus.language import (
    CONTROLS,
    PATTERNS,
    STEPS,
    LitmusCondition,
    LitmusOperation,
    LitmusOutcome,
    LitmusProgram,
    LitmusStep,
    litmus_programs,
    litmus_text,
)
from staleline.model.properties import P1
from staleline.model.scenario import ForeignLines, SharedCache
from staleline.model.state.cpus import ABSENT, CLEAN, DIRTY, DRAM, NEWEST, Data
from staleline.vocabulary import state_word

__all__ = ["counterexample_tests", "litmus_of"]

_ALIASES = {"plain": "plain", "C-bit": "cbit"}
_KEYS = frozenset(_ALIASES.values())
#: The register of loads on the way, and of those that tell.
_FILLS, _TOLD, _MEMORY = 0, 1, 2
_CACHE, _NEXT = "cache", "next"


def counterexample_tests(counterexample: Counterexample, where: str) -> str:
    """A file of tests: the controls, and the counterexample's.

    Raises:
        UsageError: As `litmus_of`.
    """
    controls = [test for test in litmus_programs(standard_tests()) if test.name in CONTROLS]
    remark = "\n".join((f"{counterexample.title}", *_sentences(counterexample)))
    return litmus_text((*controls, litmus_of(counterexample, where)), remark)


def litmus_of(counterexample: Counterexample, where: str) -> LitmusProgram:
    """The test of a counterexample.

    Raises:
        UsageError: The language has no words for it.
    """
    _require_words(counterexample, where)
    writing = _Writing()
    states = [_shared(counterexample, state) for state in counterexample.run.states]
    for step, after in zip(counterexample.steps, states[1:], strict=True):
        writing.take(step, after[NEWEST.name])
    lost = states[-1][DRAM.name] == Data.LOST
    stale = None if lost else _stale(counterexample)
    outcomes = tuple(_outcomes(writing, states[-1][NEWEST.name], stale))
    if len(writing.steps) > STEPS or writing.values > PATTERNS:
        raise UsageError("a run that is longer than a litmus test may be", where=where)
    return LitmusProgram(_name(counterexample), tuple(writing.steps), outcomes)


def _require_words(counterexample: Counterexample, where: str) -> None:
    scenario = counterexample.scenario
    names = {change.variable for step in counterexample.steps for change in step.changes}
    why = None
    if counterexample.property != P1:
        why = f"it breaks {counterexample.property}, which no load can tell: only P1 is of memory"
    elif scenario.foreign is not ForeignLines.NONE and names & {"guest ASID", "private KeyID"}:
        why = "it needs a guest's key, which the kit does not have"
    elif scenario.keeps_encryption:
        why = "it is of an encrypted guest, where the kit does not run"
    elif scenario.shared_cache is not SharedCache.NONE:
        why = "it needs a shared cache to keep a line, which no instruction brings about"
    elif len(counterexample.cpus) > 2:
        why = f"it needs {len(counterexample.cpus)} CPUs, and the language has two"
    if why is not None:
        raise UsageError(why, where=where, do="give a counterexample of another handover")


@dataclass(slots=True)
class _Writing:
    """Steps so far, and the value that was stored last through each alias."""

    steps: list[LitmusStep] = field(default_factory=list)
    values: int = 0
    stored: dict[str, int] = field(default_factory=dict)

    def take(self, step: Step, newest: str) -> None:
        """Add what a step does to the line; `newest` is the newest alias after it."""
        cpu, values = _cpu(step.actor), self.values
        # By what it changed and not by its name, so that steps which kernels gain are followed too.
        for change in step.changes:
            alias = _ALIASES.get(change.variable)
            if alias is None or change.cpu != step.actor:
                continue
            before, after = _held(change.before), _held(change.after)
            if after == DIRTY and before != DIRTY:
                self._store(cpu, alias)
            elif before == ABSENT and after == CLEAN:
                self.add(cpu, LitmusOperation.LOAD, alias, _FILLS)
            # What a cache does by itself is brought about by CLFLUSH, which reaches the entries of
            # that alias and of no other.
            elif before == DIRTY and step.function == _CACHE:
                self.add(cpu, LitmusOperation.CLFLUSH, alias)
        if _completes_flush(step):
            self.add(cpu, LitmusOperation.WBINVD)
        if values == self.values and step.function != _CACHE and _reaches_memory(step):
            # Stored and written out in one step, as a crash kernel is when it is loaded.
            self._store(cpu, newest)
            self.add(cpu, LitmusOperation.CLFLUSH, newest)

    def add(self, cpu: str, operation: LitmusOperation, alias: str = "", number: int = 0) -> None:
        """Add one step."""
        self.steps.append(LitmusStep(cpu, operation, alias, number))

    def _store(self, cpu: str, alias: str) -> None:
        # Values are used again where there are more stores, as only the last ones are compared.
        self.add(cpu, LitmusOperation.STORE, alias, self.values % PATTERNS)
        self.stored[alias] = self.values
        self.values += 1


def _outcomes(
    writing: _Writing, newest: str, stale: tuple[str, str, str] | None
) -> Iterator[LitmusOutcome]:
    """The loads that tell, and what they may have told."""
    # DRAM lost what was stored last: its own alias does not find it there any more.
    if stale is None:
        writing.add("x", LitmusOperation.CLFLUSH, newest)
        writing.add("x", LitmusOperation.LOAD, newest, _TOLD)
        yield from _either(
            "destroyed", "survived", LitmusCondition(_TOLD, False, "p", _last(writing, newest))
        )
        return
    cpu, alias, held = stale
    writing.add(cpu, LitmusOperation.LOAD, alias, _TOLD)
    if held == DIRTY:
        yield from _either(
            "stale", "fresh", LitmusCondition(_TOLD, True, "p", _last(writing, alias))
        )
        return
    # A clean copy stayed what it was when memory changed.
    writing.add(cpu, LitmusOperation.CLFLUSH, alias)
    writing.add(cpu, LitmusOperation.LOAD, alias, _MEMORY)
    yield from _either("stale", "fresh", LitmusCondition(_TOLD, False, "r", _MEMORY))


def _either(bad: str, good: str, condition: LitmusCondition) -> Iterator[LitmusOutcome]:
    yield LitmusOutcome(bad, True, (condition,))
    yield LitmusOutcome(good, False, (replace(condition, equal=not condition.equal),))


def _last(writing: _Writing, alias: str) -> int:
    return writing.stored[alias] % PATTERNS


def _cpu(actor: str) -> str:
    return "x" if actor == JUMPING_NAME else "y"


def _held(shown: str) -> str:
    return shown.partition(",")[0]


def _completes_flush(step: Step) -> bool:
    """It leaves a place where the CPU was in WBINVD."""
    return any(
        change.variable == "at" and change.before.startswith("in WBINVD") for change in step.changes
    )


def _reaches_memory(step: Step) -> bool:
    return any(change.cpu == DRAM_NAME and change.after == _NEXT for change in step.changes)


def _shared(counterexample: Counterexample, state: State) -> dict[str, str]:
    names = (variable.name for variable in counterexample.model.globals)
    return dict(zip(names, state[0], strict=True))


def _stale(counterexample: Counterexample) -> tuple[str, str, str]:
    """CPU, alias and state of the entry that is stale in the end."""
    last = counterexample.run.states[-1]
    shared = _shared(counterexample, last)
    newest = shared[NEWEST.name]
    held = [("x", name.removeprefix("jumping_"), value) for name, value in shared.items()]
    for local in last[1]:
        names = (variable.name for variable in counterexample.model.locals)
        held += [("y", name, value) for name, value in zip(names, local, strict=True)]
    return next(
        entry for entry in held if entry[1] in _KEYS and entry[1] != newest and entry[2] != ABSENT
    )


def _name(counterexample: Counterexample) -> str:
    scenario = counterexample.scenario
    old, following = map(state_word, (scenario.old_encrypts, scenario.next_encrypts))
    # The module takes names of 39 characters.
    return f"{scenario.path}-{old}-{following}-{counterexample.line}"[:39].rstrip("-")


def _sentences(counterexample: Counterexample) -> Iterator[str]:
    for number, step in enumerate(counterexample.steps, 1):
        yield f"{number}. {step.sentence}"
