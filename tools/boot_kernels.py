# SPDX-License-Identifier: GPL-2.0-or-later
"""Kexec between built kernels in an emulated machine and count WBINVD per CPU.

What was counted, from outside, is compared with what `staleline` reads from the images for the
same facts. Prints a table in Markdown, one line per machine and kernel that was left.

Exit status: 0 all counts are as predicted and all CPUs came up, 1 some are not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.boot_machine import CPUS, Answers, BootError, Flushes, Layout, Machine
from tools.boot_questions import questions
from tools.build_kernels import KERNELS, read_record
from tools.fetch_kernels import default_cache

from staleline.kernel.boot.decision import Decision
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.inventory.inventory import wbinvd_inventory
from staleline.kernel.inventory.roles import Phase
from staleline.kernel.sites.runner import KernelReader
from tools import boot_machine

_KERNELS: Final = ("6.12", "6.12-host-mem-incoherent")
_ALL_ONLINE: Final = f"0-{CPUS - 1}"
_CRASHING: Final = 1  # not the boot CPU, to tell the two apart
_SECONDS: Final = 900
_ENTRY_SIZE: Final = 32  # enough to tell one kernel from another
_COPIED: Final = ("identity_mapped", "relocate_kernel")
_FALSE: Final = dict.fromkeys(
    ("leaf", "sme", "sev", "hypervisor", "sme_enabled", "sev_status", "mem_encrypt"), False
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One machine of machines.toml.

    Attributes:
        name: In the table.
        cpu: QEMU's -cpu.
        facts: The same for `staleline`.
        answers: What QEMU cannot present.
    """

    name: str
    cpu: str
    facts: RawFacts
    answers: Answers


def scenarios() -> list[Scenario]:
    """All machines of machines.toml."""
    entries = tomllib.loads((KERNELS / "boot" / "machines.toml").read_text())["machine"]
    return [_scenario(entry) for entry in entries]


def _scenario(entry: Mapping[str, Any]) -> Scenario:
    cpuid = {int(leaf, 16): tuple(values) for leaf, values in entry.get("cpuid", {}).items()}
    msr = {int(number, 16): value for number, value in entry.get("msr", {}).items()}
    facts = RawFacts(**(_FALSE | entry["facts"]))
    return Scenario(entry["name"], entry["cpu"], facts, Answers(cpuid, msr))


@dataclass(frozen=True, slots=True)
class Kernel:
    """A built kernel, where its instructions are, and what reads it."""

    bzimage: Path
    layout: Layout
    reader: KernelReader


