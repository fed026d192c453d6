# SPDX-License-Identifier: GPL-2.0-or-later
"""Put the ELF file of a kernel together as an image: segments, sections, symbols, banner."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice, pairwise
from os import PathLike

from staleline.errors import KernelImageError
from staleline.kernel.addresses import KERNEL_MAP
from staleline.kernel.file.buildtree import built_image
from staleline.kernel.file.container import BANNER_START, UnpackedKernel, unpack_kernel
from staleline.kernel.file.decompress import MAX_UNPACKED
from staleline.kernel.file.elf import ElfFile, read_elf
from staleline.kernel.file.source import opened_file
from staleline.kernel.image.elfsymbols import read_symbol_table
from staleline.kernel.image.image import KernelImage, Section, Segment
from staleline.kernel.image.kallsyms import Area, find_kallsyms
from staleline.kernel.image.promoted import promoted_symbols
from staleline.kernel.image.symbols import SymbolTable, no_symbols
from staleline.kernel.image.systemmap import find_system_map, foreign_map

__all__ = ["image_of", "load_image"]

_KERNEL_IMAGE_SIZE = 1 << 30  # KERNEL_IMAGE_SIZE with KASLR, page_64_types.h
_LAST_ADDRESS = (1 << 64) - 1
_BANNER = re.compile(rb"(?P<line>Linux version \d[!-~]* \([ -~]*)\n\0")  # init/version.c
_BANNER_LIMIT = 1024
_INITIAL_CODE, _START = "initial_code", "x86_64_start_kernel"
_TEXT = "_text"  # the first symbol of every kernel, arch/x86/kernel/vmlinux.lds.S
_LLVM = "clang version "  # in the banner: what compiled it
_BANNERS = 64  # places that a hostile file can have tried


def load_image(path: str | PathLike[str]) -> KernelImage:
    """Load a kernel from a file or a build tree.

    Args:
        path: A bzImage (``vmlinuz``), an ELF ``vmlinux``, a unified kernel image, a .deb or
            .rpm package or tar archive that holds one of them, or the directory a kernel was
            built in.

    Raises:
        KernelImageError: It cannot be read, or is not one x86-64 kernel with symbols.
    """
    where = os.fspath(path)
    with opened_file(built_image(where) if os.path.isdir(where) else where) as file:
        return image_of(unpack_kernel(file), file.where)


def image_of(unpacked: UnpackedKernel, where: str) -> KernelImage:
    """A kernel out of the file `where`, which must be open still.

    Raises:
        KernelImageError: It is not one x86-64 kernel with symbols.
    """
    elf = read_elf(unpacked.elf)
    segments = _segments(elf)
    areas = _read_only_areas(elf, segments)
    symbols = _symbols(elf, segments, areas)
    banner = _banner(areas, segments, symbols)
    # Only LLVM renames; to look through all names takes a second.
    if banner is not None and _LLVM in banner:
        symbols = symbols.with_added(promoted_symbols(symbols))
    image = KernelImage(
        path=where,
        release=banner.split()[2] if banner else unpacked.release,
        banner=banner,
        build_id=elf.build_id(),
        segments=segments,
        sections=_sections(elf),
        symbols=symbols,
        member=unpacked.member,
        package=unpacked.package,
        version=unpacked.version,
    )
    has_variables = "linux_banner" in symbols  # which every kernel has
    if not has_variables:
        image = replace(image, symbols=_all_symbols(image))
    _require_start_code(image)
    return image


def _require_start_code(image: KernelImage) -> None:
    """Its pointers hold for these addresses, and it has not run yet."""
    variable, begins = map(image.symbols.only_address, (_INITIAL_CODE, _START))
    if variable is None or begins is None:
        return
    # ``initial_code`` is where the boot CPU begins, and since the first secondary was started where
    # those do (arch/x86/kernel/head_64.S, smpboot.c do_boot_cpu(), 5.10 to 7.3).
    initial = int.from_bytes(image.read(variable, 8), "little")
    if initial != begins:
        raise KernelImageError(
            f"{_INITIAL_CODE} is {initial:#x}, and {_START} is at {begins:#x}: this is loaded at "
            "another address, or the memory of a kernel that has run",
            where=image.path,
            do="give the vmlinuz or vmlinux that was booted",
        )


def _all_symbols(image: KernelImage) -> SymbolTable:
    """Of a kernel that lists no variables (CONFIG_KALLSYMS_ALL=n), or nothing at all."""
    table = find_system_map(image)
    if table is not None:
        return table
    if not len(image.symbols):
        foreign = foreign_map(image)
        raise KernelImageError(
            "neither an ELF symbol table nor kallsyms (CONFIG_KALLSYMS=n, a layout not known, or "
            "one for other addresses)"
            + (f", and {foreign} does not agree with it" if foreign else ""),
            where=image.path,
            do=f"put the System.map-{image.release or 'RELEASE'} of this build beside it, or give "
            "the vmlinux with symbols",
        )
    # Few kernels need it, and a disassembler takes long to import.
    from staleline.kernel.image.datasymbols import data_symbols  # noqa: PLC0415

    return image.symbols.with_added(data_symbols(image))


def _segments(elf: ElfFile) -> tuple[Segment, ...]:
    kernel = [segment for segment in elf.segments if segment.virtual_address >= KERNEL_MAP]
    if not kernel:
        raise KernelImageError(
            "an x86-64 ELF file, but no kernel: no segment in the kernel's address range",
            where=elf.where,
            do="give a vmlinuz or vmlinux",
        )
    for what, size, limit in (
        ("in memory", sum(segment.memory_size for segment in elf.segments), _KERNEL_IMAGE_SIZE),
        ("in the file", sum(segment.file_size for segment in elf.segments), MAX_UNPACKED),
    ):
        if size > limit:
            raise KernelImageError(
                f"segments of {size} bytes {what}, the limit is {limit}",
                where=elf.where,
                do="the file is corrupt, copy it again",
            )
    for segment in elf.segments:
        for start in (segment.virtual_address, segment.physical_address):
            _require_end_of_addresses("a segment", start, segment.memory_size, elf.where)
    _require_apart(elf)
    return tuple(
        Segment(
            segment.virtual_address,
            segment.physical_address,
            elf.bytes_of(segment),
            segment.memory_size,
            segment.executable,
        )
        for segment in elf.segments
    )


def _require_apart(elf: ElfFile) -> None:
    """No two of them are at one place: what is read there would not be what is executed."""
    for kind in ("virtual", "physical"):
        spans = sorted(
            (start := getattr(segment, f"{kind}_address"), start + segment.memory_size)
            for segment in elf.segments
            if segment.memory_size
        )
        for (_, end), (start, _) in pairwise(spans):
            # Who looks an address up takes the first segment, and who loads them in turn leaves the
            # last.
            if start < end:
                raise KernelImageError(
                    f"two segments at {kind} address {start:#x}",
                    where=elf.where,
                    do="the file is corrupt, copy it again",
                )


def _sections(elf: ElfFile) -> Mapping[str, Section]:
    sections: dict[str, Section] = {}
    for section in elf.sections:
        if section.allocated:
            name, start, size = section.name, section.virtual_address, section.size
            _require_end_of_addresses(f"section {name!r}", start, size, elf.where)
            sections.setdefault(name, Section(name, start, size))
    return sections


def _require_end_of_addresses(what: str, start: int, size: int, where: str) -> None:
    """What has its end beyond 64 bits would make every address computed from it wrong."""
    if start + size > _LAST_ADDRESS + 1:
        raise KernelImageError(
            f"{what} of {size:#x} bytes at {start:#x}, which reaches beyond 64-bit addresses",
            where=where,
            do="the file is corrupt, copy it again",
        )


def _symbols(elf: ElfFile, segments: tuple[Segment, ...], areas: list[Area]) -> SymbolTable:
    """From the ELF symbol table if the file has a kernel's, else from kallsyms; perhaps none."""
    table = read_symbol_table(elf)
    # A linker that puts headers around a kernel's memory adds a table of its own symbols.
    if table is not None and _TEXT in table:
        return table
    text = min(s.virtual_address for s in segments if s.virtual_address >= KERNEL_MAP)
    for area in areas:
        kallsyms = find_kallsyms(area, range(text, min(text + _KERNEL_IMAGE_SIZE, _LAST_ADDRESS)))
        if kallsyms is not None:
            symbols = SymbolTable(kallsyms.addresses, kallsyms.names)
            _require_text_at(text, symbols, elf.where)
            return symbols
    return no_symbols()


