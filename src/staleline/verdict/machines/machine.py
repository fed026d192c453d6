# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with nothing left unknown: everything that a handover's verdict can depend on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import attrgetter
from typing import Final

from staleline.policy.atoms import AtomValue

__all__ = ["UNSEEN", "Guest", "Machine"]

#: Fields that a kernel's rule does not ask for, nor its code: with them it does the same.
UNSEEN: Final = frozenset(
    {"sev_guests_run", "several_cpus", "mwait", "reboot_force", "jumped_by_kernel", "isolated"}
    | {"guest_keys_snooped", "guest_aliases_coherent", "guest_flushes"}
)


class Guest(StrEnum):
    """What kind of virtual machine this is, if it is one."""

    NONE = "none"
    PLAIN = "plain"
    SEV = "sev"
    SEV_ES = "sev-es"
    SNP = "snp"
    TDX = "tdx"

    @property
    def wbinvd_faults(self) -> bool:
        """WBINVD raises #VC in SEV-ES and SNP guests and #VE in TDX guests."""
        # #VC is handled in stop_this_cpu() but not in relocate_kernel(), which runs without an IDT;
        # #VE is never handled (LKML March 2024, replies to "TDX host: kexec support" v2; linux
        # 6.12.117 arch/x86/coco/sev/core.c, arch/x86/coco/tdx/tdx.c).
        return self in {Guest.SEV_ES, Guest.SNP, Guest.TDX}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Everything that a handover's verdict can depend on, all known.

    Names follow the policies' atoms; ``mem_encrypt`` is the command line's choice and
    ``tdx_used``/``sev_guests_run`` say whether another key's lines can be in the caches.
    No verdict depends on ``tsme``; it is there to be named as a reason.

    Attributes:
        guest_keys_snooped: Device writes take lines of guest keys out of the caches. No register
            says so: EAX[10] is about CPUs, and KVM flushes such pages for devices even where it
            is set (linux 6.12.118 arch/x86/kvm/svm/sev.c:3203).
        guest_aliases_coherent: In an encrypted guest, the private and the shared alias of a line
            are coherent.
        guest_flushes: In an encrypted guest, WBINVD reaches the caches. KVM executes it on the
            guest's behalf only where a device does not snoop (linux 6.12.118
            arch/x86/kvm/x86.c kvm_emulate_wbinvd_noskip()).
        several_cpus: There are secondaries.
        offline: CPUs are present and not online.
        mwait: The CPU has MONITOR and MWAIT, in which an offline CPU may wait.
        jumped_by_kernel: The old kernel itself jumps, not a hypervisor that it asks to.
        isolated: Hyper-V keeps the guest's memory private, and hides by which means.
    """

    vendor: str
    max_extended_leaf: int
    sme_supported: bool
    sev_supported: bool
    sme_bit_unchecked: bool
    coherency_enforced: bool
    hypervisor: bool
    sme_enabled: bool
    snp_host: bool
    tdx_host_enabled: bool
    sev_guest: bool
    sev_es_guest: bool
    snp_guest: bool
    tdx_guest: bool
    mem_encrypt: bool
    reboot_force: bool
    sev_guests_run: bool
    tdx_used: bool
    tsme: bool
    guest_keys_snooped: bool = True
    guest_aliases_coherent: bool = True
    guest_flushes: bool = True
    several_cpus: bool = True
    offline: bool = False
    mwait: bool = True
    jumped_by_kernel: bool = True
    isolated: bool = False

    @property
    def guest(self) -> Guest:
        """The kind of guest, from the strongest isolation down."""
        # SEV_STATUS has a bit for each level, and the higher ones stand beside the lower (AMD APM
        # volume 2, 15.34.10).
        if self.tdx_guest:
            return Guest.TDX
        if self.snp_guest:
            return Guest.SNP
        if self.sev_es_guest:
            return Guest.SEV_ES
        if self.sev_guest:
            return Guest.SEV
        return Guest.PLAIN if self.hypervisor else Guest.NONE

    @property
    def seen(self) -> Hashable:
        """All that what a kernel does can depend on."""
        return _SEEN(self)

    @property
    def circumstances(self) -> tuple[Hashable, ...]:
        """All that the judgement of a handover here depends on, but for what the kernel does."""
        return (
            self.guest,
            self.sev_guest,
            self.sme_supported or self.sev_supported,
            self.sme_enabled,
            self.coherency_enforced,
            self.sev_guests_run,
            self.tdx_used,
            self.tsme,
            self.guest_keys_snooped,
            self.guest_aliases_coherent,
            self.guest_flushes,
            self.several_cpus,
            self.reboot_force,
            self.offline,
            self.offline and self.mwait,
            self.jumped_by_kernel,
            self.isolated,
        )

    @property
    def can_encrypt(self) -> bool:
        """Would a kernel booted with mem_encrypt=on use SME here?"""
        capable = self.sme_supported or self.sev_supported
        # The condition of sme_enable() (linux 6.12.117 arch/x86/mm/mem_encrypt_identity.c): a
        # capability bit, no hypervisor, and SYSCFG[23]; the vendor is not asked.
        return capable and self.sme_enabled and not self.hypervisor

    @property
    def activates_sme(self) -> bool:
        """Does a kernel with this command line encrypt its memory as a host?"""
        return self.can_encrypt and self.mem_encrypt and not self.sev_guest

    @property
    def only_use(self) -> bool | None:
        """Of the C-bit, where no kernel has a choice; None where it has one."""
        # In a guest the hypervisor encrypts; on a host no kernel can use what is not there.
        return True if self.sev_guest else None if self.can_encrypt else False

    @property
    def guest_encrypts(self) -> bool:
        """Does the hypervisor's choice, and no kernel's, keep this guest's memory encrypted?"""
        return self.guest not in {Guest.NONE, Guest.PLAIN}

    def atoms(self, *, seamcalled: bool) -> Mapping[str, AtomValue]:
        """Values for a policy's predicates on one CPU of this machine."""
        return {
            "vendor": self.vendor,
            "max_extended_leaf": self.max_extended_leaf,
            "sme_supported": self.sme_supported,
            "sev_supported": self.sev_supported,
            "sme_bit_unchecked": self.sme_bit_unchecked,
            "hypervisor": self.hypervisor,
            "sme_enabled": self.sme_enabled,
            "tdx_host_enabled": self.tdx_host_enabled,
            "sev_guest": self.sev_guest,
            "sev_es_guest": self.sev_es_guest,
            "tdx_guest": self.tdx_guest,
            "mem_encrypt": self.mem_encrypt,
            # What a kernel derives itself takes this one's place where it is known to differ
            # (`Policy.encrypts`).
            "sme_active": self.activates_sme,
            # bsp_determine_snp() takes CC_ATTR_HOST_SEV_SNP back under a hypervisor, whatever
            # registers say (linux 6.12.117 arch/x86/kernel/cpu/amd.c:362).
            "snp_host": self.snp_host and not self.hypervisor,
            "seamcalled": seamcalled,
        }


_SEEN = attrgetter(*(field.name for field in fields(Machine) if field.name not in UNSEEN))
