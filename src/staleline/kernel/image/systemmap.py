# SPDX-License-Identifier: GPL-2.0-or-later
"""System.map, the symbols that the kernel's build writes beside an image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from staleline.errors import KernelImageError
from staleline.kernel.addresses import KERNEL_MAP
from staleline.kernel.image.exports import exported_symbols
from staleline.kernel.image.symbols import SymbolTable

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["find_system_map", "foreign_map", "parse_system_map"]

_MAX_SIZE: Final = 24 << 20  # bytes; distribution kernels have 5 to 9 MiB
_LINE: Final = re.compile(rb"^([0-9a-f]{16}) (\S) (\S+)$", re.MULTILINE)
_RELEASE: Final = re.compile(r"[\w.+~-]+", re.ASCII)
_BUILT: Final = ("arch", "x86", "boot")
#: Section -> the symbol at its start: arch/x86/kernel/vmlinux.lds.S, linux 5.10 to 7.3.
_STARTS: Final = {
    ".rodata": "__start_rodata",
    "__param": "__start___param",
    "__ex_table": "__start___ex_table",
    ".notes": "__start_notes",
    "__bug_table": "__start___bug_table",
    ".orc_unwind_ip": "__start_orc_unwind_ip",
    ".orc_unwind": "__start_orc_unwind",
    ".init.text": "_sinittext",
    ".altinstructions": "__alt_instructions",
    ".apicdrivers": "__apicdrivers",
    ".smp_locks": "__smp_locks",
    ".bss": "__bss_start",
}
_ENOUGH_STARTS: Final = 6


class _ListedNames:
    """Names in the order of their addresses."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._indices: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            self._indices.setdefault(name, []).append(index)

    def name(self, index: int) -> str:
        """Name of one symbol."""
        return self._names[index]

    def find(self, name: str) -> Sequence[int]:
        """Indices of all symbols of that name, ascending."""
        return self._indices.get(name, [])


def parse_system_map(text: bytes, percpu_size: int) -> SymbolTable:
    """Symbols of a map; lines that are none are passed over.

    Args:
        text: Its content.
        percpu_size: Size of a per-CPU section linked at 0, else 0. Below it values are
            addresses in that section; other low ones are no addresses.
    """
    lines = [
        (address, name.decode("utf-8", "replace"))
        for digits, _, name in _LINE.findall(text)
        if (address := int(digits, 16)) >= KERNEL_MAP or address <= percpu_size != 0
    ]
    lines.sort(key=lambda line: line[0])
    addresses = np.fromiter((address for address, _ in lines), np.uint64, len(lines))
    return SymbolTable(addresses, _ListedNames([name for _, name in lines]))


def find_system_map(image: KernelImage) -> SymbolTable | None:
    """The map of exactly this build: beside the image, in its build tree, or installed.

    Args:
        image: Its symbols may be functions only, or missing altogether.
    """
    percpu = image.sections.get(".data..percpu")
    percpu_size = percpu.size if percpu and percpu.virtual_address == 0 else 0
    for path in _places(image):
        try:
            if path.is_file() and path.stat().st_size <= _MAX_SIZE:
                table = parse_system_map(path.read_bytes(), percpu_size)
                # One of another build would put every name at a wrong address.
                if _agrees(table, image):
                    return table
        except OSError:
            continue
    return None


def foreign_map(image: KernelImage) -> Path | None:
    """The first map where `find_system_map` looks, if it finds none that agrees."""
    return next(filter(os.path.isfile, _places(image)), None)


def _places(image: KernelImage) -> Iterator[Path]:
    directory = Path(os.path.abspath(image.path)).parent
    if directory.parts[-3:] == _BUILT:
        yield directory.parents[2] / "System.map"
    release = image.release
    # It stands in the image, and a slash in it would lead to a file of its choice.
    if release and _RELEASE.fullmatch(release):
        yield directory / f"System.map-{release}"
        yield Path(f"/boot/System.map-{release}")
        yield Path(f"/usr/lib/modules/{release}/System.map")
    yield directory / "System.map"


def _agrees(table: SymbolTable, image: KernelImage) -> bool:
    """Every export and every function of the image is where the map has it."""
    exports = exported_symbols(image)
    functions = image.symbols.sorted_addresses
    if not exports and not len(functions):
        # CONFIG_KALLSYMS and CONFIG_MODULES are off.
        return _has_the_same_sections(table, image)
    # A kernel of another build exports the same names from other addresses.
    return all(address in table.addresses(name) for name, address in exports.items()) and bool(
        np.isin(functions, table.sorted_addresses).all()
    )


def _has_the_same_sections(table: SymbolTable, image: KernelImage) -> bool:
    """All of them begin where the map says, and the banner lies there, which says who built it."""
    starts = [
        (section.virtual_address, table.only_address(_STARTS[name]))
        for name, section in image.sections.items()
        if name in _STARTS
    ]
    banner, text = table.only_address("linux_banner"), image.banner
    if banner is None or text is None or len(starts) < _ENOUGH_STARTS:
        return False
    try:
        is_there = image.read(banner, len(text)) == text.encode()
    except KernelImageError:
        return False
    # Where a section begins depends on the sizes of all before it.
    return is_there and all(section == symbol for section, symbol in starts)
