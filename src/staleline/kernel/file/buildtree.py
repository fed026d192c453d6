# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel in a directory: where one was built, or where the modules of one are installed."""

from __future__ import annotations

import os
from typing import Final

from staleline.errors import KernelImageError

__all__ = ["built_image"]

_PLACES: Final = (
    "vmlinux",  # the linked kernel with its symbol table, in the build directory
    "arch/x86/boot/bzImage",
    "vmlinuz",  # /usr/lib/modules/RELEASE/vmlinuz
)


def built_image(directory: str) -> str:
    """Path of the kernel in a directory; of several, the one with most symbols.

    Raises:
        KernelImageError: There is none.
    """
    for place in _PLACES:
        path = os.path.join(directory, place)
        if os.path.isfile(path):
            return path
    raise KernelImageError(
        f"a directory without kernel ({', '.join(_PLACES)})",
        where=directory,
        do="give an image, or the directory a kernel was built in",
    )
