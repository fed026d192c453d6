# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that tests need, from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess

__all__ = ["installed"]


def installed(program: str, package: str) -> str:
    """The program's path; installs its Debian package where it is absent, which needs root.

    Raises:
        RuntimeError: It could not be installed.
    """
    found = shutil.which(program)
    if found is not None:
        return found
    for command in (["update"], ["install", "--no-install-recommends", package]):
        done = subprocess.run(  # noqa: S603
            # Another process may be installing it at the same time.
            ["apt-get", "-q", "-y", "-oDPkg::Lock::Timeout=300", *command],  # noqa: S607
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    found = shutil.which(program)
    if found is None:
        reason = done.stderr.strip()[-200:]
        raise RuntimeError(
            f"cannot install {package}: {reason}; as root: apt-get install {package}"
        )
    return found
