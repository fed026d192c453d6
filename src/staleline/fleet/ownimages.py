# SPDX-License-Identifier: GPL-2.0-or-later
"""An owner's kernel images, by what hosts tell of the one that they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from staleline.errors import UsageError
from staleline.verdict.handover.kernels import Image

__all__ = ["ImageFile", "Images", "OwnImage"]


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
class ImageFile:
    """An image file as it names itself."""

    path: str
    release: str | None
    build_id: str | None
    digest: str


def _unopened(path: str) -> Image:
    raise UsageError("nothing was said of how to open images", where=path, do="ask by `no_images`")


@dataclass(frozen=True, slots=True)
class Images:
    """Images by build ID and by release, and how one is opened.

    Attributes:
        unread: File -> why it is no image that can be read.
        open_image: Opens any image file, one of these or another.
    """

    by_build_id: Mapping[str, ImageFile] = field(default_factory=dict)
    by_release: Mapping[str, ImageFile] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    open_image: Callable[[str], Image] = field(default=_unopened, compare=False)
    _loaded: dict[str, Image] = field(default_factory=dict, compare=False)

    @property
    def digests(self) -> list[str]:
        """Of all files."""
        return sorted(
            {one.digest for one in (*self.by_build_id.values(), *self.by_release.values())}
        )

    def of(self, release: str | None, build_id: str | None) -> OwnImage | None:
        """The image of a host; one of the same release counts if nothing tells its build."""
        # Two builds of one release may carry different rules, so a release is the weaker evidence.
        if build_id is not None and build_id in self.by_build_id:
            return self._own(self.by_build_id[build_id], "build ID")
        # A host whose build is known runs none of these, whatever release they share.
        if build_id is None and release is not None and release in self.by_release:
            return self._own(self.by_release[release], "release")
        return None

    def _own(self, named: ImageFile, by: str) -> OwnImage:
        if named.path not in self._loaded:
            self._loaded[named.path] = self.open_image(named.path)
        return OwnImage(self._loaded[named.path], by, named.digest)
