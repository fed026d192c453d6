# SPDX-License-Identifier: GPL-2.0-or-later
"""One image and one machine, from a cold process to the verdict.

For each cached image: wall time and peak memory of `staleline audit` as a process of its
own, and the share of that time that merely decompressing the image takes. Medians of
`RUNS` runs; prints a table.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from staleline.kernel.file.bzimage import read_setup_header
from staleline.kernel.file.decompress import decompress

RUNS = 5
REPOSITORY = Path(__file__).resolve().parent.parent
ROME = REPOSITORY / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"


def cached_images() -> list[Path]:
    """Images that `tools/fetch_kernels.py` has put into the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return sorted((cache / "staleline" / "kernels").glob("vmlinuz-*"))


def audit_seconds(image: Path) -> float:
    """Wall seconds of one audit, process start included."""
    command = [sys.executable, "-m", "staleline", "audit", "--snapshot", str(ROME)]
    command += ["--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on"]
    command += ["--path", "kexec", "--kernel", str(image), "--json"]
    start = time.perf_counter()
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - start


def decompression_seconds(image: Path) -> float:
    """Wall seconds to unpack the payload alone, in this warm process."""
    raw = memoryview(image.read_bytes())
    header = read_setup_header(raw, str(image), len(raw))
    payload = raw[header.payload_offset :][: header.payload_length]
    start = time.perf_counter()
    decompress(payload, str(image))
    return time.perf_counter() - start


def main() -> None:
    """Print one row per cached image."""
    print(f"{'image':44} {'audit s':>8} {'of it decompression s':>22}")
    for image in cached_images():
        audit = statistics.median(audit_seconds(image) for _ in range(RUNS))
        unpack = statistics.median(decompression_seconds(image) for _ in range(RUNS))
        print(f"{image.name:44} {audit:8.2f} {unpack:22.2f}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"peak memory of an audit: {peak} MB")


if __name__ == "__main__":
    main()
