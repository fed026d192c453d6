# SPDX-License-Identifier: GPL-2.0-or-later
"""What no evidence of a machine can answer: never the host's value, and never a guess."""

from __future__ import annotations

import pytest

from staleline.kernel.emulator.refused import Operation, RefusedInstruction, decode_refused
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.dependencies import dependencies
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import Site
from tests.kernel.mutate import find_guard, patched
from tests.kernel.plant import (
    counter_bit,
    executes_wbinvd,
    msr_bit,
    on_condition,
    planted,
    planted_before_halt,
    pushes,
    random_bit,
    storing_nothing,
    time_bit,
)
from tests.kernel.sites.test_afterflush import ROME
from tests.sampling import covering

OPEN = {
    "RDRAND or RDSEED[3]": random_bit(3),
    "RDRAND or RDSEED[30]": random_bit(30, seed=True),
    "the time stamp[7]": time_bit(7),
    "MSR 0xc0000080[12]": msr_bit(0xC000_0080, 12),  # EFER.SVME
}


SERIES = ("6.12", "7-generic")
images_and_names = pytest.mark.parametrize(
    ("image", "name"), covering(SERIES, list(OPEN)), indirect=["image"]
)


@pytest.fixture(scope="module", params=SERIES)
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


@images_and_names
def test_a_guard_that_asks_for_it_is_unknown_and_named(image: KernelImage, name: str) -> None:
    never = patched(image, *find_guard(image, "stop_this_cpu").no_flush)
    mutant = planted(never, "stop_this_cpu", OPEN[name], executes_wbinvd)
    found = dependencies(mutant).unlisted[Site.STOP_THIS_CPU]
    assert any(f"also depends on {name}," in reason for reason in found)


@images_and_names
def test_a_store_after_the_flush_that_asks_for_it_is_too(image: KernelImage, name: str) -> None:
    mutant = planted_before_halt(image, on_condition(storing_nothing(OPEN[name]), pushes))
    found = dependencies(mutant).unlisted[Site.STOP_THIS_CPU]
    assert any(f"also depends on {name}," in reason for reason in found)


def test_a_performance_counter_is_not_read(image: KernelImage) -> None:
    """RDPMC: what an event counted is nothing that this program could know."""
    mutant = planted(image, "stop_this_cpu", counter_bit, executes_wbinvd)
    decision = KernelReader(mutant).decide(ROME).stop_this_cpu
    assert decision.flushes is None
    assert "0f33" in str(decision.unknown)


@images_and_names
def test_a_run_is_the_same_each_time(image: KernelImage, name: str) -> None:
    mutant = planted_before_halt(image, on_condition(storing_nothing(OPEN[name]), pushes))
    first, second = (KernelReader(mutant) for _ in range(2))
    assert first.decide(ROME) == second.decide(ROME) == first.decide(ROME)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("480fc7f0", RefusedInstruction(Operation.RDRAND, 4, general=0, width=64)),
        ("0fc7f1", RefusedInstruction(Operation.RDRAND, 3, general=1, width=32)),
        ("660fc7f9", RefusedInstruction(Operation.RDSEED, 4, general=1, width=16)),
        ("490fc7f8", RefusedInstruction(Operation.RDSEED, 4, general=8, width=64)),
        ("0fc70e", None),  # cmpxchg8b [rsi]
        ("0f01dc", RefusedInstruction(Operation.STGI, 3)),
        ("0f01c4", RefusedInstruction(Operation.VMXOFF, 3)),
    ],
)
def test_the_instructions(code: str, expected: RefusedInstruction | None) -> None:
    """AMD64 APM volume 3, appendix A.2, groups 7 and 9."""
    assert decode_refused(bytes.fromhex(code)) == expected
