# SPDX-License-Identifier: GPL-2.0-or-later
"""With crashkernel=,cma a crash kernel is not confined to its reservation, as the model has it.

Observed on the simulated machine: docs/findings/crashkernel-cma-is-not-flushed.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.snapshot import KernelEvidence, Snapshot
from staleline.facts import from_snapshot
from staleline.facts.told.commandline import crash_kernel_borrows
from staleline.policy.catalogue import catalogue
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.handover.borrowing import KernelWithBorrowedMemory
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.judgement import judge
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.machines.possible import possible_machines
from staleline.verdict.policies.platforms import platforms
from staleline.vocabulary import Path, Verdict

CPUID = FilePath(__file__).parents[2] / "data" / "cpuid" / "libcpuid"
RULE = PolicyKernel(catalogue()["linux-7.2"], "for this test")


def rome(cmdline: str) -> Snapshot:
    dump = read_snapshot(CPUID / "amd-epyc-7742-64-core-processor-dual.test")
    state = ["sev_guests_run=no", "offline_cpus=none", "reboot_force=no"]
    return with_given(dump, msr=["0xc0010010=0x800000"], cmdline=cmdline, state=state)


def audited(machine: Snapshot, following: Next) -> Audit:
    facts = from_snapshot(machine)
    return audit(facts, (RULE,), following=following, paths=(Path.CRASH,))


@pytest.mark.parametrize(
    ("cmdline", "borrows"),
    [
        ("crashkernel=256M crashkernel=128M,cma", True),
        ("crashkernel=128M,cma crashkernel=256M quiet", True),
        # get_last_crashkernel() looks for the name alone (linux 7.3.4 kernel/crash_reserve.c:191).
        ('"crashkernel=128M,cma quiet"', True),
        ("xcrashkernel=128M,cma", True),
        ("crashkernel=256M", False),
        ("crashkernel=256M,high crashkernel=72M,low", False),
        ("crashkernel=2G-:256M cma=64M", False),
        ("crashkernel=128M,cmax", False),
    ],
)
def test_what_the_command_line_tells(cmdline: str, borrows: bool) -> None:
    assert crash_kernel_borrows(KernelEvidence(cmdline=cmdline)).value is borrows


def test_without_a_command_line_it_is_not_known() -> None:
    assert crash_kernel_borrows(KernelEvidence()).value is None


def test_what_a_crash_comes_to_once_its_image_has_settled_is_not_known() -> None:
    """At load its image's lines are at risk; `preflight` can be told to put up with them."""
    plain = "mem_encrypt=off crashkernel=256M"
    for cmdline, modelled in ((plain, True), (f"{plain} crashkernel=128M,cma", False)):
        judged = audited(rome(cmdline), Next.ON)
        assert judged.verdict is Verdict.AT_RISK
        assert {row.is_modelled for row in judged.handovers} == {modelled}


def test_where_the_kernels_use_different_aliases_a_settled_crash_is_not_safe() -> None:
    (possibility,) = possible_machines(from_snapshot(rome("mem_encrypt=off")))
    machine = possibility.machine
    behaviour = RULE.behaviour(machine)
    case = Case(
        machine=machine,
        behaviour=behaviour,
        path=Path.CRASH,
        next_encrypts=True,
        load_settled=True,
    )
    assert judge(case).verdict is Verdict.SAFE
    for missing, text in ((None, "what the caches hold"), ("give it", "whether crashkernel=,cma")):
        lending = KernelWithBorrowedMemory(RULE, missing).behaviour(machine)
        judged = judge(replace(case, behaviour=lending))
        assert judged.verdict is Verdict.UNKNOWN
        (reason,) = judged.unknown
        assert (reason.id, reason.startswith(text)) == ("crash-kernel-borrows", True)


def test_a_crash_is_no_surer_without_a_command_line() -> None:
    """Of `mem_encrypt=` the boot parameters may tell as well (6.12 asm/bootparam.h:27)."""
    machine = rome("mem_encrypt=off")
    untold = replace(machine, kernel=KernelEvidence(release="7.3.4", xloadflags=0))
    for evidence, modelled in ((machine, True), (untold, False)):
        judged = audited(evidence, Next.ON)
        assert {row.is_modelled for row in judged.handovers} == {modelled}


def test_where_neither_kernel_encrypts_there_is_one_alias() -> None:
    cmdline = "mem_encrypt=off crashkernel=256M crashkernel=128M,cma"
    assert audited(rome(cmdline), Next.OFF).verdict is Verdict.SAFE


@pytest.mark.parametrize("guest", ["guest-sev", "guest-sev-es", "guest-snp", "guest-tdx"])
def test_every_encrypted_guest_has_two_aliases_of_such_memory(guest: str) -> None:
    """A page that a process has may have been shared with the host before."""
    aliases = {"coherency_enforced": False, "guest_aliases_coherent": False}
    machine = replace(platforms()[guest].machine, **aliases)  # type: ignore[arg-type]
    for kernel, verdict in (
        (RULE, Verdict.SAFE),
        (KernelWithBorrowedMemory(RULE), Verdict.UNKNOWN),
    ):
        case = Case(
            machine=machine,
            behaviour=kernel.behaviour(machine),
            path=Path.CRASH,
            next_encrypts=machine.sev_guest,
        )
        assert judge(case).verdict is verdict


def test_what_is_at_risk_without_such_memory_stays_so() -> None:
    cmdline = "mem_encrypt=on crashkernel=256M"
    assert audited(rome(cmdline), Next.OFF).verdict is Verdict.AT_RISK
    assert audited(rome(f"{cmdline} crashkernel=9M,cma"), Next.OFF).verdict is Verdict.AT_RISK


def test_a_processor_without_encryption_has_one_alias() -> None:
    nehalem = with_given(
        read_snapshot(CPUID / "intel-xeon-cpu-e5520.test"),
        cmdline="crashkernel=256M crashkernel=128M,cma",
    )
    assert audited(nehalem, Next.ANY).verdict is Verdict.SAFE
