# SPDX-License-Identifier: GPL-2.0-or-later
"""Code that the kernel patches in at boot, on CPUs with or without a feature.

Code is run as it is in the image. For nearly all of it that is no difference: calls through
``pv_ops`` become direct ones, ``static_cpu_has()`` jumps where it would have tested the same bit,
instructions that tune or mitigate are NOPs. What a feature decides is tried
(`staleline.kernel.influence.at_sites`): where it would change an answer, that is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from staleline.kernel.image.image import KernelImage
from staleline.kernel.opcodes import NOP

__all__ = ["Alternative", "always_patched", "passed_alternatives", "patches_with", "unread_patches"]

#: A struct alt_instr for each patch (asm/alternative.h): where, from where, for which feature, and
#: both lengths; 12 bytes in 5.10.262 and 6.1.192, 14 since 6.3.
_PATCHES: Final = ".altinstructions"
_ENTRY_SIZES: Final = (12, 14)
#: An address behind which nothing lies.
_BEHIND_ALL: Final = np.uint64((1 << 64) - 1)
#: What is patched in, in the order of the patches or not.
_REPLACEMENTS: Final = ".altinstr_replacement"
#: X86_FEATURE_ALWAYS, which every CPU has (asm/cpufeatures.h, 5.10 to 7.3).
_ALWAYS: Final = 3 * 32 + 21
#: ALT_FLAG_NOT and ALT_FLAG_DIRECT_CALL; up to 6.2 the first is bit 15 of the feature.
_NOT: Final = 1 << 0
_DIRECT_CALL: Final = 1 << 1
_OLD_NOT: Final = 1 << 15
_CALL: Final = 0xE8
#: Of ModRM, and what they are where an operand lies at RIP with 32 bits (SDM vol. 2, 2.2.1.6).
_ADDRESSING: Final = 0b11_000_111
_RIP_RELATIVE: Final = 0b00_000_101
#: Patched along with all that call them, which are not: tables of their own.
_THUNK: Final = "_thunk"


@dataclass(frozen=True, slots=True)
class Alternative:
    """One patch.

    Attributes:
        address: Of the code that it replaces.
        code: What is there afterwards.
        feature: Its number: 32 times the word, and the bit.
        without: It is for CPUs that lack the feature.
        direct_call: What is there is a call of what the code before calls through a pointer.
    """

    address: int
    code: bytes
    feature: int
    without: bool
    direct_call: bool

    def __str__(self) -> str:
        word, bit = divmod(self.feature, 32)
        return f"code patched {'without' if self.without else 'with'} CPU feature {word}*32+{bit}"


def always_patched(image: KernelImage) -> list[Alternative]:
    """What every boot patches, in a place that has no other patch."""
    table = _table(image)
    if table is None:
        return []
    _, number, counts = np.unique(table.places, return_inverse=True, return_counts=True)
    single = counts[number] == 1
    plain = (table.features == _ALWAYS) & (table.flags == 0)
    patches = (table.alternative(index) for index in np.flatnonzero(single & plain).tolist())
    return [patch for patch in patches if not _is_thunk(image, patch)]


def passed_alternatives(
    image: KernelImage, executed: Iterable[tuple[int, int]]
) -> Iterator[Alternative]:
    """What a feature decides, in these blocks; but for tests of a feature in that form.

    Args:
        image: The kernel.
        executed: Address and size of blocks of instructions.
    """
    table = _table(image)
    if table is None:
        return
    starts, ends = _merged(executed)
    # Of those that end behind a place the first begins first.
    first = np.searchsorted(ends, table.places, "right")
    begins = np.append(starts, _BEHIND_ALL)[first]
    passed = begins < table.places + table.replaced
    # static_cpu_has() patches its place twice: for every CPU, and for those with the feature
    # (linux 7.3.4 arch/x86/include/asm/cpufeature.h).
    # By a number of each place: of numbers as large as places numpy imports a module of its own.
    _, number = np.unique(table.places, return_inverse=True)
    always = np.isin(number, number[table.features == _ALWAYS])
    for index in np.flatnonzero(passed & ~always).tolist():
        patch = table.alternative(index)
        if not patch.direct_call and not _is_thunk(image, patch):
            yield patch


def _merged(blocks: Iterable[tuple[int, int]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Starts and ends of all that is in some block, both ascending."""
    starts: list[int] = []
    ends: list[int] = []
    for start, size in sorted(blocks):
        if ends and start < ends[-1]:
            ends[-1] = max(ends[-1], start + size)
        else:
            starts.append(start)
            ends.append(start + size)
    return np.array(starts, np.uint64), np.array(ends, np.uint64)


def unread_patches(image: KernelImage) -> bool:
    """Can it not be told what boot patches? Every kernel for x86-64 patches something."""
    return _table(image) is None


def _is_thunk(image: KernelImage, patch: Alternative) -> bool:
    enclosing = image.symbols.enclosing(patch.address)
    return enclosing is not None and _THUNK in enclosing[0]


