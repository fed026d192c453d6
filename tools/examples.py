# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the files that README.md names into one directory, under the names it has for them.

The kernels are downloaded once, as for the tests; what the mirror serves may be another build
of the same series.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DIRECTORY = REPOSITORY / "examples"

_CPUID = REPOSITORY / "tests/data/cpuid"
#: Name in README.md -> the dump.
DUMPS = {
    "rome.txt": _CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test",
    "hygon-c86-3250.cpuid": _CPUID / "registers/hygon-c86-3250.cpuid",
}
#: Name in README.md -> the kernel, as tests/data/kernels.toml calls it.
KERNELS = {
    "vmlinuz-5.10": "5.10",
    "vmlinuz-6.12": "6.12",
    "vmlinuz-6.18": "6.18",
    "vmlinuz-7.3": "7-generic",
}


def main() -> int:
    """Link them all; exit status 1 if a kernel cannot be had."""
    DIRECTORY.mkdir(exist_ok=True)
    missing = 0
    for name, target in (*DUMPS.items(), *((name, _kernel(of)) for name, of in KERNELS.items())):
        if target is None:
            print(f"{name}: could not be downloaded here", file=sys.stderr)
            missing += 1
            continue
        link = DIRECTORY / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        print(f"{link.relative_to(REPOSITORY)} -> {target}")
    return 1 if missing else 0


def _kernel(series: str) -> Path | None:
    """The cached or freshly downloaded image; the fetcher says why if there is none."""
    command = [sys.executable, str(REPOSITORY / "tools/fetch_kernels.py"), "--series", series]
    found = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603
    if found.returncode != 0 or not found.stdout.strip():
        return None
    return Path(found.stdout.splitlines()[0].split("\t")[-1])


if __name__ == "__main__":
    sys.exit(main())
