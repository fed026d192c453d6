# SPDX-License-Identifier: GPL-2.0-or-later
"""With less evidence the verdict stays or becomes unknown; it never turns into another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import KernelEvidence, Snapshot, StateEvidence
from staleline.facts import from_snapshot
from staleline.policy.catalogue import catalogue
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.vocabulary import Path, Verdict

CPUID = FilePath(__file__).parents[2] / "data" / "cpuid"
ROME = "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
MILAN = "libcpuid/amd-epyc-7763-64-core-processor-dual.test"
NEHALEM = "libcpuid/intel-xeon-cpu-e5520.test"
HYGON = "registers/hygon-c86-3250.cpuid"
DUMPS = (ROME, MILAN, NEHALEM, HYGON)
LEAVES = ((0x1, 0), (0x7, 0), (0x8000_0000, 0), (0x8000_001F, 0))


def audited(snapshot: Snapshot, policy: str) -> Audit:
    kernel = PolicyKernel(catalogue()[policy], "for this test")
    return audit(from_snapshot(snapshot), (kernel,), following=Next.ANY, paths=tuple(Path))


@st.composite
def complete_snapshots(draw: st.DrawFn) -> Snapshot:
    dump, syscfg = draw(st.sampled_from(DUMPS)), draw(st.sampled_from((0, 0x80_0000)))
    # Without SEV and firmware's consent there are no SEV guests; whether devices snoop their
    # lines on CPUs that keep aliases coherent (Milan), nothing tells.
    guests = ("yes", "no") if syscfg and dump not in (MILAN, NEHALEM) else ("no",)
    given = with_given(
        read_snapshot(CPUID / dump),
        msr=[f"0xc0010010={syscfg:#x}", "0xc0010131=0x0", "0x87=0x0"],
        cmdline=draw(st.sampled_from(("mem_encrypt=on", "mem_encrypt=off", "quiet"))),
        state=[f"sev_guests_run={draw(st.sampled_from(guests))}", "tdx_module=absent"],
    )
    return replace(given, state=replace(given.state, offline_cpus=(), reboot_force=False))


@st.composite
def with_less(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    (cpu,) = snapshot.cpus
    gone = draw(st.sets(st.sampled_from(LEAVES)))
    leaves = {key: value for key, value in cpu.cpuid.leaves.items() if key not in gone}
    msr = {} if draw(st.booleans()) else cpu.msr
    return replace(
        snapshot,
        cpus=(replace(cpu, cpuid=CpuidTable(leaves), msr=msr),),
        kernel=KernelEvidence() if draw(st.booleans()) else snapshot.kernel,
        state=StateEvidence() if draw(st.booleans()) else snapshot.state,
    )


@settings(max_examples=40)
@given(complete_snapshots(), st.sampled_from(sorted(catalogue())), st.data())
def test_dropping_evidence_never_turns_a_verdict_round(
    snapshot: Snapshot, policy: str, data: st.DataObject
) -> None:
    known = audited(snapshot, policy)
    less = audited(data.draw(with_less(snapshot)), policy)
    assert less.verdict in {known.verdict, Verdict.UNKNOWN}
    for path, verdict in less.by_path.items():
        assert verdict in {known.by_path[path], Verdict.UNKNOWN}
    if less.verdict is Verdict.UNKNOWN and known.verdict is not Verdict.UNKNOWN:
        assert less.unknown


@settings(max_examples=20)
@given(complete_snapshots(), st.sampled_from(sorted(catalogue())))
def test_complete_evidence_gives_a_verdict_on_every_handover(
    snapshot: Snapshot, policy: str
) -> None:
    found = audited(snapshot, policy)
    assert Verdict.UNKNOWN not in {row.verdict for row in found.handovers}
    for row in found.handovers:
        assert (row.verdict is Verdict.AT_RISK) is (
            row.answer is not None and row.answer.counterexample is not None
        )
