# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model is asked of a handover: every way in which what is unknown may turn out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.boot.decision import OfflineWay, SiteDecision, Store
from staleline.model.scenario import Flush, ForeignLines, LeftBehind, Offline, Scenario, Stop
from staleline.policy.catalogue import catalogue
from staleline.policy.expression import parse
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.judgement import judge
from staleline.verdict.handover.kernels import Behaviour, PolicyKernel
from staleline.verdict.machines.machine import Machine
from staleline.verdict.policies.platforms import platforms
from staleline.vocabulary import Path, ReportOrder, Site, Through, Verdict

#: SME with SYSCFG[23] set, and aliases that hardware does not keep coherent.
ROME = replace(platforms()["amd-sme-incoherent"].machine, mem_encrypt=True)
FLUSHES = Behaviour(
    flushes=dict.fromkeys(Site, Flush.ALWAYS),
    report=ReportOrder.AFTER_FLUSH,
    sme_active=True,
    seamcalls=True,
)


def scenarios(
    behaviour: Behaviour = FLUSHES, machine: Machine = ROME, path: Path = Path.KEXEC
) -> list[Scenario]:
    case = Case(machine=machine, behaviour=behaviour, path=path, next_encrypts=False)
    return list(case.scenarios())


def test_what_is_known_is_one_question() -> None:
    (only,) = scenarios()
    assert (only.old_encrypts, only.next_encrypts, only.incoherent) == (True, False, True)
    assert (only.flush_secondary, only.flush_jumping) == (Flush.ALWAYS, Flush.ALWAYS)


def test_a_flush_that_is_not_known_is_tried_both_ways() -> None:
    unknown = replace(FLUSHES, flushes={**FLUSHES.flushes, Site.RELOCATE_KERNEL: None})
    assert [each.flush_jumping for each in scenarios(unknown)] == [Flush.NEVER, Flush.ALWAYS]


def test_a_flush_before_a_seamcall_alone_reaches_no_line_of_another_key() -> None:
    """Lines of TDX are in the caches of CPUs that made a SEAMCALL, which such a rule leaves out."""
    machine = replace(platforms()["intel-tdx"].machine, tdx_used=True)
    rules = {site: parse("not seamcalled") for site in Site}
    kernel = PolicyKernel(replace(catalogue()["linux-6.18"], predicates=rules), "for this test")
    behaviour = kernel.behaviour(machine)
    assert set(behaviour.flushes.values()) == {Flush.NEVER}
    case = Case(machine=machine, behaviour=behaviour, path=Path.KEXEC, next_encrypts=False)
    assert judge(case).verdict is Verdict.AT_RISK
    unused = replace(machine, tdx_used=False)
    assert set(kernel.behaviour(unused).flushes.values()) == {Flush.ALWAYS}


def test_an_order_that_is_not_known_is_tried_both_ways_where_there_is_a_flush() -> None:
    unknown = replace(FLUSHES, report=None)
    assert [each.report for each in scenarios(unknown)] == list(ReportOrder)
    never = replace(unknown, flushes=dict.fromkeys(Site, Flush.NEVER))
    assert [each.report for each in scenarios(never)] == [ReportOrder.AFTER_FLUSH]


def test_in_a_crash_the_report_is_behind_the_callback() -> None:
    # crash_nmi_callback() counts waiting_for_crash_ipi down behind shootdown_callback()
    # (linux 5.10.223 and 7.3.4 arch/x86/kernel/reboot.c).
    early = replace(FLUSHES, report=ReportOrder.BEFORE_FLUSH)
    (only,) = scenarios(early, path=Path.CRASH)
    assert only.report is ReportOrder.AFTER_FLUSH


def test_reboot_force_stops_nobody_on_a_kexec_alone() -> None:
    # native_stop_other_cpus() returns at once (linux 7.3.4 arch/x86/kernel/smp.c:155);
    # nmi_shootdown_cpus() does not ask for it (reboot.c:864).
    forced = replace(ROME, reboot_force=True)
    assert [each.stop for each in scenarios(machine=forced)] == [Stop.SKIPPED]
    assert [each.stop for each in scenarios(machine=forced, path=Path.CRASH)] == [Stop.COMPLETE]


@pytest.mark.parametrize(
    ("path", "stops", "ways"),
    [
        (Path.KEXEC, False, {Stop.SKIPPED}),
        (Path.KEXEC, None, {Stop.COMPLETE, Stop.SKIPPED}),
        # The wait for those that take no NMI ends after a second (reboot.c:895).
        (Path.CRASH, False, {Stop.COMPLETE, Stop.GIVES_UP}),
        (Path.CRASH, None, {Stop.COMPLETE, Stop.GIVES_UP}),
    ],
)
def test_a_kernel_that_may_stop_nobody(path: Path, stops: bool | None, ways: set[Stop]) -> None:
    behaviour = replace(FLUSHES, stops={path: stops})
    assert {each.stop for each in scenarios(behaviour, path=path)} == ways


