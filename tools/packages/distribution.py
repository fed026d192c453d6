# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds what an index would serve, a source distribution and a wheel of it, and tries both.

Some of the tests of the source distribution are run where it is unpacked, on its own sources.
The wheel is installed for every Python that `requires-python` allows and that is on this host, and
with --suites in minimal roots of Debian (which needs root and debootstrap).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools.packages.clean_root import clean_root, copied
from tools.packages.tree import DIST, ROOT

__all__ = ["build", "main", "own_tests", "smoke"]

_MINORS = range(11, 20)
_DUMP = ROOT / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
#: Safe by the catalogue's rule: the flush that Rome's incoherent aliases need is executed.
_AUDIT = ("--kernel", "linux-6.18", "--msr", "0xc0010010=0x800000", "--path", "kexec")
_TOLD = ("--cmdline", "mem_encrypt=on", "--state", "offline_cpus=none")

#: Quick ones, which need no image and no git: of rules, formats and layers.
_OWN_TESTS = ("tests/policy", "tests/evidence/test_formats.py", "tests/test_layers.py")

#: Runs a command where the wheel is tried, and returns what it prints.
Runner = Callable[..., str]


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, cwd="/")  # noqa: S603
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it alone; both are checked.

    Raises:
        subprocess.CalledProcessError: One could not be built, or is not as an index wants it.
    """
    for old in (*folder.glob("staleline-*.tar.gz"), *folder.glob("staleline-*.whl")):
        old.unlink()
    module = (sys.executable, "-m")
    _run(*module, "build", "--outdir", str(folder), str(ROOT))
    (sdist,), (wheel,) = folder.glob("staleline-*.tar.gz"), folder.glob("staleline-*.whl")
    print(_run(*module, "twine", "check", "--strict", str(sdist), str(wheel)), end="")
    print(_run(*module, "check_wheel_contents", str(wheel)), end="")
    return sdist, wheel


def own_tests(sdist: Path) -> str:
    """Run some of its tests where it is unpacked: the line that sums them up.

    Raises:
        subprocess.CalledProcessError: One fails, or something that it needs was not packed.
    """
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pytest", "-q", *_OWN_TESTS],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            cwd=unpacked,
            # Before the checkout, which the environment has as an editable installation.
            env={**os.environ, "PYTHONPATH": str(unpacked / "src")},
        )
    return done.stdout.splitlines()[-1]


def smoke(run: Runner, python: str, wheel: Path, dump: Path, venv: Path) -> str:
    """Install the wheel for a Python, and ask it: one line of what it answered.

    Raises:
        AssertionError: It answers something else.
        subprocess.CalledProcessError: It cannot be installed, or fails.
    """
    run(python, "-m", "venv", str(venv))
    run(f"{venv}/bin/pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
    command = f"{venv}/bin/staleline"
    version = run(command, "--version").strip()
    said = run(command, "audit", "--snapshot", str(dump), *_AUDIT, *_TOLD).splitlines()[0]
    assert said.startswith("SAFE on kexec: "), said
    which = run(f"{venv}/bin/python", "-c", "import sys; print(sys.version.split()[0])").strip()
    return f"Python {which}: {version}, {said}"


def _starts(python: str) -> bool:
    """Is there such a Python, and no stand-in that only says where one would be?"""
    if shutil.which(python) is None:
        return False
    return subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0  # noqa: S603


def _on_this_host(wheel: Path) -> Iterator[str]:
    """The answers for each Python on the PATH."""
    for python in filter(_starts, (f"python3.{minor}" for minor in _MINORS)):
        with tempfile.TemporaryDirectory() as folder:
            yield smoke(_run, python, wheel, _DUMP, Path(folder, "venv"))


def _in_debian(wheel: Path, suite: str, mirror: str) -> str:
    """The answer for the Python of one of Debian's suites."""
    with tempfile.TemporaryDirectory() as temporary:
        base = clean_root(Path(temporary, "base"), suite, mirror)
        with copied(base, Path(temporary)) as root:
            root.install("python3-venv")
            shutil.copy(wheel, root.folder / "tmp")
            there = Path("/tmp", wheel.name)  # noqa: S108
            dump = Path("/src", _DUMP.relative_to(ROOT))
            return f"{suite}, {smoke(root.run, 'python3', there, dump, Path('/tmp/venv'))}"  # noqa: S108


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, check, try."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--suites", nargs="*", default=(), help="Debian's, e.g. trixie")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    chosen = parser.parse_args(arguments)
    sdist, wheel = build(DIST)
    for built in (sdist, wheel):
        print(f"{built.relative_to(ROOT)}: {built.stat().st_size / 1e6:.1f} MB")
    print(f"its own tests, unpacked: {own_tests(sdist)}", flush=True)
    for line in _on_this_host(wheel):
        print(line, flush=True)
    for suite in chosen.suites:
        print(_in_debian(wheel, suite, chosen.mirror), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
