# SPDX-License-Identifier: GPL-2.0-or-later
"""How a CPU sends an interrupt to others, which is how the emulator sees that it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from staleline.hardware import RDI, RSI

if TYPE_CHECKING:
    from staleline.kernel.image.symbols import SymbolTable

__all__ = [
    "INTERRUPT_COMMAND",
    "INTERRUPT_COMMAND_MSR",
    "NMI_VECTOR",
    "REBOOT_VECTOR",
    "commanded_vector",
    "is_for_others",
    "sending_calls",
]

#: The interrupt command register: its offset in the local APIC's page, and the MSR of an x2APIC
#: (SDM volume 3, 12.6.1 and 12.12).
INTERRUPT_COMMAND: Final = 0x300
INTERRUPT_COMMAND_MSR: Final = 0x830
#: arch/x86/include/asm/irq_vectors.h and trapnr.h, 5.10 to 7.3.
REBOOT_VECTOR: Final = 0xF8
NMI_VECTOR: Final = 2
#: Destination shorthand, and that of the CPU itself (SDM volume 3, 12.6.1).
_SHORTHAND: Final = 3 << 18
_SELF: Final = 1 << 18
_DELIVERY_MODE: Final = 0x700
_NMI_MODE: Final = 0x400
_FIXED_MODE: Final = 0
#: Static call (since 6.6, arch/x86/kernel/apic/init.c) -> the register that holds the vector. Its
#: trampoline leads nowhere in an image: the driver of the machine's APIC is put there at boot.
#: One for a single CPU stops or shoots down no others, and has no register here, as what gives any
#: command, or starts a CPU: these wake.
_SENDING: Final[Mapping[str, int | None]] = {
    "__SCT__apic_call_send_IPI_mask": RSI,
    "__SCT__apic_call_send_IPI_mask_allbutself": RSI,
    "__SCT__apic_call_send_IPI_allbutself": RDI,
    "__SCT__apic_call_send_IPI_all": RDI,
    "__SCT__apic_call_send_IPI": None,
    "__SCT__apic_call_icr_write": None,
    "__SCT__apic_call_wakeup_secondary_cpu": None,
    "__SCT__apic_call_wakeup_secondary_cpu_64": None,
}


def commanded_vector(command: int) -> int | None:
    """The vector that a write of the interrupt command register sends to other CPUs.

    None for INIT and others, and for what a CPU sends to itself.
    """
    if command & _SHORTHAND == _SELF:
        return None
    mode = command & _DELIVERY_MODE
    if mode == _NMI_MODE:
        return NMI_VECTOR
    return command & 0xFF if mode == _FIXED_MODE else None


def is_for_others(command: int) -> bool:
    """Is it not for the CPU alone that writes it? INIT and SIPI are commands as well."""
    return command & _SHORTHAND != _SELF


def sending_calls(symbols: SymbolTable) -> Mapping[int, int | None]:
    """Address of each static call that sends -> number of the register with the vector.

    None where that stops nobody.
    """
    return {
        address: register
        for name, register in _SENDING.items()
        for address in symbols.addresses(name)
    }
