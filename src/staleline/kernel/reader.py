# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel image does on a machine, read by running the image's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from staleline.kernel.boot import SECONDARY, boot, read_sme_active, stub_functions
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
        self._memory = MachineMemory(image)
        self._emulator = Emulator(self._memory, self._name)

    def decide(self, machine: RawMachine) -> Decision:
        """Boot the image on `machine` and let it kexec.

        "No flush" is answered only if every derivation step returned and the site ran to
        its end; otherwise the site is unknown and says why.
        """
        try:
            return self._decide(machine)
        except DerivationError as error:
            return _unknown(str(error))

    def _decide(self, machine: RawMachine) -> Decision:
        self._start_over()
        jumping = LogicalCpu(0, machine.jumping, machine.msr)
        secondary = LogicalCpu(SECONDARY, machine.secondary, machine.msr)
        boot(
            self._image,
            self._memory,
            self._emulator,
            (jumping, secondary),
            mem_encrypt=machine.mem_encrypt,
        )
        stop = run_stop_this_cpu(self._image, self._memory, self._emulator, secondary)
        sme_active = read_sme_active(self._image, self._memory)
        relocate = run_relocate_kernel(self._image, self._memory, self._emulator, jumping)
        for cpu in (jumping, secondary):
            missing = cpu.decisive_leaf_missing
            if missing is not None:
                raise DerivationError(
                    f"CPUID leaf {missing:#x} of CPU {cpu.number} is not recorded"
                )
        return Decision(stop.decision, relocate, stop.reported_stopped, sme_active, 0)

    def _start_over(self) -> None:
        self._memory.reset()
        self._emulator.prepare_ram()
        stub_functions(self._image, self._memory)

    def _name(self, address: int) -> str:
        found = self._image.symbols.enclosing(address)
        return f"{address:#x}" if found is None else f"{found[0]}+{found[1]:#x}"


def _unknown(reason: str) -> Decision:
    site = SiteDecision(None, reason)
    return Decision(site, site, None, None, 0)
