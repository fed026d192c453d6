# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kit was told by a machine: JSON lines of module/staleline_litmus.c, one after the other.

Measured is what hardware answered, on one machine at one time. That nothing was seen proves
nothing: "not observed" is no word for coherent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NoReturn

from staleline.errors import EvidenceError
from staleline.inputfile import read_input
from staleline.litmus.language import CONTROLS, LANGUAGE

__all__ = [
    "LINE_SCHEMA",
    "AskedMachine",
    "AskedTest",
    "CountedOutcome",
    "FlushDurations",
    "LitmusResult",
    "MeasuredAliases",
    "is_litmus_result",
    "litmus_result",
    "read_litmus_result",
]

#: What the module's first line says that they are.
LINE_SCHEMA: Final = "staleline/litmus-line/1"

_SIZE_MAX: Final = 64 << 20
_LINES_MAX: Final = 100_000
_ALIASES_KEPT: Final = 1 << 10  # CPUID 0x8000001F EAX[10], AMD APM volume 3, E.4.17
_SUMS: Final = ("starred", "destroyed")
_DO: Final = "give the file that run.sh of the kit wrote, as it is"


class MeasuredAliases(StrEnum):
    """What was measured of the two aliases of a line."""

    INCOHERENT = "incoherent"
    NOT_OBSERVED = "not observed"
    REFUSED = "refused"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedMachine:
    """Where it was asked.

    Attributes:
        release: Of the kernel that ran.
        vendor: As CPUID names it.
        family: Likewise.
        model: Likewise.
        stepping: Likewise.
        microcode: Its revision.
        cpus: How many were online.
        sme_leaf: CPUID 0x8000001F: EAX, EBX, ECX and EDX; zeros where it was refused before.
        syscfg: SYSCFG (MSR 0xC0010010); 0 where it was refused before.
        kernel_encrypts: That kernel used the C-bit itself.
        tries: Of each test, on `lines` lines each.
        lines: See there.
        refused: Why the module asked nothing; None if it did.
    """

    release: str
    vendor: str
    family: int
    model: int
    stepping: int
    microcode: str
    cpus: int
    sme_leaf: tuple[int, ...]
    syscfg: int
    kernel_encrypts: bool
    tries: int
    lines: int
    refused: str | None

    @property
    def says_coherent(self) -> bool | None:
        """What CPUID says of the aliases; None where the leaf was not read."""
        return bool(self.sme_leaf[0] & _ALIASES_KEPT) if any(self.sme_leaf) else None


@dataclass(frozen=True, slots=True)
class CountedOutcome:
    """How many lines showed an outcome; a starred one coherent aliases cannot give."""

    name: str
    starred: bool
    count: int


@dataclass(frozen=True, slots=True)
class AskedTest:
    """A program as it ran on two CPUs.

    Attributes:
        name: Of the program.
        a: Which alias was a: "cbit" or "plain"; None if it names neither a nor b.
        relation: Of CPU y to CPU x, e.g. "self", "smt".
        x: Number of a CPU.
        y: Likewise.
        outcomes: What lines showed; the last is "other".
        destroyed: Lines that did not hold in the end what was stored last.
    """

    name: str
    a: str | None
    relation: str
    x: int
    y: int
    outcomes: tuple[CountedOutcome, ...]
    destroyed: int

    @property
    def starred(self) -> int:
        """Lines that showed what coherent aliases cannot give."""
        return sum(outcome.count for outcome in self.outcomes if outcome.starred)

    @property
    def asked(self) -> int:
        """Lines."""
        return sum(outcome.count for outcome in self.outcomes)

    @property
    def can_tell(self) -> bool:
        """Lines were asked, and may show what coherent aliases cannot give."""
        return self.asked > 0 and any(outcome.starred for outcome in self.outcomes)

    def count(self, name: str) -> int:
        """Lines that showed this outcome."""
        return sum(outcome.count for outcome in self.outcomes if outcome.name == name)


