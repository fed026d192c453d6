# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of MSRs as ``rdmsr`` (msr-tools) prints them, with their numbers beside them.

rdmsr prints values alone, so the number comes from the command line above them or is written
before each::

    # rdmsr -a NUMBER            0xc0010010: 740000
    740000                       0xc0010010 = 0x740000
    740000
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from staleline.errors import EvidenceError
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import CpuEvidence, Note, Snapshot, Statement
from staleline.evidence.statements import agreed
from staleline.hardware import SEV_STATUS, SYSCFG, TME_ACTIVATE
from staleline.pattern import Pattern

__all__ = ["is_bare", "is_command", "is_row", "parse", "refuse_bare"]

_NOTE = Note("cpuid", "only MSRs were given; run cpuid -r, or staleline collect")
_SPELL = "write the MSR's number before each value, as in 0xc0010010: 740000"
_COMMAND = Pattern(r"(?:.*[#$%>]\s*)?(?:sudo\s+)?(?:\S*/)?rdmsr((?:\s+\S+)+)\s*")
_ASSIGNED = Pattern(
    r"\s*(?:MSR\s+)?0x([0-9a-fA-F]{1,8})(?:\s*[:=]|\s)\s*(?:0x)?([0-9a-fA-F]{1,16})\s*"
)
#: cpucontrol -m prints the halves of a value (FreeBSD usr.sbin/cpucontrol/cpucontrol.c do_msr()).
_HALVES = Pattern(r"\s*MSR 0x([0-9a-f]{1,8}): 0x([0-9a-f]{8}) 0x([0-9a-f]{8})\s*")
#: Hexadecimal, as rdmsr prints it without an option.
_VALUE = Pattern(r"\s*(?:0x)?([0-9a-fA-F]{1,16})\s*")
_DECIMAL_VALUE = Pattern(r"\s*([0-9]{1,20})\s*")
_FAULT = Pattern(r"\s*rdmsr: ?CPU ([0-9]{1,6}) cannot read MSR 0x([0-9a-fA-F]{1,8})\s*")
_TELLING = (_ASSIGNED.fullmatch, _HALVES.fullmatch, _FAULT.fullmatch)
_CPUS_MAX = 8192
#: Register, highest and lowest bit -> the fact that these bits are.
_BITS = Pattern(r"(?:-f ?|--bitfield[ =])([0-9]{1,2}):([0-9]{1,2})")
_NAMED_BITS = {
    (SYSCFG, 23, 23): "sme_enabled",
    (SYSCFG, 24, 24): "snp_enabled",
    (SEV_STATUS, 0, 0): "sev_guest",
    (SEV_STATUS, 1, 1): "sev_es_guest",
    (SEV_STATUS, 2, 2): "snp_guest",
    (TME_ACTIVATE, 1, 1): "tme_enabled",
}
#: No prompt and command is longer. Time to try `_COMMAND` grows with the length's square.
_COMMAND_MAX = 256


def is_row(line: str) -> bool:
    """Is this a line of a transcript of rdmsr, or a value with its number?"""
    return any(is_it(line) for is_it in (_command, *_TELLING))


def is_command(line: str) -> bool:
    """Is this a command line of rdmsr?"""
    return _command(line) is not None


def _command(line: str) -> re.Match[str] | None:
    short = len(line) <= _COMMAND_MAX and "rdmsr" in line
    return _COMMAND.fullmatch(line) if short else None


def is_bare(text: str) -> bool:
    """Does `text` hold values alone?"""
    lines = [line for line in text.split("\n") if line.strip()]
    return bool(lines) and all(_VALUE.fullmatch(line) for line in lines[:_CPUS_MAX])


def refuse_bare(_text: str, where: str) -> NoReturn:
    """Refuse values without a number.

    Raises:
        EvidenceError: Always.
    """
    raise EvidenceError("holds values of an MSR that it does not name", where=where, do=_SPELL)


@dataclass(slots=True)
class _Command:
    """What a command line of rdmsr asks for."""

    number: int
    cpu: int
    all_cpus: bool = False
    decimal: bool = False
    values: int = 0
    bits: tuple[int, int] | None = None


@dataclass(slots=True)
class _Cpus:
    msr: dict[int, dict[int, int]] = field(default_factory=dict)
    faults: dict[int, set[int]] = field(default_factory=dict)
    said: list[Statement] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        cpus = sorted({*self.msr, *self.faults})
        return Snapshot(
            cpus=tuple(
                CpuEvidence(
                    CpuidTable({}),
                    msr=self.msr.get(cpu, {}),
                    msr_faults=frozenset(self.faults.get(cpu, ())),
                )
                for cpu in cpus
            ),
            notes=(_NOTE,),
            statements=agreed(self.said),
        )


def parse(text: str, where: str) -> Snapshot:
    """Return the MSRs that `text` gives.

    Raises:
        EvidenceError: A value has no number, is cut, or is printed in a way that is not read.
    """
    reader = _Reader(where)
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        reader.read(line.rstrip(), number)
    # 7400 may be a cut 740000.
    if lines[-1].strip() and not _command(lines[-1]):
        raise reader.error(len(lines), "ends in the middle of a line", "end the last line")
    return reader.cpus.snapshot()


