# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel can ask of a machine, bit by bit, and which of it the truth table is over.

The truth table varies the *listed* facts (`staleline.kernel.boot.rawfacts`). Whatever else can be
asked is to make no difference, and `kernel.influence.dependencies` tries whether that is so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from staleline.hardware import (
    CPUID_REGISTERS,
    ENCRYPTION_LEAF,
    MASK_32,
    MASK_64,
    MEM_ENCRYPT_ENABLED,
    SEV_STATUS,
    SYSCFG,
    TDX_KEYIDS,
)
from staleline.kernel.emulator.traps import RANDOM, TIME, Answer, LogicalCpu, Question

__all__ = [
    "HIGHEST_EXTENDED",
    "HIGHEST_LEAVES",
    "REAL_SIGNATURES",
    "Flips",
    "Register",
    "VariedCpu",
    "free_bits",
    "listed_bits",
    "listed_mask",
    "nothing",
    "only",
    "random_flips",
]

_EAX, _EBX, _ECX, _EDX = range(4)


@dataclass(frozen=True, slots=True, order=True)
class Register:
    """One register of what the hardware answers.

    Attributes:
        number: CPUID leaf, or number of the MSR.
        subleaf: CPUID sub-leaf; None for an MSR.
        index: EAX to EDX as 0 to 3; 0 for an MSR.
    """

    number: int
    subleaf: int | None
    index: int = 0

    def __str__(self) -> str:
        if self.number in _UNTOLD:
            return _UNTOLD[self.number]
        if self.subleaf is None:
            return f"MSR {self.number:#x}"
        leaf = f"{self.number:#x}" + (f".{self.subleaf:#x}" if self.subleaf else "")
        return f"CPUID {leaf} {CPUID_REGISTERS[self.index]}"


#: Register -> the bits to turn over.
Flips = Callable[[Register], int]

#: Listed bits, by (leaf, register) and MSR: what the attributes of RawFacts are.
_LISTED_CPUID: Final[Mapping[tuple[int, int], int]] = {
    **{(leaf, index): MASK_32 for leaf in (0, 0x8000_0000) for index in range(4)},
    (1, _ECX): 1 << 31,  # hypervisor
    (ENCRYPTION_LEAF, _EAX): 0b11,
}
_LISTED_MSR: Final[Mapping[int, int]] = {
    TDX_KEYIDS: MASK_32 << 32,
    SYSCFG: MEM_ENCRYPT_ENABLED,
    SEV_STATUS: 0b11,  # this is an SEV guest, and with SEV-ES
    0xC001_0132: MASK_64,  # RMP_BASE and RMP_END, which an SNP host has
    0xC001_0133: MASK_64,
}
#: What no evidence can tell.
_UNTOLD: Final[Mapping[int, str]] = {RANDOM: "RDRAND or RDSEED", TIME: "the time stamp"}
#: Bits of the time stamp without which it still goes on, faster or slower: those below its step,
#: and those that it does not reach.
_TIME_BITS: Final = (1 << 19) - 1 | MASK_64 >> 40 << 40
_TOPOLOGY: Final = (0xB, 0x1F, 0x8000_001E, 0x8000_0026)
#: These say how large something is, which leaves exist or where a CPU sits: with random bits they
#: describe no machine.
_STRUCTURAL_CPUID: Final[Mapping[tuple[int, int], int]] = {
    (1, _EAX): MASK_32,  # family, model, stepping
    (1, _EBX): MASK_32,  # APIC ID, siblings
    (1, _EDX): 1 << 28,  # there are siblings
    **{(leaf, index): MASK_32 for leaf in _TOPOLOGY for index in range(4)},
}
_STRUCTURAL_MSR: Final[Mapping[int, int]] = {
    0xC001_100C: 0b111,  # node of family 10h to 16h
}

