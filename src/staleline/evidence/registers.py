# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUID as a machine answers it: the leaves of a dump, and the rule for leaves beyond them.

Reading a leaf above the reported maximum is not an error on hardware. Linux 5.18 to 6.4 read leaf
0x8000001F without looking at the maximum first, so this rule decides what such a kernel does
(fixed by Linux commit 9b040453d444).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from staleline.hardware import AMD_AND_HYGON, EXTENDED_LEAVES, HYPERVISOR_LEAF, TDX_GUEST_LEAF

__all__ = ["CpuidTable", "Registers"]

#: EAX, EBX, ECX, EDX, each an unsigned 32-bit value.
Registers = tuple[int, int, int, int]

_ZEROS: Registers = (0, 0, 0, 0)
_TDX_GUEST_SIGNATURE = (0x65746E49, 0x5844546C, 0x20202020)  # "IntelTDX    " in EBX, EDX, ECX
_AMD_SIZES = 0x8000_0008
_TOPOLOGY_LEAVES = (0x1F, 0xB)
#: Highest hexadecimal digit of leaf ranges that leaf 0 and 0x80000000 say nothing about.
_OWN_MAXIMUM = frozenset({0x4, 0xC})


@dataclass(frozen=True, slots=True)
class CpuidTable:
    """The CPUID leaves of one logical CPU, keyed by (leaf, subleaf)."""

    leaves: Mapping[tuple[int, int], Registers]

    def __post_init__(self) -> None:
        object.__setattr__(self, "leaves", MappingProxyType(dict(self.leaves)))

    @property
    def vendor(self) -> str | None:
        """The 12-character vendor string of leaf 0, or None without that leaf."""
        leaf = self.leaves.get((0, 0))
        if leaf is None:
            return None
        _, ebx, ecx, edx = leaf
        raw = b"".join(register.to_bytes(4, "little") for register in (ebx, edx, ecx))
        return raw.decode("latin-1")

    @property
    def family_model_stepping(self) -> tuple[int, int, int] | None:
        """Display family, model and stepping of leaf 1 EAX, or None without that leaf."""
        eax = self._eax(1)
        if eax is None:
            return None
        # As Linux does (arch/x86/lib/cpu.c x86_family(), x86_model()).
        family, model = eax >> 8 & 0xF, eax >> 4 & 0xF
        if family == 0xF:
            family += eax >> 20 & 0xFF
        if family >= 0x6:
            model += (eax >> 16 & 0xF) << 4
        return family, model, eax & 0xF

    @property
    def max_basic_leaf(self) -> int | None:
        """EAX of leaf 0, or None where the dump lacks it."""
        return self._eax(0)

    @property
    def max_extended_leaf(self) -> int | None:
        """EAX of leaf 0x80000000 as software may use it, or None where the dump lacks it."""
        eax = self._eax(EXTENDED_LEAVES)
        if eax is None:
            return None
        # A CPU without extended leaves answers with some basic leaf's data; such an answer counts
        # as 0, the value Linux keeps (``extended_cpuid_level`` in arch/x86/kernel/cpu/common.c
        # get_cpu_cap(): only 0x8000xxxx counts).
        return eax if eax >> 16 == EXTENDED_LEAVES >> 16 else 0

    @property
    def is_tdx_guest(self) -> bool | None:
        """As Linux tells a TDX guest (arch/x86/coco/tdx/tdx.c tdx_early_init())."""
        maximum, leaf = self.max_basic_leaf, self.recorded(TDX_GUEST_LEAF)
        if maximum is not None and maximum < TDX_GUEST_LEAF:
            return False
        if maximum is None or leaf is None:
            return None
        return (leaf[1], leaf[3], leaf[2]) == _TDX_GUEST_SIGNATURE

    @property
    def hypervisor_signature(self) -> bytes | None:
        """The 12 bytes by which a hypervisor names itself, or None without its leaf."""
        leaf = self.recorded(HYPERVISOR_LEAF)
        return None if leaf is None else b"".join(part.to_bytes(4, "little") for part in leaf[1:])

    @property
    def threads_per_socket(self) -> int | None:
        """AMD: 0x80000008 ECX[11:0] + 1; others: EBX of the last level of leaf 0x1F or 0xB."""
        if self.vendor in AMD_AND_HYGON:
            sizes = self.recorded(_AMD_SIZES)
            # Linux reads eight bits and takes the next four as reserved (7.3.4
            # arch/x86/kernel/cpu/topology_amd.c:16); eight do not hold the 384 of an EPYC 9965.
            return None if sizes is None else (sizes[2] & 0xFFF) + 1
        # Leaf 0x1F first: it has levels above the core that leaf 0xB leaves out (Intel SDM volume
        # 2, CPUID). A level of type 0 in ECX[15:8] ends the list.
        for leaf in _TOPOLOGY_LEAVES:
            levels = [self.recorded(leaf, subleaf) for subleaf in range(8)]
            counts = [level[1] & 0xFFFF for level in levels if level is not None and level[2] >> 8]
            if any(counts):
                return max(counts)
        return None

    @property
    def logical_cpus(self) -> int | None:
        """Logical CPUs in a socket; leaf 1 EBX[23:16] where EDX[28] says that it counts."""
        leaf = self.recorded(1)
        if leaf is None:
            return self.threads_per_socket
        # The older count, and a maximum (Intel SDM volume 2, AMD APM volume 3: CPUID leaf 1).
        counted = leaf[1] >> 16 & 0xFF if leaf[3] >> 28 & 1 else 1
        return max(self.threads_per_socket or 0, counted)

    def recorded(self, leaf: int, subleaf: int = 0) -> Registers | None:
        """The dump's own entry, or None; a leaf beyond the maximum is not looked up."""
        return self.leaves.get((leaf, subleaf))

    def read(self, leaf: int, subleaf: int = 0) -> Registers | None:
        """What executing CPUID would return, or None where the dump does not tell.

        Leaves beyond the maximum follow the vendor's rule; a leaf or sub-leaf within the
        maximum that the dump lacks is unknown.
        """
        # Ranges with a maximum of their own (hypervisor leaves, 0xC0000000 of Centaur and Zhaoxin)
        # are known only where recorded.
        if leaf >> 28 in _OWN_MAXIMUM and (leaf, subleaf) in self.leaves:
            return self.leaves[leaf, subleaf]
        if self._beyond_maximum(leaf):
            return self._beyond(subleaf)
        return self.leaves.get((leaf, subleaf))

    def _beyond_maximum(self, leaf: int) -> bool:
        if leaf >= EXTENDED_LEAVES:
            maximum = self.max_extended_leaf
            return maximum is not None and leaf > maximum
        maximum = self.max_basic_leaf
        return maximum is not None and leaf > maximum

    def _beyond(self, subleaf: int) -> Registers | None:
        # Intel documents that the data of the highest basic leaf is returned (SDM volume 2A,
        # CPUID), AMD and Hygon return zeros; dumps in the test corpus agree. No rule is documented
        # for other vendors.
        if self.vendor in AMD_AND_HYGON:
            return _ZEROS
        if self.vendor != "GenuineIntel":
            return None
        highest = self.max_basic_leaf
        if highest is None:
            return None
        return self.leaves.get((highest, subleaf), self.leaves.get((highest, 0)))

    def _eax(self, leaf: int) -> int | None:
        registers = self.leaves.get((leaf, 0))
        return None if registers is None else registers[0]
