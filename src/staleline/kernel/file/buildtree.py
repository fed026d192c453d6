# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel in a directory: where one was built, or where the modules of one are installed."""

from __future__ import annotations

import os
import re
from typing import Final

from staleline.errors import KernelImageError

__all__ = ["built_image", "is_beside"]

_PLACES: Final = (
    "vmlinux",  # the linked kernel with its symbol table, in the build directory
    "arch/x86/boot/bzImage",
    "vmlinuz",  # /usr/lib/modules/RELEASE/vmlinuz
)

#: Kernels that are installed beside others: /boot has them, and often a link to the latest.
_INSTALLED: Final = re.compile(r"vmlinu[xz][-._].*")
#: What such names have besides: signatures, checksums, symbol maps, and sources.
_BESIDE: Final = re.compile(
    r".*(\.(hmac|sig|asc|sha\d+|map|txt|p7s|json|toml|o|a|lds|S|c|h|py|md|gpg)|\.src\.rpm)$",
    re.IGNORECASE,
)


def is_beside(name: str) -> bool:
    """Is a file of this name no kernel, whatever it begins with?"""
    return _BESIDE.fullmatch(name) is not None


def built_image(directory: str) -> str:
    """Path of the kernel in a directory; of several of one build, the one with most symbols.

    Raises:
        KernelImageError: There is none, or there are others.
    """
    for place in _PLACES:
        path = os.path.join(directory, place)
        if os.path.isfile(path):
            if place == _PLACES[-1]:
                _require_no_other(directory, path)
            return path
    raise KernelImageError(
        f"a directory without kernel ({', '.join(_PLACES)})",
        where=directory,
        do="give an image, or the directory a kernel was built in",
    )


def _require_no_other(directory: str, path: str) -> None:
    """No other kernel is installed there: a link says which is to be booted next, and no more.

    Raises:
        KernelImageError: One is.
    """
    target = os.path.realpath(path)
    for name in sorted(os.listdir(directory)):
        # A unified kernel image in a release's directory is of that release.
        if _INSTALLED.fullmatch(name) is None or is_beside(name) or name.endswith(".efi"):
            continue
        other = os.path.realpath(os.path.join(directory, name))
        if os.path.isfile(other) and other != target:
            raise KernelImageError(
                f"a directory of several kernels ({os.path.basename(path)}, {name})",
                where=directory,
                do="give one of them",
            )