#: CPUID 1 EAX of CPUs that exist, by vendor: old and new families, with and without SME.
REAL_SIGNATURES: Final[Mapping[str, tuple[int, ...]]] = {
    "AuthenticAMD": (
        0x0002_0F12,  # family Fh: K8
        0x0010_0F42,  # family 10h
        0x0060_0F12,  # family 15h: Bulldozer
        0x0080_0F12,  # family 17h, model 1: Naples
        0x0083_0F10,  # family 17h, model 31h: Rome
        0x00A1_0F11,  # family 19h, model 11h: Genoa
        0x00B0_0F21,  # family 1Ah, model 2: Turin
    ),
    "HygonGenuine": (0x0090_0F11, 0x0090_0F41),
    "GenuineIntel": (
        0x0000_0F4A,  # family Fh: NetBurst
        0x0001_06A5,  # Nehalem
        0x0005_0657,  # Cascade Lake
        0x000B_06D1,  # Granite Rapids family
    ),
}
#: Highest basic leaves that exist, and highest extended ones by whether 0x8000001F exists.
HIGHEST_LEAVES: Final = (0x1, 0x7, 0xD, 0x16, 0x20)
HIGHEST_EXTENDED: Final[Mapping[bool, tuple[int, ...]]] = {
    False: (0x8000_0008, 0x8000_0018, 0x8000_001E),
    True: (ENCRYPTION_LEAF, 0x8000_0021, 0x8000_0028),
}


def free_bits(register: Register) -> int:
    """The bits of an answer that are neither listed nor structural."""
    if register.number == TIME:
        return _TIME_BITS
    if register.subleaf is None:
        kept = _LISTED_MSR.get(register.number, 0) | _STRUCTURAL_MSR.get(register.number, 0)
        return MASK_64 & ~kept
    key = (register.number, register.index)
    return MASK_32 & ~(_LISTED_CPUID.get(key, 0) | _STRUCTURAL_CPUID.get(key, 0))


def listed_mask(register: Register) -> int:
    """The listed bits of an answer."""
    if register.subleaf is None:
        return _LISTED_MSR.get(register.number, 0)
    return _LISTED_CPUID.get((register.number, register.index), 0)


def listed_bits(register: Register) -> list[int]:
    """The numbers of the listed bits of an answer, but for whole registers."""
    mask, width = listed_mask(register), 64 if register.subleaf is None else 32
    bits = [bit for bit in range(width) if mask >> bit & 1]
    return [] if len(bits) == width else bits


def nothing(_: Register) -> int:
    """Turn nothing over."""
    return 0


def only(flips: Mapping[Register, int]) -> Flips:
    """Turn over exactly these bits."""
    return lambda register: flips.get(register, 0)


def random_flips(seed: int, *, complement: bool) -> Flips:
    """Turn over half of all free bits; with `complement`, the other half."""

    def flips(register: Register) -> int:
        half = _random_half(seed, register)
        # One of the two turns over any given bit, so a single bit that decides cannot hide.
        return free_bits(register) & (~half if complement else half)

    return flips


@lru_cache(1 << 12)  # the same are asked for in every run
def _random_half(seed: int, register: Register) -> int:
    digest = hashlib.blake2b(f"{seed} {register}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@dataclass(slots=True, eq=False)
class VariedCpu(LogicalCpu):
    """A CPU whose answers have some bits turned over.

    Attributes:
        flips: Which.
        asked: Every register the hardware was asked for -> its bits that were turned over.
    """

    flips: Flips = field(default=nothing)
    asked: dict[Register, int] = field(default_factory=dict)

    def answer(self, question: Question) -> Answer:
        """Likewise, turned over."""
        plain = LogicalCpu.answer(self, question)
        turned = {
            register: self.flips(register) & _variable_bits(register, value)
            for register, value in zip(_registers(question), plain, strict=True)
        }
        self.asked |= turned
        return tuple(value ^ mask for value, mask in zip(plain, turned.values(), strict=True))


def _variable_bits(register: Register, value: int) -> int:
    """Bits that may be turned over: SEV_STATUS of a host says nothing of what guests use."""
    is_host = register == Register(SEV_STATUS, None) and not value & 1
    return 1 if is_host else MASK_64


def _registers(question: Question) -> tuple[Register, ...]:
    if len(question) == 2:
        return (Register(question[1], None),)
    _, leaf, subleaf = question
    return tuple(Register(leaf, subleaf, index) for index in range(4))
