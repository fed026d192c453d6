# SPDX-License-Identifier: GPL-2.0-or-later
"""Tries every way to install staleline in a root of Debian that has nothing else.

Needs root, debootstrap, and the mirror and package index that this host uses. Each way starts
from a copy of the same minimal root, installs as the README says, and has to answer there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.packages import deb, single_file
from tools.packages.tree import DIST, ROOT

__all__ = ["CleanRoot", "clean_root", "copied", "main"]

_DUMP = "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
#: Safe by the catalogue's rule: the flush that Rome's incoherent aliases need is executed.
_AUDIT = ("audit", "--snapshot", f"/src/{_DUMP}", "--kernel", "linux-6.18")
_TOLD = (
    *("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on", "--path", "kexec"),
    # Else it is unknown what an image leaves behind on CPUs that went offline.
    *("--state", "offline_cpus=none"),
)
_SAFE = re.compile(r"SAFE on kexec")
#: How this host reaches the index and its certificates; the ways to install know nothing of it.
_BORROWED = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf")
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
#: What this host trusts, which may be more than Debian's ca-certificates.
_TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
_TRUSTED_THERE = "/etc/trusted-by-the-host.crt"
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_CERT": _TRUSTED_THERE,
}


@dataclass(frozen=True, slots=True)
class CleanRoot:
    """A minimal Debian, unpacked."""

    folder: Path

    def run(self, *command: str) -> str:
        """What a command prints in there.

        Raises:
            subprocess.CalledProcessError: It failed.
        """
        done = subprocess.run(  # noqa: S603
            ["chroot", str(self.folder), *command],  # noqa: S607
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            env=_ENVIRONMENT,
        )
        return done.stdout

    def install(self, *packages: str) -> None:
        """Install Debian's packages, and nothing that they only recommend."""
        self.run("apt-get", "-qq", "update")
        self.run("apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages)

    def size(self) -> int:
        """Bytes that it takes on disk."""
        told = subprocess.run(  # noqa: S603
            ["du", "-sxb", "--exclude=./proc", "--exclude=./src", str(self.folder)],  # noqa: S607
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        return int(told.stdout.split()[0])


def _single_file(root: CleanRoot) -> str:
    root.install("python3")
    shutil.copy(single_file.build(DIST / "staleline.pyz"), root.folder / "usr/local/bin/staleline")
    return "staleline"


def _debian_package(root: CleanRoot) -> str:
    package = shutil.copy(deb.build(DIST), root.folder / "tmp")
    root.install(f"/tmp/{Path(package).name}")  # noqa: S108
    return "staleline"


def _pipx(root: CleanRoot) -> str:
    root.install("pipx", "python3-venv")
    root.run("pipx", "install", "/src")
    return "/root/.local/bin/staleline"


def _pipx_all(root: CleanRoot) -> str:
    root.install("pipx", "python3-venv")
    root.run("pipx", "install", "/src[all]")
    return "/root/.local/bin/staleline"


def _container(root: CleanRoot) -> str:
    """The recipe's own steps, in a root instead of an image."""
    recipe = (ROOT / "docs/examples/Containerfile").read_text()
    for line in re.findall(r"^RUN (.*)$", recipe, re.MULTILINE):
        root.run("sh", "-c", line.replace("/usr/src/staleline", "/src"))
    return "staleline"


#: Way -> how to install by it; it returns the command.
_WAYS: dict[str, Callable[[CleanRoot], str]] = {
    "single file": _single_file,
    "Debian package": _debian_package,
    "pipx": _pipx,
    "pipx, all extras": _pipx_all,
    "container": _container,
}


def _try(way: str, root: CleanRoot, image: Path | None) -> str:
    """One line: what it took, and what it answered."""
    before, started = root.size(), time.monotonic()
    command = _WAYS[way](root)
    installed = time.monotonic() - started
    grown = (root.size() - before) / 1e6
    started = time.monotonic()
    answer = root.run(command, *_AUDIT, *_TOLD)
    assert _SAFE.search(answer), answer
    first = time.monotonic() - started
    snapshot = root.run(command, "collect")
    assert '"schema": "staleline/snapshot/1"' in snapshot, snapshot[:200]
    read = "leaves images out"
    if way in ("pipx, all extras", "container") and image is not None:
        shutil.copy(image, root.folder / "boot/vmlinuz")
        answer = root.run(command, *_AUDIT[:-1], "/boot/vmlinuz", *_TOLD)
        assert _SAFE.search(answer), answer
        read = "reads images"
    return (
        f"{way:17}  installed in {installed:5.1f} s, {grown:6.1f} MB with what it pulled in;"
        f" first answer in {first:4.2f} s; {read}"
    )


def _kept_image() -> Path | None:
    """The image that `tools/fetch_kernels.py` keeps of the series that the README shows."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return max(cache.glob("staleline/kernels/vmlinuz-6.12.*"), default=None)


def clean_root(folder: Path, suite: str, mirror: str) -> Path:
    """A minimal root of one of Debian's suites, unpacked into this folder."""
    # A suite that is younger than debootstrap is unpacked as the one that is always the youngest.
    script = suite if (_SCRIPTS / suite).exists() else "sid"
    command = ["debootstrap", "--variant=minbase", suite, str(folder), mirror, script]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return folder


@contextmanager
def copied(base: Path, folder: Path) -> Iterator[CleanRoot]:
    """A copy of the minimal root, with the checkout at /src."""
    root = folder / "root"
    subprocess.run(["cp", "-a", str(base), str(root)], check=True)  # noqa: S603, S607
    shutil.copytree(ROOT, root / "src", ignore=shutil.ignore_patterns(".*", "dist", "__pycache__"))
    for name in map(Path, _BORROWED):
        if name.exists():
            shutil.copy(name, root / name.relative_to("/"))
    shutil.copy(_TRUSTED, root / _TRUSTED_THERE.lstrip("/"))
    proc = root / "proc"
    subprocess.run(["mount", "-t", "proc", "proc", str(proc)], check=True)  # noqa: S603, S607
    try:
        yield CleanRoot(root)
    finally:
        subprocess.run(["umount", str(proc)], check=True)  # noqa: S603, S607
        shutil.rmtree(root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the named ways, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ways", nargs="*", metavar="way", help=", ".join(_WAYS))
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--base", type=Path, help="a minimal root that is there already")
    parser.add_argument(
        "--image", type=Path, default=_kept_image(), help="a kernel image to read where that works"
    )
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        base = chosen.base or Path(temporary, "base")
        if not base.exists():
            clean_root(base, chosen.suite, chosen.mirror)
        for way in chosen.ways or _WAYS:
            with copied(base, Path(temporary)) as root:
                print(_try(way, root, chosen.image), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
