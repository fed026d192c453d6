# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the owner's kernel images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from staleline.cores import usable_cores
from staleline.fleet.ownimages import ImageFile, Images
from staleline.kernel.file.source import file_digest
from staleline.kernel.reading.decided import image_opener
from staleline.workers import Failure, ProcessLimits, run_each

__all__ = ["images_of", "no_images"]

_SECONDS = 120.0
_MODULES = ("staleline.kernel.reading.running", "staleline.kernel.image.loading")


def no_images() -> Images:
    """None of the owner's; what is named can be opened all the same."""
    return Images(open_image=image_opener())


def images_of(folder: str) -> Images:
    """Every image in a folder, and below it; each is unpacked once and then remembered."""
    files = sorted(_files(folder))
    named: list[ImageFile] = []
    unread: dict[str, str] = {}
    limits = ProcessLimits(_SECONDS)
    running = run_each(_name, files, jobs=usable_cores(), limits=limits, preload=_MODULES)
    for index, image in running:
        if isinstance(image, Failure):
            unread[files[index]] = image.reason
        else:
            named.append(image)
    named.sort(key=lambda image: image.path)
    return Images(
        # Reversed, so that the first by path is kept, in whatever order they were read.
        by_build_id={
            image.build_id: image for image in reversed(named) if image.build_id is not None
        },
        by_release=_of_one_build(named),
        unread=dict(sorted(unread.items())),
        open_image=image_opener(),
    )


def _of_one_build(named: Sequence[ImageFile]) -> dict[str, ImageFile]:
    """By release, where all images of that release are one build."""
    builds: dict[str, set[str | None]] = {}
    for one in named:
        if one.release is not None:
            builds.setdefault(one.release, set()).add(one.build_id)
    return {
        image.release: image
        for image in reversed(named)
        if image.release is not None and len(builds[image.release]) == 1
    }


def _files(folder: str) -> Iterator[str]:
    if os.path.isfile(folder):
        yield folder
    # Hidden ones are about images, and none: the .vmlinuz-*.hmac of /boot.
    for parent, _, names in os.walk(folder):
        yield from (os.path.join(parent, name) for name in names if not name.startswith("."))


def _name(path: str) -> ImageFile:
    image = image_opener()(path)
    return ImageFile(path, image.release, image.build_id, file_digest(path))