class _Reader:
    def __init__(self, where: str) -> None:
        self.cpus = _Cpus()
        self._where = where
        self._command: _Command | None = None
        self._times: dict[int, int] = {}

    def error(self, line: int, what: str, do: str) -> EvidenceError:
        return EvidenceError(what, where=f"{self._where}:{line}", do=do)

    def read(self, line: str, number: int) -> None:
        if command := _command(line):
            self._command = self._asked(command[1].split(), number)
            self._require_name(self._command, number)
        elif fault := _FAULT.fullmatch(line):
            # rdmsr says so only of EIO: RDMSR was executed and faulted (rdmsr.c).
            self._fault(int(fault[1]), int(fault[2], 16), number)
        elif self._command is not None and self._is_value(line, self._command):
            self._value(line, self._command, number)
        elif assigned := _ASSIGNED.fullmatch(line):
            self._assigned(int(assigned[1], 16), int(assigned[2], 16), number)
        elif halves := _HALVES.fullmatch(line):
            self._assigned(int(halves[1], 16), int(halves[2] + halves[3], 16), number)
        elif _VALUE.fullmatch(line):
            raise self.error(number, "is a value of an MSR that nothing names", _SPELL)

    def _fault(self, cpu: int, msr: int, line: int) -> None:
        # Of two outputs that a terminal mixed, the values may be of other CPUs than they stand for.
        if msr in self.cpus.msr.get(cpu, {}):
            raise self.error(
                line,
                f"says that CPU {cpu} has no MSR {msr:#x}, of which a value stands above",
                "read it CPU by CPU: rdmsr -p CPU NUMBER",
            )
        self.cpus.faults.setdefault(cpu, set()).add(msr)

    def _asked(self, words: list[str], line: int) -> _Command:
        number: int | None = None
        command = _Command(0, 0)
        rest = iter(self._without_bits(words, command))
        for word in rest:
            if word in ("-a", "--all"):
                command.all_cpus = True
            elif word in ("-p", "--processor"):
                command.cpu = self._integer(next(rest, ""), line)
            elif word.startswith("-p"):
                command.cpu = self._integer(word[2:], line)
            elif word in ("-d", "--decimal", "-u", "--unsigned"):
                command.decimal = True
            elif word in ("-x", "-X", "-0", "-c", "--hexadecimal", "--capital-hex", "--zero-pad"):
                continue
            elif word.startswith("-"):
                raise self.error(
                    line, f"asks rdmsr for {word}", "run it without options but -a or -p"
                )
            elif number is None:
                number = self._integer(word, line)
        if number is None or command.cpu >= _CPUS_MAX:
            raise self.error(line, "is no whole command line of rdmsr", _SPELL)
        command.number = number
        return command

    def _require_name(self, command: _Command, line: int) -> None:
        if command.bits is not None and (command.number, *command.bits) not in _NAMED_BITS:
            asked = f"bits {command.bits[0]}:{command.bits[1]} of {command.number:#x}"
            raise self.error(line, f"asks rdmsr for {asked}", "run it without -f")

    @staticmethod
    def _without_bits(words: list[str], command: _Command) -> list[str]:
        """`words` without -f and the bits that it asks for, which `command` keeps."""
        # The highest bit, and behind a colon the lowest (msr-tools rdmsr.c).
        for at, word in enumerate(words):
            inner = 1 if word in ("-f", "--bitfield") else 0
            bits = _BITS.fullmatch(" ".join(words[at : at + 1 + inner]))
            if bits is not None:
                command.bits = int(bits[1]), int(bits[2])
                return [*words[:at], *words[at + 1 + inner :]]
        return words

    def _integer(self, word: str, line: int) -> int:
        # strtoul() with base 0, as rdmsr.c reads its arguments.
        try:
            value = int(word, 8) if re.fullmatch("0[0-7]+", word) else int(word, 0)
        except ValueError:
            value = -1
        if not 0 <= value < 1 << 32:
            raise self.error(line, f"asks rdmsr for {word!r}, which is no number", _SPELL)
        return value

    def _is_value(self, line: str, command: _Command) -> bool:
        pattern = _DECIMAL_VALUE if command.decimal else _VALUE
        return pattern.fullmatch(line) is not None

    def _value(self, line: str, command: _Command, number: int) -> None:
        if command.values and not command.all_cpus:
            raise self.error(number, "is a second value of one MSR of one CPU", _SPELL)
        cpu = self._answering(command.values, command.number) if command.all_cpus else command.cpu
        command.values = cpu + 1
        digits = line.strip().removeprefix("0x")
        value = int(digits, 10 if command.decimal else 16)
        if command.bits is not None:
            high, low = command.bits
            source = f"rdmsr -f {high}:{low} {command.number:#x}"
            # Of CPUs that differ the machine has no one value, and `agreed` leaves it open.
            named = _NAMED_BITS[command.number, high, low]
            self.cpus.said.append(Statement(named, bool(value), source))
            return
        self._record(cpu, command.number, value, number)

    def _assigned(self, msr: int, value: int, line: int) -> None:
        # Where no CPU stands beside it, the n-th value of an MSR is of the n-th CPU, as rdmsr -a
        # prints them.
        cpu = self._times[msr] = self._answering(self._times.get(msr, -1) + 1, msr)
        self._record(cpu, msr, value, line)

    def _answering(self, cpu: int, msr: int) -> int:
        """The next CPU from `cpu` on that has a value of `msr`: one that faulted has none."""
        while msr in self.cpus.faults.get(cpu, ()):
            cpu += 1
        return cpu

    def _record(self, cpu: int, msr: int, value: int, line: int) -> None:
        if cpu >= _CPUS_MAX or value >= 1 << 64:
            raise self.error(line, "is more than any machine has", "give one file per machine")
        if self.cpus.msr.setdefault(cpu, {}).setdefault(msr, value) != value:
            raise self.error(
                line,
                f"gives MSR {msr:#x} of CPU {cpu} a second value",
                "give one machine's MSRs, of one boot",
            )
