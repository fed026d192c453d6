# SPDX-License-Identifier: GPL-2.0-or-later
"""A report of apport's, as Launchpad shows it: fields, some of them of several, indented lines.

::

    ProcKernelCmdLine: BOOT_IMAGE=/vmlinuz ro mem_encrypt=on
    ProcCpuinfoMinimal:
     processor    : 127
     vendor_id    : AuthenticAMD
    Uname: Linux 5.15.0-91-generic x86_64

Fields of one line alone look like rows of other tools, and those of several like nothing at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from staleline.evidence.snapshot import KernelEvidence, Snapshot
from staleline.evidence.tools import cpuinfo
from staleline.pattern import Pattern

__all__ = ["reported"]

#: What every report has (apport doc/data-format.md).
_REPORT = Pattern(r"^ProblemType: \S", re.MULTILINE)
_CPUINFO = Pattern(
    r"^ProcCpuinfo(?:Minimal)?:[ \t]*\n((?:[ \t]+\S.*\n|[ \t]*\n(?=[ \t]))+)", re.MULTILINE
)
#: apport/hookutils.py attach_hardware(); ProcCmdline is the command line of a program.
_LINE = Pattern(r"^ProcKernelCmdLine: (.+)\n", re.MULTILINE)
_UNAME = Pattern(r"^Uname: Linux ([1-9][0-9]?\.[0-9]{1,3}[\w.+~-]{0,100}) x86_64\n", re.MULTILINE)
_INDENT: Final = re.compile(r"^[ \t]", re.MULTILINE)


def reported(text: str, where: str) -> Iterator[Snapshot]:
    """The machine as far as each field tells of it.

    Raises:
        EvidenceError: What is shown of /proc/cpuinfo is of no x86 machine, or of two.
    """
    if not _REPORT.search(text):
        return
    for line in _LINE.findall(text):
        yield Snapshot((), kernel=KernelEvidence(cmdline=line.strip()))
    for release in _UNAME.findall(text):
        yield Snapshot((), kernel=KernelEvidence(release=release))
    for shown in _CPUINFO.finditer(text):
        before = text.count("\n", 0, shown.start(1))
        yield cpuinfo.parse("\n" * before + _INDENT.sub("", shown[1]), where)
