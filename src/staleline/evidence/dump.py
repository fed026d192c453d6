# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of a CPUID dump, gathered per logical CPU and checked for wholeness.

Used by every reader of a dump format; each format brings only its line syntax.
"""

from __future__ import annotations

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


class CpuidDump:
    """Rows in file order. Sections are CPUs; rows before any header belong to CPU 0.

    Args:
        where: The file, for error messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._cpus: dict[int, dict[tuple[int, int], Registers]] = {}
        self._lines: dict[tuple[int, int, int], int] = {}
        self._msr: dict[int, int] = {}
        self._current: int | None = None

    def error(self, line: int, what: str, do: str | None = _DUMP_AGAIN) -> EvidenceError:
        """An error at `line` of this dump."""
        return EvidenceError(what, where=f"{self._where}:{line}", do=do)

    def start_cpu(self, number: int, line: int) -> None:
        """Begin the section of logical CPU `number`.

        Raises:
            EvidenceError: The CPU already has a section.
        """
        if number in self._cpus:
            raise self.error(
                line, f"CPU {number} begins a second time", "give one file per machine"
            )
        self._cpus[number] = {}
        self._current = number

    def add(self, line: int, leaf: int, subleaf: int | None, registers: Registers) -> None:
        """Record one row; `subleaf` None means the format did not name it.

        Raises:
            EvidenceError: The same leaf and sub-leaf was recorded with other values.
        """
        if self._current is None:
            self.start_cpu(0, line)
        cpu = self._current or 0
        leaves = self._cpus[cpu]
        key = (leaf, self._next_subleaf(leaves, leaf) if subleaf is None else subleaf)
        if leaves.setdefault(key, registers) != registers:
            earlier = self._lines[(cpu, *key)]
            raise self.error(
                line,
                f"CPU {cpu} leaf {leaf:#010x} sub-leaf {key[1]} contradicts line {earlier}",
            )
        self._lines.setdefault((cpu, *key), line)

    def add_msr(self, line: int, number: int, value: int) -> None:
        """Record an MSR that the dump gives for the machine (formats with one CPU).

        Raises:
            EvidenceError: The MSR was recorded with another value.
        """
        if self._msr.setdefault(number, value) != value:
            raise self.error(line, f"MSR {number:#x} is given twice with different values")

    def snapshot(self) -> Snapshot:
        """Return the machine.

        Raises:
            EvidenceError: There are no rows, or a CPU's section is visibly incomplete.
        """
        if not self._cpus:
            raise EvidenceError("holds no CPUID leaves", where=self._where, do=_DUMP_AGAIN)
        self._require_whole_sections()
        return Snapshot(
            cpus=tuple(
                CpuEvidence(CpuidTable(leaves), dict(self._msr)) for leaves in self._cpus.values()
            )
        )

    def _next_subleaf(self, leaves: dict[tuple[int, int], Registers], leaf: int) -> int:
        if leaf not in INDEXED_LEAVES:
            return 0
        subleaf = 0
        while (leaf, subleaf) in leaves:
            subleaf += 1
        return subleaf

    def _require_whole_sections(self) -> None:
        extended = any((0x8000_0000, 0) in leaves for leaves in self._cpus.values())
        for number, leaves in self._cpus.items():
            if (0, 0) not in leaves:
                raise self._incomplete(number, 0)
            if extended and (0x8000_0000, 0) not in leaves:
                raise self._incomplete(number, 0x8000_0000)

    def _incomplete(self, cpu: int, leaf: int) -> EvidenceError:
        return EvidenceError(
            f"CPU {cpu} has no leaf {leaf:#010x}", where=self._where, do=_DUMP_AGAIN
        )
