# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds a Debian package of staleline, for Debian 12 and later.

It depends on what the package itself needs, all of which Debian has. What reads images is
suggested, not needed; where Debian's versions are too old for it, a virtual environment is the
way (README).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tools.packages.tree import DIST, ROOT, files_below, install_into

__all__ = ["build", "main"]

#: PyPI's name -> Debian's, with the oldest version that staleline is tried with (Debian 12).
_DEPENDS = {
    "click": "python3-click (>= 8.1)",
    "rich": "python3-rich (>= 13.3)",
    "zstandard": "python3-zstandard (>= 0.20)",
}
_SUGGESTS = ("kexec-tools", "python3-venv")
_MAINTAINER = "The staleline maintainers <staleline@localhost>"
_COMPILE = "py3compile -p staleline /usr/lib/python3/dist-packages/staleline\n"
_CLEAN = "py3clean -p staleline\n"
_SCRIPT = "#!/bin/sh\nset -e\n"
_COMMAND = """\
#!/usr/bin/python3
import sys

from staleline.cli.main import main

sys.exit(main())
"""
_COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: staleline

Files: *
Copyright: The staleline maintainers
License: GPL-2.0-or-later
 On Debian systems the text is in /usr/share/common-licenses/GPL-2.
"""


def build(folder: Path) -> Path:
    """Write the package into the folder.

    Raises:
        subprocess.CalledProcessError: pip or dpkg-deb failed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    output = folder / f"staleline_{project['version']}_all.deb"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary, "staleline")
        _fill(tree)
        _control(tree, project)
        command = ["dpkg-deb", "--root-owner-group", "--build", "-Zxz", str(tree), str(output)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return output


def _fill(tree: Path) -> None:
    """What the package installs, where Debian's policy has it."""
    modules = tree / "usr/lib/python3/dist-packages"
    install_into(modules, str(ROOT), more=["--no-build-isolation"])
    shutil.rmtree(modules / "bin")
    shutil.move(modules / "share", tree / "usr/share")
    for page in (tree / "usr/share/man/man1").iterdir():
        subprocess.run(["gzip", "-9n", str(page)], check=True)  # noqa: S603, S607
    command = tree / "usr/bin/staleline"
    command.parent.mkdir()
    command.write_text(_COMMAND)
    command.chmod(0o755)
    documents = tree / "usr/share/doc/staleline"
    shutil.copytree(ROOT / "docs/examples", documents / "examples", dirs_exist_ok=True)
    (documents / "copyright").write_text(_COPYRIGHT)
    for name in ("README.md", "CHANGELOG.md", "docs/preflight.md"):
        shutil.copy(ROOT / name, documents)


def _control(tree: Path, project: dict[str, object]) -> None:
    """The fields of the package, the sums of its files, and what it runs when installed."""
    named = {str(name).split(">")[0] for name in _listed(project["dependencies"])}
    assert named == set(_DEPENDS), f"Debian's names are known for {set(_DEPENDS)}, not for {named}"
    size = sum(path.stat().st_size for _, path in files_below(tree)) // 1024
    fields = {
        "Package": "staleline",
        "Version": project["version"],
        "Architecture": "all",
        "Maintainer": _MAINTAINER,
        "Installed-Size": size,
        "Depends": ", ".join(["python3 (>= 3.11)", "python3-minimal", *_DEPENDS.values()]),
        "Suggests": ", ".join(_SUGGESTS),
        "Section": "admin",
        "Priority": "optional",
        "Description": "can this kexec leave incoherent cache lines behind?\n"
        " Audits hosts with memory encryption (AMD SME and SEV, Intel TDX) before they kexec.",
    }
    folder = tree / "DEBIAN"
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n"
        for name, path in files_below(tree)
    ]
    folder.mkdir()
    (folder / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    (folder / "md5sums").write_text("".join(sums))
    for name, line in {"postinst": _COMPILE, "prerm": _CLEAN}.items():
        script = folder / name
        script.write_text(_SCRIPT + line)
        script.chmod(0o755)


def _listed(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def main() -> int:
    """Build it, and tell its place and size."""
    output = build(DIST)
    print(f"{output.relative_to(ROOT)}  {output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
