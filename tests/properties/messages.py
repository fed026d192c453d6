# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel of a machine writes into its log, as its release words it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.properties.corpus import Truth

__all__ = ["KEYIDS", "SEV_STATUS", "SYSCFG", "TME_ACTIVATE", "log_of", "messages"]

SYSCFG, SEV_STATUS, TME_ACTIVATE, KEYIDS = 0xC001_0010, 0xC001_0131, 0x982, 0x87


def log_of(truth: Truth, random: Random) -> list[str]:
    """What ``dmesg`` shows, in one of its layouts."""
    prefix = random.choice(("[{:5d}.000000] ", "[{:5d}.000000] ", "<6>[{:5d}.000000] "))
    return [prefix.format(i // 8) + message for i, message in enumerate(messages(truth))]


def messages(truth: Truth) -> Iterator[str]:
    """The messages of its boot that tell of its machine, in their order."""
    major, minor = (int(part.partition("-")[0]) for part in truth.release.split(".")[:2])
    version = (major, minor)
    yield f"Linux version {truth.release} (gcc) #1 SMP PREEMPT_DYNAMIC"
    yield f"Command line: {truth.cmdline}"
    yield "BIOS-provided physical RAM map:"
    if truth.guest == "tdx" and version >= (5, 19):
        # 6.1 arch/x86/coco/tdx/tdx.c tdx_early_init()
        yield "tdx: Guest detected"
    if truth.hypervisor:
        yield f"Hypervisor detected: {truth.hypervisor}"
    if truth.cpuid.vendor == "GenuineIntel" and TME_ACTIVATE in truth.msr and version >= (4, 18):
        # 5.10 arch/x86/kernel/cpu/intel.c detect_tme()
        yield "x86/tme: enabled by BIOS"
        if version < (6, 8):
            yield "x86/mktme: enabled by BIOS"
    yield f"Kernel command line: {truth.cmdline}"
    keys = truth.msr.get(KEYIDS, 0)
    if keys >> 32 and version >= (6, 8) and not truth.guest:
        first = (keys & 0xFFFF_FFFF) + 1
        # 6.12 arch/x86/virt/vmx/tdx/tdx.c tdx_init()
        yield f"virt/tdx: BIOS enabled: private KeyID range [{first}, {first + (keys >> 32)})"
    yield "Freeing SMP alternatives memory: 36K"
    yield from _features(truth, version)
    if truth.msr.get(SYSCFG, 0) >> 24 & 1 and version >= (6, 9):
        # 6.12 arch/x86/virt/svm/sev.c snp_probe_rmptable_info()
        yield ("SEV-SNP: RMP table physical range [0x0000000032a00000 - 0x0000000062afffff]")
    yield "Freeing unused kernel image (initmem) memory: 4096K"
    yield "Run /init as init process"
    if truth.sev_guests_run:
        # 5.10 and 6.1 arch/x86/kvm/svm/sev.c sev_hardware_setup()
        yield (
            "SEV supported: 410 ASIDs"
            if version <= (5, 10)
            else ("kvm_amd: SEV enabled (ASIDs 100 - 509)")
        )
    if truth.tdx_module == "initialized" and version >= (6, 8):
        yield (
            "virt/tdx: module initialized"
            if version < (6, 18)
            else "virt/tdx: TDX-Module initialized"
        )
    if truth.tdx_module == "failed" and version >= (6, 8):
        name = "module" if version < (6, 18) else "TDX-Module"
        yield f"virt/tdx: {name} initialization failed (-12)"


def _features(truth: Truth, version: tuple[int, int]) -> Iterator[str]:
    """5.4 and 5.10 arch/x86/mm/mem_encrypt.c, 6.1 and 6.12 print_mem_encrypt_feature_info()."""
    guest = {"sev": ["SEV"], "sev-es": ["SEV", "SEV-ES"], "snp": ["SEV", "SEV-ES", "SEV-SNP"]}
    features = ["SME"] if truth.sme_active else guest.get(truth.guest, [])
    if truth.guest == "tdx" and version >= (5, 19):
        yield "Memory Encryption Features active: Intel TDX"
    if not features:
        return
    if version < (5, 10):
        names = {"SME": "Secure Memory Encryption (SME)"}
        yield f"AMD {names.get(features[0], 'Secure Encrypted Virtualization (SEV)')} active"
    elif version < (5, 17):
        known = [one for one in features if one != "SEV-SNP"]
        yield f"AMD Memory Encryption Features active: {' '.join(known)}"
    else:
        yield f"Memory Encryption Features active: AMD {' '.join(features)}"
