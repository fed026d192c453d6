# SPDX-License-Identifier: GPL-2.0-or-later
"""Guards on the jumping CPU's way are noticed: real kernels with questions planted in it."""

from __future__ import annotations

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.on_the_way import way_dependencies
from staleline.kernel.reading.running import RunningImage
from staleline.kernel.reading.surroundings import read_surroundings
from staleline.vocabulary import Site
from tests.kernel.mutate import patched
from tests.kernel.places import address_of
from tests.kernel.plant import (
    CAVE,
    Bytes,
    cpuid_bit,
    global_bit,
    global_variable,
    msr_bit,
    planted,
    planted_static_branch,
    relative,
    returns_at_once,
)

SERIES = ["5.10", "6.12", "6.18", "7"]
WAY = ["machine_shutdown", "native_machine_shutdown", "native_stop_other_cpus"]


@pytest.fixture(scope="module", params=SERIES)
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def sentence(name: str) -> str:
    what = "it decides whether the other CPUs are interrupted"
    return f"stop_this_cpu also depends on {name}, which no fact sets: {what}"


def test_real_kernels_ask_nothing_else(real_kernel):
    """reboot_force is a fact, stopping_cpu theirs alone: arch/x86/kernel/smp.c:155 (7.3.4)."""
    assert way_dependencies(real_kernel.image) == ()


@pytest.mark.parametrize("function", WAY)
@pytest.mark.parametrize("asks", ["bit", "value"])
def test_a_guard_on_the_way_is_named(image, function, asks):
    address = address_of(image, "panic_timeout")
    question = global_bit(address, 0) if asks == "bit" else global_variable(address)
    mutant = planted(image, function, question, returns_at_once)
    assert way_dependencies(mutant) == (sentence("panic_timeout"),)


def odd_number(image: KernelImage, *names: str) -> Bytes:
    """Are all of them 42? As no number that is tried."""

    def asks(at: int) -> bytes:
        found = b"\x50"  # push rax
        for left, name in zip(range(len(names) - 1, -1, -1), names, strict=True):
            behind = at + len(found) + 7
            found += b"\x83\x3d" + relative(behind, address_of(image, name)) + b"\x2a"
            found += b"\x75" + bytes([9 * left + 5])  # jne to where ZF is set
        # mov al, 1; jmp +2; xor eax, eax; test al, al; pop rax
        return found + bytes.fromhex("b001 90 eb02 31c0 84c0 58")

    return asks


@pytest.mark.parametrize("function", WAY)
@pytest.mark.parametrize("names", [("panic_timeout",), ("panic_timeout", "panic_on_warn")])
def test_a_guard_of_another_form_is_named(image, function, names):
    mutant = planted(image, function, odd_number(image, *names), returns_at_once)
    assert way_dependencies(mutant) == (sentence("panic_timeout"),)


@pytest.mark.parametrize(
    ("asks", "name"),
    [
        (cpuid_bit(0x8000_0021, "EAX", 9), "CPUID 0x80000021 EAX[9]"),
        (msr_bit(0xC000_0080, 12), "MSR 0xc0000080[12]"),  # EFER.SVME
    ],
)
def test_what_it_asks_of_the_hardware_is_named(real_kernels, asks, name):
    mutant = planted(real_kernels["7"].image, WAY[1], asks, returns_at_once)
    assert way_dependencies(mutant) == (sentence(name),)


def test_a_guard_that_lets_it_through_is_named_too(real_kernels):
    """Set to 1 in the image, the variable stops nobody where it is 0."""
    image = real_kernels["7"].image
    address = address_of(image, "panic_timeout")
    mutant = patched(
        planted(image, "native_stop_other_cpus", clear_bit(address), returns_at_once),
        address,
        b"\x01\x00\x00\x00",
    )
    assert way_dependencies(mutant) == (sentence("panic_timeout"),)


def clear_bit(address: int):
    """Is the lowest bit clear? ``testb``, ``sete``, ``test`` of that."""

    def asks(at: int) -> bytes:
        tests = global_bit(address, 0)(at + 1)
        return b"\x50" + tests + b"\x0f\x94\xc0" + b"\x84\xc0" + b"\x58"

    return asks


def test_a_static_branch_on_the_way_is_named(image):
    mutant = planted_static_branch(image, "native_stop_other_cpus")
    cave = address_of(image, CAVE)
    (reason,) = way_dependencies(patched(mutant, cave, b"\xc3"))
    assert reason.startswith("stop_this_cpu also depends on static key ")


def test_a_guard_that_changes_no_end_is_no_dependency(image):
    address = address_of(image, "panic_timeout")
    assert way_dependencies(planted(image, WAY[2], global_bit(address, 0), nothing)) == ()


def nothing(_: int) -> bytes:
    return b"\x90"


def test_the_rule_and_every_verdict_of_it_are_unknown(real_kernels):
    image = real_kernels["7"].image
    question = global_bit(address_of(image, "panic_timeout"), 0)
    mutant = planted(image, WAY[2], question, returns_at_once)
    assert read_surroundings(mutant)["unlisted"]["stop_this_cpu"] == [sentence("panic_timeout")]
    doubts = RunningImage(mutant).doubts
    assert doubts == {Site.STOP_THIS_CPU: (sentence("panic_timeout"),)}
