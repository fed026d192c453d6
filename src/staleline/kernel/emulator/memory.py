# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of the emulated machine: a kernel image at its link addresses, and some RAM.

A kernel with KASAN has a shadow of both besides.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, finalize

from staleline.errors import KernelImageError
from staleline.kernel.addresses import KERNEL_MAP
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.kasan import has_shadow, shadow_of
from staleline.kernel.emulator.layout import (
    APIC,
    DEFAULT_PAGE_OFFSET,
    PAGE,
    RAM_SIZE,
    SHADOW,
    SHADOW_RAM,
    SHADOW_SCALE,
)
from staleline.kernel.emulator.localapic import sending_calls
from staleline.kernel.emulator.touchedpages import TouchedPages, are_faults_counted
from staleline.kernel.image.symbols import AmbiguousNameError

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["KeptMemory", "MachineMemory", "Region", "lay_out"]

#: KERNEL_IMAGE_SIZE with KASLR (arch/x86/include/asm/page_64_types.h).
_LARGEST_IMAGE = 1 << 30
#: Bytes beside what is put back above which pages are dropped; a site touches a tenth of that
#: beside what its boot did, and what has gone astray as much as there is.
_MOST_BESIDE = 1 << 18
#: As much as is put back at once at most.
_ZEROS = memoryview(bytes(_MOST_BESIDE))
_WORD = 8


class KeptPages:
    """What a region held at some time.

    Args:
        pages: Offset in the region, and what was there, ascending; everything else is as after a
            reset.
    """

    def __init__(self, pages: Sequence[tuple[int, bytes]] = ()) -> None:
        self.pages = pages
        self._spans: Sequence[range] | None = None
        self._beside: Sequence[range] = ()
        self._is_within = False

    def beside(self, spans: Sequence[range]) -> Sequence[range]:
        """What these spans have beside the pages; found out once for the same list of them."""
        if self._spans is not spans:
            kept = [range(offset, offset + len(content)) for offset, content in self.pages]
            self._beside = list(_without(spans, kept))
            self._is_within = _size(spans) - _size(self._beside) == _size(kept)
            self._spans = spans
        return self._beside

    def is_within(self, spans: Sequence[range]) -> bool:
        """Do these spans have all of the pages?"""
        self.beside(spans)
        return self._is_within


def _pages(kept: KeptPages) -> Iterator[tuple[int, bytes]]:
    for start, content in kept.pages:
        for at in range(0, len(content), PAGE):
            yield start + at, content[at : at + PAGE]


def _size(ranges: Iterable[range]) -> int:
    return sum(map(len, ranges))


def _without(spans: Iterable[range], kept: Sequence[range]) -> Iterator[range]:
    """The parts of spans that are in none of the ranges; both ascend and do not overlap."""
    parts = iter(kept)
    part = next(parts, None)
    for span in spans:
        start = span.start
        while part is not None and part.start < span.stop:
            if part.start > start:
                yield range(start, part.start)
            start = max(start, part.stop)
            if part.stop > span.stop:
                break  # it may reach into the next one
            part = next(parts, None)
        if start < span.stop:
            yield range(start, span.stop)


