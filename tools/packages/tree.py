# SPDX-License-Identifier: GPL-2.0-or-later
"""The package as pip installs it, without what its dependencies bring: what all builds pack."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["DIST", "ROOT", "files_below", "install_into"]

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"


def install_into(target: Path, *requirements: str, more: Sequence[str] = ()) -> None:
    """Have pip unpack these requirements, and nothing that they depend on, into a folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-compile", "--target", str(target), *more, *requirements]
    subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file with its path from the folder, in the order of the paths."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(folder).as_posix(), path
