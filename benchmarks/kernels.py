# SPDX-License-Identifier: GPL-2.0-or-later
"""The rule of images: cold, many side by side, and from the cache.

- Cold: `staleline kernel --no-cache IMAGE` as a process of its own, against merely
  decompressing the same image with the same library; medians of `RUNS` runs of both, taken
  in turn.
- Many: 12 images on all cores (2 in the figures of docs), nothing cached.
- Cached: the same command again, wall and processor time of the whole process.
- Memory: the most that a process which reads one image had resident.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cold_start import cached_images, decompression_seconds

from staleline.kernel.file.bzimage import read_setup_header
from staleline.unpacking import compression_of

RUNS = 5
MANY = 12
_MEASURE_MEMORY = """
import resource, sys
from staleline.kernel.image.loading import load_and_hash
from staleline.kernel.reading.rule import read_rule
from staleline.kernel.reading.surroundings import read_surroundings
image, digest = load_and_hash(sys.argv[1])
read_rule(image, digest), read_surroundings(image)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def method_of(image: Path) -> str:
    """How an image is compressed."""
    raw = memoryview(image.read_bytes())
    header = read_setup_header(raw, str(image), len(raw))
    return compression_of(raw[header.payload_offset :][: header.payload_length]) or "stored"


def kernel_seconds(*arguments: str, cache: Path) -> tuple[float, float]:
    """Wall seconds of one command, and processor seconds of its first process."""
    command = [sys.executable, "-m", "staleline", "kernel", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)  # noqa: S603
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_megabytes(image: Path) -> int:
    """Of a process that reads one image."""
    command = [sys.executable, "-c", _MEASURE_MEMORY, str(image)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return int(done.stdout)


def print_cold(images: list[Path], cache: Path) -> None:
    """One row for each image."""
    print(f"{'cold':40} {'packed':>6} {'policy s':>9} {'unpack s':>9} {'bound s':>8} {'MB':>5}")
    for image in images:
        pairs = [
            (kernel_seconds("--no-cache", str(image), cache=cache)[0], decompression_seconds(image))
            for _ in range(RUNS)
        ]
        policy, unpack = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"{image.name:40} {method_of(image):>6} {policy:9.2f} {unpack:9.2f} "
            f"{1.5 * unpack + 1:8.2f} {peak_megabytes(image):5}"
        )


def print_many(images: list[Path], cache: Path) -> None:
    """All of them at once, first cold, then cached."""
    names = [str(image) for image in images]
    cold, _ = kernel_seconds(*names, cache=cache)
    wall, processor = kernel_seconds(*names, cache=cache)
    print(f"{len(names)} images on {len(os.sched_getaffinity(0))} cores: {cold:.1f} s cold")
    print(f"the same, cached: {wall:.2f} s, {processor:.2f} s of them on a processor")
    pairs = [kernel_seconds(names[-1], cache=cache) for _ in range(RUNS)]
    wall, processor = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"one image, cached: {wall:.2f} s, {processor:.2f} s of them on a processor")


def main() -> None:
    """Print the tables."""
    images = cached_images()
    by_method = {method_of(image): image for image in images}
    with tempfile.TemporaryDirectory() as cache:
        print_cold(list(by_method.values()), Path(cache))
        print_many(images[-MANY:], Path(cache))


if __name__ == "__main__":
    main()