class Region:
    """A piece of host memory that the emulated machine sees at one or more addresses.

    Args:
        content: A private mapping.
        file: What is mapped, another time; None for anonymous memory.
        faults: As for `TouchedPages`.
    """

    def __init__(
        self,
        content: mmap.mmap,
        file: mmap.mmap | None = None,
        faults: Callable[[], int] | None = None,
    ) -> None:
        self.content = content
        self._file = None if file is None else memoryview(file)
        self._anchor = ctypes.c_char.from_buffer(content)
        self._touched_pages = TouchedPages(self.host_address, len(self), faults)
        self._pristine = KeptPages()

    @property
    def host_address(self) -> int:
        """Address of the first byte in this process."""
        return ctypes.addressof(self._anchor)

    def __len__(self) -> int:
        return len(self.content)

    def reset(self) -> bool:
        """Back to the file's content (a copy-on-write mapping) or to zeros (anonymous)."""
        return self.put_back(self._pristine)

    def kept(self) -> KeptPages:
        """What may differ from the state after a reset, in whole pages."""
        spans = self.touched()
        return KeptPages([(span.start, self.content[span.start : span.stop]) for span in spans])

    def put_back(self, kept: KeptPages) -> bool:
        """The content of when it was kept.

        Returns:
            They were dropped all the same, being many.
        """
        touched = self.touched()
        beside = kept.beside(touched)
        drops = _size(beside) > _MOST_BESIDE
        if drops:
            self.content.madvise(mmap.MADV_DONTNEED)
            beside = ()
        # Written over and not dropped: this process would fault on them in every run.
        for span in beside:
            self.content[span.start : span.stop] = self._original(span)
        for offset, content in kept.pages:
            self.content[offset : offset + len(content)] = content
        # What is written here may be on pages that were dropped since it was kept.
        if drops or not kept.is_within(touched):
            self._touched_pages.forget()
        return drops

    def _original(self, span: range) -> memoryview:
        """What is there after a reset."""
        if self._file is None:
            return _ZEROS[: len(span)] if len(span) <= len(_ZEROS) else memoryview(bytes(len(span)))
        return self._file[span.start : span.stop]

    def differences(
        self, before: KeptPages, after: KeptPages
    ) -> Iterator[tuple[int, bytes, bytes]]:
        """Offset of each piece that is not the same, and what it was and is; whole words."""
        pages = [dict(_pages(kept)) for kept in (before, after)]
        for offset in sorted(pages[0].keys() | pages[1].keys()):
            was, became = (
                bytes(page.get(offset, self._original(range(offset, offset + PAGE))))
                for page in pages
            )
            if was != became:
                for at in range(0, PAGE, _WORD):
                    words = was[at : at + _WORD], became[at : at + _WORD]
                    if words[0] != words[1]:
                        yield offset + at, *words

    def touched(self) -> list[range]:
        """Where it may differ from what it was after a reset, in whole pages."""
        spans = self._touched_pages.spans()
        return self._changed_pages() if spans is None else spans

    def _changed_pages(self) -> list[range]:
        """By comparing all of it, which takes a hundred times as long."""
        pages = (range(at, at + PAGE) for at in range(0, len(self), PAGE))
        return [
            page for page in pages if self.content[page.start : page.stop] != self._original(page)
        ]


class _Touches:
    """How often pages of a machine's memory may have been touched that were not before.

    Of the page faults of this process only those count that come from code that runs in that
    memory, and from writes.
    """

    def __init__(self) -> None:
        self.count = 0

    def so_far(self) -> int:
        """The count, for whom it changes."""
        return self.count


@dataclass(frozen=True, slots=True)
class KeptMemory:
    """The memory of a machine at some time, by region."""

    regions: tuple[KeptPages, ...]


