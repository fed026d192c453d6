# SPDX-License-Identifier: GPL-2.0-or-later
"""Why no stale line required a flush: the widest reason that holds, by the machine and the path."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from staleline.model.scenario import Flush
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.kernels import Behaviour
from staleline.verdict.handover.reasons import Unneeded, in_all_worlds, why_safe, why_unneeded
from staleline.verdict.machines.machine import Machine
from staleline.verdict.policies.platforms import platforms
from staleline.vocabulary import Path, ReportOrder, Site

STOP, JUMP = Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL


def case(
    platform: str, *, old: bool = False, following: bool = False, path: Path = Path.KEXEC
) -> Case:
    return on(platforms()[platform].machine, old=old, following=following, path=path)


def on(
    machine: Machine, *, old: bool = False, following: bool = False, path: Path = Path.KEXEC
) -> Case:
    behaviour = Behaviour(
        flushes=dict.fromkeys(Site, Flush.ALWAYS),
        report=ReportOrder.AFTER_FLUSH,
        sme_active=old,
        seamcalls=True,
    )
    return Case(machine=machine, behaviour=behaviour, path=path, next_encrypts=following)


@pytest.mark.parametrize(
    ("handover", "reason"),
    [
        # A plain guest's caches are its hypervisor's, whatever its CPUID shows it.
        (case("guest-plain"), Unneeded.IN_GUEST),
        (case("amd-no-sme"), Unneeded.NO_ENCRYPTION),
        (case("intel-no-tdx"), Unneeded.NO_ENCRYPTION),
        # CPUID 0x8000001F EAX[10] goes before what firmware or kernels do.
        (case("amd-sme-coherent", old=True, following=True), Unneeded.COHERENT),
        (case("amd-sme-incoherent"), Unneeded.OFF_TO_OFF),
        (case("amd-sme-incoherent", old=True, path=Path.CRASH), Unneeded.CRASH_KERNEL),
        (case("amd-sme-incoherent", old=True), Unneeded.WRITTEN_BACK),
    ],
    ids=str,
)
def test_the_reason_of_a_secondary(handover: Case, reason: Unneeded) -> None:
    assert why_unneeded(handover, handover.path.secondaries_site) is reason


def test_the_next_kernels_own_flush_covers_the_jumping_cpu_only() -> None:
    # __enc_copy() runs on one CPU (linux 7.3.4 arch/x86/mm/mem_encrypt_boot.S:124).
    handover = case("amd-sme-incoherent", following=True)
    assert why_unneeded(handover, JUMP) is Unneeded.ENC_COPY
    assert why_unneeded(handover, STOP) is Unneeded.WRITTEN_BACK


def test_without_syscfg_23_the_c_bit_is_not_honoured() -> None:
    # AMD APM volume 2, 7.10.1: SMEE, bit 23 of SYSCFG, enables it.
    off = replace(platforms()["amd-sme-incoherent"].machine, sme_enabled=False)
    assert why_unneeded(on(off), STOP) is Unneeded.FIRMWARE_OFF


def test_with_tsme_all_lines_have_one_key_that_caches_do_not_see() -> None:
    tsme = replace(platforms()["amd-sme-incoherent"].machine, tsme=True)
    assert why_unneeded(on(tsme), STOP) is Unneeded.TSME
    assert why_unneeded(on(tsme, old=True), STOP) is not Unneeded.TSME


def test_one_cpu_has_no_secondary_that_could_flush() -> None:
    alone = replace(platforms()["amd-sme-incoherent"].machine, several_cpus=False)
    assert why_unneeded(on(alone, old=True), STOP) is Unneeded.NO_SECONDARY
    assert why_unneeded(on(alone, old=True), JUMP) is Unneeded.WRITTEN_BACK


def test_safe_by_flushes_says_whose() -> None:
    handover = case("amd-sme-incoherent", old=True)
    assert "executed by the secondaries and the jumping CPU" in why_safe(handover, {STOP, JUMP})
    assert "executed by the jumping CPU" in why_safe(handover, {JUMP})
    assert why_safe(handover, set()) is why_unneeded(handover, STOP)


def test_worlds_that_agree_have_one_reason_and_others_name_each() -> None:
    assert in_all_worlds([Unneeded.COHERENT, Unneeded.COHERENT]) is Unneeded.COHERENT
    either = in_all_worlds([Unneeded.COHERENT, Unneeded.OFF_TO_OFF, Unneeded.COHERENT])
    assert either == f"{Unneeded.COHERENT}; or {Unneeded.OFF_TO_OFF}"
    assert either.id == "unneeded-either"


GUESTS = {
    "sev": {"sev_guest": True},
    "sev-es": {"sev_guest": True, "sev_es_guest": True},
    "snp": {"sev_guest": True, "sev_es_guest": True, "snp_guest": True},
    "tdx": {"tdx_guest": True},
}


@pytest.mark.parametrize(
    ("guest", "reason"),
    [
        ("sev", Unneeded.COHERENT),
        ("sev-es", Unneeded.COHERENT),
        # EBX[31] is wanted too (linux 7.3.4 arch/x86/coco/sev/core.c:234).
        ("snp", Unneeded.GUEST_COHERENT),
        # No leaf tells (linux 7.3.4 arch/x86/coco/tdx/tdx.c).
        ("tdx", Unneeded.GUEST_COHERENT),
    ],
)
def test_whose_bit_tells_that_an_encrypted_guests_aliases_are_coherent(
    guest: str, reason: Unneeded
) -> None:
    changes: dict[str, Any] = GUESTS[guest]
    machine = replace(platforms()["guest-plain"].machine, **changes)
    assert why_unneeded(on(machine, old=True, following=True), STOP) is reason


def test_no_reason_of_an_intel_machine_names_what_only_amds_have() -> None:
    of_intel = [at.machine for at in platforms().values() if at.machine.vendor == "GenuineIntel"]
    machines = [*of_intel, *(replace(machine, several_cpus=False) for machine in of_intel)]
    assert len({machine.guest for machine in machines}) >= 2
    assert any(machine.tdx_used for machine in machines)
    for machine, path in product(machines, Path):
        for site in (path.secondaries_site, JUMP):
            reason = why_unneeded(on(machine, path=path), site)
            for of_amd in ("C-bit", "SYSCFG", "0x8000001F", "TSME", "__enc_copy"):
                assert of_amd not in reason


@pytest.mark.parametrize("site", [Site.CRASH_NMI_CALLBACK, JUMP])
def test_where_guests_have_run_neither_kernels_c_bit_says_that_a_line_has_one_alias(
    site: Site,
) -> None:
    # Guests' lines stay under their keys; the crash kernel meets none of them in its reservation.
    ran = replace(platforms()["amd-sme-incoherent"].machine, sev_guests_run=True)
    assert why_unneeded(on(ran, path=Path.CRASH), site) is Unneeded.CRASH_KERNEL
    tsme = replace(ran, tsme=True)
    assert why_unneeded(on(tsme, path=Path.CRASH), site) is Unneeded.CRASH_KERNEL
