# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in a text beside the outputs that have readers of their own.

How uname names the system, fields of apport's reports, tools that look for a hypervisor or apply
live patches, lists of modules: most evidence has none, so each reader is imported where one of
its marks stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from staleline.evidence.snapshot import Snapshot

__all__ = ["asides"]

_OF_UNAME: Final = ("uname", "Linux ")
_OF_DETECTION: Final = ("detect-virt", "virt-what", "Virtualization: ", "Found VM virt")
_OF_PATCHERS: Final = (
    *("abled]", "abling...]", "stalled]", "active: 1", "patchState: applied", "Live patched"),
    *("livepatch modules inserted", "Effective kernel version is"),
    "kpatch-state: patch is applied",
)
_OF_REPORTS: Final = "\nProc"
_OF_MODULES: Final = (
    *("Module ", "Modules linked in:", "Live 0x", "/sys/module", "taints kernel"),
    *("module verification failed", "ailhouse", "acpi_processor", "mshv_root", "Domain-0"),
    *("livepatch", "kpatch", "kgraft", "ksplice", "kcare", "klp_", "lkp_", "xen_", "hv_vmbus"),
    *("acrn", "pvcalls_", "Assigned CPUs"),
)


def asides(text: str, where: str) -> Iterator[Snapshot]:
    """The machine as far as each of them tells of it.

    Raises:
        EvidenceError: One tells of a machine that is not x86, or runs no Linux.
    """
    if any(mark in text for mark in _OF_UNAME):
        from staleline.evidence.pasted.uname import named_systems

        yield from named_systems(text, where)
    if any(mark in text for mark in _OF_DETECTION):
        from staleline.evidence.tools.detected import detected

        yield from _known(detected(text))
    if any(mark in text for mark in _OF_MODULES):
        from staleline.evidence.tools.modulelist import listed_modules

        yield from _known(listed_modules(text))
    if _OF_REPORTS in text:
        from staleline.evidence.tools.apport import reported

        yield from reported(text, where)
    if any(mark in text for mark in _OF_PATCHERS):
        from staleline.evidence.tools.livepatchers import applied_patches

        yield from _known(applied_patches(text))


def _known(machine: Snapshot | None) -> Iterator[Snapshot]:
    if machine is not None:
        yield machine
