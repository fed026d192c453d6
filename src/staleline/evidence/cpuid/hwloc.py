# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of hwloc's CPUID dumps (``hwloc-gather-cpuid``).

A directory with a file for each CPU, pu0, pu1, ..., or one such file::

    # mask e[abcd]x => e[abcd]x
    5 4 0 1 0=> 4122 3c0003f 3f 0
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from staleline.errors import EvidenceError
from staleline.evidence.cpuid.dump import INDEXED_LEAVES, CpuidDump
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.source import MAX_BYTES, decode, opened_evidence, whole
from staleline.pattern import Pattern

__all__ = ["is_directory", "is_member", "is_row", "parse", "parse_files", "read_hwloc_directory"]

_HEXADECIMAL = "([0-9a-fA-F]{1,8})"
_ROW = Pattern(
    rf"\s*([0-9a-f])\s+{_HEXADECIMAL}\s+{_HEXADECIMAL}\s+{_HEXADECIMAL}\s+{_HEXADECIMAL}"
    rf"\s*=>\s*{_HEXADECIMAL}\s+{_HEXADECIMAL}\s+{_HEXADECIMAL}\s+{_HEXADECIMAL}\s*"
)
#: A row, or a piece of one.
_BEGINS_ROW = Pattern(
    r"\s*(?:[0-9a-f]\s*|[0-9a-f](?:\s+[0-9a-f]{1,8}){1,4}\s*(?:=|=>[\s0-9a-f]*)?)", re.IGNORECASE
)
_HEADING = Pattern(r"# mask e\[abcd\]x => e\[abcd\]x\s*")
_MEMBER = Pattern(r"(?:.*/)?pu([0-9]{1,6})")
_GATHER = "run hwloc-gather-cpuid again and copy its directory whole"
_CPUS_MAX = 8192


def is_row(line: str) -> bool:
    """Is this a line of such a file?"""
    return _HEADING.fullmatch(line) is not None or _ROW.fullmatch(line) is not None


def is_member(name: str) -> bool:
    """Is this the name of a CPU's file?"""
    return _MEMBER.fullmatch(name) is not None


def is_directory(path: str) -> bool:
    """Does the directory `path` hold files of CPUs?"""
    try:
        return bool(_members(path))
    except OSError:
        return False


def _members(path: str) -> list[str]:
    """The files of CPUs in a directory, which a folder of such a name is not."""
    names = (name for name in os.listdir(path) if is_member(name))
    return sorted((n for n in names if os.path.isfile(os.path.join(path, n))), key=_number)


def read_hwloc_directory(path: str) -> Snapshot:
    """Return the machine whose CPUs' files are in the directory `path`.

    Raises:
        EvidenceError: A file cannot be read or is damaged.
    """
    names = _members(path)[:_CPUS_MAX]
    texts: dict[str, str] = {}
    left = MAX_BYTES
    for name in names:
        where = os.path.join(path, name)
        with opened_evidence(where) as stream:
            data = whole(stream)
        left -= len(data)
        if left < 0:
            raise EvidenceError("holds more than any machine's CPUID", where=path, do=_GATHER)
        texts[name] = decode(data, where)
    return parse_files(texts, path)


def parse(text: str, where: str) -> Snapshot:
    """Return the one CPU that `text` describes.

    Raises:
        EvidenceError: A row is malformed or cut.
    """
    dump = CpuidDump(where)
    _add(dump, text, where)
    return dump.snapshot()


def parse_files(texts: Mapping[str, str], where: str) -> Snapshot:
    """Return the machine whose CPUs' files are `texts`, by name.

    Raises:
        EvidenceError: A row is malformed or cut; the file is named.
    """
    dump = CpuidDump(where)
    for name in sorted(texts, key=_number):
        dump.start_cpu(_number(name), 1)
        _add(dump, texts[name], f"{where}:{name}")
    return dump.snapshot()


def _number(name: str) -> int:
    member = _MEMBER.fullmatch(name)
    return int(member[1]) if member else 0


def _add(dump: CpuidDump, text: str, where: str) -> None:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        # Numbers have no leading zeros, so the end of the line tells that the last is whole.
        if (row := _ROW.fullmatch(line)) and number < len(lines):
            leaf, _, ecx, _, *registers = (int(digits, 16) for digits in row.groups()[1:])
            eax, ebx, third, edx = registers
            # The mask tells which registers were meant as input, and all four are printed (hwloc
            # utils/hwloc/hwloc-gather-cpuid.c dump_one_cpuid()): ECX is what was really in it.
            subleaf = ecx if leaf in INDEXED_LEAVES else 0
            dump.add(number, leaf, subleaf, (eax, ebx, third, edx))
        elif line.strip() and _BEGINS_ROW.fullmatch(line):
            raise EvidenceError("is not a whole hwloc row", where=f"{where}:{number}", do=_GATHER)