class MachineMemory:
    """What the emulated CPUs can address, by virtual address.

    Attributes:
        page_offset: Start of the direct map, as the image's ``page_offset_base`` says.
        text: The pages that hold nothing but the kernel's code, ``_text`` to ``_etext``, which
            a running kernel maps read-only; empty if the image does not say or not plausibly.
        has_shadow: It has KASAN's.
        sending_calls: Where code calls to send an interrupt -> the register with its vector, if
            that stops others.
    """

    def __init__(self, image: KernelImage) -> None:
        self._touches = _Touches()
        self._written: set[int] = set()
        loaded = _loaded(image)
        self._base = loaded.base
        self._kernel = Region(loaded.mapped(), loaded.content, self._touches.so_far)
        self._ram, self._apic = self._new(RAM_SIZE), self._new(PAGE)
        self.page_offset = _page_offset(image)
        self.text = _text(image, range(self._base, self._base + len(self._kernel)))
        self.sending_calls = sending_calls(image.symbols)
        self.has_shadow = has_shadow(image.symbols)
        # RAM below 16 MiB appears twice, as on hardware: in the kernel's direct map, and
        # identity-mapped, where kexec's last code runs.
        memory = (self._base, self._kernel, 0), (self.page_offset, self._ram, 0)
        shadows = [_shadow(*window, self._new) for window in memory if self.has_shadow]
        self._shadows = tuple(region for _, region, _ in shadows)
        # The identity map leaves page 0 out, so that a null pointer is noticed.
        self._windows = (*memory, (PAGE, self._ram, PAGE), *shadows)
        self._places = tuple(
            (address, address + len(region) - offset, region.content, offset - address)
            for address, region, offset in (*self._windows, (APIC.start, self._apic, 0))
        )

    def windows(self) -> tuple[tuple[int, Region, int], ...]:
        """(virtual address, region, offset in it) of everything to map as memory.

        The local APIC's page at `APIC` is a device.
        """
        return self._windows

    def direct(self, physical: int) -> int:
        """Direct-map address of a physical address in RAM."""
        return self.page_offset + physical

    def physical(self, address: int) -> int | None:
        """The physical address behind a virtual one; None for a device's registers.

        Raises:
            DerivationError: Nothing is mapped there.
        """
        if address in APIC:
            return None
        for start, region, offset in self._windows:
            if 0 <= address - start < len(region) - offset:
                if region in self._shadows:
                    return SHADOW_RAM + address - SHADOW.start
                return address - (KERNEL_MAP if region is self._kernel else start - offset)
        raise DerivationError(f"{address:#x} is outside the machine's memory")

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at a kernel, direct-map or identity address.

        Raises:
            DerivationError: They are not all in memory; an image may name any address.
        """
        # As `_locate` does; a run reads a hundred times.
        for start, end, content, offset in self._places:
            if start <= address and address + size <= end:
                return content[address + offset : address + offset + size]
        raise _outside(address, size)

    def write(self, address: int, content: bytes) -> None:
        """Store `content` at a kernel, direct-map or identity address.

        Raises:
            DerivationError: It does not fit into memory there.
        """
        place, offset = self._locate(address, len(content))
        place[offset : offset + len(content)] = content
        first, last = address // PAGE, (address + len(content) - 1) // PAGE
        if first not in self._written or last - first:
            self._written.update(range(first, last + 1))
            self._touches.count += 1

    def write_to_ram(self, physical: int, content: bytes) -> None:
        """Store much from the start of a page; what is zero there already is not touched.

        So it is neither kept nor put back, each time.
        """
        touched = {page for span in self._ram.touched() for page in span[::PAGE]}
        for at in range(0, len(content), PAGE):
            page = content[at : at + PAGE]
            if physical + at in touched or page != bytes(len(page)):
                self.write(self.direct(physical + at), page)

    def read_int(self, address: int, size: int) -> int:
        """A little-endian unsigned integer."""
        return int.from_bytes(self.read(address, size), "little")

    def write_int(self, address: int, value: int, size: int) -> None:
        """Store a little-endian unsigned integer."""
        self.write(address, value.to_bytes(size, "little"))

    def reset(self) -> None:
        """The pristine image and empty RAM."""
        for region in self._regions:
            self._reset(region)

    def kept(self) -> KeptMemory:
        """All of it as it is now; costs what was written since the last reset."""
        return KeptMemory(tuple(region.kept() for region in self._regions))

    def changes(self, before: KeptMemory, after: KeptMemory) -> Iterator[tuple[int, bytes, bytes]]:
        """Address of each piece that is not the same in both, and what it was and is."""
        for region, *kept in zip(self._regions, before.regions, after.regions, strict=True):
            start = self._start(region)
            for offset, was, became in region.differences(*kept):
                yield start + offset, was, became

    def put_back(self, kept: KeptMemory) -> None:
        """All of it as it was then."""
        for region, pages in zip(self._regions, kept.regions, strict=True):
            if region.put_back(pages):
                self._written.clear()

    def was_run_in(self, faults: int) -> None:
        """Code that may have written to it has run, and had so many page faults meanwhile."""
        if faults or not are_faults_counted():
            self._touches.count += 1

    def _new(self, size: int) -> Region:
        content = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return Region(content, faults=self._touches.so_far)

    @property
    def _regions(self) -> tuple[Region, ...]:
        return self._kernel, self._ram, self._apic, *self._shadows

    def _start(self, region: Region) -> int:
        """The first address at which it is seen."""
        if region is self._apic:
            return APIC.start
        return next(address for address, one, _ in self._windows if one is region)

    def clear_ram(self) -> None:
        """Empty RAM; the kernel's memory stays as it is."""
        self._reset(self._ram)

    def _reset(self, region: Region) -> None:
        if region.reset():
            self._written.clear()

    def is_ram(self, address: int) -> bool:
        """Is this an address of low RAM, identity-mapped or in the direct map?"""
        return address < RAM_SIZE or 0 <= address - self.page_offset < RAM_SIZE

    def _locate(self, address: int, size: int) -> tuple[mmap.mmap, int]:
        for start, end, content, offset in self._places:
            if start <= address and address + size <= end:
                return content, address + offset
        raise _outside(address, size)


