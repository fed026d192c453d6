# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of the CPUID part of AIDA64 text dumps, one CPU or all.

::

    ------[ CPUID Registers / Logical CPU #0 ]------
    CPUID 00000004: FC004121-01C0003F-0000003F-00000000 [SL 00] [L1D: 32 KB]
"""

from __future__ import annotations

import re

from staleline.evidence.dump import CpuidDump
from staleline.evidence.snapshot import Snapshot

__all__ = ["ROW", "parse"]

#: A row; what follows the registers is the sub-leaf and AIDA64's own reading of them.
ROW = re.compile(
    r"CPUID ([0-9A-Fa-f]{8}):?\s+"
    r"([0-9A-Fa-f]{8})-([0-9A-Fa-f]{8})-([0-9A-Fa-f]{8})-([0-9A-Fa-f]{8})(\s.*)?"
)
_BEGINS_ROW = re.compile(r"CPUID [0-9A-Fa-f]*(?:[:\s]|$)")
_SUBLEAF = re.compile(r"\s*\[SL ([0-9A-Fa-f]{1,8})\]")
_CUT_SUBLEAF = re.compile(r"\s*\[(?:S(?:L(?: [0-9A-Fa-f]*)?)?)?\s*")
#: Sections of MSRs name a CPU too and are not read.
_HEADER = re.compile(
    r"-+\[ (?!MSR)[^\]]*\bCPU ?#([0-9]{1,6})\b[^\]]*\]-+\s*|CPU#([0-9]{1,6}) AffMask: .*"
)


def parse(text: str, where: str) -> Snapshot:
    """Return the machine that `text` describes.

    Raises:
        EvidenceError: A row is malformed or the dump is incomplete.
    """
    dump = CpuidDump(where)
    for number, line in enumerate(text.split("\n"), 1):
        if row := ROW.fullmatch(line):
            leaf, eax, ebx, ecx, edx = (int(digits, 16) for digits in row.groups()[:5])
            subleaf = _subleaf(row[6] or "", dump, number)
            dump.add(number, leaf, subleaf, (eax, ebx, ecx, edx))
        elif header := _HEADER.fullmatch(line):
            dump.start_cpu(int(header[1] or header[2]), number)
        elif _BEGINS_ROW.match(line):
            raise dump.error(number, "is not a whole AIDA64 CPUID row")
    return dump.snapshot()


def _subleaf(rest: str, dump: CpuidDump, line: int) -> int | None:
    # A row cut inside "[SL 05]" would otherwise be taken for the next sub-leaf in order.
    if _CUT_SUBLEAF.fullmatch(rest):
        raise dump.error(line, "is an AIDA64 CPUID row cut short")
    found = _SUBLEAF.match(rest)
    return None if found is None else int(found[1], 16)
