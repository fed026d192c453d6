# SPDX-License-Identifier: GPL-2.0-or-later
"""Load an image, and name it by what is in its file."""

from __future__ import annotations

import os

from staleline.errors import KernelImageError
from staleline.kernel.buildtree import built_image
from staleline.kernel.cache import file_digest
from staleline.kernel.image import KernelImage, load_image

__all__ = ["load_and_hash"]


def load_and_hash(path: str) -> tuple[KernelImage, str]:
    """An image, and the SHA-256 of the file it was loaded from.

    Raises:
        KernelImageError: The file cannot be read, is no image, or changed in the meantime.
    """
    try:
        path = built_image(path) if os.path.isdir(path) else path
        before = _state(path)
        digest = file_digest(path)
        image = load_image(path)
        after = _state(path)
    except OSError as error:
        raise KernelImageError(f"cannot be read: {error.strerror}", where=path) from None
    if after != before:
        raise KernelImageError("changed while it was read", where=path, do="read it again")
    return image, digest


def _state(path: str) -> tuple[int, ...]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
