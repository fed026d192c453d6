# SPDX-License-Identifier: GPL-2.0-or-later
"""The language of litmus tests, as module/staleline_litmus.c reads it.

A program is steps of two CPUs, x and y, on lines that have two aliases, one after the other, and
named outcomes: conditions on what was loaded. An outcome with a star is one that coherent aliases
cannot give.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from staleline.errors import UsageError

__all__ = [
    "CONTROLS",
    "LANGUAGE",
    "PATTERNS",
    "REGISTERS",
    "STEPS",
    "LitmusCondition",
    "LitmusOperation",
    "LitmusOutcome",
    "LitmusProgram",
    "LitmusStep",
    "litmus_programs",
    "litmus_text",
]

#: The version: LANGUAGE of the module, which refuses others.
LANGUAGE: Final = 1
#: Programs without which no result counts.
CONTROLS: Final = ("differ", "order-control")
#: Most steps, and how many values and registers there are; limits of the module, too.
STEPS, PATTERNS, REGISTERS = 32, 8, 4

_HEAD: Final = f"staleline-litmus {LANGUAGE}"
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,39}")
_OUTCOME: Final = re.compile(r"\*?[A-Za-z0-9-]{1,19}")
_CONDITION: Final = re.compile(r"r([0-3])([=!])=(?:(p)([0-7])|(r)([0-3]))")


class LitmusOperation(StrEnum):
    """What a CPU does to all lines."""

    STORE = "store"
    NTSTORE = "ntstore"
    LOAD = "load"
    CLFLUSH = "clflush"
    CLWB = "clwb"
    WBINVD = "wbinvd"
    WBNOINVD = "wbnoinvd"
    EVICT = "evict"

    @property
    def operand(self) -> str:
        """The letter of its operand: "p" of a value, "r" of a register, or ""."""
        return {"store": "p", "ntstore": "p", "load": "r"}.get(self.value, "")

    @property
    def of_line(self) -> bool:
        """Does it name an alias?"""
        return self not in (LitmusOperation.WBINVD, LitmusOperation.WBNOINVD, LitmusOperation.EVICT)


@dataclass(frozen=True, slots=True)
class LitmusStep:
    """One step.

    Attributes:
        cpu: "x" or "y".
        operation: What it does.
        alias: "a", "b", "plain" or "cbit"; "" where it is about no line.
        number: Of the value or register.
    """

    cpu: str
    operation: LitmusOperation
    alias: str = ""
    number: int = 0

    def __str__(self) -> str:
        operand = f"{self.operation.operand}{self.number}" if self.operation.operand else ""
        return " ".join(filter(None, (self.cpu, str(self.operation), self.alias, operand)))


@dataclass(frozen=True, slots=True)
class LitmusCondition:
    """A register equals, or not, a value or another register.

    Attributes:
        register: Its number.
        equal: Or not.
        kind: "p" or "r".
        number: Of the value or the other register.
    """

    register: int
    equal: bool
    kind: str
    number: int

    def __str__(self) -> str:
        return f"r{self.register}{'=' if self.equal else '!'}={self.kind}{self.number}"


@dataclass(frozen=True, slots=True)
class LitmusOutcome:
    """What a line may have shown: all conditions hold."""

    name: str
    starred: bool
    conditions: tuple[LitmusCondition, ...]

    def __str__(self) -> str:
        return " ".join(("*" * self.starred + self.name, *map(str, self.conditions)))


@dataclass(frozen=True, slots=True)
class LitmusProgram:
    """A test. Of its outcomes the first that holds counts."""

    name: str
    steps: tuple[LitmusStep, ...]
    outcomes: tuple[LitmusOutcome, ...]

    def __str__(self) -> str:
        steps = ", ".join(map(str, self.steps))
        return f"{self.name}: {' ? '.join((steps, *map(str, self.outcomes)))}"


def litmus_text(programs: Iterable[LitmusProgram], remark: str = "") -> str:
    """A file of tests; `remark` is a comment."""
    comment = [f"# {line}" for line in remark.splitlines()]
    return "\n".join((_HEAD, *comment, *map(str, programs))) + "\n"


def litmus_programs(text: str) -> tuple[LitmusProgram, ...]:
    """The programs of a file.

    Raises:
        UsageError: It is none, or of another version.
    """
    head, *lines = text.splitlines() or [""]
    if head != _HEAD:
        raise UsageError(f"does not begin with {_HEAD!r}", where="tests", do="write it anew")
    numbered = ((number, line.strip()) for number, line in enumerate(lines, 2))
    return tuple(
        _program(line, f"tests, line {number}")
        for number, line in numbered
        if line and not line.startswith("#")
    )


def _program(line: str, where: str) -> LitmusProgram:
    head, *outcomes = line.split("?")
    name, colon, steps = head.partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise UsageError("no program: it begins with a name and a colon", where=where)
    if not outcomes:
        raise UsageError("a program without outcomes", where=where)
    read = tuple(_step(step.split(), where) for step in steps.split(","))
    if len(read) > STEPS:
        raise UsageError(f"a program of more than {STEPS} steps", where=where)
    return LitmusProgram(name, read, tuple(_outcome(part.split(), where) for part in outcomes))


def _step(words: list[str], where: str) -> LitmusStep:
    refused = UsageError(f"no step: {' '.join(words)!r}", where=where)
    if len(words) < 2 or words[0] not in ("x", "y") or words[1] not in list(LitmusOperation):
        raise refused
    operation = LitmusOperation(words[1])
    if len(words) != 2 + operation.of_line + bool(operation.operand):
        raise refused
    alias = words[2] if operation.of_line else ""
    if operation.of_line and alias not in ("a", "b", "plain", "cbit"):
        raise refused
    limit = PATTERNS if operation.operand == "p" else REGISTERS
    operands = [f"{operation.operand}{number}" for number in range(limit)]
    if operation.operand and words[3] not in operands:
        raise refused
    number = operands.index(words[3]) if operation.operand else 0
    return LitmusStep(words[0], operation, alias, number)


def _outcome(words: list[str], where: str) -> LitmusOutcome:
    conditions = tuple(_conditions(words[1:]))
    if not words or not _OUTCOME.fullmatch(words[0]) or len(conditions) != len(words) - 1:
        raise UsageError(f"no outcome: {' '.join(words)!r}", where=where)
    if not conditions:
        raise UsageError(f"an outcome without conditions: {words[0]}", where=where)
    return LitmusOutcome(words[0].removeprefix("*"), words[0].startswith("*"), conditions)


def _conditions(words: Iterable[str]) -> Iterator[LitmusCondition]:
    for word in words:
        match = _CONDITION.fullmatch(word)
        if match is not None:
            kind, number = match[3] or match[5], match[4] or match[6]
            yield LitmusCondition(int(match[1]), match[2] == "=", kind, int(number))