def _require_text_at(start: int, symbols: SymbolTable, where: str) -> None:
    """``_text`` is where the first segment starts."""
    address = symbols.only_address(_TEXT)
    if address != start:
        place = "nowhere" if address is None else f"at {address:#x}"
        raise KernelImageError(
            f"kallsyms has _text {place}, the image starts at {start:#x}",
            where=where,
            do="give the vmlinux with symbols of this build",
        )


def _read_only_areas(elf: ElfFile, segments: tuple[Segment, ...]) -> list[Area]:
    """``.rodata``, or all segments where there is none."""
    whole = [Area(segment.virtual_address, segment.data) for segment in segments]
    section = elf.section(".rodata")
    if section is None:
        return whole
    starts = ((area, section.virtual_address - area.address) for area in whole)
    return [
        Area(section.virtual_address, area.data[start : start + section.size])
        for area, start in starts
        if 0 <= start < len(area.data)
    ]


def _banner(areas: list[Area], segments: tuple[Segment, ...], symbols: SymbolTable) -> str | None:
    """The text at ``linux_banner``; without CONFIG_KALLSYMS_ALL, the text that reads like it."""
    address = symbols.only_address("linux_banner")
    if address is None:
        texts = (
            area.data[match.start() :][:_BANNER_LIMIT]
            for area in areas
            for match in islice(BANNER_START.finditer(area.data), _BANNERS)
        )
    else:
        texts = (
            segment.data[start : start + _BANNER_LIMIT]
            for segment in segments
            if 0 <= (start := address - segment.virtual_address) < len(segment.data)
        )
    match = next(filter(None, map(_BANNER.match, texts)), None)
    return match["line"].decode("ascii") if match else None
