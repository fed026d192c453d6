# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel tries, and goes on otherwise where it fails, is an input: real kernels with one.

``rdmsr_safe()`` asks whether there is an MSR (arch/x86/include/asm/msr.h, 5.10 to 7.3). Here every
MSR is there, so what a machine without it does would never be seen.
"""

from __future__ import annotations

import pytest

from staleline.kernel.image.exceptiontable import expected_faults
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.after_the_stop import waking_jumps
from staleline.kernel.influence.on_the_way import way_dependencies
from staleline.vocabulary import Site
from tests.kernel.eras import ERAS
from tests.kernel.influence.test_unset_hooks import BETWEEN, SITES, named
from tests.kernel.mutate import instructions, patched
from tests.kernel.places import address_of
from tests.kernel.plant import CAVE, planted_call, relative

#: arch/x86/include/asm/extable_fixup_types.h, 5.16 to 7.3.
EX_TYPE_RDMSR, EX_TYPE_RDMSR_SAFE = 9, 11
#: push %rax, %rcx, %rdx; mov $0xc0011029, %ecx; RDMSR; and back.
BEFORE, RDMSR, BEHIND = b"\x50\x51\x52\xb9\x29\x10\x01\xc0", b"\x0f\x32", b"\x5a\x59\x58"
#: struct exception_table_entry, asm/extable.h: the first of them is of another instruction.
FAILS = f"whether what is tried at {CAVE}+{len(BEFORE):#x} fails"


@pytest.fixture(scope="module", params=ERAS)
def image(request: pytest.FixtureRequest, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def reads(image: KernelImage, function: str, kind: int) -> KernelImage:
    """A function begins with a RDMSR that the exception table has."""
    mutant = planted_call(image, function, lambda _: BEFORE + RDMSR + BEHIND)
    instruction = address_of(image, CAVE) + len(BEFORE)
    entry = address_of(image, "__start___ex_table")
    fixup = relative(entry + 4, instruction + len(RDMSR))
    return patched(mutant, entry, relative(entry, instruction) + fixup + kind.to_bytes(4, "little"))


def test_what_a_kernel_tries(real_kernel):
    """native_read_msr() warns and goes on, native_read_msr_safe() tells: asm/msr.h."""
    image = real_kernel.image
    expected = expected_faults(image)
    (safe,) = of_msr(image, "native_read_msr_safe")
    (plain,) = of_msr(image, "native_read_msr")
    assert safe in expected
    assert plain not in expected


def of_msr(image: KernelImage, function: str) -> list[int]:
    return [one.address for one in instructions(image, function) if one.mnemonic == "rdmsr"]


@pytest.mark.parametrize("site", SITES)
def test_it_is_named_at_each_site(image, site):
    mutant = reads(image, SITES[site], EX_TYPE_RDMSR_SAFE)
    assert named(mutant, site) == {FAILS}


def test_what_goes_on_as_if_0_had_been_read_is_not(image):
    mutant = reads(image, "stop_this_cpu", EX_TYPE_RDMSR)
    assert named(mutant, Site.STOP_THIS_CPU) == set()


def test_on_the_way_to_them_too(image):
    (reason,) = way_dependencies(reads(image, "native_stop_other_cpus", EX_TYPE_RDMSR_SAFE))
    assert reason.startswith(f"stop_this_cpu also depends on {FAILS}, which no fact sets")
    (reason,) = waking_jumps(reads(image, BETWEEN, EX_TYPE_RDMSR_SAFE))
    assert reason.startswith(f"relocate_kernel also depends on {FAILS}, which no fact sets")
