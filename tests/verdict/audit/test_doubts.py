# SPDX-License-Identifier: GPL-2.0-or-later
"""On a site that depends on what no fact sets, a verdict says nothing either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.facts import from_snapshot
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.dependencies import dependencies
from staleline.kernel.reading.running import RunningImage
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.handover.kernels import ImageKernel
from staleline.vocabulary import Path as Handover
from staleline.vocabulary import Site, Verdict
from tests.kernel.mutate import find_guard, patched
from tests.kernel.plant import (
    executes_wbinvd,
    global_variable,
    on_condition,
    planted,
    planted_before_halt,
    zeroes_global,
)

ROME = Path(__file__).parents[2] / "data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"


@pytest.fixture(scope="module")
def image(real_kernels) -> KernelImage:
    return real_kernels["7-generic"].image


@pytest.fixture(scope="module")
def debians(real_kernels) -> RunningImage:
    return real_kernels["7-generic"].running


@pytest.fixture(scope="module")
def asking(image: KernelImage) -> RunningImage:
    return RunningImage(asks_a_variable(image))


def on_rome(image: RunningImage) -> Audit:
    seen = with_given(read_snapshot(ROME), msr=["0xc0010010=0x800000"], cmdline="mem_encrypt=on")
    kernel = ImageKernel(image, seen)
    return audit(from_snapshot(seen), [kernel], following=Next.ANY, paths=list(Handover))


def asks_a_variable(image: KernelImage) -> KernelImage:
    """It flushes if a variable is not zero, and for no other reason."""
    address = image.symbols.address("panic_on_oops")
    assert address is not None
    never = patched(image, *find_guard(image, "stop_this_cpu").no_flush)
    return planted(never, "disable_local_APIC", global_variable(address), executes_wbinvd)


def test_debians_kernel_has_no_doubts(debians: RunningImage) -> None:
    assert debians.doubts == {}


def test_they_are_those_of_the_rule(asking: RunningImage) -> None:
    found = asking.doubts
    listed: Mapping[Site, tuple[str, ...]] = dependencies(asking.image).unlisted
    assert found == {site: reasons for site, reasons in listed.items() if reasons}
    assert any("panic_on_oops" in reason for reason in found[Site.STOP_THIS_CPU])


def test_a_kexec_is_unknown_and_says_on_what_it_depends(asking: RunningImage) -> None:
    found = on_rome(asking)
    assert found.by_path[Handover.KEXEC] is Verdict.UNKNOWN
    assert any("panic_on_oops" in reason for reason in found.unknown)


def test_a_doubt_that_makes_no_difference_leaves_the_verdict(debians: RunningImage) -> None:
    """A crash from Debian's kernel is judged alike whether its secondaries flush or not."""
    plain = on_rome(debians)
    doubted = on_rome(RunningImage(debians.image, {Site.CRASH_NMI_CALLBACK: ("on something",)}))
    assert doubted.by_path[Handover.KEXEC] is plain.by_path[Handover.KEXEC]


def test_whether_a_line_is_left_behind_is_asked_as_well(image: KernelImage) -> None:
    address = image.symbols.address("panic_on_oops")
    assert address is not None
    does = zeroes_global(address + 64)
    action = on_condition(global_variable(address), does)
    found = dependencies(planted_before_halt(image, action)).unlisted
    assert any("panic_on_oops" in reason for reason in found[Site.STOP_THIS_CPU])


def test_an_image_runs_alike_twice(debians: RunningImage) -> None:
    """Also what it asks of time: linux 7.3.4 arch/x86/lib/delay.c reads the time stamp."""
    assert on_rome(RunningImage(debians.image)) == on_rome(debians)
