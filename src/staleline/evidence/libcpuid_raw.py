# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of libcpuid's raw dumps (``cpuid_tool --raw``), one CPU or all.

::

    basic_cpuid[0]=00000010 68747541 444d4163 69746e65

``ext_cpuid[n]`` is leaf 0x80000000 + n, recorded whether or not the CPU has it, so these
dumps also show what a CPU answers beyond its maximum (libcpuid, cpuid_serialize_raw_data()).
"""

from __future__ import annotations

import re

from staleline.evidence.dump import CpuidDump
from staleline.evidence.snapshot import Snapshot

__all__ = ["ROW", "parse"]

#: A row: array name, index, registers.
ROW = re.compile(
    r"(basic_cpuid|ext_cpuid|intel_fn4|intel_fn11|intel_fn12h|intel_fn14h|amd_fn8000001dh)"
    r"\[([0-9]{1,4})\]="
    r"([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{8})\s*"
)
_BEGINS_ROW = re.compile(r"(?:basic_cpuid|ext_cpuid|intel_fn|amd_fn)")
_HEADER = re.compile(r"[-_\[ A-Za-z/]*Logical CPU #([0-9]{1,6})[\] ]*[-_]+\s*")

#: Array -> first leaf, for arrays indexed by leaf.
_BY_LEAF = {"basic_cpuid": 0, "ext_cpuid": 0x8000_0000}
#: Array -> leaf, for arrays indexed by sub-leaf.
_BY_SUBLEAF = {
    "intel_fn4": 0x04,
    "intel_fn11": 0x0B,
    "intel_fn12h": 0x12,
    "intel_fn14h": 0x14,
    "amd_fn8000001dh": 0x8000_001D,
}


def parse(text: str, where: str) -> Snapshot:
    """Return the machine that `text` describes.

    Raises:
        EvidenceError: A row is malformed or the dump is incomplete.
    """
    dump = CpuidDump(where)
    for number, line in enumerate(text.split("\n"), 1):
        if row := ROW.fullmatch(line):
            leaf, subleaf = _leaf(row[1], int(row[2]))
            eax, ebx, ecx, edx = (int(digits, 16) for digits in row.groups()[2:])
            dump.add(number, leaf, subleaf, (eax, ebx, ecx, edx))
        elif header := _HEADER.fullmatch(line):
            dump.start_cpu(int(header[1]), number)
        elif _BEGINS_ROW.match(line):
            raise dump.error(number, "is not a whole libcpuid row")
    return dump.snapshot()


def _leaf(array: str, index: int) -> tuple[int, int]:
    if array in _BY_LEAF:
        return _BY_LEAF[array] + index, 0
    return _BY_SUBLEAF[array], index
