# SPDX-License-Identifier: GPL-2.0-or-later
"""A guard that wakes stopped CPUs is told, whatever it wakes them by: real kernels with one."""

from __future__ import annotations

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.after_the_stop import waking_jumps
from staleline.kernel.influence.on_the_way import with_way
from staleline.vocabulary import Site
from tests.kernel.eras import ERAS
from tests.kernel.places import address_of
from tests.kernel.plant import (
    CAVE,
    Bytes,
    global_bit,
    on_condition,
    planted,
    planted_call,
    relative,
)

#: Is called by native_machine_shutdown() when the others have stopped: arch/x86/kernel/reboot.c.
BETWEEN = "lapic_shutdown"
#: Interrupts a CPU by the APIC's driver: arch/x86/kernel/apic/ipi.c, 5.10 to 7.3.
INTERRUPTS = "native_send_call_func_single_ipi"
CONDITIONS = "panic_timeout", "panic_on_warn"


@pytest.fixture(scope="module", params=ERAS)
def image(request: pytest.FixtureRequest, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def calls(function: int) -> Bytes:
    """With 1 as its first argument, a CPU."""
    before = b"\x50\x51\x52\x56\x57\xbf\x01\0\0\0"  # push %rax to %rdi; mov $1, %edi
    return lambda at: before + b"\xe8" + relative(at + 15, function) + b"\x5f\x5e\x5a\x59\x58"


def test_kernels_as_released_have_none(real_kernel):
    assert waking_jumps(real_kernel.image) == ()


def test_a_guard_before_a_function_that_interrupts_one(image):
    question = global_bit(address_of(image, "panic_timeout"), 7)
    mutant = planted(image, BETWEEN, question, calls(address_of(image, INTERRUPTS)))
    (reason,) = waking_jumps(mutant)
    assert reason.startswith(f"relocate_kernel also depends on what is asked at {CAVE}+0x7, which")


def test_two_conditions_in_a_row_before_one(image):
    """Where the first does not hold the second is not asked: that alone tells nothing."""
    first, second = (global_bit(address_of(image, name), 7) for name in CONDITIONS)
    both = on_condition(second, calls(address_of(image, INTERRUPTS)))
    (reason,) = waking_jumps(planted(image, BETWEEN, first, both))
    assert reason.startswith(f"relocate_kernel also depends on what is asked at {CAVE}+0x7, which")
    nothing = on_condition(second, calls(address_of(image, "__x86_return_thunk")))
    assert waking_jumps(planted(image, BETWEEN, first, nothing)) == ()


def test_the_verdict_is_unknown_by_it(image):
    question = global_bit(address_of(image, "panic_timeout"), 7)
    mutant = planted(image, BETWEEN, question, calls(address_of(image, INTERRUPTS)))
    told = ("something else",)
    unlisted = with_way(mutant, {Site.RELOCATE_KERNEL: told})
    assert unlisted[Site.STOP_THIS_CPU] == ()
    assert unlisted[Site.RELOCATE_KERNEL] == told + waking_jumps(mutant)


def test_a_guard_before_one_that_interrupts_nobody(image):
    question = global_bit(address_of(image, "panic_timeout"), 7)
    nothing = calls(address_of(image, "__x86_return_thunk"))
    assert waking_jumps(planted(image, BETWEEN, question, nothing)) == ()


def test_nothing_is_told_of_a_way_that_is_unknown(image):
    """Nobody is interrupted, which is told of the site itself."""
    returns = planted_call(image, "native_machine_shutdown", lambda _: b"\x48\x83\xc4\x08\xc3")
    assert waking_jumps(returns) == ()
