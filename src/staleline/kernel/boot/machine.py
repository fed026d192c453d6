# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated machine: a kernel image in its memory, and an engine that runs the image's code."""

from __future__ import annotations

from copy import copy
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Final, TypeVar

from staleline.kernel.boot.patches import apply_always
from staleline.kernel.boot.places import Places
from staleline.kernel.emulator.emulator import Emulator
from staleline.kernel.emulator.execution.end import ORDINARY_LIMITS, RunLimits
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.image.bugtable import warning_addresses
from staleline.kernel.image.exceptiontable import fault_fixups
from staleline.kernel.opcodes import RETURN_ZERO

if TYPE_CHECKING:
    from collections.abc import Callable

    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.image.symbols import SymbolTable

__all__ = ["SECONDARY", "EmulatedMachine", "two_cpus"]

#: Number of the secondary; the jumping CPU is 0.
SECONDARY: Final = 1

_HLT_RET: Final = b"\xf4\xc3"
#: Functions whose result no guard depends on, made to return 0: log output, machine check
#: set-up, which allocates memory, and what an SEV-ES guest does around an NMI, which asks its
#: hypervisor and cares for the stacks of exceptions that do not come here.
_STUBS: Final = (
    "_printk",
    "printk",
    "__warn_printk",
    "mcheck_cpu_init",
    "numa_add_cpu",
    "__sev_es_ist_enter",
    "__sev_es_ist_exit",
    "__sev_es_nmi_complete",
)

_Cpu = TypeVar("_Cpu", bound="LogicalCpu")


class EmulatedMachine:
    """One image on a machine of two CPUs. Not for use by several threads at once.

    Args:
        image: The kernel.
        limits: What one run of its code may take.
        in_places: Reasons name code that the kernel copied by where it comes from. Else by its
            address, which needs no per-CPU areas: a kernel for one CPU has none.
    """

    def __init__(
        self, image: KernelImage, limits: RunLimits = ORDINARY_LIMITS, *, in_places: bool = True
    ) -> None:
        self.image = image
        self.memory = MachineMemory(image)
        self._new_engine = partial(
            Emulator,
            self.memory,
            self.places.code if in_places else partial(_name, image.symbols),
            cache(partial(warning_addresses, image)),
            cache(partial(fault_fixups, image)),
            limits,
        )
        self.emulator = self._new_engine()

    @cached_property
    def places(self) -> Places:
        """Names of what is at an address.

        Raises:
            DerivationError: The image does not say where it has its per-CPU variables.
        """
        return Places(self.image, self.memory, SECONDARY + 1)

    def with_engine_of_its_own(self) -> EmulatedMachine:
        """The same machine, with the same memory; watching it drops no code translated here."""
        other = copy(self)
        other.emulator = self._new_engine()
        return other

    def start_over(self) -> None:
        """The code as it is run: patched as at boot, and without functions that do not matter."""
        self.memory.reset()
        self.emulator.prepare_ram()
        for name in _STUBS:
            for address in self.image.symbols.addresses(name):
                self.memory.write(address, RETURN_ZERO)
        # The static calls meet a HLT, where the emulator sees them, and return behind it.
        for address in self.memory.sending_calls:
            self.memory.write(address, _HLT_RET)
        apply_always(self.image, self.memory)


def _name(symbols: SymbolTable, address: int) -> str:
    found = symbols.enclosing(address)
    return f"{address:#x}" if found is None else f"{found[0]}+{found[1]:#x}"


def two_cpus(machine: RawMachine, cpu: Callable[..., _Cpu]) -> tuple[_Cpu, _Cpu]:
    """The jumping CPU and the secondary, each made by `cpu`."""
    jumping, secondary, msr = machine.jumping, machine.secondary, machine.firmware_msr
    return (
        cpu(0, jumping, msr, seam=machine.seamcalled),
        cpu(SECONDARY, secondary, msr, seam=machine.seamcalled),
    )
