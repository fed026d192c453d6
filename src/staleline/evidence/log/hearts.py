# SPDX-License-Identifier: GPL-2.0-or-later
"""The heart of each wording: its letters and digits that stand in every message of it.

What writers, tools and services put before, behind and into a line are marks, blanks and line
ends far more often than letters; without those a message is found in whatever it is dressed.
They stand here and not in wordings.toml because most evidence holds no message, and the table
takes longer to read than a dump.
"""

from __future__ import annotations

from typing import Final

from staleline.pattern import Pattern

__all__ = ["HEARTS", "HEARTS_OF_KINDS"]

_FEATURES = "Featuresactive"
_DETECTED = "Hypervisordetected"
_KERNEL_ON = "kernelon"
_STATUS = "SEVStatusSEV"
_FLAGS = "HyperVprivilegeflagslow"
_TDX = "TDXModule"
#: Letters of a tainted kernel, up to a live patch's (linux 7.3.4 kernel/panic.c:816).
_LIVEPATCH_FLAGS: Final = Pattern("[GP][FSRMBUDAWCIOEL]*K")

#: Letters that several may begin with -> what follows at once in a heart -> the wordings.
HEARTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "Linuxversion": {"": ("linux-version",)},
    "ommandline": {"": ("command-line", "kernel-command-line")},
    "EncryptionSMEactive": {"": ("sme-active",)},
    "VirtualizationSEVactive": {"": ("sev-active",)},
    _FEATURES: {
        "SME": ("features-sme-amd-first",),
        "SEV": ("features-sev-amd-first",),
        "SEVSEVES": ("features-sev-es-amd-first",),
        "AMDSME": ("features-sme",),
        "AMDSEV": ("features-sev",),
        "AMDSEVSEVES": ("features-sev-es",),
        "AMDSEVSEVESSEVSNP": ("features-sev-snp",),
        "IntelTDX": ("features-tdx",),
    },
    _STATUS: {
        "": ("sev-status",),
        "SEVES": ("sev-status-es",),
        "SEVESSEVSNP": ("sev-status-snp",),
    },
    "UsingSNPCPUIDtable": {"": ("snp-cpuid-table",)},
    "SNPrunningatVMPL": {"": ("snp-vmpl",)},
    "SNPguestplatformdevice": {"": ("snp-guest-device",)},
    "tdxGuestdetected": {"": ("tdx-guest",)},
    "tdxAttributes": {"": ("tdx-guest-attributes",)},
    "tdxTDCTLS": {"": ("tdx-guest-attributes",)},
    "tablephysical": {"range": ("rmp-table",), "address": ("rmp-table",)},
    "SEVSNPAPI": {"": ("snp-initialized",)},
    "SEVSNP": {
        "enabledASIDs": ("kvm-snp-enabled",),
        "unusableASIDs": ("kvm-snp-enabled",),
        "disabledASIDs": ("kvm-snp-disabled",),
        "supported": ("kvm-sev-es",),
    },
    "SEVenabledASIDs": {"": ("kvm-sev",)},
    "SEVdisabledASIDs": {"": ("kvm-sev",)},
    "SEVunusableASIDs": {"": ("kvm-sev",)},
    "SEVsupported": {"": ("kvm-sev",)},
    "SEVES": {
        "enabledASIDs": ("kvm-sev-es",),
        "disabledASIDs": ("kvm-sev-es",),
        "unusableASIDs": ("kvm-sev-es",),
        "supported": ("kvm-sev-es",),
    },
    "pspTSMEenabled": {"": ("psp-tsme",)},
    "BothTSMEandSMEareactive": {"": ("psp-tsme-and-sme",)},
    "x86tme": {"enabledbyBIOS": ("tme-enabled",), "notenabledbyBIOS": ("tme-not-enabled",)},
    "KeyIDsavailable": {"": ("mktme-keyids",)},
    "x86mktme": {
        "disabledbyBIOS": ("mktme-disabled",),
        "enabledbyBIOS": ("mktme-enabled",),
        "BIOSenabledx86physbitsreduced": ("mktme-reduced",),
    },
    "privateKeyIDrange": {"": ("tdx-keyids",)},
    "moduleinitializ": {"ed": ("tdx-initialized",), "ationfailed": ("tdx-initialization-failed",)},
    _TDX: {
        "initialized": ("tdx-initialized",),
        "initializationfailed": ("tdx-initialization-failed",),
    },
    "KBallocatedforPAMT": {"": ("tdx-pamt",)},
    "tdxinitializationfailed": {"": ("tdx-not-to-be-initialized",)},
    "TDXnotsupportedbythehostplatform": {"": ("tdx-no-platform", "kvm-tdx-no-platform")},
    _DETECTED: {
        "KVM": ("hypervisor-kvm",),
        "MicrosoftHyperV": ("hypervisor-hyper-v",),
        "XenHVM": ("hypervisor-xen-hvm",),
        "ACRN": ("hypervisor-acrn",),
        "Bhyve": ("hypervisor-bhyve",),
        "VMware": ("hypervisor-vmware",),
        "XenPV": ("hypervisor-xen-pv",),
        "Jailhouse": ("hypervisor-jailhouse",),
    },
    _KERNEL_ON: {
        "KVM": ("booting-on-kvm",),
        "HyperV": ("booting-on-hyper-v",),
        "VMwarehypervisor": ("booting-on-vmware",),
        "XenHVM": ("booting-on-xen-hvm",),
        "XenPVH": ("booting-on-xen-hvm",),
        "Xen": ("hypervisor-xen-pv",),
    },
    "TheJailhouseisopening": {"": ("hypervisor-jailhouse",)},
    "UploadingXenprocessorPMinfo": {"": ("xen-dom0",)},
    "mcelogregisteredbyXen": {"": ("xen-dom0",)},
    "Xenversion": {"": ("xen-version",)},
    "HyperVfeatures0x": {"": ("hyper-v-features",)},
    "HyperVenlightenedNPTTLBflushenabled": {"": ("kvm-on-hyper-v",)},
    "HyperVDirectTLB": {"flushenabled": ("kvm-on-hyper-v",), "Flushenabled": ("kvm-on-hyper-v",)},
    "HyperVEnlightenedVMCS": {"": ("kvm-on-hyper-v-intel",)},
    _FLAGS: {"": ("hyper-v-guest-flags", "hyper-v-root-flags", "hyper-v-isolated-flags")},
    "IsolationConfigGroupA": {"": ("hyper-v-isolation",)},
    "runningasL1VHpartition": {"": ("hyper-v-l1vh",)},
    "runningasrootpartition": {"": ("hyper-v-root",)},
    "smpbootCPU0": {"": ("cpu-line",)},
    "AMDPMUdriver": {"": ("pmu-amd",)},
    "HYGONPMUdriver": {"": ("pmu-hygon",)},
    "IntelPMUdriver": {"": ("pmu-intel",)},
    "patchlevel0x": {"": ("microcode-amd",)},
    "microcodesig0x": {"": ("microcode-intel",)},
    "smpbootAllowing": {"": ("possible-cpus",)},
    "CPUtopoAllowing": {"": ("present-cpus",)},
    "smpBroughtup": {"": ("brought-up",)},
    "efiEFIv": {"": ("efi",)},
    "KHOfoundkexechandoverdata": {"": ("kexec-handover",)},
    "KHOexecfrom": {"": ("kexec-handover",)},
    "livepatch": {"enablingpatch": ("livepatch",)},
    "startingpatchingtransition": {"": ("livepatch",)},
    "patchingcomplete": {"": ("livepatch",)},
    "TAINTLIVEPATCH": {"": ("livepatch-taint",)},
    "KLIVEPATCH": {"": ("livepatch-tainted-in-words",)},
}

#: The same where what follows is one of very many.
HEARTS_OF_KINDS: Final[dict[str, tuple[Pattern, str]]] = {
    "Tainted": (_LIVEPATCH_FLAGS, "livepatch-tainted"),
}
