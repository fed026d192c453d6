#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fuzz what reads kernel images: whatever a file holds, an image or one line comes of it.

``python -m tests.fuzz.images [--seconds N] [--runs N] [--seed N] [--corpus DIR] [TARGET...]``

Every target runs in processes of its own under libFuzzer (atheris) with a limit on memory
and on the time one input takes, and starts from images that the writers of the tests make.
Prints one line per target: executions, edges covered, highest memory, and how it ended.

Exit status: 0 all targets ran to their end, 1 some did not; the input that stopped one is
in the corpus directory, as ``TARGET-crash-*``, ``-timeout-*`` or ``-oom-*``.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["staleline.kernel"]):
    from staleline.kernel.file.packages import read_package
    from staleline.kernel.file.source import MemoryBytes
    from staleline.kernel.image.assembly import load_image
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.image.kallsyms import Area, find_kallsyms

from staleline.errors import KernelImageError
from tests.fuzz.rounds import Total
from tests.fuzz.seeds import SEEDS
from tests.kernel.kernelwriter import RODATA, TEXT

MEMORY_MB = 500
SECONDS_PER_INPUT = 10
LONGEST_INPUT = 1 << 17


def main() -> int:
    """Run the targets one after another."""
    options = _options()
    if options.child:
        _fuzz(options.targets[0], options)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = options.corpus or Path(scratch)
        ended = [_run(target, options, corpus) for target in options.targets or TARGETS]
    return 0 if all(ended) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=1800, help="for all targets together")
    parser.add_argument("--runs", type=int, default=-1, help="inputs per target; default: no limit")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--corpus", type=Path, help="keep what was found here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}")
    return options


def _run(target: str, options: argparse.Namespace, corpus: Path) -> bool:
    """One target, in one process after another; True if all ran to their end."""
    total = Total()
    ends = time.monotonic() + options.seconds / len(options.targets or TARGETS)
    while not total.failed and time.monotonic() < ends:
        if not (inputs := total.next_round(options.runs)):
            break
        command = [sys.executable, "-m", "tests.fuzz.images", "--child", target]
        command += [f"--runs={inputs}", f"--seed={options.seed}"]
        command += [f"--seconds={max(1, round(ends - time.monotonic()))}"]
        command += [f"--corpus={corpus.absolute()}"]
        ran = subprocess.run(
            command, check=False, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        total.add(ran.stderr, ran.returncode)
    sys.stdout.write(
        f"{target}: {total.inputs} inputs, {total.edges} edges, at most {total.memory} MB, "
        f"{total.failed or 'ended'}\n"
    )
    sys.stdout.flush()
    return not total.failed


def _fuzz(target: str, options: argparse.Namespace) -> None:
    directory = options.corpus / target
    directory.mkdir(parents=True, exist_ok=True)
    seeds = dict(SEEDS[target]())
    for name, content in seeds.items():
        (directory / f"seed-{name}").write_bytes(content)
    arguments = [f"-max_total_time={options.seconds}", f"-runs={options.runs}"]
    arguments += [f"-seed={options.seed}", f"-timeout={SECONDS_PER_INPUT}"]
    arguments += [f"-rss_limit_mb={MEMORY_MB}", f"-max_len={LONGEST_INPUT}"]
    arguments += [f"-artifact_prefix={options.corpus}/{target}-", "-print_final_stats=1"]
    read, changed = _tolerant(TARGETS[target]), _changing(list(seeds.values()))
    atheris.Setup([sys.argv[0], *arguments, str(directory)], read, custom_mutator=changed)
    atheris.Fuzz()


def _changing(seeds: list[bytes]) -> Callable[[bytes, int, int], bytes]:
    """Half of the inputs libFuzzer makes, half are a seed with a few bytes changed.

    libFuzzer prefers short inputs, and leaves behind the seeds that read as whole images.
    """

    def changed(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.5:
            mutated: bytes = atheris.Mutate(data, max_size)
            return mutated
        image = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            image[chance.randrange(len(image))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        return bytes(image[:max_size])

    return changed


def _tolerant(read: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The one error that a reader may raise is no finding, if it is one line."""

    def tested(data: bytes) -> None:
        try:
            read(data)
        except KernelImageError as error:
            if "\n" in str(error) or not error.do:
                raise ValueError(f"not one line with a remedy: {error!r}") from error

    return tested


def _loader(data: bytes) -> None:
    descriptor = os.memfd_create("image")
    try:
        os.write(descriptor, data)
        _use(load_image(f"/proc/self/fd/{descriptor}"))
    finally:
        os.close(descriptor)


def _use(image: KernelImage) -> None:
    for name in image.sections:
        try:
            image.section_bytes(name)
        except KernelImageError:
            continue
    for address in (0, TEXT, TEXT + 33, RODATA, 1 << 63):
        image.symbols.enclosing(address)
    for symbol in ("_text", "function_1", "duplicate", "", "x" * 600):
        image.symbols.addresses(symbol)


def _kallsyms(data: bytes) -> None:
    found = find_kallsyms(Area(RODATA, memoryview(data)), range(TEXT, TEXT + (1 << 30)))
    if found is None:
        return
    for index in range(0, len(found.names), 1 + len(found.names) // 64):
        name = found.names.name(index)
        if name.isascii() and len(name) < 1024 and index not in found.names.find(name):
            raise ValueError(f"symbol {index} is not found by its name")


def _package(data: bytes) -> None:
    read_package(MemoryBytes("package", memoryview(data)))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "loader": _loader,
    "kallsyms": _kallsyms,
    "package": _package,
}

if __name__ == "__main__":
    sys.exit(main())
