# SPDX-License-Identifier: GPL-2.0-or-later
"""The images among many files: of directories, package pools, lists and ISO images.

In a directory, a list or an ISO image packages without a kernel are skipped, and counted; what is
no image by its name and first bytes is passed over in a directory or an ISO image.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Final, Self

from staleline.errors import KernelImageError, UsageError
from staleline.kernel.file.buildtree import built_image, is_beside
from staleline.kernel.file.packages import has_kernel, is_package
from staleline.kernel.file.source import opened_file

__all__ = ["ImagePool"]

STDIN: Final = "-"
#: Names under which kernels lie in installed systems, on installation media, and beside builds.
_IMAGE: Final = re.compile(
    r"(vmlinu[xz]|bzImage|kernel)([-._].*)?|linux|.*\.([du]?deb|rpm|efi)", re.IGNORECASE
)
_ISO_ID: Final = (0x8001, b"CD001")  # ECMA-119, 8.1: the first volume descriptor
_ISO_LIMIT: Final = 2 << 30


@dataclass
class ImagePool:
    """Images by name, and what was left out; its temporary files last until it is closed.

    Attributes:
        images: Files to read, in the order given, each once.
        called: File -> what reports call it, where that is not its path.
        skipped: Packages without a kernel.
    """

    images: list[str] = field(default_factory=list)
    called: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    _files: ExitStack = field(default_factory=ExitStack, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def add(self, names: Iterable[str], listed: Iterable[str]) -> None:
        """Find the images of what a user named.

        Args:
            names: Files, directories, ISO images, or ``-`` for a list.
            listed: The lines of that list, as they come.

        Raises:
            UsageError: Nothing is left to read, or an ISO image cannot be opened.
        """
        for name in names:
            if name == STDIN:
                for line in listed:
                    if line.strip("\n\0 \t"):
                        self._add(line.strip("\n\0"), chosen=False)
            else:
                self._add(name, chosen=True)
        if not self.images:
            count = len(self.skipped)
            packages = (
                f"; {count} package{'' if count == 1 else 's'} without kernel" if count else ""
            )
            raise UsageError(
                f"no kernel image among them{packages}", do="give images, packages or directories"
            )

    def _add(self, name: str, *, chosen: bool) -> None:
        """One name; of what was not chosen one by one, packages without a kernel are skipped."""
        if os.path.isdir(name):
            self._add_directory(name)
        elif _is_iso(name):
            self._add_iso(name)
        # Whoever names a file means it, and is told why nothing can be read of it.
        elif chosen or not _is_package_without_kernel(name):
            self._append(name)
        else:
            self.skipped.append(name)

    def _append(self, path: str, called: str | None = None) -> None:
        if path not in self.images:
            self.images.append(path)
        if called is not None:
            self.called[path] = called

    def _add_directory(self, name: str) -> None:
        """A build tree is one image; of any other directory, what lies in and below it."""
        with suppress(KernelImageError):
            built_image(name)
            self._append(name)
            return
        images = list(_below(name))
        if not images:
            self._append(name)  # of which reading it says what is missing
        for path in images:
            self._add(path, chosen=False)

    def _add_iso(self, name: str) -> None:
        """Its kernels, each in a file of its own for as long as this lasts."""
        try:
            import pycdlib  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415
        except ImportError:
            raise UsageError(
                "an ISO image, which needs pycdlib",
                where=name,
                do="install staleline[iso], or mount it and give its directory",
            ) from None
        directory = self._files.enter_context(tempfile.TemporaryDirectory(prefix="staleline-"))
        iso = pycdlib.PyCdlib()
        try:
            iso.open(name)
            self._extract(iso, name, directory)
        except (pycdlib.pycdlibexception.PyCdlibException, OSError) as error:
            raise UsageError(f"ISO image cannot be read: {error}", where=name) from None
        finally:
            # Closing what did not open raises whatever it likes.
            with suppress(Exception):
                iso.close()

    def _extract(self, iso: Any, name: str, directory: str) -> None:
        # Whole names first: those of ECMA-119 itself are cut and in capitals.
        how = (
            "rr_path" if iso.has_rock_ridge() else "joliet_path" if iso.has_joliet() else "iso_path"
        )
        for number, (member, size) in enumerate(_members(iso, how)):
            called = f"{name}:{member}"
            if size > _ISO_LIMIT:
                continue
            path = os.path.join(directory, f"{number}-{PurePosixPath(member).name}")
            iso.get_file_from_iso(path, **{how: member})
            if _is_package_without_kernel(path):
                self.skipped.append(called)
                os.unlink(path)
            else:
                self._append(path, called)


def _members(iso: Any, how: str) -> Iterator[tuple[str, int]]:
    """Path and size of every file that may be a kernel."""
    for folder, _, files in iso.walk(**{how: "/"}):
        for file in sorted(files):
            plain = file.split(";")[0].rstrip(".")  # ECMA-119 names have a version
            if _may_be_image(plain):
                path = f"{folder.rstrip('/')}/{file}"
                record = iso.get_record(**{how: path})
                # Links have no data; what they lead to has a name of its own.
                if record.rock_ridge is None or not record.rock_ridge.is_symlink():
                    yield path, record.get_data_length()


def _below(directory: str) -> Iterator[str]:
    """Files that may be kernels or ISO images, in the order of their paths, each once."""
    paths = list(_named_so(directory))
    files = {os.path.realpath(path) for path in paths if not os.path.islink(path)}
    for path in paths:
        # Links say which of them is the latest.
        if not (os.path.islink(path) and os.path.realpath(path) in files):
            yield path


def _named_so(directory: str) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        folders.sort()
        for file in sorted(files):
            path = os.path.join(folder, file)
            if (_may_be_image(file) or file.lower().endswith(".iso")) and os.path.isfile(path):
                yield path


def _may_be_image(name: str) -> bool:
    return _IMAGE.fullmatch(name) is not None and not is_beside(name)


def _is_iso(name: str) -> bool:
    offset, magic = _ISO_ID
    try:
        if not os.path.isfile(name):
            return False
        with open(name, "rb") as file:
            file.seek(offset)
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _is_package_without_kernel(name: str) -> bool:
    """Does its own list of files say so? What cannot be read is told where it is read."""
    with suppress(KernelImageError, OSError), opened_file(name) as file:
        head = file.read(0, min(file.size, 8))
        return is_package(head) and has_kernel(file) is False
    return False
