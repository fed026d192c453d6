# SPDX-License-Identifier: GPL-2.0-or-later
"""Load an image, and name it by what is in its file."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from staleline.errors import KernelImageError
from staleline.kernel.file.buildtree import built_image
from staleline.kernel.file.container import unpack_kernel
from staleline.kernel.file.source import file_digest, opened_file

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["load_and_hash"]


def load_and_hash(
    path: str, *, meanwhile: Callable[[], object] = lambda: None
) -> tuple[KernelImage, str]:
    """An image, and the SHA-256 of the file it was loaded from.

    Args:
        path: The file, or the directory a kernel was built in.
        meanwhile: Called while the file is unpacked.

    Raises:
        KernelImageError: The file cannot be read, is no image, or changed in the meantime.
    """
    try:
        path = built_image(path) if os.path.isdir(path) else path
        before = _state(path)
        with opened_file(path) as file, ThreadPoolExecutor(1) as pool:
            unpacked, digest = pool.submit(unpack_kernel, file), pool.submit(file_digest, path)
            # Unpacking leaves the interpreter free, so modules are imported meanwhile.
            meanwhile()
            from staleline.kernel.image.assembly import image_of  # noqa: PLC0415 - likewise meanwhile

            image, name = image_of(unpacked.result(), path), digest.result()
            after = _state(path)
    except OSError as error:
        raise KernelImageError(f"cannot be read: {error.strerror}", where=path) from None
    if after != before:
        raise KernelImageError("changed while it was read", where=path, do="read it again")
    return image, name


def _state(path: str) -> tuple[int, ...]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
