# SPDX-License-Identifier: GPL-2.0-or-later
"""What firmware gives an SNP guest: the CC blob, with its pages of secrets and of CPUID."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from staleline.kernel.emulator.layout import BOOT_PARAMS, CC_BLOB, CC_CPUID, CC_SECRETS, PAGE
from staleline.kernel.emulator.traps import DECISIVE_LEAVES

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.emulator.traps import LogicalCpu

__all__ = ["give_cc_blob"]

#: ``cc_blob_address`` of struct boot_params (arch/x86/include/uapi/asm/bootparam.h:132, 7.3.4).
_CC_BLOB_ADDRESS: Final = 0x13C
#: struct cc_blob_sev_info (arch/x86/include/asm/sev.h:58, 7.3.4): magic, version, pages.
_BLOB_FORM: Final = struct.Struct("<IHHQIIQII")
_MAGIC: Final = 0x4544_4D41
#: struct snp_cpuid_table and snp_cpuid_fn (arch/x86/include/asm/sev.h, 7.3.4).
_TABLE_FORM: Final = struct.Struct("<IIQ")
_LEAF_FORM: Final = struct.Struct("<IIQQIIIIQ")


def give_cc_blob(memory: MachineMemory, cpu: LogicalCpu) -> None:
    """Leave it for the startup code of a CPU, if that is an SNP guest's."""
    # Without one kernels since 6.17 end an SNP guest (linux 7.3.4 arch/x86/boot/startup/sme.c:536
    # sme_enable()), and with one all of them end any other (6.12.117
    # arch/x86/mm/mem_encrypt_identity.c:535).
    if not cpu.is_snp_guest:
        return
    # What #VC handlers answer from; CPUID does not trap here, so these are copied, and not asked.
    leaves = tuple(_leaves(cpu))
    table = _TABLE_FORM.pack(len(leaves), 0, 0) + b"".join(leaves)
    # Secrets are zeros, as they are at VMPL 0: no SVSM is there to be told of.
    blob = _BLOB_FORM.pack(_MAGIC, 0, 0, CC_SECRETS.start, PAGE, 0, CC_CPUID.start, PAGE, 0)
    memory.write(CC_CPUID.start, table)
    memory.write(CC_BLOB.start, blob)
    # The decompressor looks for it in the EFI tables and in the setup data, and leaves its address
    # here, where the kernel looks first (linux 7.3.4 arch/x86/boot/compressed/sev.c find_cc_blob(),
    # arch/x86/boot/startup/sev-startup.c:110 find_cc_blob()).
    memory.write_int(BOOT_PARAMS.start + _CC_BLOB_ADDRESS, CC_BLOB.start, 4)


def _leaves(cpu: LogicalCpu) -> Iterator[bytes]:
    for leaf in sorted(DECISIVE_LEAVES):
        yield _LEAF_FORM.pack(leaf, 0, 0, 0, *cpu.hardware((cpu.number, leaf, 0)), 0)