def _outside(address: int, size: int) -> DerivationError:
    return DerivationError(f"{size} bytes at {address:#x} are outside the machine's memory")


def _shadow(
    address: int, region: Region, _: int, new: Callable[[int], Region]
) -> tuple[int, Region, int]:
    """A window on the shadow of another; KASAN gives every page of a shadow memory of its own."""
    size = -(-len(region) // (SHADOW_SCALE * PAGE)) * PAGE
    return shadow_of(address) & -PAGE, new(size), 0


def _page_offset(image: KernelImage) -> int:
    """``page_offset_base`` (a variable since CONFIG_DYNAMIC_MEMORY_LAYOUT, 4.15)."""
    try:
        symbol = image.symbols.address("page_offset_base")
    except AmbiguousNameError as error:
        raise KernelImageError(
            str(error), where=image.path, do="give the vmlinux with symbols of this build"
        ) from error
    if symbol is None:
        return DEFAULT_PAGE_OFFSET
    return int.from_bytes(image.read(symbol, 8), "little")


def _text(image: KernelImage, kernel: range) -> range:
    start, end = image.symbols.only_address("_text"), image.symbols.only_address("_etext")
    if start is None or end is None:
        return range(0)
    # Whole ones: on a page that holds data as well a store is none to code.
    pages = range((start + PAGE - 1) & -PAGE, end & -PAGE)
    return pages if pages and pages[0] in kernel and pages[-1] in kernel else range(0)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An image as a boot loader would leave it, to be mapped copy-on-write.

    To go back to it between two machines costs what was written in between.

    Attributes:
        base: Its virtual address.
        descriptor: Of the file that holds it, for as long as there is the image.
        content: The same, mapped.
    """

    base: int
    descriptor: int
    content: mmap.mmap

    def mapped(self) -> mmap.mmap:
        """A mapping whose writes stay in it."""
        return mmap.mmap(self.descriptor, len(self.content), mmap.MAP_PRIVATE)


_LOADED: WeakKeyDictionary[KernelImage, _Loaded] = WeakKeyDictionary()


def lay_out(image: KernelImage) -> None:
    """Write it down once, for all machines of this process and those forked from it later."""
    _loaded(image)


def _loaded(image: KernelImage) -> _Loaded:
    if image not in _LOADED:
        _LOADED[image] = _load(image)
    return _LOADED[image]


def _load(image: KernelImage) -> _Loaded:
    # By physical addresses: up to 6.15 the per-CPU segment is linked at virtual address 0 but
    # loaded between data and init text (arch/x86/kernel/vmlinux.lds.S).
    start = min(segment.physical_address for segment in image.segments) & -PAGE
    end = max(segment.physical_address + segment.memory_size for segment in image.segments)
    size = (end - start + PAGE - 1) & -PAGE
    if size > _LARGEST_IMAGE:
        raise KernelImageError(
            f"segments span {size:#x} bytes of physical memory",
            where=image.path,
            do="give an image whose segments are not further apart than 1 GiB",
        )
    descriptor = os.memfd_create("kernel")
    finalize(image, os.close, descriptor)
    os.ftruncate(descriptor, size)
    for segment in image.segments:
        _write_all(descriptor, segment.data, segment.physical_address - start)
    content = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ)
    return _Loaded(KERNEL_MAP + start, descriptor, content)


def _write_all(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
