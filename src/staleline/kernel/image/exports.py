# SPDX-License-Identifier: GPL-2.0-or-later
"""The symbols a kernel exports to modules: names and addresses as the linker placed them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from staleline.hardware import MASK_64

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["exported_symbols"]

_TABLES: Final = ("__ksymtab", "__ksymtab_gpl")  # the latter up to 7.0
_STRINGS: Final = "__ksymtab_strings"
#: Three i32, each relative to its own place: value, name, namespace
#: (CONFIG_HAVE_ARCH_PREL32_RELOCATIONS; include/linux/export.h, 5.10;
#: include/linux/export-internal.h, 6.12).
_ENTRY: Final = 12
_MAX_ENTRIES: Final = 1 << 17  # kernels have 5 000 to 25 000
_MAX_STRINGS: Final = 16 << 20
_LONGEST_NAME: Final = 512


def exported_symbols(image: KernelImage) -> Mapping[str, int]:
    """Link address by name; empty without CONFIG_MODULES or without section headers."""
    strings = image.sections.get(_STRINGS)
    if strings is None or strings.size > _MAX_STRINGS:
        return {}
    text = image.section_bytes(_STRINGS)
    exports: dict[str, int] = {}
    for table in filter(None, map(image.sections.get, _TABLES)):
        count = min(table.size // _ENTRY, _MAX_ENTRIES)
        entries = np.frombuffer(image.read(table.virtual_address, count * _ENTRY), "<i4")
        for index, (value, name, _) in enumerate(entries.reshape(-1, 3).tolist()):
            at = table.virtual_address + index * _ENTRY
            start = at + 4 + name - strings.virtual_address
            if 0 <= start < len(text):
                label = text[start : start + _LONGEST_NAME].split(b"\0", 1)[0]
                exports[label.decode("ascii", "replace")] = (at + value) & MASK_64
    return exports
