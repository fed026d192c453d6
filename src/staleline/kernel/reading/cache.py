# SPDX-License-Identifier: GPL-2.0-or-later
"""What was read of images before, so that an archive is read once.

An entry is found by the SHA-256 of the image file and by the edition of the code that read
it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from staleline.files import replace_whole
from staleline.kernel.reading.document import ImageDocument

__all__ = ["DocumentCache", "ReadingCache", "default_directory", "edition"]

#: A TypedDict with the digest of its image as ``sha256``.
_Document = TypeVar("_Document", bound=Mapping[str, Any])

_PACKAGE = Path(__file__).parents[2]
#: What a reading depends on; verdicts and reports are made anew each time.
_READING = ("kernel", "policy", "evidence")
_LARGEST = 64 << 20  # a document has some 100 KiB
_SUFFIXES = {".py", ".toml"}
#: The libraries that run the code and that decode it; their own digests would be of 30 MB.
_LIBRARIES = ("unicorn", "capstone")


def default_directory() -> Path:
    """``$XDG_CACHE_HOME/staleline/readings``; ~/.cache if the variable is unset or relative."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path counts as not given (XDG Base Directory Specification).
    base = Path(given) if given.startswith("/") else _home() / ".cache"
    return base / "staleline" / "readings"


def _home() -> Path:
    """The user's; of one without, a place in which nothing is ever kept."""
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and no entry in /etc/passwd, as in many a container
        return Path(os.devnull)


@cache
def edition(*, whole: bool = False) -> str:
    """Tells one state of the code that reads images from every other, as 16 hexadecimal digits.

    Args:
        whole: Of the whole program.
    """
    # Of the modules, and no number of a version: a development checkout never answers with what
    # older code read.
    digest = hashlib.sha256()
    for path in _sources(("",) if whole else _READING):
        # With its size, so that no two sets of files run together to the same bytes.
        digest.update(f"{path.relative_to(_PACKAGE)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    for name in _LIBRARIES:
        digest.update(_installed(name))
    return digest.hexdigest()[:16]


def _sources(folders: Iterable[str]) -> Iterator[Path]:
    yield from sorted(_PACKAGE.glob("*.py"))
    for name in folders:
        yield from sorted(p for p in (_PACKAGE / name).rglob("*") if p.suffix in _SUFFIXES)


def _installed(name: str) -> bytes:
    """Where a library is installed and since when."""
    package = find_spec(name)
    if package is None or package.origin is None:
        return b""
    return f"{package.origin}\0{os.stat(package.origin).st_mtime_ns}".encode()


@dataclass(frozen=True, slots=True)
class DocumentCache(Generic[_Document]):
    """Documents by digest of the image, one file each: its checksum, then JSON."""

    directory: Path

    def get(self, digest: str) -> _Document | None:
        """What this edition read of the image with this digest; None if nothing sound is kept."""
        try:
            content = _own_content(self._path(digest))
        except OSError:
            return None
        checksum, _, body = content.partition(b"\n")
        # What a full disk has cut is JSON at times, and never of its checksum.
        if checksum != _checksum(body):
            return None
        try:
            document: _Document = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return document if _is_of(document, digest) else None

    def put(self, document: _Document) -> None:
        """Keep it, in place of what other editions read. A cache that cannot be written is none."""
        body = json.dumps(document, separators=(",", ":")).encode()
        path = self._path(document["sha256"])
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_own(self.directory.lstat(), stat.S_IFDIR)
            replace_whole(path, _checksum(body) + b"\n" + body)
            for other in self.directory.glob(f"{document['sha256']}-*.json"):
                if other != path:
                    other.unlink(missing_ok=True)
        except OSError:
            return

    def _path(self, digest: str) -> Path:
        return self.directory / f"{digest}-{edition()}.json"


class ReadingCache(DocumentCache[ImageDocument]):
    """What was read of images."""

    __slots__ = ()


def _is_of(document: object, digest: str) -> bool:
    return isinstance(document, dict) and document.get("sha256") == digest


def _own_content(path: Path) -> bytes:
    """The bytes of an entry that only this user can have written; OSError if it is none."""
    _require_own(path.parent.lstat(), stat.S_IFDIR)
    # O_NONBLOCK: what is not asked yet is whether it is a FIFO.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        _require_own(os.fstat(file.fileno()), stat.S_IFREG)
        # A longer one is cut, and is not of its checksum.
        return file.read(_LARGEST)


def _require_own(status: os.stat_result, kind: int) -> None:
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    # Whoever else can write here could say of any kernel that it flushes.
    if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid() or others_write:
        raise PermissionError(errno.EPERM, "is not this user's alone")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