@dataclass(frozen=True, slots=True)
class FlushDurations:
    """How long WBINVD took.

    Attributes:
        cpu: Where; None for all CPUs at once.
        dirty_kb: What was stored before; None for what was dirty by chance.
        nanoseconds: Each time.
    """

    cpu: int | None
    dirty_kb: int | None
    nanoseconds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LitmusResult:
    """Everything that one run of the kit told.

    Attributes:
        machine: Where.
        tests: In the order in which they ran.
        skipped: Name of a test that did not, -> why.
        durations: Of WBINVD.
        errors: What the module did not understand.
        finished: The last line is there, and its sums are those of the tests.
    """

    machine: AskedMachine
    tests: tuple[AskedTest, ...]
    skipped: Mapping[str, str]
    durations: tuple[FlushDurations, ...]
    errors: tuple[str, ...]
    finished: bool

    @property
    def starred(self) -> int:
        """Lines that showed what coherent aliases cannot give."""
        return sum(test.starred for test in self.tests)

    @property
    def asked(self) -> int:
        """Lines of all tests that can tell."""
        return sum(test.asked for test in self.tests if test.can_tell)

    @property
    def destroyed(self) -> int:
        """Lines that lost what was stored last."""
        return sum(test.destroyed for test in self.tests)

    @property
    def aliases(self) -> MeasuredAliases:
        """What it comes to."""
        if self.machine.refused is not None:
            return MeasuredAliases.REFUSED
        if self.why_not_measured is not None:
            return MeasuredAliases.NOT_MEASURED
        return MeasuredAliases.INCOHERENT if self.starred else MeasuredAliases.NOT_OBSERVED

    @property
    def why_not_measured(self) -> str | None:
        """Why the answers count for nothing; None where they count."""
        if self.errors:
            return f"the module did not understand a test: {self.errors[0]}"
        if not self.finished:
            return "the file ends before its last line: the run was broken off"
        # In this order: where memory reads alike, lines cannot be lost in order either.
        for name, broken in ((CONTROLS[0], self._same_memory), (CONTROLS[1], self._lost_in_order)):
            # With tries=0 the module says that a test ran, of which it asked nothing.
            if not any(test.name == name and test.asked for test in self.tests):
                return f"the control {name} was not asked"
            if broken is not None:
                return broken
        if not any(test.can_tell for test in self.tests if test.name not in CONTROLS):
            return "no test was asked that can tell"
        return None

    @property
    def contradicts_cpuid(self) -> bool:
        """Measured is what CPUID excludes."""
        return self.aliases is MeasuredAliases.INCOHERENT and self.machine.says_coherent is True

    @property
    def _same_memory(self) -> str | None:
        ran = [test for test in self.tests if test.name == CONTROLS[0]]
        # Otherwise both aliases are one, and no line could be stale.
        if any(test.count("differ") != test.asked for test in ran):
            return "memory reads alike through both aliases: the C-bit changes nothing here"
        return None

    @property
    def _lost_in_order(self) -> str | None:
        ran = [test for test in self.tests if test.name == CONTROLS[1]]
        # What coherent and incoherent aliases cannot give is somebody else's store.
        if any(test.destroyed or test.count("survived") != test.asked for test in ran):
            return (
                "lines were lost that were written back in the order of their stores: run it again"
            )
        return None


def is_litmus_result(content: bytes) -> bool:
    """Does it begin as a result of the kit does?"""
    return content.lstrip()[:1] == b"{" and LINE_SCHEMA.encode() in content[:4096]


def read_litmus_result(path: Path) -> LitmusResult:
    """Read a result.

    Raises:
        EvidenceError: It cannot be read, or is none.
    """
    return litmus_result(read_input(path, EvidenceError, limit=_SIZE_MAX, do=_DO), str(path))


def litmus_result(content: bytes, where: str) -> LitmusResult:
    """A result; nothing in it is trusted.

    Raises:
        EvidenceError: It is none.
    """
    lines = content.splitlines()
    if len(lines) > _LINES_MAX:
        _refuse(f"has more than {_LINES_MAX} lines", where)
    # A machine that stopped may have left half a line.
    told = [line for line in lines if line.strip()]
    cut = bool(told) and not content.endswith(b"\n")
    numbered = list(enumerate(told[:-1] if cut else told, 1))
    read = [
        _Line(_object(line, f"{where}, line {n}"), f"{where}, line {n}") for n, line in numbered
    ]
    if not read or read[0].text("kind") != "machine":
        _refuse("does not begin with the machine that was asked", where)
    machine = _machine(read[0])
    tests = tuple(_test(line) for line in read if line.text("kind") == "test")
    kinds = [line.text("kind") for line in read]
    unknown = set(kinds) - {"machine", "test", "skipped", "cost", "error", "end"}
    if unknown or kinds.count("machine") > 1:
        _refuse(f"has a line of kind {min(unknown, default='machine')!r} where none may be", where)
    skipped = {one.text("test"): one.text("why") for one in read if one.text("kind") == "skipped"}
    return LitmusResult(
        machine=machine,
        tests=tests,
        skipped=skipped,
        durations=tuple(_durations(line) for line in read if line.text("kind") == "cost"),
        errors=tuple(line.text("error") for line in read if line.text("kind") == "error"),
        finished=not cut and _is_end(read[-1], tests, skipped),
    )


