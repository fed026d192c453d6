# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel image does on a machine, read by running the image's own code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from staleline.kernel.boot import SECONDARY, boot, read_sme_active, stub_functions
from staleline.kernel.bug_table import warning_addresses
from staleline.kernel.decision import Decision, SiteDecision
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator import Emulator
from staleline.kernel.machine_memory import MachineMemory
from staleline.kernel.sites import run_relocate_kernel, run_stop_this_cpu
from staleline.kernel.traps import LogicalCpu

if TYPE_CHECKING:
    from staleline.kernel.decision import RawMachine
    from staleline.kernel.image import KernelImage

__all__ = ["KernelReader"]


class KernelReader:
    """Answers for one image; keep it for many machines, the first costs most.

    Not for use by several threads at once.
    """

    def __init__(self, image: KernelImage) -> None:
        self._image = image
        self._warns: frozenset[int] | None = None
        self._memory = MachineMemory(image)
        self._emulator = Emulator(self._memory, self._name, self._warnings)

    def decide(self, machine: RawMachine) -> Decision:
        """Boot the image on `machine` and let it kexec.

        "No flush" is answered only if every derivation step returned and the site ran to
        its end; otherwise the site is unknown and says why.
        """
        jumping = LogicalCpu(0, machine.jumping, machine.msr)
        secondary = LogicalCpu(SECONDARY, machine.secondary, machine.msr)
        try:
            decision = self._run(jumping, secondary, mem_encrypt=machine.mem_encrypt)
        except DerivationError as error:
            decision = _unknown(str(error))
        return _with_record(decision, jumping, secondary)

    def _run(self, jumping: LogicalCpu, secondary: LogicalCpu, *, mem_encrypt: bool) -> Decision:
        image, memory, emulator = self._image, self._memory, self._emulator
        self._start_over()
        boot(image, memory, emulator, (jumping, secondary), mem_encrypt=mem_encrypt)
        sme_active = read_sme_active(image, memory)
        stop = run_stop_this_cpu(image, memory, emulator, secondary)
        relocate = run_relocate_kernel(image, memory, emulator, jumping)
        return Decision(stop.decision, relocate, stop.reported_stopped, sme_active)

    def _start_over(self) -> None:
        self._memory.reset()
        self._emulator.prepare_ram()
        stub_functions(self._image, self._memory)

    def _warnings(self) -> frozenset[int]:
        if self._warns is None:
            self._warns = warning_addresses(self._image)
        return self._warns

    def _name(self, address: int) -> str:
        found = self._image.symbols.enclosing(address)
        return f"{address:#x}" if found is None else f"{found[0]}+{found[1]:#x}"


def _unknown(reason: str) -> Decision:
    site = SiteDecision(None, reason)
    return Decision(site, site, None, None)


def _with_record(decision: Decision, *cpus: LogicalCpu) -> Decision:
    """Add what was asked; a decisive leaf that no dump recorded makes it all unknown."""
    gaps = [(cpu, leaf) for cpu in cpus if (leaf := cpu.decisive_leaf_missing) is not None]
    if gaps:
        cpu, leaf = gaps[0]
        decision = _unknown(f"CPUID leaf {leaf:#x} of CPU {cpu.number} is not recorded")
    return replace(
        decision,
        traps=sum(cpu.traps for cpu in cpus),
        leaves_read=frozenset().union(*(cpu.leaves_read for cpu in cpus)),
        msrs_read=frozenset().union(*(cpu.msrs_read for cpu in cpus)),
    )
