# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of x86 /proc/cpuinfo: what the running kernel shows of its CPUs.

Format: Linux arch/x86/kernel/cpu/proc.c show_cpuinfo().
"""

from __future__ import annotations

import re

from staleline.errors import EvidenceError
from staleline.evidence.snapshot import CpuinfoEvidence, Note, Snapshot
from staleline.evidence.staleline_collect import first_processor

__all__ = ["parse", "parse_evidence"]

_COPY_WHOLE = "copy /proc/cpuinfo whole (cat /proc/cpuinfo > file)"
_VENDOR = re.compile(r"^vendor_id[ \t]*:(.*)$", re.MULTILINE)
_NO_CPUID = Note("cpuid", "only /proc/cpuinfo was given; run cpuid -r, or staleline collect")


def parse(text: str, where: str) -> Snapshot:
    """Return a machine known only by `text`: no CPUID leaves, no MSRs.

    Raises:
        EvidenceError: `text` is not a whole x86 /proc/cpuinfo.
    """
    return Snapshot(cpus=(), cpuinfo=parse_evidence(text, where), notes=(_NO_CPUID,))


def parse_evidence(text: str, where: str) -> CpuinfoEvidence:
    """Return the first processor of `text`.

    Raises:
        EvidenceError: `text` is not a whole x86 /proc/cpuinfo, or names two vendors.
    """
    vendors = sorted({value.strip() for value in _VENDOR.findall(text)})
    if len(vendors) > 1:
        raise EvidenceError(
            f"field vendor_id is {vendors[0]!r} and {vendors[1]!r}",
            where=where,
            do="give one file per machine",
        )
    fields = first_processor(text)
    for name in ("vendor_id", "cpu family", "model", "flags"):
        if name not in fields:
            raise EvidenceError(f"field {name} is missing", where=where, do=_COPY_WHOLE)
    return CpuinfoEvidence(
        vendor=fields["vendor_id"],
        family=_number(fields, "cpu family", where),
        model=_number(fields, "model", where),
        # Linux prints "unknown" for stepping 0 of CPUs without CPUID level.
        stepping=None
        if fields.get("stepping", "unknown") == "unknown"
        else _number(fields, "stepping", where),
        flags=frozenset(fields["flags"].split()),
        bugs=frozenset(fields.get("bugs", "").split()),
    )


def _number(fields: dict[str, str], name: str, where: str) -> int:
    text = fields[name]
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise EvidenceError(f"field {name} is {text!r}, not a number", where=where, do=_COPY_WHOLE)
    return int(text)