def _is_end(last: _Line, tests: tuple[AskedTest, ...], skipped: Mapping[str, str]) -> bool:
    if last.text("kind") != "end":
        return False
    names = {test.name for test in tests} | skipped.keys()
    starred, destroyed = (sum(getattr(test, sums) for test in tests) for sums in _SUMS)
    sums = tuple(map(last.number, ("tests", "answers", *_SUMS)))
    # Sums that do not add up are of a file that lost lines in the middle.
    return sums == (len(names), len(tests), starred, destroyed)


def _machine(line: _Line) -> AskedMachine:
    if line.text("schema") != LINE_SCHEMA or line.number("language") != LANGUAGE:
        _refuse("is of another version of the kit", line.where)
    leaf = line.value("cpuid_8000001f", list)
    return AskedMachine(
        release=line.text("release"),
        vendor=line.text("vendor"),
        family=line.number("family"),
        model=line.number("model"),
        stepping=line.number("stepping"),
        microcode=line.text("microcode"),
        cpus=line.number("cpus"),
        sme_leaf=tuple(_hexadecimal(word, line.where) for word in leaf),
        syscfg=_hexadecimal(line.text("syscfg"), line.where),
        kernel_encrypts=bool(line.value("kernel_encrypts", bool)),
        tries=line.number("tries"),
        lines=line.number("lines"),
        refused=None if line.fields.get("refused") is None else line.text("refused"),
    )


def _test(line: _Line) -> AskedTest:
    told = [
        _Line(_dict(outcome, line.where), line.where) for outcome in line.value("outcomes", list)
    ]
    outcomes = tuple(
        CountedOutcome(one.text("name"), bool(one.value("starred", bool)), one.number("count"))
        for one in told
    )
    a = None if line.fields.get("a") is None else line.text("a")
    cpus = line.number("x"), line.number("y")
    return AskedTest(
        line.text("test"), a, line.text("relation"), *cpus, outcomes, line.number("destroyed")
    )


def _durations(line: _Line) -> FlushDurations:
    cpu, dirty = (
        None if line.fields.get(name) is None else line.number(name) for name in ("cpu", "dirty_kb")
    )
    times = [_Line({"ns": one}, line.where).number("ns") for one in line.value("ns", list)]
    return FlushDurations(cpu, dirty, tuple(times))


@dataclass(frozen=True, slots=True)
class _Line:
    """One object, whose fields are of the kinds that are asked for or an error."""

    fields: Mapping[str, Any]
    where: str

    def value(self, name: str, kind: type) -> Any:
        """The value of a field."""
        value = self.fields.get(name)
        if not isinstance(value, kind):
            _refuse(f"field {name} is missing or no {kind.__name__}", self.where)
        return value

    def text(self, name: str) -> str:
        """Likewise, of text; what a terminal would take for more than text is refused."""
        text = str(self.value(name, str))
        if not text.isprintable() or len(text) > 200:
            _refuse(f"field {name} is no text of the kit", self.where)
        return text

    def number(self, name: str) -> int:
        """Likewise, of a number that counts."""
        value = self.value(name, int)
        # `bool` is an `int`, and the module counts in 64 bits.
        if isinstance(value, bool) or not 0 <= value < 1 << 64:
            _refuse(f"field {name} is no number that counts", self.where)
        return int(value)


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        return _dict(json.loads(line), where)
    except (ValueError, RecursionError):
        _refuse("is not JSON", where)


def _dict(fields: Any, where: str) -> dict[str, Any]:
    if not isinstance(fields, dict):
        _refuse("is no JSON object", where)
    return fields


def _hexadecimal(word: Any, where: str) -> int:
    try:
        number = int(word, 16)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < 1 << 64:
        _refuse("a register is not hexadecimal", where)
    return number


def _refuse(what: str, where: str) -> NoReturn:
    raise EvidenceError(what, where=where, do=_DO)
