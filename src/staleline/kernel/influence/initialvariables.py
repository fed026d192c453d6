# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables and static branches that the derivation finds as the image has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from staleline.hardware import MASK_64
from staleline.kernel.boot.machine import SECONDARY
from staleline.kernel.boot.percpu import PerCpu
from staleline.kernel.emulator.layout import BOOT_PARAMS, is_pointer
from staleline.kernel.rerun.branches import passed_branches
from staleline.kernel.rerun.changes import Memory, changed, halved
from staleline.kernel.rerun.fixedinputs import FIXED_IN_DERIVATION, is_fixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.rerun.reruns import Reruns
    from staleline.kernel.rerun.variation import Cell

__all__ = ["InitialVariables"]

#: Of the boot parameters: where the command line is and whether it says mem_encrypt=on, and
#: pointers to more (Documentation/arch/x86/zero-page.rst, 6.12).
_FIXED_BOOT_PARAMS: Final = (
    range(0xC8, 0xCC),  # ext_cmd_line_ptr
    range(0x13C, 0x140),  # cc_blob_address
    range(0x228, 0x22C),  # cmd_line_ptr
    range(0x236, 0x238),  # xloadflags
    range(0x250, 0x258),  # setup_data
)


class InitialVariables:
    """What was found on the machines looked at so far."""

    def __init__(self, reruns: Reruns) -> None:
        self._reruns = reruns
        self._areas = PerCpu(reruns.image, reruns.memory)
        symbols = reruns.image.symbols
        self._image = range(symbols.address("_text") or 0, symbols.address("_end") or 0)
        self._found: dict[Cell, Memory] = {}

    def look_at(self, machine: RawMachine) -> None:
        """Boot on a machine, and note what is read and which static branches are passed.

        Raises:
            DerivationError: The derivation does not end.
        """
        accesses = self._reruns.watched_boot(machine)
        branches = passed_branches(self._reruns.image, self._reruns.places, accesses.blocks)
        for influence in (*self._variables(accesses.reads), *branches):
            self._found.setdefault(influence.cell, influence)

    def half(self, seed: int, *, complement: bool) -> list[Memory]:
        """Half of them changed; with `complement`, the other half."""
        # A running kernel may find something else there: a command line option, a module parameter
        # or a driver may have set them.
        half = halved(self._found.values(), seed, complement=complement)
        return [changed(memory, seed) for memory in half]

    def _variables(self, reads: Mapping[Cell, bytes]) -> Iterator[Memory]:
        for (address, size), content in reads.items():
            # Before it is copied for each CPU: the boot reads the copies, which do not exist yet.
            place = self._initial(address)
            # Constants cannot differ, pointers are not conditions, and what
            # `kernel.rerun.fixedinputs` names is taken as it is for a reason that stands there.
            if not is_pointer(content) and self._may_differ(place, size):
                yield Memory((place, size), content, self._name(place))

    def _may_differ(self, address: int, size: int) -> bool:
        if address in BOOT_PARAMS:
            offset = address - BOOT_PARAMS.start
            return not any(offset in fixed for fixed in _FIXED_BOOT_PARAMS)
        return address in self._image and not is_fixed(
            FIXED_IN_DERIVATION, self._name(address), size
        )

    def _initial(self, address: int) -> int:
        """Where a per-CPU variable is in the initial copy; other addresses unchanged."""
        for cpu in range(SECONDARY + 1):
            linked = (address - self._areas.offset(cpu)) & MASK_64
            if linked in self._areas.linked:
                return (linked + self._areas.early_offset) & MASK_64
        return address

    def _name(self, address: int) -> str:
        if address in BOOT_PARAMS:
            return f"boot_params+{address - BOOT_PARAMS.start:#x}"
        linked = (address - self._areas.early_offset) & MASK_64
        if linked in self._areas.linked:
            address = (linked + self._areas.offset(0)) & MASK_64
        return self._reruns.name(address)