def main(arguments: list[str] | None = None) -> int:
    """Run every scenario and print the table."""
    options = _options(arguments)
    wrong = 0
    try:
        boot_machine.check_prerequisites()
        kernels = dict(_kernel(options.cache / "built" / name) for name in options.kernel)
        with tempfile.TemporaryDirectory() as folder:
            plugin = boot_machine.build_plugin(KERNELS / "boot" / "wbinvd.c", Path(folder))
            images = {release: kernel.bzimage for release, kernel in kernels.items()}
            initramfs = boot_machine.make_initramfs(KERNELS / "boot" / "init", images, Path(folder))
            for line, right in _table(options, kernels, plugin, initramfs):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
                wrong += not right
    except BootError as error:
        sys.stderr.write(f"boot_kernels: {error}\n")
        return 1
    return 1 if wrong else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    names = [scenario.name for scenario in scenarios()]
    parser.add_argument("kernel", nargs="*", default=_KERNELS, help="two builds")
    parser.add_argument("--machine", action="append", choices=names, help="default: all")
    parser.add_argument("--jumps", type=int, default=10, help="per machine (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    parser.add_argument("--keep", type=Path, help="write what each machine said to this folder")
    return parser.parse_args(arguments)


def _kernel(folder: Path) -> tuple[str, Kernel]:
    record = read_record(folder)
    if record is None:
        raise BootError(f"{folder.name} is not built: make kernels")
    image = load_image(folder / "vmlinux")
    layout = layout_of(image, record.release)
    return record.release, Kernel(folder / "bzImage", layout, KernelReader(image))


def layout_of(image: KernelImage, release: str) -> Layout:
    """Where an image has the instructions that are counted and answered."""
    on_the_way = [
        place
        for place in wbinvd_inventory(image).places
        if place.role and place.role.phase in (Phase.KEXEC, Phase.CRASH)
    ]
    # Since 6.14 the copied code has a section of its own, not at the start of a page.
    section = image.symbols.address("__relocate_kernel_start") or 0
    copied = {place.address for place in on_the_way if place.function in _COPIED}
    entry = image.symbols.address("start_kernel") or 0
    return Layout(
        release=release,
        in_place=frozenset(place.address for place in on_the_way) - copied,
        copied=frozenset((address - section) & 0xFFF for address in copied),
        entry=entry,
        entry_code=image.read(entry, _ENTRY_SIZE),
        questions=questions(image),
    )


def _table(
    options: argparse.Namespace, kernels: Mapping[str, Kernel], plugin: Path, initramfs: Path
) -> Iterable[tuple[str, bool]]:
    yield "| machine | left | jumps | WBINVD per CPU, counted | predicted | next kernel |", True
    yield "|---|---|---|---|---|---|", True
    layouts = {release: kernel.layout for release, kernel in kernels.items()}
    first = next(iter(kernels.values())).bzimage
    tasks = [f"jumps={options.jumps}", f"crash={_CRASHING}"]
    for scenario in scenarios():
        if options.machine and scenario.name not in options.machine:
            continue
        decisions = {
            release: kernel.reader.decide(raw_machine(scenario.facts))
            for release, kernel in kernels.items()
        }
        seen: list[Flushes] = []
        for number, (start, task) in enumerate(_runs(first, kernels, tasks)):
            machine = Machine(scenario.cpu, start, initramfs, task, scenario.answers)
            output = machine.run(layouts, plugin, _SECONDS)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{scenario.name} {number}.txt").write_text(output)
            seen += boot_machine.flushes(output, layouts)
        yield from _lines(scenario, seen, decisions)


def _runs(
    first: Path, kernels: Mapping[str, Kernel], tasks: list[str]
) -> Iterable[tuple[Path, str]]:
    jumps, crash = tasks
    yield first, jumps
    for kernel in kernels.values():
        yield kernel.bzimage, crash


def _lines(
    scenario: Scenario, seen: list[Flushes], decisions: Mapping[str, Decision]
) -> Iterable[tuple[str, bool]]:
    groups: dict[tuple[str, bool, tuple[int, ...], str], int] = {}
    for jump in seen:
        came_up = "crash kernel" if jump.crash else f"CPUs {jump.online}"
        key = (jump.release, jump.crash, jump.executed, came_up)
        groups[key] = groups.get(key, 0) + 1
    for (release, crash, counted, came_up), jumps in groups.items():
        expected = predicted(decisions[release], crash=crash)
        right = counted == expected and came_up in ("crash kernel", f"CPUs {_ALL_ONLINE}")
        how = f"{release}{', crash' if crash else ''}"
        cells = (scenario.name, how, jumps, _numbers(counted), _numbers(expected), came_up)
        yield "| " + " | ".join(map(str, cells)) + " |", right


def predicted(decision: Decision, *, crash: bool) -> tuple[int, ...] | None:
    """WBINVDs of each CPU; None if `staleline` does not know."""
    if crash:
        sites = (decision.crash_nmi_callback.flushes, decision.crash_relocate_kernel.flushes)
    else:
        sites = (decision.stop_this_cpu.flushes, decision.relocate_kernel.flushes)
    if None in sites:
        return None
    jumping = _CRASHING if crash else 0
    return tuple(int(bool(sites[cpu == jumping])) for cpu in range(CPUS))


def _numbers(counts: tuple[int, ...] | None) -> str:
    return "unknown" if counts is None else " ".join(map(str, counts))


if __name__ == "__main__":
    sys.exit(main())
