# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tools of live patches say that is applied, each in words of its own.

::

    Loaded patch modules:
    kpatch_4_18_0_553_1_1 [enabled]

Which functions are replaced none of them says.
"""

from __future__ import annotations

from typing import Final

from staleline.evidence.snapshot import Snapshot, Statement
from staleline.pattern import Pattern

__all__ = ["applied_patches"]

_LONGEST: Final = 512
#: Tool -> the line that it prints where a patch is applied. kpatch 0.9.9 kpatch/kpatch show_patch;
#: klp 1.0 klp.sh patches; canonical-livepatch 10 status; uptrack 1.2 and ksplice show; KernelCare's
#: kcarectl --patch-info.
_APPLIED: Final = {
    "kpatch list": Pattern(r"\s*[\w.-]{1,64} \[(?:enabled|(?:en|dis)abling\.\.\.|stalled)\]\s*"),
    "klp patches": Pattern(r"\s*active: 1\s*"),
    "canonical-livepatch status": Pattern(
        r"\s*(?:patchState: applied|.*all applicable livepatch modules inserted.*)\s*"
    ),
    "ksplice show": Pattern(r"\s*Effective kernel version is \S.*"),
    "kcarectl": Pattern(r"\s*kpatch-state: patch is applied\s*|.*Live patched\b.*"),
}


def applied_patches(text: str) -> Snapshot | None:
    """The machine as far as such tools tell that its kernel is patched; None where none does."""
    said = {
        tool: line.strip()
        for line in text.split("\n")
        if len(line) <= _LONGEST
        for tool, applied in _APPLIED.items()
        if applied.fullmatch(line)
    }
    statements = tuple(
        Statement("livepatched", True, f"{tool}: {line}") for tool, line in said.items()
    )
    # That none is applied proves nothing: another tool's patches are not its own.
    return Snapshot(cpus=(), statements=statements) if statements else None
