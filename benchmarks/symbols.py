# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols of a kernel without symbol table, side by side with vmlinux-to-elf.

For each image given, or each that is cached, unpacked to its bare ELF file: wall seconds of
a process that prints every symbol, by `load_image` and by ``kallsyms-finder`` and
``vmlinux-to-elf`` (of the PyPI package vmlinux-to-elf, which this project does not install),
and within our process the seconds to load, to look up 20 names, and to expand all. "same"
counts symbols that kallsyms-finder gives the same address. Prints a table.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cold_start import cached_images

from staleline.kernel.file.container import unpack_kernel
from staleline.kernel.file.source import MemoryBytes
from staleline.kernel.image.assembly import load_image

LIMIT = 120  # seconds
NAMES = (
    *("stop_this_cpu", "machine_kexec", "relocate_kernel", "early_cpu_init", "identify_cpu"),
    *("boot_cpu_data", "sme_me_mask", "sev_status", "page_offset_base", "vmemmap_base"),
    *("__per_cpu_start", "__per_cpu_end", "this_cpu_off", "cpu_info", "crash_nmi_callback"),
    *("native_machine_crash_shutdown", "linux_banner", "_text", "_etext", "_end"),
)
OURS = """
import sys
import numpy
from staleline.kernel.image.assembly import load_image
symbols = load_image(sys.argv[1]).symbols
for address in numpy.unique(symbols.sorted_addresses).tolist():
    for name in symbols.names_at(address):
        print(f"{address:016x} {name}")
"""


def seconds_of(command: list[str]) -> tuple[str, set[tuple[str, str]]]:
    """Wall seconds of a process, and the symbols it printed."""
    start = time.perf_counter()
    try:
        ran = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=LIMIT, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return f"> {LIMIT}", set()
    seconds = time.perf_counter() - start
    listed = set(re.findall(r"^([0-9a-f]{16}) .*?(\S+)$", ran.stdout, re.MULTILINE))
    return f"{seconds:.2f}" if ran.returncode == 0 else "failed", listed


def steps(path: Path) -> tuple[float, float, float]:
    """Seconds to load, to look up the names, and to expand every name."""
    start = time.perf_counter()
    symbols = load_image(path).symbols
    loaded = time.perf_counter()
    for name in NAMES:
        symbols.addresses(name)
    found = time.perf_counter()
    for index in range(len(symbols)):
        symbols._names.name(index)
    return loaded - start, found - loaded, time.perf_counter() - found


def main() -> None:
    """Print one row per cached image."""
    others = {name: tool(name) for name in ("kallsyms-finder", "vmlinux-to-elf")}
    for name, found in others.items():
        if found is None:
            print(f"{name} is missing: pip install vmlinux-to-elf", file=sys.stderr)
    print(
        f"{'image':36} {'symbols':>8} {'load':>6} {'look up':>7} {'expand':>6} {'process':>8}"
        f" {'kallsyms-finder':>24} {'vmlinux-to-elf':>15}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for image in [Path(name) for name in sys.argv[1:]] or cached_images():
            data = memoryview(image.read_bytes())
            elf = unpack_kernel(MemoryBytes(str(image), data)).elf
            path, out = Path(scratch) / "vmlinux", Path(scratch) / "out"
            path.write_bytes(elf.read(0, elf.size))
            load, look_up, expand = steps(path)
            ours, symbols = seconds_of([sys.executable, "-c", OURS, str(path)])
            finder = others["kallsyms-finder"]
            finders, theirs = seconds_of([finder, str(path)]) if finder else ("-", set())
            same = f"{finders} ({len(symbols & theirs)} same)"
            converter = others["vmlinux-to-elf"]
            converted = seconds_of([converter, str(path), str(out)])[0] if converter else "-"
            release = image.name.removeprefix("vmlinuz-")
            print(
                f"{release:36} {len(symbols):8} {load:6.2f} {look_up:7.3f} {expand:6.2f}"
                f" {ours:>8} {same:>24} {converted:>15}",
                flush=True,
            )


def tool(name: str) -> str | None:
    """Path of a program, beside this Python or on the search path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


if __name__ == "__main__":
    main()
