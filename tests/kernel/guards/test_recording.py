# SPDX-License-Identifier: GPL-2.0-or-later
"""What a site is said to have read is what it read, and what it was answered there."""

from __future__ import annotations

import pytest

from staleline.kernel.boot.rawfacts import ENCRYPTING_HOST
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.guards.recording import RecordedSite, SiteRunner
from staleline.kernel.image.image import KernelImage
from staleline.vocabulary import Site
from tests.conftest import RealKernel
from tests.kernel.plant import planted_call

#: push rax, rbx, rcx, rdx; and all of them back.
SAVED, RESTORED = "50535152", "5a595b58"
SYSCFG, GS_BASE, KERNEL_GS_BASE = "b9100001c0", "b9010100c0", "b9020100c0"  # mov ecx, the MSR
RDMSR, SWAPGS, CPUID = "0f32", "0f01f8", "0fa2"
LEAF, SUBLEAF = "b81f000080", "b901000000"  # mov eax, 0x8000001f; mov ecx, 1


@pytest.fixture(scope="module")
def image(real_kernels: dict[str, RealKernel]) -> KernelImage:
    return real_kernels["6.12"].image


def recorded(image: KernelImage, *asks: str) -> RecordedSite:
    """The secondaries' site, which first asks this."""
    code = bytes.fromhex("".join((SAVED, *asks, RESTORED)))
    mutant = planted_call(image, "stop_this_cpu", lambda _: code)
    return SiteRunner(mutant).run(Site.STOP_THIS_CPU, raw_machine(ENCRYPTING_HOST))


def asked(site: RecordedSite, code: str) -> list[dict[str, int]]:
    """What each instruction of this code is said to have read."""
    return [
        {source.name: value for source, value in site.inputs.get(index, {}).items()}
        for index, step in enumerate(site.steps)
        if step.code.startswith(bytes.fromhex(code))
    ]


@pytest.mark.parametrize(
    "before",
    [
        [],
        [GS_BASE, RDMSR],  # which the engine itself holds
        [SWAPGS, SWAPGS],  # asks for an MSR, and is no RDMSR
    ],
)
def test_an_msr_that_was_read_is_told_of_who_read_it(image: KernelImage, before: list[str]) -> None:
    site = recorded(image, *before, SYSCFG, RDMSR)
    assert {"MSR 0xc0010010": 1 << 23} in asked(site, RDMSR)
    assert {"MSR 0xc0010010": 1 << 23} not in asked(site, RDMSR)[: before.count(RDMSR)]


def test_a_prefix_changes_nothing_of_what_is_asked(image: KernelImage) -> None:
    """Kernels have ``ds wrmsr`` (linux 7.3.4 arch/x86/include/asm/msr.h:240)."""
    site = recorded(image, SYSCFG, "3e" + RDMSR)
    assert asked(site, "3e" + RDMSR) == [{"MSR 0xc0010010": 1 << 23}]


def test_a_leaf_is_told_with_its_sub_leaf(image: KernelImage) -> None:
    site = recorded(image, LEAF, SUBLEAF, CPUID)
    first, second = asked(site, CPUID)[0], asked(site, CPUID)[-1]
    assert set(first) == {f"CPUID 0x8000001f.0x1 {name}" for name in ("EAX", "EBX", "ECX", "EDX")}
    assert second["CPUID 0x8000001f EAX"] & 1  # what the site asks anyway
