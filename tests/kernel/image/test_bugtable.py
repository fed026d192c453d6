# SPDX-License-Identifier: GPL-2.0-or-later
"""Real kernels: every entry of ``__bug_table`` is understood."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from staleline.kernel.image.bugtable import warning_addresses
from staleline.kernel.image.image import KernelImage
from tests.kernel.mutate import patched

UD1 = bytes.fromhex("67480fb93a")  # ud1 (%edx), %rdi: arch/x86/kernel/traps.c, 7.3
UD2 = b"\x0f\x0b"


@pytest.fixture(scope="module")
def image(real_kernel) -> KernelImage:
    return real_kernel.image


def test_every_warning_is_an_undefined_instruction(image):
    for address in warning_addresses(image):
        code = image.read(address, len(UD1))
        assert code.startswith(UD2) or code == UD1, f"{address:#x}"


def test_there_are_warnings_and_bugs(image):
    """About three entries in five warn."""
    section = image.sections["__bug_table"]
    most, least = section.size // 12, section.size // 16
    assert least * 0.4 < len(warning_addresses(image)) < most * 0.8


def test_the_last_entry_is_read_right(image):
    """A wrong entry size would go astray long before the end."""
    text = image.sections[".text"]
    inside = [
        address
        for address in warning_addresses(image)
        if text.virtual_address <= address < text.virtual_address + text.size
    ]
    assert len(inside) > 0.9 * len(warning_addresses(image))


def entry(address: int, *rest: bytes) -> bytes:
    return struct.pack("<i", address) + b"".join(rest)


FILE_AND_LINE = struct.pack("<ih", -64, 77)
FORMAT = struct.pack("<i", -64)
WARNING, BUG = struct.pack("<h", 1), struct.pack("<h", 0)
PADDING = bytes(2)


@pytest.mark.parametrize(
    "rest",
    [
        lambda flags: (FILE_AND_LINE, flags),
        lambda flags: (flags, PADDING),
        lambda flags: (FORMAT, FILE_AND_LINE, flags),
        lambda flags: (FORMAT, flags, PADDING),
    ],
    ids=["6.18", "6.18 without DEBUG_BUGVERBOSE", "6.19", "6.19 without DEBUG_BUGVERBOSE"],
)
def test_entries_of_every_configuration(image, rest):
    """struct bug_entry, include/asm-generic/bug.h (6.12, 7.3); written over a real table."""
    section = image.sections["__bug_table"]
    warns = sorted(warning_addresses(image))[:40]
    bugs = warns[::3]
    size = len(entry(0, *rest(BUG)))
    table = b"".join(
        entry(
            address - section.virtual_address - size * index,
            *rest(BUG if address in bugs else WARNING),
        )
        for index, address in enumerate(warns)
    )
    short = {**image.sections, "__bug_table": replace(section, size=len(table))}
    mutant = replace(patched(image, section.virtual_address, table), sections=short)
    shared = {mutant.symbols.address("__WARN_trap")}
    assert warning_addresses(mutant) - shared == set(warns) - set(bugs) - shared
