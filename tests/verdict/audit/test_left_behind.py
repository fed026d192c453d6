# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that flushes and then stores is at risk, and the verdict names the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.facts import from_snapshot
from staleline.kernel.image.image import KernelImage
from staleline.kernel.reading.rule import read_rule
from staleline.kernel.reading.running import RunningImage
from staleline.report.formats.findings import audit_findings
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.handover.kernels import ImageKernel
from staleline.verdict.handover.readkernel import read_kernel
from staleline.vocabulary import Path as Handover
from staleline.vocabulary import Site, Verdict
from tests.kernel.mutate import find_guard, patched
from tests.kernel.plant import fills_global, flushing_at_entry, planted_before_report, zeroes_global

ROME = Path(__file__).parents[2] / "data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
SME = "0xc0010010=0x800000"


@pytest.fixture(scope="module", params=["6.12", "7-generic"])
def debians(request, real_kernels) -> RunningImage:
    return real_kernels[request.param].running


@pytest.fixture(scope="module")
def image(debians: RunningImage) -> KernelImage:
    return debians.image


@pytest.fixture(scope="module")
def storing(image: KernelImage) -> dict[int, RunningImage]:
    """By how many bytes it stores behind the flush of stop_this_cpu()."""
    where = timeout(image)
    stores = {8: zeroes_global(where), 2048: fills_global(where, 2048)}
    return {size: RunningImage(planted_before_report(image, does)) for size, does in stores.items()}


def on_rome(image: RunningImage) -> Audit:
    """A kexec from a kernel that encrypts its memory."""
    seen = with_given(read_snapshot(ROME), msr=[SME], cmdline="mem_encrypt=on")
    kernel = ImageKernel(image, seen)
    facts = from_snapshot(seen)
    return audit(facts, [kernel], following=Next.ANY, paths=[Handover.KEXEC, Handover.CRASH])


def timeout(image: KernelImage) -> int:
    address = image.symbols.address("panic_timeout")
    assert address is not None
    return address


def test_debians_kernels_leave_nothing_behind(debians: RunningImage) -> None:
    """A kexec of 7.3 is unknown where CPUs may be offline, which it wakes."""
    found = on_rome(debians)
    assert not any(row.left_behind for row in found.handovers)
    assert found.by_path[Handover.KEXEC] is not Verdict.AT_RISK


@pytest.mark.parametrize("size", [8, 2048])
def test_a_store_after_the_flush_of_stop_this_cpu_is_at_risk(
    storing: dict[int, RunningImage], size: int
) -> None:
    found = on_rome(storing[size])
    assert found.by_path[Handover.KEXEC] is Verdict.AT_RISK
    row = found.handovers[0]
    (store,) = row.left_behind[Site.STOP_THIS_CPU]
    assert (store.line, store.size) == ("panic_timeout", size)
    assert row.answer is not None
    assert row.answer.counterexample is not None
    assert row.answer.counterexample.line == "left-behind-under-image"
    ids = {finding.id for _, finding in audit_findings(found, machine="rome", files=()).each()}
    assert "left-behind" in ids


def test_nothing_of_it_matters_in_a_crash(
    storing: dict[int, RunningImage], debians: RunningImage
) -> None:
    planted, debian = (on_rome(one).by_path[Handover.CRASH] for one in (storing[8], debians))
    assert planted is debian


def test_a_flush_at_the_entry_of_machine_kexec_alone_is_at_risk(image: KernelImage) -> None:
    early = flushing_at_entry(image, "machine_kexec")
    found = on_rome(RunningImage(patched(early, *find_guard(image, "identity_mapped").no_flush)))
    assert found.by_path[Handover.KEXEC] is Verdict.AT_RISK
    assert found.handovers[0].left_behind[Site.RELOCATE_KERNEL]


def test_the_rule_that_was_read_says_the_same(storing: dict[int, RunningImage]) -> None:
    """For `diff`, which asks no image."""
    document = read_rule(storing[8].image, "0")
    assert document["policy"] is None
    after = document["after_flush"][Site.STOP_THIS_CPU]
    assert after["leaves_behind"] == document["sites"][Site.STOP_THIS_CPU]["condition"]
    seen = with_given(read_snapshot(ROME), msr=[SME], cmdline="mem_encrypt=on")
    found = audit(
        from_snapshot(seen),
        [read_kernel(document, "image")],  # type: ignore[arg-type]
        following=Next.ANY,
        paths=[Handover.KEXEC],
    )
    assert found.verdict is Verdict.AT_RISK
