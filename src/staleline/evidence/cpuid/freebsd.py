# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of what FreeBSD's kernel prints of the CPU (sys/x86/x86/identcpu.c printcpuinfo()).

::

    CPU: AMD EPYC 7502P 32-Core Processor                (2495.45-MHz K8-class CPU)
      Origin="AuthenticAMD"  Id=0x830f10  Family=0x17  Model=0x31  Stepping=0
"""

from __future__ import annotations

from collections.abc import Iterator

from staleline.evidence.snapshot import Note, Snapshot, Statement
from staleline.evidence.statements import agreed
from staleline.pattern import Pattern

__all__ = ["is_row", "parse"]

_ORIGIN = Pattern(
    r'\s*Origin ?= ?"(?P<vendor>[\x20-\x7e]{12})"\s+Id ?= ?0x[0-9a-f]{1,8}'
    r"\s+Family ?= ?0x(?P<family>[0-9a-f]{1,3})\s+Model ?= ?0x(?P<model>[0-9a-f]{1,2})"
    r"\s+Stepping ?= ?(?P<stepping>[0-9]{1,2})\s*"
)
_NOTE = Note(
    "cpuid",
    "only FreeBSD's messages were given; run cpucontrol -i for every leaf, or cpuid -r under Linux",
)


def is_row(line: str) -> bool:
    """Is this FreeBSD's line of vendor and model?"""
    return _ORIGIN.fullmatch(line) is not None


def parse(text: str, where: str) -> Snapshot:
    """Return what `text` says of the CPU; `where` is not needed, as nothing is refused."""
    del where
    finished = text[: text.rfind("\n") + 1]  # Stepping=1 may be a cut 10
    return Snapshot(cpus=(), statements=agreed(_statements(finished)), notes=(_NOTE,))


def _statements(text: str) -> Iterator[Statement]:
    for line in text.split("\n"):
        if row := _ORIGIN.fullmatch(line):
            source = f"dmesg of FreeBSD, {' '.join(line.split())}"
            yield Statement("vendor", row["vendor"], source)
            yield Statement("family", int(row["family"], 16), source)
            yield Statement("model", int(row["model"], 16), source)
            yield Statement("stepping", int(row["stepping"]), source)
