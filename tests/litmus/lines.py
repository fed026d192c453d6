# SPDX-License-Identifier: GPL-2.0-or-later
"""Every outcome that a litmus program may have on one line, where aliases are coherent or not.

Written for itself, and not out of the model: what programs claim of coherent aliases is compared
with this. Whatever hardware may do by itself it may do here: write a dirty entry back, drop a
clean one, fill an entry, and reach further with WBINVD and CLFLUSH than was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from staleline.litmus.language import LitmusCondition, LitmusOperation, LitmusProgram, LitmusStep

CPUS = ("x", "y")
ALIASES = ("plain", "cbit")

#: A value that was stored, or what is read through the other alias than it was written through.
Value = int | tuple[str, object]


@dataclass(frozen=True)
class Line:
    """What caches and memory hold.

    Attributes:
        entries: (CPU, alias) -> "clean" or "dirty", as pairs.
        values: Alias -> value of its copies, as pairs.
        memory: Alias and value of what was written last.
        registers: As loaded, as pairs.
    """

    entries: frozenset[tuple[str, str, str]] = frozenset()
    values: frozenset[tuple[str, Value]] = frozenset()
    memory: tuple[str, Value] = ("plain", -1)
    registers: frozenset[tuple[int, Value]] = frozenset()

    def holders(self, alias: str) -> list[tuple[str, str, str]]:
        return [entry for entry in self.entries if entry[1] == alias]

    def value(self, alias: str) -> Value:
        """What a load sees."""
        return dict(self.values)[alias] if self.holders(alias) else self.read(alias)

    def read(self, alias: str) -> Value:
        stored_through, value = self.memory
        return value if stored_through == alias else ("unintelligible", value)

    def without(self, *gone: tuple[str, str, str]) -> Line:
        """Entries leave; what is dirty is written back."""
        line = self
        for entry in gone:
            if entry[2] == "dirty":
                line = replace(line, memory=(entry[1], dict(line.values)[entry[1]]))
        return replace(line, entries=line.entries - set(gone))

    def with_entry(self, cpu: str, alias: str, state: str, value: Value) -> Line:
        others = {entry for entry in self.entries if (entry[0], entry[1]) != (cpu, alias)}
        if state == "dirty":
            others = {entry for entry in others if entry[1] != alias}
        values = dict(self.values) | {alias: value}
        return replace(
            self,
            entries=frozenset(others | {(cpu, alias, state)}),
            values=frozenset(values.items()),
        )


@dataclass(frozen=True)
class Caches:
    """Hardware.

    Attributes:
        coherent: It keeps one alias of a line at a time.
        restless: It does by itself whatever it may.
        wbinvd_reaches_all: WBINVD reaches the caches of both CPUs.
        clflush_reaches_both: CLFLUSH reaches both aliases.
    """

    coherent: bool
    restless: bool = False
    wbinvd_reaches_all: bool = False
    clflush_reaches_both: bool = False

    def access(self, line: Line, cpu: str, alias: str) -> Line:
        """The line as a load leaves it."""
        if self.coherent:
            line = line.without(*(entry for entry in line.entries if entry[1] != alias))
        if any(entry[:2] == (cpu, alias) for entry in line.entries):
            return line
        return line.with_entry(cpu, alias, "clean", line.value(alias))

    def step(self, line: Line, step: LitmusStep, cpu: str, alias: str) -> Line:
        match step.operation:
            case LitmusOperation.STORE:
                return self.access(line, cpu, alias).with_entry(cpu, alias, "dirty", step.number)
            case LitmusOperation.NTSTORE:
                line = self.access(line, cpu, alias)
                line = line.without(*line.holders(alias))
                return replace(line, memory=(alias, step.number))
            case LitmusOperation.LOAD:
                line = self.access(line, cpu, alias)
                registers = dict(line.registers) | {step.number: line.value(alias)}
                return replace(line, registers=frozenset(registers.items()))
            case LitmusOperation.CLFLUSH:
                reached = ALIASES if self.clflush_reaches_both else (alias,)
                return line.without(*(entry for entry in line.entries if entry[1] in reached))
            case LitmusOperation.CLWB:
                dirty = [entry for entry in line.holders(alias) if entry[2] == "dirty"]
                kept = frozenset((owner, name, "clean") for owner, name, _ in dirty)
                written = line.without(*dirty)
                return replace(written, entries=written.entries | kept)
            case LitmusOperation.WBINVD | LitmusOperation.WBNOINVD | LitmusOperation.EVICT:
                everywhere = self.wbinvd_reaches_all
                gone = [entry for entry in line.entries if everywhere or entry[0] == cpu]
                return line.without(*gone)

    def by_itself(self, lines: Iterable[Line], cpus: Iterable[str]) -> set[Line]:
        """Everything that may be after nothing, or more than nothing, has happened."""
        known = set(lines)
        frontier = known if self.restless else set()
        while frontier:
            after = {
                other
                for line in frontier
                for other in (
                    *(line.without(entry) for entry in line.entries),
                    *(self.access(line, cpu, alias) for cpu in cpus for alias in ALIASES),
                )
            }
            frontier = after - known
            known |= frontier
        return known


def outcomes(
    program: LitmusProgram, caches: Caches, *, same_cpu: bool, swap: bool
) -> Iterator[tuple[str, bool]]:
    """Each outcome that there may be, by its name with its star; does the last store survive?"""
    names = {"a": "cbit", "b": "plain"} if not swap else {"a": "plain", "b": "cbit"}
    cpus = ("x",) if same_cpu else CPUS
    lines = caches.by_itself({Line()}, cpus)
    last = None
    for step in program.steps:
        cpu, alias = ("x" if same_cpu else step.cpu), names.get(step.alias, step.alias)
        lines = caches.by_itself((caches.step(line, step, cpu, alias) for line in lines), cpus)
        if step.operation in (LitmusOperation.STORE, LitmusOperation.NTSTORE):
            last = (alias, step.number)
    for line in lines:
        registers = dict(line.registers)
        named = next(
            (
                ("*" * outcome.starred) + outcome.name
                for outcome in program.outcomes
                if all(_holds(condition, registers) for condition in outcome.conditions)
            ),
            "other",
        )
        yield named, last is None or _settled(line, last[0]) == last


def _holds(condition: LitmusCondition, registers: dict[int, Value]) -> bool:
    other = condition.number if condition.kind == "p" else registers.get(condition.number)
    return (registers.get(condition.register) == other) is condition.equal


def _settled(line: Line, alias: str) -> tuple[str, Value]:
    """Memory after everything is flushed, what is stale last."""
    line = line.without(*line.holders(alias))
    return line.without(*line.entries).memory