def patches_with(image: KernelImage, pattern: bytes) -> Iterator[tuple[int, bytes]]:
    """Address of the patched code and what is patched in, where that contains the bytes.

    Nothing without these sections, or if their layout is none of the above.
    """
    table = _table(image)
    if table is None:
        return
    for index in _holding(table.content, pattern, table.sources, table.lengths):
        patch = table.content[table.sources[index] : table.sources[index] + table.lengths[index]]
        yield int(table.places[index]), patch


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """All entries.

    Attributes:
        places: Per entry, the address of what it patches.
        replaced: Bytes of that.
        sources: Offset of what is patched in, in `content`.
        lengths: Bytes of that.
        features: Number of the feature.
        flags: As since 6.3.
        content: The replacements.
        base: Their address.
    """

    places: NDArray[np.uint64]
    replaced: NDArray[np.uint64]
    sources: NDArray[np.int64]
    lengths: NDArray[np.int64]
    features: NDArray[np.int64]
    flags: NDArray[np.int64]
    content: bytes
    base: int

    def alternative(self, index: int) -> Alternative:
        """One entry, as ``apply_alternatives()`` puts it there (arch/x86/kernel/alternative.c)."""
        place, size = int(self.places[index]), int(self.replaced[index])
        source, length = int(self.sources[index]), int(self.lengths[index])
        code = _moved(self.content[source : source + length], self.base + source - place)[:size]
        flags = int(self.flags[index])
        return Alternative(
            place,
            code.ljust(size, NOP),
            int(self.features[index]),
            without=bool(flags & _NOT),
            direct_call=bool(flags & _DIRECT_CALL),
        )


def _moved(code: bytes, distance: int) -> bytes:
    """Code that is copied so far below where it lies; what it points to outside stays the same."""
    moved = bytearray(code)
    # As ``__apply_relocation()`` does it (linux 6.12.117 arch/x86/kernel/alternative.c:451).
    # Kernels that do it for a call or jump at the beginning alone have none elsewhere.
    for at, size, displacement, behind in _relative_fields(code):
        # What lies in the code itself moves along (need_reloc(), :441).
        if not 0 <= behind + displacement <= len(code):
            value = (displacement + distance) % (1 << 8 * size)
            moved[at : at + size] = value.to_bytes(size, "little")
    return bytes(moved)


def _relative_fields(code: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Offset, size and value of each distance in code, and where it is counted from."""
    # Few patches are looked at, and a disassembler takes long to import.
    import capstone  # type: ignore[import-untyped]  # noqa: PLC0415

    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    for instruction in decoder.disasm(code, 0):
        fields = []
        if instruction.group(capstone.CS_GRP_BRANCH_RELATIVE) or instruction.bytes[0] == _CALL:
            fields.append((instruction.imm_offset, instruction.imm_size))
        if instruction.modrm_offset and instruction.modrm & _ADDRESSING == _RIP_RELATIVE:
            fields.append((instruction.disp_offset, instruction.disp_size))
        for offset, size in fields:
            at = instruction.address + offset
            value = int.from_bytes(code[at : at + size], "little", signed=True)
            yield at, size, value, instruction.address + instruction.size


_TABLES: WeakKeyDictionary[KernelImage, _Table | None] = WeakKeyDictionary()


def _table(image: KernelImage) -> _Table | None:
    """Read once for each image."""
    if image not in _TABLES:
        _TABLES[image] = _read_table(image)
    return _TABLES[image]


def _read_table(image: KernelImage) -> _Table | None:
    """None without these sections, or if their layout is none of the above."""
    if not {_PATCHES, _REPLACEMENTS} <= image.sections.keys():
        return None
    table, start = image.section_bytes(_PATCHES), image.sections[_PATCHES].virtual_address
    code, base = image.section_bytes(_REPLACEMENTS), image.sections[_REPLACEMENTS].virtual_address
    # A table of a length that fits both is told by where its entries point to.
    for size in _ENTRY_SIZES:
        if len(table) % size == 0:
            entries = np.frombuffer(table, np.uint8).reshape(-1, size)
            own = size * np.arange(len(entries), dtype=np.int64)
            relative = np.ascontiguousarray(entries[:, :8]).view("<i4").astype(np.int64)
            lengths = entries[:, -1].astype(np.int64)
            sources = own + 4 + relative[:, 1] + (start - base)
            if np.all((sources >= 0) & (sources + lengths <= len(code))):
                words = np.ascontiguousarray(entries[:, 8:-2]).view("<u2").astype(np.int64)
                is_old = words.shape[1] == 1
                flags = words[:, 0] // _OLD_NOT if is_old else words[:, 1]
                return _Table(
                    places=np.uint64(start) + (own + relative[:, 0]).view(np.uint64),
                    replaced=entries[:, -2].astype(np.uint64),
                    sources=sources,
                    lengths=lengths,
                    features=words[:, 0] & (_OLD_NOT - 1) if is_old else words[:, 0],
                    flags=flags,
                    content=code,
                    base=base,
                )
    return None


def _holding(
    code: bytes, pattern: bytes, sources: NDArray[np.int64], lengths: NDArray[np.int64]
) -> list[int]:
    """Indices of the entries whose replacement holds the pattern."""
    entries: set[int] = set()
    at = code.find(pattern)
    while at >= 0:
        inside = (sources <= at) & (at + len(pattern) <= sources + lengths)
        entries.update(np.flatnonzero(inside).tolist())
        at = code.find(pattern, at + 1)
    return sorted(entries)
