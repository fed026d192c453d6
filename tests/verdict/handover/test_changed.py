# SPDX-License-Identifier: GPL-2.0-or-later
"""Live patches and kprobes on the stop path leave open what the kernel does; taint is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.snapshot import Snapshot, StateEvidence
from staleline.facts import from_snapshot
from staleline.facts.running_code import stop_path_functions
from staleline.policy.catalogue import catalogue
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.handover.reasons import Unneeded, UnneededEither
from staleline.vocabulary import Path, Site, Verdict

CPUID = FilePath(__file__).parents[2] / "data" / "cpuid" / "libcpuid"
ROME = with_given(
    read_snapshot(CPUID / "amd-epyc-7742-64-core-processor-dual.test"),
    msr=["0xc0010010=0x800000"],
    cmdline="mem_encrypt=on",
)
NEHALEM = with_given(read_snapshot(CPUID / "intel-xeon-cpu-e5520.test"), cmdline="quiet")


def audited(state: StateEvidence, machine: Snapshot = ROME, *, path: Path = Path.KEXEC) -> Audit:
    kernel = PolicyKernel(catalogue()["linux-6.5"], "for this test")
    facts = from_snapshot(replace(machine, state=state))
    return audit(facts, (kernel,), following=Next.ANY, paths=(path,))


@pytest.mark.parametrize(
    "state",
    [
        StateEvidence(livepatches={"kpatch_1": ("vmlinux:native_stop_other_cpus",)}),
        StateEvidence(livepatches={"kpatch_1": ("vmlinux:vfs_read", "vmlinux:machine_kexec")}),
        StateEvidence(livepatches={"kpatch_1": None}),
        StateEvidence(kprobes=("stop_this_cpu.isra.0+0x14",)),
        StateEvidence(kprobes=("vfs_read+0x0", "__wbinvd+0x0")),
        StateEvidence(kprobes=("?",)),
    ],
)
def test_a_changed_stop_path_is_unknown(state: StateEvidence) -> None:
    assert audited(StateEvidence()).verdict is Verdict.SAFE
    found = audited(state)
    assert found.verdict is Verdict.UNKNOWN
    (reason,) = found.unknown
    assert reason.id == "stop-path-changed"
    assert "live patch kpatch_1" in reason or "kprobe" in reason
    assert all(flushes is None for row in found.handovers for flushes in row.flushes.values())


@pytest.mark.parametrize(
    "state",
    [
        StateEvidence(livepatches={}, kprobes=()),
        StateEvidence(livepatches={"kpatch_1": ("vmlinux:vfs_read", "nfs:machine_kexec_not")}),
        StateEvidence(kprobes=("vfs_read+0x0",)),
        StateEvidence(tainted=12288, tainting_modules=("zfs:POE",)),
    ],
)
def test_what_changes_other_code_changes_no_verdict(state: StateEvidence) -> None:
    assert audited(state).verdict is Verdict.SAFE


def test_it_is_unknown_even_where_no_line_can_be_stale() -> None:
    """What took the code's place may report a CPU as stopped before it flushes (P2)."""
    patched = StateEvidence(livepatches={"kpatch_1": None})
    assert audited(StateEvidence(), NEHALEM).verdict is Verdict.SAFE
    assert audited(patched, NEHALEM).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "state",
    [
        StateEvidence(livepatches={"kpatch_1": ("vmlinux:nmi_shootdown_cpus",)}),
        StateEvidence(livepatches={"kpatch_1": None}),
        StateEvidence(kprobes=("crash_nmi_callback+0x0",)),
    ],
)
def test_it_is_unknown_in_a_crash_where_no_flush_is_needed(state: StateEvidence) -> None:
    """What took nmi_shootdown_cpus()'s place may let CPUs run on into the crash kernel.

    linux 7.3.4 arch/x86/kernel/reboot.c:865 sends the NMI and waits for the CPUs there.
    """
    assert audited(StateEvidence(), NEHALEM, path=Path.CRASH).verdict is Verdict.SAFE
    found = audited(state, NEHALEM, path=Path.CRASH)
    assert found.verdict is Verdict.UNKNOWN
    assert {reason.id for reason in found.unknown} == {"stop-path-changed"}


def test_taint_is_a_fact_with_its_modules() -> None:
    fact = from_snapshot(replace(ROME, state=StateEvidence(tainted=1, tainting_modules=("a:P",))))
    assert (fact["tainted"].value, "a:P" in str(fact["tainted"].source)) == (1, True)


def test_the_sites_themselves_are_on_the_stop_path() -> None:
    assert {str(site) for site in Site} <= stop_path_functions()


def test_a_reason_for_an_unneeded_flush_holds_on_every_machine_that_fits() -> None:
    """SYSCFG and SEV guests unknown: off for one world's reason, and written back by another's."""
    dump = with_given(
        read_snapshot(CPUID / "amd-epyc-7742-64-core-processor-dual.test"), cmdline="quiet"
    )
    kernel = PolicyKernel(catalogue()["unconditional"], "for this test")
    found = audit(from_snapshot(dump), (kernel,), following=Next.OFF, paths=(Path.CRASH,))
    (row,) = (row for row in found.handovers if not row.old)
    reason = row.unneeded[Site.RELOCATE_KERNEL]
    assert isinstance(reason, UnneededEither)
    assert Unneeded.FIRMWARE_OFF in reason
    assert "; or " in reason
    known = with_given(dump, msr=["0xc0010010=0x0"])
    told = audit(from_snapshot(known), (kernel,), following=Next.OFF, paths=(Path.CRASH,))
    (row,) = told.handovers
    assert row.unneeded[Site.RELOCATE_KERNEL] is Unneeded.FIRMWARE_OFF
