# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel image inside a package, without unpacking the package.

Of Debian, of RPM, or a tar archive, as those of Arch, Alpine and Slackware are, and what the
kernel's ``make tar-pkg`` makes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from staleline.errors import KernelImageError
from staleline.kernel.file.archives import (
    Member,
    Package,
    archive_members,
    damaged_package,
    unpacked_part,
)
from staleline.kernel.file.buildtree import is_beside
from staleline.kernel.file.deb import DEB_MAGIC, open_deb
from staleline.kernel.file.rpm import RPM_MAGIC, open_rpm
from staleline.kernel.file.source import ByteSource, MemoryBytes
from staleline.kernel.file.spool import MAX_SPOOLED, spooled
from staleline.tar import is_tar
from staleline.unpacking import UnpackedStream

__all__ = ["MAX_IMAGE", "PackagedImage", "has_kernel", "is_package", "read_package"]

_BLOCK: Final = 512  # of a tar archive
MAX_IMAGE: Final = 96 << 20
"""Largest image taken out of a package, in bytes; compressed ones have 7 to 20 MiB."""

_IMAGE: Final = re.compile(
    r"boot/vmlinuz-[^/]+|(usr/)?lib/modules/[^/]+/vmlinuz(-[\w.]+\.efi)?"
    # Unified ones: Ubuntu's linux-image-*-azure-fde and Core's, Azure Linux's kernel-uki.
    r"|boot/kernel\.efi-[^/]+|boot/efi/EFI/Linux/[^/]+\.efi"
    # With debug information: Debian's linux-image-*-dbg, Fedora's kernel-debuginfo.
    r"|usr/lib/debug/(boot/vmlinux-[^/]+|(usr/)?lib/modules/[^/]+/vmlinux)"
)


@dataclass(frozen=True, slots=True)
class PackagedImage:
    """A kernel image, and the package that it was found in.

    Attributes:
        member: Its name in the package.
        content: Its bytes.
        package: The package's name; None if it does not say.
        version: The package's version; likewise.
    """

    member: str
    content: ByteSource
    package: str | None
    version: str | None


def is_package(head: memoryview) -> bool:
    """Does a file that begins with these bytes call itself a .deb or .rpm, or a tar archive?"""
    return bytes(head[: len(DEB_MAGIC)]).startswith((DEB_MAGIC, RPM_MAGIC)) or is_tar(
        bytes(head[:_BLOCK])
    )


def read_package(source: ByteSource) -> PackagedImage:
    """The image in a package for whose first bytes `is_package` holds.

    Raises:
        KernelImageError: The package is damaged, or does not hold exactly one image.
    """
    package = _opened(source)
    # Files are listed apart from their content, so that a package of several images is told from
    # one of a single image before anything large is unpacked.
    listed = package.files and tuple(filter(_is_image, package.files))
    if listed is not None and len(listed) != 1:
        raise _number_of_images(source, listed)
    images: dict[str, ByteSource] = {}
    for member in package.members(package.stream):
        # A hard link has its content at the last of its names only (`cpio_members`).
        if not (member.regular and member.size and _is_image(member.name)):
            continue
        if listed and member.name not in listed:
            raise damaged_package(f"its list of files has no {member.name}", source, 0)
        if images:
            raise _number_of_images(source, (*images, member.name))
        images[member.name] = _content(source, package.stream, member)
        # Its list names no other, so that the rest of the package is not unpacked.
        if listed:
            break
    if not images:
        raise _number_of_images(source, ())
    return PackagedImage(*images.popitem(), package.name, package.version)


def has_kernel(source: ByteSource) -> bool | None:
    """Does its own list of files name a kernel image? None if there is no list.

    Raises:
        KernelImageError: The package is damaged.
    """
    files = _opened(source).files
    return None if files is None else any(map(_is_image, files))


def _opened(source: ByteSource) -> Package:
    head = bytes(source.read(0, min(source.size, _BLOCK)))
    if head.startswith(RPM_MAGIC):
        return open_rpm(source)
    if head.startswith(DEB_MAGIC):
        return open_deb(source)
    # It has no list of files, so that it is read to its end.
    return Package(unpacked_part(source, 0, source.size), archive_members, None)


def _is_image(name: str) -> bool:
    return _IMAGE.fullmatch(name) is not None and not is_beside(name)


def _content(source: ByteSource, stream: UnpackedStream, member: Member) -> ByteSource:
    where = f"{source.where} ({member.name})"
    if "/debug/" in member.name and member.size <= MAX_SPOOLED:
        return spooled(stream, member.size, where)
    if member.size > MAX_IMAGE:
        raise KernelImageError(
            f"an image of {member.size} bytes, the limit is {MAX_IMAGE}",
            where=where,
            do="unpack the package and give the image",
        )
    content = stream.read(member.size)
    if len(content) != member.size:
        what = f"{member.name} ends after {len(content)} of {member.size} bytes"
        raise damaged_package(what, source, 0)
    return MemoryBytes(where, memoryview(content))


def _number_of_images(source: ByteSource, names: tuple[str, ...]) -> KernelImageError:
    if names:
        return KernelImageError(
            f"a package of several kernel images: {', '.join(names[:4])}",
            where=source.where,
            do="unpack it and give one of them",
        )
    return KernelImageError(
        "a package without kernel image (boot/vmlinuz-*, lib/modules/*/vmlinuz)",
        where=source.where,
        do="give the package that holds it: linux-binary-* where linux-image-* depends on it, "
        "kernel-core of Fedora and its relatives",
    )
