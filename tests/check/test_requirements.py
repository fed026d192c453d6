# SPDX-License-Identifier: GPL-2.0-or-later
"""Which flushes the model requires, against what kernel and hardware sources say.

The expectations are the coverage of the conflicting lines per transition as it follows from
where Linux executes WBINVD: stop_this_cpu (7.3 arch/x86/kernel/process.c:841),
relocate_kernel (7.3 arch/x86/kernel/relocate_kernel_64.S:225), __enc_copy on the boot CPU
only (7.3 arch/x86/mm/mem_encrypt_boot.S:124), trampoline_start (trampoline_64.S:63).
"""

from __future__ import annotations

import pytest

from staleline.check.requirements import required_flushes
from staleline.model.scenario import Flush, ForeignLines
from staleline.model.state.lines import Role
from staleline.vocabulary import Site
from tests.check.scenarios import TRANSITIONS, crash, kexec

SECONDARIES = Site.STOP_THIS_CPU
JUMPING = Site.RELOCATE_KERNEL


@pytest.mark.parametrize(
    ("transition", "needed"),
    [
        # One alias per line: nothing can be stale.
        ("off→off", set()),
        # __enc_copy flushes the boot CPU, and no other (Tom Lendacky, LKML 2023-11-28).
        ("off→on", {SECONDARIES}),
        # C-bit lines against the plain image: comment in relocate_kernel_64.S:209.
        ("on→off", {SECONDARIES, JUMPING}),
        # The next kernel is plain until it has encrypted itself.
        ("on→on", {SECONDARIES, JUMPING}),
    ],
)
def test_kexec_on_incoherent_hardware(transition: str, needed: set[Site]) -> None:
    requirements = required_flushes(kexec(transition))
    assert requirements.needed == needed
    assert requirements.unneeded == {SECONDARIES, JUMPING} - needed


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("foreign", [ForeignLines.NONE, ForeignLines.SEV_GUESTS])
def test_enforced_coherency_needs_no_flush(transition: str, foreign: ForeignLines) -> None:
    requirements = required_flushes(kexec(transition, incoherent=False, foreign=foreign))
    assert requirements.unneeded == {SECONDARIES, JUMPING}


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_guests_leave_lines_on_every_cpu_even_if_the_host_does_not_encrypt(
    transition: str,
) -> None:
    # Guest-ASID lines are not coherent across the VM boundary (commit 683412ccf612).
    requirements = required_flushes(kexec(transition, foreign=ForeignLines.SEV_GUESTS))
    assert requirements.needed == {SECONDARIES, JUMPING}


def test_tdx_needs_a_flush_on_every_cpu_that_made_a_seamcall() -> None:
    # Commit 10df8607bf1a (v6.18): private lines exist on CPUs that made SEAMCALLs.
    requirements = required_flushes(kexec("off→off", foreign=ForeignLines.TDX))
    assert requirements.needed == {SECONDARIES, JUMPING}


def test_a_crash_between_kernels_without_encryption_needs_no_flush() -> None:
    requirements = required_flushes(crash("off→off"))
    assert requirements.unneeded == {Site.CRASH_NMI_CALLBACK, JUMPING}


def test_the_vmcoreinfo_copy_needs_both_flushes_where_only_the_old_kernel_encrypts() -> None:
    # Stored through vmap(PAGE_KERNEL) by the CPU that loads (7.3 kernel/crash_core.c:76,83), and
    # again by the CPU that crashes (kernel/crash_core.c:142, kernel/vmcore_info.c:109).
    requirements = required_flushes(crash("on→off"))
    assert requirements.needed == {Site.CRASH_NMI_CALLBACK, JUMPING}
    others = frozenset(Role) - {Role.CRASH_VMCOREINFO}
    assert required_flushes(crash("on→off"), others).minimal == (frozenset(),)


@pytest.mark.parametrize("transition", ["off→on", "on→on"])
def test_a_crash_kernel_that_encrypts_needs_the_secondaries_flush(transition: str) -> None:
    # Control pages are written plain by the CPU that loads the crash kernel, and are never
    # converted back (7.3 kernel/kexec_core.c:457), so nothing flushes them; segments are
    # converted back, and so flushed, only if the old kernel encrypts (machine_kexec_64.c:688).
    requirements = required_flushes(crash(transition))
    assert requirements.needed == {Site.CRASH_NMI_CALLBACK}
    assert requirements.unneeded == {JUMPING}


@pytest.mark.parametrize("transition", ["off→off", "off→on", "on→on"])
def test_once_the_load_has_settled_a_crash_needs_no_flush(transition: str) -> None:
    requirements = required_flushes(crash(transition, load_settled=True))
    assert requirements.unneeded == {Site.CRASH_NMI_CALLBACK, JUMPING}


def test_no_time_settles_what_the_crashing_cpu_stores_to_vmcoreinfo() -> None:
    # CRASHTIME, in crash_save_vmcoreinfo() (7.3 kernel/vmcore_info.c:93).
    requirements = required_flushes(crash("on→off", load_settled=True))
    assert requirements.needed == {JUMPING}
    assert requirements.unneeded == {Site.CRASH_NMI_CALLBACK}


@pytest.mark.parametrize("transition", ["on→off", "on→on"])
def test_without_the_flush_at_load_no_flush_in_the_crash_comes_early_enough(
    transition: str,
) -> None:
    # The old kernel's C-bit lines may be written back over the loaded crash kernel at any
    # time between loading and crash.
    assert not required_flushes(crash(transition, flush_at_load=False)).attainable


def test_where_wbinvd_faults_only_doing_without_is_safe() -> None:
    requirements = required_flushes(kexec("on→on", incoherent=False, flush_faults=True))
    assert requirements.safe == (frozenset(),)
    assert requirements.unneeded == {SECONDARIES, JUMPING}


def test_if_no_set_of_flushes_is_safe_nothing_is_called_needed_or_unneeded() -> None:
    # Aliases that need a flush where a flush faults.
    requirements = required_flushes(
        kexec("off→off", foreign=ForeignLines.SEV_GUESTS, flush_faults=True)
    )
    assert not requirements.attainable
    assert requirements.minimal == ()
    assert requirements.needed == requirements.unneeded == frozenset()


def test_the_flushes_of_the_scenario_itself_do_not_matter() -> None:
    never = kexec("on→off", flush_secondary=Flush.NEVER, flush_jumping=Flush.NEVER)
    assert required_flushes(never) == required_flushes(kexec("on→off"))
