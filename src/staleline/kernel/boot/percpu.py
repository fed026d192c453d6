# SPDX-License-Identifier: GPL-2.0-or-later
"""Per-CPU areas of the emulated machine.

A per-CPU variable of a CPU lives at ``gs base + link address``. The boot CPU first runs on
the initial copy inside the image; ``setup_per_cpu_areas()`` (arch/x86/kernel/
setup_percpu.c, mm/percpu.c pcpu_setup_first_chunk(), 5.10 to 7.3) then copies that, with
what the boot CPU wrote there, to one area per CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.hardware import MASK_64
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.layout import LARGEST_PER_CPU_AREA, per_cpu_area

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.image.image import KernelImage

__all__ = ["PerCpu"]

#: ``struct pcpu_hot`` (6.2 to 6.14): current_task, preempt_count, cpu_number.
_CPU_NUMBER_IN_PCPU_HOT: Final = 12


class PerCpu:
    """Where the per-CPU variables of an image are, early and later."""

    def __init__(self, image: KernelImage, memory: MachineMemory) -> None:
        self._symbols = image.symbols
        self._memory = memory
        self._start = self._address("__per_cpu_start")
        self._initial = self._address("__per_cpu_load", "__per_cpu_start")
        self._size = self._address("__per_cpu_end") - self._start
        if not 0 < self._size <= LARGEST_PER_CPU_AREA:
            raise DerivationError(f"per-CPU section of {self._size:#x} bytes")

    @property
    def early_offset(self) -> int:
        """Gs base of the boot CPU before the areas exist."""
        return (self._initial - self._start) & MASK_64

    @property
    def linked(self) -> range:
        """Link addresses of the per-CPU variables."""
        return range(self._start, self._start + self._size)

    def offset(self, cpu: int) -> int:
        """Gs base of a CPU afterwards."""
        return (self._area(cpu) - self._start) & MASK_64

    def set_up_areas(self, cpus: int) -> None:
        """Copy the initial area for each CPU, and set what tells a CPU its number."""
        content = self._memory.read(self._initial, self._size)
        for cpu in range(cpus):
            self._memory.write_to_ram(per_cpu_area(cpu).start, content)
            self._write(cpu, "this_cpu_off", 0, self.offset(cpu), 8)
            if "cpu_number" in self._symbols:
                self._write(cpu, "cpu_number", 0, cpu, 4)
            else:
                self._write(cpu, "pcpu_hot", _CPU_NUMBER_IN_PCPU_HOT, cpu, 4)
            table = self._address("__per_cpu_offset")
            self._memory.write_int(table + 8 * cpu, self.offset(cpu), 8)

    def _area(self, cpu: int) -> int:
        return self._memory.direct(per_cpu_area(cpu).start)

    def _write(self, cpu: int, symbol: str, displacement: int, value: int, size: int) -> None:
        at = self._address(symbol) + displacement + self.offset(cpu)
        self._memory.write_int(at & MASK_64, value, size)

    def _address(self, *names: str) -> int:
        for name in names:
            address = self._symbols.address(name)
            if address is not None:
                return address
        raise DerivationError(f"the image has no symbol {names[0]}")
