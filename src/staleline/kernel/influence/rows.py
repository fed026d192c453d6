# SPDX-License-Identifier: GPL-2.0-or-later
"""The machines on which a kernel is run again with something changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from staleline.hardware import EXTENDED_LEAVES
from staleline.kernel.boot.machine import EmulatedMachine, two_cpus
from staleline.kernel.boot.rawfacts import ENCRYPTING_HOST, INTEL_HOST
from staleline.kernel.boot.rawmachine import GivenCpuid, raw_machine
from staleline.kernel.boot.startup import boot_once
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.rule.enumeration import lacking

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.image.image import KernelImage

__all__ = ["ROWS", "boot_rows", "machines"]

_WITHOUT: Final = replace(
    ENCRYPTING_HOST, sme=False, sev=False, sme_enabled=False, mem_encrypt=False
)
#: Rows on which every era flushes at both sites, at one, and at none, and which differ in
#: every listed fact.
ROWS: Final = (
    ENCRYPTING_HOST,
    _WITHOUT,
    replace(ENCRYPTING_HOST, vendor="HygonGenuine"),
    INTEL_HOST,
    replace(ENCRYPTING_HOST, hypervisor=True, sev_status=True),
    replace(_WITHOUT, sev=True, hypervisor=True, sev_status=True, sev_es=True),
)


def machines(image: KernelImage) -> Iterator[RawMachine]:
    """Also those that only some kernels can tell apart, and one without extended leaves."""
    yield from map(raw_machine, ROWS)
    lacks = lacking(image)
    if "snp_host" not in lacks:
        yield raw_machine(replace(ENCRYPTING_HOST, snp_host=True))
    if "seamcalled" not in lacks:
        yield raw_machine(replace(INTEL_HOST, tdx_keyids=True, seamcalled=True))
    # Guards of some eras ask for the highest leaf first.
    machine = raw_machine(INTEL_HOST)
    basic = {
        key: value for key, value in machine.jumping.leaves.items() if key[0] < EXTENDED_LEAVES
    }
    cpuid = GivenCpuid(basic)
    yield replace(machine, jumping=cpuid, secondary=cpuid)


def boot_rows(image: KernelImage) -> None:
    """Boot the image on all of them, for whoever runs it again in this process or a fork of it.

    Raises:
        DerivationError: A boot did not end.
    """
    emulated = EmulatedMachine(image)
    with emulated.emulator.series():
        for machine in machines(image):
            boot_once(emulated, machine, two_cpus(machine, LogicalCpu))
