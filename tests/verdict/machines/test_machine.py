# SPDX-License-Identifier: GPL-2.0-or-later
"""Incomplete evidence describes several machines; complete evidence exactly one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from staleline import vocabulary
from staleline.errors import UsageError
from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.snapshot import Snapshot
from staleline.facts import from_snapshot
from staleline.policy.catalogue import catalogue
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.judgement import judge
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.machines.machine import Guest
from staleline.verdict.machines.possible import possible_machines
from staleline.vocabulary import Verdict

CPUID = Path(__file__).parents[2] / "data" / "cpuid"
ROME = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
MILAN = CPUID / "libcpuid/amd-epyc-7763-64-core-processor-dual.test"
NEHALEM = CPUID / "libcpuid/intel-xeon-cpu-e5520.test"
SAPPHIRE_RAPIDS = CPUID / "full/intel-xeon-w9-3475x.test.xz"
SYSCFG_ON = "0xc0010010=0x800000"
SYSCFG_OFF = "0xc0010010=0x0"


def rome(**given: object) -> Snapshot:
    return with_given(read_snapshot(ROME), **given)  # type: ignore[arg-type]


#: What only the running host tells, and a dump never.
OF_THE_HOST = {"mem_encrypt", "reboot_force", "offline"}


def assumed(snapshot: Snapshot) -> set[str]:
    found = possible_machines(from_snapshot(snapshot))
    return {name for possibility in found for name in possibility.assumed}


def running(snapshot: Snapshot) -> Snapshot:
    """The snapshot with what sysfs, release and command line of an ordinary host say.

    Without a release what no mem_encrypt= means is open (CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT).
    """
    state = replace(snapshot.state, offline_cpus=(), reboot_force=False)
    kernel = replace(
        snapshot.kernel, release="6.12.118", cmdline=snapshot.kernel.cmdline or "quiet"
    )
    return replace(snapshot, state=state, kernel=kernel)


def test_a_bare_dump_leaves_open_what_no_register_in_it_tells() -> None:
    assert assumed(rome()) == {"sme_enabled", "sev_guests_run"} | OF_THE_HOST


def test_complete_evidence_describes_one_machine() -> None:
    complete = running(rome(msr=[SYSCFG_ON], cmdline="mem_encrypt=on", state=["sev_guests_run=no"]))
    (only,) = possible_machines(from_snapshot(complete))
    assert only.assumed == {}
    assert only.machine.can_encrypt
    assert only.machine.guest is Guest.NONE


def test_without_the_firmwares_consent_nothing_else_is_open() -> None:
    # SYSCFG[23]=0: sme_enable() does not set sme_me_mask whatever the command line says
    # (linux 6.12.117 arch/x86/mm/mem_encrypt_identity.c), and SEV needs the bit as well
    # (arch/x86/kernel/cpu/amd.c early_detect_mem_encrypt()).
    (only,) = possible_machines(from_snapshot(running(rome(msr=[SYSCFG_OFF]))))
    assert not only.machine.can_encrypt
    assert not only.machine.sev_guests_run


def test_a_cpu_without_any_encryption_is_one_machine_whatever_is_missing() -> None:
    (only,) = possible_machines(from_snapshot(running(read_snapshot(NEHALEM))))
    assert only.machine.sme_bit_unchecked
    assert not only.machine.sme_supported
    assert not only.machine.tdx_used


def test_tdx_stays_open_on_a_cpu_that_may_have_keyids() -> None:
    assert assumed(running(read_snapshot(SAPPHIRE_RAPIDS))) == {"tdx_host_enabled", "tdx_used"}


@pytest.mark.parametrize(
    ("module", "used"),
    [
        ("initialized", {True}),
        # linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c init_tdx_module() makes many SEAMCALLs before it
        # can fail, and where the module may have written memory flushes all CPUs.
        ("failed", {False, True}),
        ("not-initialized", {False}),
        ("absent", {False}),
    ],
)
def test_an_initialisation_of_the_tdx_module_that_failed_proves_no_line_of_its_keys(
    module: str, used: set[bool]
) -> None:
    given = with_given(
        read_snapshot(SAPPHIRE_RAPIDS), msr=["0x87=0x4000000020"], state=[f"tdx_module={module}"]
    )
    possible = possible_machines(from_snapshot(running(given)))
    assert {one.machine.tdx_used for one in possible} == used


def test_a_word_about_the_tdx_module_that_means_nothing_here_leaves_it_open() -> None:
    snapshot = with_given(read_snapshot(SAPPHIRE_RAPIDS), msr=["0x87=0x4000000020"])
    told = replace(snapshot, state=replace(snapshot.state, tdx_module="yes"))
    assert assumed(running(told)) == {"tdx_used"}


def test_the_user_cannot_give_such_a_word() -> None:
    with pytest.raises(UsageError, match="tdx_module=initialized"):
        with_given(read_snapshot(SAPPHIRE_RAPIDS), state=["tdx_module=yes"])


@pytest.mark.parametrize(
    ("status", "guest"),
    [(0, Guest.PLAIN), (1, Guest.SEV), (3, Guest.SEV_ES), (7, Guest.SNP)],
)
def test_the_kind_of_guest_is_read_from_sev_status(status: int, guest: Guest) -> None:
    snapshot = read_snapshot(MILAN)
    (cpu, *_) = snapshot.cpus
    leaves = dict(cpu.cpuid.leaves)
    eax, ebx, ecx, edx = leaves[1, 0]
    leaves[1, 0] = (eax, ebx, ecx | 1 << 31, edx)  # the hypervisor bit
    virtual = Snapshot(cpus=(type(cpu)(type(cpu.cpuid)(leaves)),))
    given = with_given(virtual, msr=[f"0xc0010131={status}"])
    kinds = {p.machine.guest for p in possible_machines(from_snapshot(given))}
    assert kinds == {guest}
    assert guest.wbinvd_faults is (guest in {Guest.SEV_ES, Guest.SNP})


@pytest.mark.parametrize("kernel", ["linux-6.5", "linux-7.2", "unconditional"])
def test_no_rule_is_safe_or_at_risk_in_a_guest_whose_aliases_are_hidden(kernel: str) -> None:
    # linux 7.3.4 arch/x86/hyperv/ivm.c:859 hv_vtom_init(): shared pages lie above vTOM or bear
    # TDX's bit, and neither register shows it.
    known = possible_machines(from_snapshot(running(read_snapshot(NEHALEM))))[0].machine
    guest = replace(known, hypervisor=True, isolated=True)
    behaviour = PolicyKernel(catalogue()[kernel], "the policy itself").behaviour(guest)
    case = Case(machine=guest, behaviour=behaviour, path=vocabulary.Path.KEXEC, next_encrypts=False)
    assert judge(case).verdict is Verdict.UNKNOWN
    assert {reason.id for reason in judge(case).unknown} == {"unknown-guest-aliases"}


def test_a_cpu_that_entered_the_tdx_module_used_it() -> None:
    snapshot = with_given(
        read_snapshot(SAPPHIRE_RAPIDS), msr=["0x87=0x4000000020"], state=["seamcalled_cpus=3"]
    )
    assert assumed(running(snapshot)) == set()
    assert possible_machines(from_snapshot(running(snapshot)))[0].machine.tdx_used
