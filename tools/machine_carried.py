# SPDX-License-Identifier: GPL-2.0-or-later
"""See on the simulated machine what a kernel gets of what the one before has left it.

Boots a kernel with machine/guest/carried.c as its first process, which leaves to the next kernel
what it can, goes on by one of several ways, and tells what has come. Prints what both kernels tell,
how the machine ended, and what it counted.

Exit status: 0 it ended by switching itself off, 1 it did not, or could not be started.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.build_machine import BuildError, compiled_guest, installed

from staleline.errors import StalelineError
from staleline.simulation.emulator import BuiltMachine, machine_cache
from staleline.simulation.execution import (
    Configuration,
    CpuModel,
    EndedRun,
    Ending,
    RunBounds,
    run,
)
from staleline.simulation.experiment import COMMAND_LINE
from staleline.simulation.medium import BootImage, boot_image, boot_memory, initramfs

__all__ = ["WAYS", "Journey", "memory_of"]

#: As carried.c calls them. Of a jump and of hibernation the same kernel comes back.
WAYS: Final = ("kexec", "crash", "jump", "hibernation")
_FLOPPY: Final = 1440 * 1024
_RESERVATION: Final = "crashkernel=160M"
_CRASH_KERNEL: Final = "nr_cpus=1 reset_devices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """What is run.

    Attributes:
        way: One of `WAYS`.
        kernel: The first kernel.
        following: The next one.
        first: The user's part of the first kernel's command line.
        second: Likewise of the next one's.
        common: Of both.
        megabytes: Of RAM.
        numbers: What carried.c reads from /next of the first kernel, by name.
        fill: Megabytes that the next kernel's process stores to, and loads.
    """

    way: str
    kernel: BootImage
    following: BootImage
    first: str = "mem_encrypt=on"
    second: str = "mem_encrypt=on"
    common: str = ""
    megabytes: int = 512
    numbers: tuple[tuple[str, int], ...] = ()
    fill: int = 0

    @property
    def command_line(self) -> str:
        """All that the first kernel is given."""
        reserved = "crashkernel=" in self.first
        crash = _RESERVATION if self.way == "crash" and not reserved else ""
        return " ".join((COMMAND_LINE, self.common, crash, self.first))

    @property
    def next_command_line(self) -> str:
        """All that the next kernel is given."""
        crash = _CRASH_KERNEL if self.way == "crash" else ""
        return " ".join((COMMAND_LINE, self.common, crash, self.second))


def memory_of(journey: Journey, guest: bytes) -> Configuration:
    """The machine's memory, with carried.c as first process of both kernels."""
    inner = initramfs({"init": guest}, {"fill": str(journey.fill).encode()})
    files = {
        "next/path": journey.way.encode(),
        "next/kernel": journey.following.file,
        "next/initramfs": inner,
        "next/command-line": journey.next_command_line.encode(),
        **{f"next/{name}": str(number).encode() for name, number in journey.numbers},
    }
    archive = initramfs({"init": guest}, files)
    memory = boot_memory(journey.kernel, archive, journey.command_line, journey.megabytes)
    return Configuration(megabytes=journey.megabytes, memory=memory)


def main(arguments: list[str] | None = None) -> int:
    """Run one journey."""
    options = _options(arguments)
    try:
        ended = _ended(options, installed(), options.keep)
    except (BuildError, StalelineError) as error:
        sys.stderr.write(f"machine_carried: {error}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in _told(ended)))
    return 0 if ended.ending is Ending.POWERED_OFF else 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--kernel", type=Path, required=True, help="bzImage")
    parser.add_argument("--next", type=Path, help="bzImage (default: the same)")
    parser.add_argument("--first", default="mem_encrypt=on", help="command line of the first")
    parser.add_argument("--second", default="mem_encrypt=on", help="of the next")
    parser.add_argument("--common", default="", help="of both")
    parser.add_argument("--on", type=CpuModel, default=CpuModel.ROME, choices=list(CpuModel))
    parser.add_argument("--megabytes", type=int, default=512, help="of RAM")
    parser.add_argument("--caches", type=_setting, nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--set",
        type=_setting,
        nargs="*",
        default=[],
        metavar="NAME=N",
        help="for carried.c: fill, at, size (megabytes), reuse, hotplug (1)",
    )
    parser.add_argument("--fill", type=int, default=0, help="megabytes that the next one stores to")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds")
    parser.add_argument("--keep", type=Path, default=machine_cache() / "carried")
    return parser.parse_args(arguments)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"not NAME=VALUE: {text}")
    return name, value


def _ended(options: argparse.Namespace, emulator: BuiltMachine, folder: Path) -> EndedRun:
    folder.mkdir(parents=True, exist_ok=True)
    kernel = boot_image(options.kernel)
    journey = Journey(
        way=options.way,
        kernel=kernel,
        following=boot_image(options.next) if options.next else kernel,
        first=options.first,
        second=options.second,
        common=options.common,
        megabytes=options.megabytes,
        numbers=_numbers(options.set),
        fill=options.fill,
    )
    floppy = folder / "floppy"
    floppy.write_bytes(emulator.guest("boot").ljust(_FLOPPY, b"\0"))
    memory = memory_of(journey, compiled_guest("carried", folder))
    configuration = Configuration(
        model=options.on,
        megabytes=memory.megabytes,
        memory=memory.memory,
        caches=dict(options.caches),
        floppy=floppy,
    )
    return run(emulator, configuration, folder, RunBounds(seconds=options.timeout))


def _numbers(settings: Sequence[tuple[str, str]]) -> tuple[tuple[str, int], ...]:
    return tuple((name, int(value)) for name, value in settings)


def _told(ended: EndedRun) -> list[str]:
    lines = [line for line in ended.console.splitlines() if line.startswith("==")]
    counted = [
        f"destroyed {summary['destroyed']}, loads through the wrong alias "
        f"{summary['wrong_alias_loads']}, invariants broken {summary['invariants_broken']}"
        for summary in ended.events("summary")
    ]
    return [*lines, *counted, f"{ended.ending} {ended.reason}".rstrip()]


if __name__ == "__main__":
    sys.exit(main())
