# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds staleline.pyz: one file that any Python 3.11 runs, with nothing installed.

It holds staleline and the libraries that are Python alone, so it collects, tells facts, and
judges machines by the rules of the catalogue. Compiled libraries cannot be imported from a zip
file: images and proofs need an installation, and the program says so.
"""

from __future__ import annotations

import re
import sys
import tempfile
import zipfile
from pathlib import Path

from tools.packages.tree import DIST, ROOT, files_below, install_into

__all__ = ["build", "main"]

#: What staleline imports wherever it runs. rich reaches for pygments and markdown-it only where
#: code or Markdown is shown, which staleline never does.
_LIBRARIES = ("click", "rich")
_START = b"#!/usr/bin/env python3\n"
_MAIN = """\
import sys

if sys.version_info < (3, 11):
    sys.exit("staleline needs Python 3.11 or newer, this is " + sys.version.split()[0])
from staleline.cli.main import main

sys.exit(main())
"""
#: The same tree gives the same bytes: no entry carries the time of the build.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def build(output: Path) -> Path:
    """Write the single file.

    Raises:
        subprocess.CalledProcessError: pip could not get what goes into it.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        pins = tree / "pins.txt"
        pins.write_text(_pinned(_LIBRARIES))
        content = tree / "content"
        install_into(content, "--requirement", str(pins), more=["--require-hashes"])
        install_into(content, str(ROOT), more=["--no-build-isolation"])
        _write(output, content)
    return output


def _pinned(names: tuple[str, ...]) -> str:
    """The lock file's entries of these libraries, with their hashes."""
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9#]|\Z)", lock, re.MULTILINE | re.DOTALL)
    pinned = [entry for entry in entries if entry.split("==")[0] in names]
    assert len(pinned) == len(names), f"the lock file lacks one of {names}"
    return "".join(re.sub(r"^\s+#.*\n", "", entry, flags=re.MULTILINE) for entry in pinned)


def _write(output: Path, content: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as file:
        file.write(_START)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(_entry("__main__.py"), _MAIN)
            for name, path in files_below(content):
                if not name.startswith(("bin/", "share/")):
                    packed.writestr(_entry(name), path.read_bytes())
    output.chmod(0o755)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _NO_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def main() -> int:
    """Build it, and tell its place and size."""
    output = build(DIST / "staleline.pyz")
    print(f"{output.relative_to(ROOT)}  {output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
