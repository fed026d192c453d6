# SPDX-License-Identifier: GPL-2.0-or-later
"""What a write of the interrupt command register sends (SDM volume 3, 12.6.1)."""

from __future__ import annotations

import pytest

from staleline.hardware import RDI, RSI
from staleline.kernel.boot.machine import EmulatedMachine
from staleline.kernel.emulator.localapic import (
    NMI_VECTOR,
    REBOOT_VECTOR,
    commanded_vector,
    sending_calls,
)

SELF, ALL, ALL_BUT_SELF = 1 << 18, 2 << 18, 3 << 18


@pytest.mark.parametrize(
    ("command", "vector"),
    [
        (ALL_BUT_SELF | REBOOT_VECTOR, REBOOT_VECTOR),
        (ALL | REBOOT_VECTOR, REBOOT_VECTOR),
        (SELF | REBOOT_VECTOR, None),
        (SELF | 4 << 8, None),
        (1 << 11 | 0xFD, 0xFD),  # logical destination
        (ALL_BUT_SELF | 4 << 8, NMI_VECTOR),
        (4 << 8 | 0x33, NMI_VECTOR),  # the vector of an NMI is ignored
        (ALL_BUT_SELF | 5 << 8, None),  # INIT
        (6 << 8 | 0x99, None),  # start-up
        (1 << 32 | REBOOT_VECTOR, REBOOT_VECTOR),  # an x2APIC's destination is in the same MSR
    ],
)
def test_vector_by_delivery_mode(command, vector):
    assert commanded_vector(command) == vector


def test_kernels_send_by_static_calls_since_6_6(real_kernel):
    """arch/x86/kernel/apic/init.c:30 (7.3.4); before, apic->send_IPI_... of a driver."""
    image = real_kernel.image
    calls = sending_calls(image.symbols)
    assert bool(calls) is (real_kernel.series not in {"5.10", "6.1"})
    assert set(calls.values()) <= {RDI, RSI, None}
    emulated = EmulatedMachine(image)
    emulated.start_over()
    assert {emulated.memory.read(address, 1) for address in calls} <= {b"\xf4"}
