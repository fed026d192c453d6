# SPDX-License-Identifier: GPL-2.0-or-later
"""A wait that ends early, whatever it counts in, or that leaves a CPU out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.eras import ERAS
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import instructions, patched
from tests.kernel.places import address_of
from tests.kernel.plant import CAVE, relative

ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, True)
#: Those that look at a mask; the first one counts, where it is 5.10.
SERIES = ERAS[1:]
#: Each adds one to something, and sets ZF as long as bit 7 of it is 0.
COUNTS = {
    "xmm15": "50 664c0f7ef8 48ffc0 664c0f6ef8 a880 58",
    "st3": "50 480f7ed8 48ffc0 480f6ed8 a880 58",  # MM3
    "DR3": "50 0f21d8 48ffc0 0f23d8 a880 58",
    "CR2": "50 0f20d0 48ffc0 0f22d0 a880 58",
    "MSR 0xc0000103": "50 51 52 b9030100c0 0f32 ffc0 0f30 a880 5a 59 58",
    "r10": "49ffc2 41f6c280",
    "the stack of CPU 0": "ff842400f8ffff f6842400f8ffff80",  # 0x800 below its top
}


@pytest.fixture(scope="module", params=SERIES)
def image(request, real_kernels) -> KernelImage:
    return load_image(real_kernels[request.param].path)


def looking_by(image: KernelImage, code: bytes, which: Sequence[int] = (0, 1, 2, 3)) -> KernelImage:
    """``native_stop_other_cpus()`` looks for the first bit through this code.

    It does so at four places: at first, behind the first wait, in the second, and in the first.
    """
    find, cave = hex(address_of(image, "_find_first_bit")), address_of(image, CAVE)
    calls = [
        one
        for one in instructions(image, "native_stop_other_cpus")
        if (one.mnemonic, one.operands) == ("call", find)
    ]
    for index in which:
        call = calls[index].address
        image = patched(image, call, b"\xe8" + relative(call + 5, cave))
    return patched(image, cave, code)


def unless_over(image: KernelImage) -> Callable[[bytes], bytes]:
    """If ZF is clear, there is no bit: the size is returned."""

    def code(counts: bytes) -> bytes:
        jump = address_of(image, CAVE) + len(counts) + 7
        find = b"\xe9" + relative(jump, address_of(image, "_find_first_bit"))
        return counts + b"\x75\x05" + find + b"\x48\x89\xf0\xc3"

    return code


def reason(image: KernelImage) -> str | None:
    return KernelReader(image).decide(ROME).stop_this_cpu.unknown


@pytest.mark.parametrize("place", COUNTS)
def test_a_wait_that_counts_elsewhere(image, place):
    mutant = looking_by(image, unless_over(image)(bytes.fromhex(COUNTS[place])))
    assert reason(mutant) == (
        "how long native_stop_other_cpus() waits is not known: what counts its looks is not known: "
        f"{place} changes"
    )


@pytest.mark.parametrize("place", ["xmm15", "DR3", "CR2"])
def test_the_second_wait_counts(image, place):
    code = unless_over(image)(bytes.fromhex(COUNTS[place]))
    assert reason(looking_by(image, code, [2])) == (
        "machine_shutdown() gives up waiting for the other CPUs after some time, "
        f"which it counts in {place}"
    )


@pytest.mark.parametrize("cpu", [2, 63, 64, 8190])
def test_a_wait_that_leaves_a_cpu_out(image, cpu):
    """andb $~bit, cpu/8(%rdi), which is the mask."""
    clears = b"\x80\xa7" + (cpu // 8).to_bytes(4, "little") + bytes([0xFF ^ 1 << cpu % 8])
    jump = address_of(image, CAVE) + len(clears) + 5
    code = clears + b"\xe9" + relative(jump, address_of(image, "_find_first_bit"))
    assert reason(looking_by(image, code)) == (
        f"machine_shutdown() gives up waiting for the other CPUs where CPU {cpu} is left"
    )
