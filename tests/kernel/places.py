# SPDX-License-Identifier: GPL-2.0-or-later
"""Where an image has what a test is about to change: there, or the test is at fault."""

from __future__ import annotations

from staleline.kernel.image.image import KernelImage


def address_of(image: KernelImage, name: str) -> int:
    """The address of a symbol that the image has."""
    address = image.symbols.address(name)
    assert address is not None, name
    return address


def size_of(image: KernelImage, name: str) -> int:
    """The size of a symbol that the image has."""
    size = image.symbols.size_of(name)
    assert size is not None, name
    return size


def function_at(image: KernelImage, address: int) -> str:
    """The function around an address inside one."""
    enclosing = image.symbols.enclosing(address)
    assert enclosing is not None, hex(address)
    return enclosing[0]
