# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of the CPUID dumps of AIDA64, EVEREST before it, and tools that print alike.

::

    ------[ CPUID Registers / Logical CPU #0 ]------
    CPUID 00000004: FC004121-01C0003F-0000003F-00000000 [SL 00] [L1D: 32 KB]

Of one CPU or all, with headings of many kinds or none; MSRs where the dump says whose they are.
"""

from __future__ import annotations

import re

from staleline.evidence.cpuid.dump import CpuidDump
from staleline.evidence.snapshot import Snapshot
from staleline.pattern import Pattern

__all__ = ["ROW", "parse"]

_REGISTER = r"([0-9A-F]{8})"
_PARTED = rf"{_REGISTER}(?:-|[ \t]+)"
#: A row; what follows the registers is the sub-leaf and AIDA64's own reading of them.
#: The colon stands behind the leaf, before the registers, or nowhere.
ROW = Pattern(
    rf"[ \t]*CPUID[ \t]+{_REGISTER}(?::[ \t]*|[ \t]+:?[ \t]*)"
    rf"{_PARTED}{_PARTED}{_PARTED}{_REGISTER}(\s.*)?",
    re.IGNORECASE,
)
_BEGINS_ROW = Pattern(r"[ \t]*CPUID[ \t]+[0-9A-F]*(?:[:\s]|$)", re.IGNORECASE)
#: The beginning of a row at the end of a file that was cut.
_CUT_ROWS = frozenset("CPUID"[:length] for length in range(1, 6))
_SUBLEAF = Pattern(r"\s*\[SL ([0-9A-F]{1,8})\]", re.IGNORECASE)
_CUT_SUBLEAF = Pattern(r"\s*\[(?:S(?:L(?: [0-9A-F]*)?)?)?\s*", re.IGNORECASE)
_MSR_ROW = Pattern(
    r"[ \t]*MSR ([0-9A-F]{8}): ([0-9A-F]{4})-([0-9A-F]{4})-([0-9A-F]{4})-([0-9A-F]{4})(\s.*)?",
    re.IGNORECASE,
)
_CUT_MSR_ROW = Pattern(r"[ \t]*MSR [0-9A-F]{0,8}(?::[ \t]*[-0-9A-F]*)?\s*", re.IGNORECASE)
#: A line in dashes, or one of those that stand without.
_HEADING = Pattern(
    r"\s*(?:-+\[ (?P<dashed>.*?) \]-+"
    r"|(?P<registers>(?:CPUID|MSR) Registers\b.*)"
    r"|(?P<listed>(?:Logical )?CPU ?#[0-9]{1,6}(?: AffMask:.*|:?)|Group: 0x.* Affinity mask: .*)"
    r")\s*",
    re.IGNORECASE,
)
_NUMBER = Pattern(r"\bCPU ?#([0-9]{1,6})\b", re.IGNORECASE)
_NAMES_CPU = Pattern(r"\bRegisters\b|\bCPU ?#[0-9]|^Group:", re.IGNORECASE)


def parse(text: str, where: str) -> Snapshot:
    """Return the machine that `text` describes.

    Raises:
        EvidenceError: A row is malformed or cut.
    """
    reader = _Reader(where)
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        reader.read(number, line.rstrip())
    # Only here may a line be the beginning of a row and nothing else.
    if lines[-1].strip().upper() in _CUT_ROWS:
        raise reader.dump.error(len(lines), "is not a whole AIDA64 CPUID row")
    return reader.snapshot()


class _Reader:
    def __init__(self, where: str) -> None:
        self.dump = CpuidDump(where)
        self._in_msrs = False
        self._msr_cpu: int | None = None
        self._msrs: list[tuple[int | None, int, int]] = []

    def read(self, number: int, line: str) -> None:
        if row := ROW.fullmatch(line):
            leaf, eax, ebx, ecx, edx = (int(digits, 16) for digits in row.groups()[:5])
            subleaf = _subleaf(row[6] or "", self.dump, number)
            self.dump.add(number, leaf, subleaf, (eax, ebx, ecx, edx))
        elif heading := _HEADING.fullmatch(line):
            self._heading(next(filter(None, heading.groups())), number)
        elif _BEGINS_ROW.match(line):
            raise self.dump.error(number, "is not a whole AIDA64 CPUID row")
        elif self._in_msrs:
            self._msr(line, number)

    def snapshot(self) -> Snapshot:
        for cpu, number, value in self._msrs:
            self.dump.add_cpu_msr(cpu, number, value)
        return self.dump.snapshot()

    def _heading(self, heading: str, line: int) -> None:
        named = _NUMBER.search(heading)
        cpu = None if named is None else int(named[1])
        self._in_msrs = heading.upper().startswith("MSR")
        self._msr_cpu = cpu
        if not self._in_msrs and _NAMES_CPU.search(heading):
            self.dump.start_cpu(cpu, line)

    def _msr(self, line: str, number: int) -> None:
        # An MSR that the tool could not read is "< FAILED >", for whatever reason.
        if row := _MSR_ROW.fullmatch(line):
            value = int("".join(row.groups()[1:5]), 16)
            self._msrs.append((self._msr_cpu, int(row[1], 16), value))
        elif _CUT_MSR_ROW.fullmatch(line):
            raise self.dump.error(number, "is not a whole AIDA64 MSR row")


def _subleaf(rest: str, dump: CpuidDump, line: int) -> int | None:
    # A row cut inside "[SL 05]" would otherwise be taken for the next sub-leaf in order.
    if _CUT_SUBLEAF.fullmatch(rest) and rest.strip():
        raise dump.error(line, "is an AIDA64 CPUID row cut short")
    subleaf = _SUBLEAF.match(rest)
    return None if subleaf is None else int(subleaf[1], 16)
