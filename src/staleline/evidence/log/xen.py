# SPDX-License-Identifier: GPL-2.0-or-later
"""What only the kernel that Xen is run from can show: Xen's console, ``xl info``, its policies.

::

    (XEN) Xen version 4.17.3 (Debian 4.17.3+10-g091466ba55-1~deb12u1) ...
    xen_version            : 4.17.3

Registers of such a host, read by a process of dom0, are the machine's own and deny a hypervisor.
"""

from __future__ import annotations

from staleline.evidence.snapshot import Note, Snapshot, Statement
from staleline.pattern import Pattern

__all__ = ["is_console", "is_row", "parse", "statements"]

#: Xen 4.17 xen/drivers/char/console.c prints it before each line of its own; guests' have (dN).
_CONSOLE = Pattern(r"\(XEN\) .*")
#: Xen 4.17 tools/xl/xl_info.c output_xeninfo(); what asks is refused to other domains.
_INFO = Pattern(r"xen_(?:major|minor|extra|version|caps|scheduler|changeset|commandline)\s*:.*")
_NOTE = Note("cpuid", "only what Xen tells was given; run cpuid -r, or staleline collect")


def is_console(line: str) -> bool:
    """Is this a line of Xen's own console?"""
    return _CONSOLE.match(line) is not None


def is_row(line: str) -> bool:
    """Is this a line of ``xl info``?"""
    return _INFO.fullmatch(line) is not None


def parse(text: str, where: str) -> Snapshot:
    """Return what `text` tells: that Xen runs, if it holds a line of Xen's."""
    del where
    said = any(is_row(line) or is_console(line) for line in text.split("\n"))
    return Snapshot(cpus=(), statements=statements("xl") if said else (), notes=(_NOTE,))


def statements(source: str) -> tuple[Statement, ...]:
    """What `source` tells by being there: Xen runs, and its dom0 asks it to jump."""
    return (
        Statement("hypervisor", True, source),
        Statement("hypervisor_name", "Xen", source),
        Statement("jumped_by", "xen", source),
    )
