# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are not x86, told by what only they print."""

from __future__ import annotations

import re

from staleline.errors import EvidenceError
from staleline.pattern import Pattern

__all__ = ["is_x86", "of_cpuinfo", "refused_architecture"]

#: ``uname -m`` of the machines whose caches this is about; 32-bit kernels run on them too.
_X86 = Pattern(r"x86_64|i[3-6]86|x86|amd64|AMD64")
#: Lines of /proc/cpuinfo that only one architecture prints (Linux 7.3.4 arch/*/kernel, c_show()
#: and show_cpuinfo()), and its name; the first that is found counts.
_LINES = (
    (r"CPU architecture\s*:\s*(?:8|AArch64)", "aarch64"),
    (r"Processor\s*:\s*AArch64", "aarch64"),
    (r"CPU implementer\s*:", "arm"),
    (r"(?:model name|Processor)\s*:\s*ARM", "arm"),
    (r"cpu\s*:\s*(?:POWER|PPC|e[56]500)", "ppc64le"),
    (r"vendor_id\s*:\s*IBM/S390", "s390x"),
    (r"(?:hart|mvendorid)\s*:|isa\s*:\s*rv", "riscv64"),
    (r"(?:system type|Model Name|CPU Family)\s*:.*[Ll]oongson", "loongarch64"),
    (r"cpu model\s*:.*MIPS", "mips"),
    (r"(?:cpu|type)\s*:\s*(?:.*SPARC|.*sun4)", "sparc64"),
    (r"cpu\s*:\s*Alpha", "alpha"),
)
_PATTERNS = tuple((Pattern(f"^{line}", re.MULTILINE), name) for line, name in _LINES)


def is_x86(machine: str) -> bool:
    """Is this the name of an x86 machine, as ``uname -m`` and lscpu give it?"""
    return _X86.fullmatch(machine) is not None


def of_cpuinfo(text: str) -> str | None:
    """The architecture that /proc/cpuinfo is of; None where nothing tells another than x86."""
    return next((name for pattern, name in _PATTERNS if pattern.search(text)), None)


def refused_architecture(machine: str, where: str) -> EvidenceError:
    """The error about evidence of such a machine."""
    article = "an" if machine[:1] in "aeiou" or machine.startswith("s390") else "a"
    return EvidenceError(
        f"is of {article} {machine} machine", where=where, do="staleline knows x86-64"
    )