def test_one_cpu_has_no_secondaries_and_nobody_to_stop() -> None:
    alone = replace(ROME, several_cpus=False, reboot_force=True)
    (only,) = scenarios(machine=alone)
    assert (only.secondaries, only.stop) == (0, Stop.COMPLETE)


def test_offline_cpus_may_be_woken_only_where_all_of_it_comes_together() -> None:
    # smp_kick_mwait_play_dead() is called by a kexec that stops CPUs (smp.c:165).
    clean = SiteDecision(flushes=True)
    state = Store(0, 0, 8, Through.OWN, "per-CPU mwait_cpu_dead", "mwait_play_dead")
    by_mwait = OfflineWay("MWAIT", clean, replace(clean, stores=(state,)), by_mwait=True)
    waking = replace(FLUSHES, offline=(OfflineWay("HLT", clean), by_mwait))
    offline = replace(ROME, offline=True)
    both = [Offline.NONE, Offline.WOKEN]
    assert [each.offline for each in scenarios(waking, offline)] == both
    for behaviour, machine, path in (
        (FLUSHES, offline, Path.KEXEC),
        (waking, ROME, Path.KEXEC),
        (waking, replace(offline, mwait=False), Path.KEXEC),
        (waking, replace(offline, reboot_force=True), Path.KEXEC),
        (waking, offline, Path.CRASH),
    ):
        assert {each.offline for each in scenarios(behaviour, machine, path)} == {Offline.NONE}


@pytest.mark.parametrize(
    ("through", "left"),
    [
        ((), LeftBehind.NONE),
        ((Through.OWN,), LeftBehind.KERNEL),
        ((Through.PLAIN,), LeftBehind.PLAIN),
        ((Through.OWN, Through.PLAIN), LeftBehind.BOTH),
    ],
)
def test_what_is_left_behind_is_told_by_its_aliases(
    through: tuple[Through, ...], left: LeftBehind
) -> None:
    stores = tuple(
        Store(0x1000 * number, 0x1000 * number, 8, alias, "a line", "some code")
        for number, alias in enumerate(through)
    )
    behaviour = replace(FLUSHES, left_behind={Site.STOP_THIS_CPU: stores})
    (only,) = scenarios(behaviour)
    assert (only.left_by_secondary, only.left_by_jumping) == (left, LeftBehind.NONE)


@pytest.mark.parametrize(
    ("change", "path", "incoherent"),
    [
        ({}, Path.KEXEC, True),
        ({"coherency_enforced": True}, Path.KEXEC, False),
        ({"sme_enabled": False}, Path.KEXEC, False),
        ({"hypervisor": True}, Path.KEXEC, False),
        # EAX[10] is about CPUs; KVM flushes for devices in spite of it (linux 6.12.118
        # arch/x86/kvm/svm/sev.c:3203). A crash kernel stays where guests never were.
        (
            {"coherency_enforced": True, "sev_guests_run": True, "guest_keys_snooped": False},
            Path.KEXEC,
            True,
        ),
        (
            {"coherency_enforced": True, "sev_guests_run": True, "guest_keys_snooped": False},
            Path.CRASH,
            False,
        ),
    ],
    ids=str,
)
def test_when_a_line_can_have_two_incoherent_aliases(
    change: dict[str, bool], path: Path, incoherent: bool
) -> None:
    (only,) = scenarios(machine=replace(ROME, **change), path=path)  # type: ignore[arg-type]
    assert only.incoherent is incoherent


def test_a_kernel_without_the_code_for_tdx_has_no_lines_of_it() -> None:
    used = replace(platforms()["intel-tdx"].machine)
    plain = replace(FLUSHES, sme_active=False)
    assert {each.foreign for each in scenarios(plain, used)} == {ForeignLines.TDX}
    without = replace(plain, seamcalls=False)
    assert {each.foreign for each in scenarios(without, used)} == {ForeignLines.NONE}


def test_in_an_encrypted_guest_both_kernels_are_encrypted_and_its_hypervisor_flushes() -> None:
    guest = replace(
        ROME, hypervisor=True, sme_enabled=False, sev_guest=True, guest_aliases_coherent=False
    )
    (only,) = scenarios(replace(FLUSHES, sme_active=False), guest)
    assert (only.guest, only.old_encrypts, only.next_encrypts) == (True, True, True)
    assert (only.incoherent, only.flush_jumping) == (True, Flush.ALWAYS)
    # KVM executes it only where a device does not snoop (linux 6.12.118 arch/x86/kvm/x86.c
    # kvm_emulate_wbinvd_noskip()).
    unheard = replace(guest, guest_flushes=False)
    (only,) = scenarios(replace(FLUSHES, sme_active=False), unheard)
    assert (only.flush_secondary, only.flush_jumping) == (Flush.NEVER, Flush.NEVER)
