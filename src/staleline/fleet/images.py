# SPDX-License-Identifier: GPL-2.0-or-later
"""The owner's kernel images, found for hosts by build ID, else by release.

Two builds of one release may carry different rules, so a release is the weaker evidence.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from staleline.kernel.file.source import file_digest
from staleline.kernel.reading.cache import DocumentCache
from staleline.kernel.reading.decided import decisions_directory, remembered_image
from staleline.verdict.handover.kernels import Image
from staleline.workers import Failure, ProcessLimits, run_each

__all__ = ["Images", "OwnImage", "images_of"]

_SECONDS = 120.0
_MODULES = ("staleline.kernel.reading.running", "staleline.kernel.image.loading")


@dataclass(frozen=True, slots=True)
class OwnImage:
    """An image that a host runs.

    Attributes:
        by: What tells: build ID, or release.
        digest: Of its file.
    """

    image: Image
    by: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Named:
    """An image file as it names itself."""

    path: str
    release: str | None
    build_id: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class Images:
    """Images by build ID and by release.

    Attributes:
        unread: File -> why it is no image that can be read.
    """

    by_build_id: Mapping[str, _Named] = field(default_factory=dict)
    by_release: Mapping[str, _Named] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    _loaded: dict[str, Image] = field(default_factory=dict, compare=False)

    @property
    def digests(self) -> list[str]:
        """Of all files."""
        return sorted(
            {one.digest for one in (*self.by_build_id.values(), *self.by_release.values())}
        )

    def of(self, release: str | None, build_id: str | None) -> OwnImage | None:
        """The image of a host; one of the same release counts if nothing tells its build."""
        if build_id is not None and build_id in self.by_build_id:
            return self._own(self.by_build_id[build_id], "build ID")
        # A host whose build is known runs none of these, whatever release they share.
        if build_id is None and release is not None and release in self.by_release:
            return self._own(self.by_release[release], "release")
        return None

    def _own(self, named: _Named, by: str) -> OwnImage:
        if named.path not in self._loaded:
            cache: DocumentCache = DocumentCache(decisions_directory())  # type: ignore[type-arg]
            self._loaded[named.path] = remembered_image(named.path, cache)
        return OwnImage(self._loaded[named.path], by, named.digest)


def images_of(
    folder: str,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Images:
    """Every image in a folder, and below it; each is unpacked once and then remembered."""
    files = sorted(_files(folder))
    named: list[_Named] = []
    unread: dict[str, str] = {}
    limits = ProcessLimits(_SECONDS)
    running = run_each(
        _name, files, jobs=jobs or os.cpu_count() or 1, limits=limits, preload=_MODULES
    )
    for done, (index, one) in enumerate(running, 1):
        if isinstance(one, Failure):
            unread[files[index]] = one.reason
        else:
            named.append(one)
        progress(done, len(files))
    named.sort(key=lambda one: one.path)
    return Images(
        # Reversed, so that the first by path is kept, in whatever order they were read.
        by_build_id={one.build_id: one for one in reversed(named) if one.build_id is not None},
        by_release=_of_one_build(named),
        unread=dict(sorted(unread.items())),
    )


def _of_one_build(named: Sequence[_Named]) -> dict[str, _Named]:
    """By release, where all images of that release are one build."""
    builds: dict[str, set[str | None]] = {}
    for one in named:
        if one.release is not None:
            builds.setdefault(one.release, set()).add(one.build_id)
    return {
        one.release: one
        for one in reversed(named)
        if one.release is not None and len(builds[one.release]) == 1
    }


def _files(folder: str) -> Iterator[str]:
    if os.path.isfile(folder):
        yield folder
    for parent, _, names in os.walk(folder):
        yield from (os.path.join(parent, name) for name in names if not name.startswith("."))


def _name(path: str) -> _Named:
    cache: DocumentCache = DocumentCache(decisions_directory())  # type: ignore[type-arg]
    image = remembered_image(path, cache)
    return _Named(path, image.release, image.build_id, file_digest(path))
