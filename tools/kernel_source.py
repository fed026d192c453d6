# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's source: Debian's package of it, unpacked, with patches applied and taken back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cmp_to_key
from pathlib import Path

from tools import fetch_kernels

__all__ = [
    "Source",
    "SourceError",
    "Tree",
    "apply",
    "files_of",
    "newest",
    "private_apt",
    "unpack",
    "unpacked",
]

_PACKAGE = re.compile(r"linux-source-(?P<series>\d+\.\d+)")
_TOUCHED = re.compile(r"^(?:---|\+\+\+) [ab]/(\S+)", re.MULTILINE)


class SourceError(Exception):
    """One line for the user."""


@dataclass(frozen=True, slots=True)
class Source:
    """One version of a source package."""

    package: str
    version: str

    @property
    def series(self) -> str:
        """Such as "6.12"."""
        return self.package.removeprefix("linux-source-")

    @property
    def folder(self) -> str:
        """A name for the folder that it is unpacked into."""
        return f"{self.package}_{self.version.replace('~', '-')}"


def newest(apt: fetch_kernels.Apt, series: str) -> Source:
    """The newest source package of a series, or of the newest series that begins with it.

    Raises:
        SourceError: The mirror has none.
    """
    apt.run("apt-get", "update", "-q")
    names = apt.run("apt-cache", "pkgnames", "linux-source-").stdout.split()
    table = apt.run("apt-cache", "madison", *sorted(filter(_PACKAGE.fullmatch, names))).stdout
    source = _newest(_madison(table), series)
    if source is None:
        raise SourceError(
            f"no linux-source package of series {series}: try later or another mirror"
        )
    return source


def unpacked(cache: Path, series: str) -> Source | None:
    """The newest source of a series that `unpack` has left in `cache`."""
    records = (json.loads(path.read_text()) for path in cache.glob("*.json"))
    return _newest((Source(**record) for record in records), series)


def _newest(sources: Iterable[Source], series: str) -> Source | None:
    wanted = (
        source
        for source in sources
        if series in (source.series, source.series.split(".", maxsplit=1)[0])
    )
    return max(wanted, key=cmp_to_key(_by_version), default=None)


def _by_version(a: Source, b: Source) -> int:
    return fetch_kernels._compare(a.version, b.version)


def _madison(table: str) -> Iterable[Source]:
    for line in table.splitlines():
        name, version, *_ = (field.strip() for field in line.split("|"))
        yield Source(name, version)


def private_apt(root: Path, mirror: str | None) -> fetch_kernels.Apt:
    """A private apt root that knows the suites the images are fetched from."""
    return fetch_kernels.Apt(root, tomllib.loads(fetch_kernels.WANTED.read_text()), mirror)


def unpack(apt: fetch_kernels.Apt, source: Source, cache: Path) -> None:
    """Download a source package and unpack the tree in it to its folder in `cache`.

    Raises:
        SourceError: The mirror lists the package and does not have it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / source.folder).exists():
        with tempfile.TemporaryDirectory(dir=cache, prefix="unpack-") as work:
            _unpack(apt, source, Path(work)).rename(cache / source.folder)
    (cache / f"{source.folder}.json").write_text(json.dumps(asdict(source)) + "\n")


def _unpack(apt: fetch_kernels.Apt, source: Source, work: Path) -> Path:
    apt.run("apt-get", "download", "-q", f"{source.package}={source.version}", cwd=work)
    deb = next(work.glob("*.deb"), None)
    if deb is None:
        raise SourceError(f"{source.package} {source.version} cannot be downloaded: try later")
    _run(["dpkg-deb", "--extract", str(deb), str(work / "deb")])
    (archive,) = (work / "deb" / "usr" / "src").glob("linux-source-*.tar.xz")
    _run(["tar", "-C", str(work), "-xf", str(archive)])
    return work / source.package


@dataclass(frozen=True, slots=True)
class Tree:
    """An unpacked source tree and the originals of the files that patches have changed.

    Patches are taken back by restoring the originals, so that a tree serves several builds and
    only what differs is compiled again; an interrupted build leaves nothing behind.

    Attributes:
        path: The tree.
        originals: Where files are kept while they are patched.
    """

    path: Path
    originals: Path

    def switch_to(self, patches: Sequence[Path]) -> None:
        """Make this the original tree with these patches and no others.

        Raises:
            SourceError: A patch does not apply.
        """
        files = {file for patch in patches for file in files_of(patch.read_text())}
        before = {file: (self.path / file).stat() for file in files}
        contents = {file: (self.path / file).read_bytes() for file in files}
        self._restore()
        for file in files:
            self._keep(file)
        for patch in patches:
            apply(patch, self.path)
        for file, content in contents.items():
            # What is the same as in the build before is not compiled again.
            if (self.path / file).read_bytes() == content:
                times = before[file].st_atime_ns, before[file].st_mtime_ns
                os.utime(self.path / file, ns=times)

    def _keep(self, file: str) -> None:
        original = self.originals / file
        if not original.exists() and (self.path / file).exists():
            original.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path / file, original)

    def _restore(self) -> None:
        for original in self.originals.rglob("*"):
            if original.is_file():
                file = self.path / original.relative_to(self.originals)
                if original.read_bytes() != file.read_bytes():
                    shutil.copyfile(original, file)
                original.unlink()


def apply(patch: Path, tree: Path) -> None:
    """Apply a patch to an unpacked tree.

    Raises:
        SourceError: It does not apply.
    """
    done = _try(["patch", "-p1", "--batch", "--forward", "-i", str(patch)], tree)
    if done.returncode:
        reason = (done.stdout.strip().splitlines() or ["patch failed"])[-1]
        raise SourceError(f"{patch.name} does not apply to {tree.name}: {reason}")


def files_of(patch: str) -> list[str]:
    """The files that a patch in the unified format changes."""
    return list(dict.fromkeys(_TOUCHED.findall(patch)))


def _run(command: list[str]) -> None:
    done = _try(command, None)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["failed"])[-1]
        raise SourceError(f"{command[0]}: {reason}")


def _try(command: list[str], folder: Path | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
