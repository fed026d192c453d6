# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make run` shows: this host, and then a real EPYC with a real Debian kernel.

Exit status 0 when both parts ran, whatever the verdicts; the verdicts are shown.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ROME = Path("tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test")
SERIES = "6.12"


def main() -> int:
    """Run both parts; the second only if a kernel image can be had."""
    _title("This host")
    failed = _staleline() == 1
    _title(f"A dual EPYC 7742 (Rome) that kexecs from Debian's Linux {SERIES}")
    image = _debian_image()
    if image is None:
        print("No Debian kernel could be downloaded here, so this part is left out.")
        print("Try it with an image of your own: staleline audit --kernel /path/to/vmlinuz")
        return int(failed)
    status = _staleline(
        *("audit", "--snapshot", str(ROME), "--kernel", str(image)),
        *("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on"),
        *("--state", "offline_cpus=none", "--path", "kexec"),
    )
    return int(failed or status == 1)


def _title(text: str) -> None:
    print(f"\n── {text} {'─' * max(0, 90 - len(text))}", flush=True)


def _staleline(*arguments: str) -> int:
    command = [sys.executable, "-m", "staleline", *arguments]
    print(f"$ {shlex.join(['staleline', *arguments])}\n", flush=True)
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode  # noqa: S603


def _debian_image() -> Path | None:
    """The cached or freshly downloaded image; the fetcher says why if there is none."""
    fetcher = REPOSITORY / "tools/fetch_kernels.py"
    print(f"getting a Debian kernel image of series {SERIES} ...", flush=True)
    command = [sys.executable, str(fetcher), "--series", SERIES]
    found = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603
    if found.returncode != 0 or not found.stdout.strip():
        return None
    return Path(found.stdout.splitlines()[0].split("\t")[-1])


if __name__ == "__main__":
    sys.exit(main())
