# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of a CPUID dump, gathered per logical CPU.

Used by every reader of a dump format; each format brings only its line syntax.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from staleline.errors import EvidenceError
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import CpuEvidence, Snapshot

__all__ = ["INDEXED_LEAVES", "CpuidDump"]

#: Leaves whose answer depends on ECX. Dumps that print such a leaf several times without
#: naming the sub-leaf (AIDA64 before 2013) list sub-leaves 0, 1, 2, ... in order.
INDEXED_LEAVES = frozenset(
    {0x04, 0x07, 0x0B, 0x0D, 0x0F, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1A, 0x1B, 0x1D, 0x1E, 0x1F}
    | {0x20, 0x23, 0x24, 0x8000_001D, 0x8000_0020, 0x8000_0026}
)

_DUMP_AGAIN = "dump every leaf of every CPU again (cpuid -r) and copy the file whole"
_ONE_MACHINE = "give one file per machine"

_Key = tuple[int, int]


@dataclass(slots=True)
class _Section:
    """The rows of one logical CPU.

    Attributes:
        number: As its heading names it; None without one.
        leaves: Leaf and sub-leaf -> registers, in file order.
        lines: Where each was recorded.
        msr: The MSRs that the dump gives for this CPU.
        not_one: Those of which it gives two values, and which therefore have none.
        again: The line of the heading that took this CPU up again.
    """

    number: int | None
    leaves: dict[_Key, Registers] = field(default_factory=dict)
    lines: dict[_Key, int] = field(default_factory=dict)
    msr: dict[int, int] = field(default_factory=dict)
    not_one: set[int] = field(default_factory=set)
    again: int | None = None


class CpuidDump:
    """Rows in file order. Sections are CPUs; rows before any header belong to the first.

    A heading without rows is of a CPU that the dump lacks. Where leaf 0 comes again behind
    other leaves, the next CPU begins: dumps of several CPUs may have no headings, or lose them.

    Args:
        where: The file, for error messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._sections: list[_Section] = []
        self._current: _Section | None = None
        self._machine_msr: dict[int, int] = {}

    def error(self, line: int, what: str, do: str | None = _DUMP_AGAIN) -> EvidenceError:
        """An error at `line` of this dump."""
        return EvidenceError(what, where=f"{self._where}:{line}", do=do)

    def start_cpu(self, number: int | None, line: int) -> None:
        """Begin the section of the logical CPU `number`, None if the heading names none."""
        known = None if number is None else self._numbered(number)
        if known is None and number == 0 and [one.number for one in self._sections] == [None]:
            # No CPU stands before the first: what has no heading is of the first as well.
            known = self._sections[0]
            known.number = 0
        if known is None:
            self._begin(number)
        else:
            # The heading of a CPU may come again (a list of CPUs before the dump, or one leaf
            # dumped after another); the same leaf may not.
            known.again = line if known.leaves else None
            self._current = known

    def add(self, line: int, leaf: int, subleaf: int | None, registers: Registers) -> None:
        """Record one row; `subleaf` None means the format did not name it.

        Raises:
            EvidenceError: The same leaf and sub-leaf was recorded with other values.
        """
        section = self._section_for(leaf)
        key = (leaf, self._next_subleaf(section, leaf) if subleaf is None else subleaf)
        if key in section.leaves and section.again is not None:
            raise self.error(
                section.again, f"CPU {self._name(section)} begins a second time", _ONE_MACHINE
            )
        if section.leaves.setdefault(key, registers) != registers:
            raise self.error(
                line,
                f"CPU {self._name(section)} leaf {leaf:#010x} sub-leaf {key[1]} contradicts line "
                f"{section.lines[key]}",
            )
        section.lines.setdefault(key, line)

    def add_msr(self, line: int, number: int, value: int) -> None:
        """Record an MSR that the dump gives for the machine (formats with one CPU).

        Raises:
            EvidenceError: The MSR was recorded with another value.
        """
        if self._machine_msr.setdefault(number, value) != value:
            raise self.error(line, f"MSR {number:#x} is given twice with different values")

    def add_cpu_msr(self, cpu: int | None, number: int, value: int) -> None:
        """Record an MSR of the CPU whose heading has the number `cpu`."""
        if cpu is None:
            # It is the CPU's that the dump is of; of several, it is not known whose.
            section = self._sections[0] if len(self._sections) == 1 else None
        else:
            section = self._numbered(cpu)
        if section is None or number in section.not_one:
            return
        if section.msr.setdefault(number, value) != value:
            # A counter that a dump gives twice is not one value.
            del section.msr[number]
            section.not_one.add(number)

    def snapshot(self) -> Snapshot:
        """Return the machine; of a CPU at which the dump was cut off, what came before.

        What a CPU lacks is unknown of it, as if it had been taken out of the dump.

        Raises:
            EvidenceError: There are no rows.
        """
        filled = [section for section in self._sections if section.leaves]
        if not filled:
            raise EvidenceError("holds no CPUID leaves", where=self._where, do=_DUMP_AGAIN)
        return Snapshot(
            cpus=tuple(
                CpuEvidence(CpuidTable(section.leaves), {**self._machine_msr, **section.msr})
                for section in filled
            )
        )

    def _numbered(self, number: int) -> _Section | None:
        return next((one for one in self._sections if one.number == number), None)

    def _name(self, section: _Section) -> int:
        return self._sections.index(section) if section.number is None else section.number

    def _section_for(self, leaf: int) -> _Section:
        current = self._current
        again = leaf == 0 and current is not None and (0, 0) in current.leaves
        if current is None or (again and current.again is None and len(current.leaves) > 1):
            current = self._begin(None)
        return current

    def _begin(self, number: int | None) -> _Section:
        self._current = _Section(number)
        self._sections.append(self._current)
        return self._current

    def _next_subleaf(self, section: _Section, leaf: int) -> int:
        # Of other leaves only rows one after the other are sub-leaves (leaf 2 of CPUs that
        # want it read several times).
        adjacent = bool(section.leaves) and next(reversed(section.leaves))[0] == leaf
        if leaf not in INDEXED_LEAVES and not adjacent:
            return 0
        subleaf = 0
        while (leaf, subleaf) in section.leaves:
            subleaf += 1
        return subleaf
