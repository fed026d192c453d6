# SPDX-License-Identifier: GPL-2.0-or-later
"""Real kernels: every entry of ``__bug_table`` is understood."""

from __future__ import annotations

import pytest

from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.bugtable import warning_addresses
from staleline.kernel.image.image import KernelImage

UD1 = bytes.fromhex("67480fb93a")  # ud1 (%edx), %rdi: arch/x86/kernel/traps.c, 7.3
UD2 = b"\x0f\x0b"


@pytest.fixture(scope="module")
def image(real_kernel) -> KernelImage:
    return load_image(real_kernel.path)


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
