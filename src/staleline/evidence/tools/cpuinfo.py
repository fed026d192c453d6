# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of x86 /proc/cpuinfo: what the running kernel shows of its CPUs.

Format: Linux arch/x86/kernel/cpu/proc.c show_cpuinfo().
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from staleline.errors import EvidenceError
from staleline.evidence.pasted import architecture
from staleline.evidence.snapshot import CpuinfoEvidence, Note, Snapshot
from staleline.evidence.tools.flagrow import flag_row
from staleline.evidence.tools.vendors import named_vendor
from staleline.pattern import Pattern

__all__ = ["is_row", "parse", "parse_evidence"]

_COPY_WHOLE = "copy /proc/cpuinfo whole (cat /proc/cpuinfo > file)"
_VENDOR = Pattern(r"^vendor_id[ \t]*:(.*)$", re.MULTILINE)
_NO_CPUID = Note("cpuid", "only /proc/cpuinfo was given; run cpuid -r, or staleline collect")
#: Fields that /proc/cpuinfo of some architecture begins with, or that people cut out of it.
_BEGINS = Pattern(
    r"processor\s*:\s*[0-9]+\s*|(?:vendor_id|cpu family|model name|flags)[ \t]*: .*"
    r"|(?:system type|Processor|CPU implementer|hart|isa)[ \t]*: .*"
)
_READ = ("vendor_id", "cpu family", "model", "stepping", "flags", "bugs")


def is_row(line: str) -> bool:
    """Is this a line that /proc/cpuinfo begins with?"""
    return _BEGINS.fullmatch(line) is not None


#: Rows that are whole, as "sme" may be a cut "smep".
_FLAGS = Pattern(r"^flags[ \t]*:(.*)\n", re.MULTILINE)


def parse(text: str, where: str) -> Snapshot:
    """Return a machine known only by `text`: no CPUID leaves, no MSRs.

    Raises:
        EvidenceError: `text` is not of one x86 machine.
    """
    cut = text[text.rfind("\n") + 1 :].partition(":")[0].strip()
    notes = (_NO_CPUID, Note("last line", f"the text ends within {cut!r}, which was left out"))
    evidence = parse_evidence(text, where)
    return Snapshot(cpus=(), cpuinfo=evidence, notes=notes if cut else notes[:1])


def parse_evidence(text: str, where: str) -> CpuinfoEvidence:
    """Return the first processor of `text`; a field that was left out is not known.

    The vendor and the flags are those of any processor, as a machine's are.

    Raises:
        EvidenceError: `text` names two vendors, or is of another architecture.
    """
    # The last line counts only when it is finished: "sme" may be a cut "smep".
    text = text[: text.rfind("\n") + 1] or text
    vendors = sorted({value.strip() for value in _VENDOR.findall(text)})
    if len(vendors) > 1:
        raise EvidenceError(
            f"field vendor_id is {vendors[0]!r} and {vendors[1]!r}",
            where=where,
            do="give one file per machine",
        )
    if (machine := architecture.of_cpuinfo(text)) is not None:
        raise architecture.refused_architecture(machine, where)
    fields, flags = _first_processor(text)
    if not fields:
        raise EvidenceError("field vendor_id is missing", where=where, do=_COPY_WHOLE)
    return CpuinfoEvidence(
        # Where the first one's row is cut off, any other's is the machine's.
        vendor=named_vendor(vendors[0] if vendors else None),
        family=_number(fields, "cpu family", where),
        model=_number(fields, "model", where),
        stepping=_number(fields, "stepping", where),
        # What one CPU shows the machine has, whatever became of another's row.
        flags=flags.union(*map(str.split, _FLAGS.findall(text))),
        bugs=frozenset(fields.get("bugs", "").split()),
    )


def _first_processor(text: str) -> tuple[dict[str, str], frozenset[str]]:
    """The fields that are read, and the flags."""
    lines = list(_first_paragraph(text[: text.rfind("\n") + 1]))
    fields: dict[str, str] = {}
    flags = frozenset[str]()
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(":")
        name = name.strip()
        if colon and name in _READ and name not in fields:
            fields[name] = value.strip()
            if name == "flags":
                flags = flag_row(value, lines[number:])
    return fields, flags


def _first_paragraph(text: str) -> Iterator[str]:
    begun = False
    lines = text.split("\n")
    # A greeting may hold a colon as well; only a text that was cut begins in the middle.
    begins = is_row if any(map(is_row, lines)) else _has_colon
    for line in lines:
        if not line.strip() and begun:
            yield ""  # an end that was printed, not one that a cut made
            return
        begun = begun or bool(begins(line))
        if begun:
            yield line


def _has_colon(line: str) -> bool:
    return ":" in line


def _number(fields: dict[str, str], name: str, where: str) -> int | None:
    text = fields.get(name)
    # Linux prints "unknown" for stepping 0 of CPUs without CPUID level.
    if text is None or text == "unknown":
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise EvidenceError(f"field {name} is {text!r}, not a number", where=where, do=_COPY_WHOLE)
    return int(text)
