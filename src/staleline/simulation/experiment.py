# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that kexecs into another on a simulated machine: what is needed, and what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Final

from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import Configuration, CpuModel, RunBounds, Way, run, run_ways
from staleline.simulation.medium import BootImage, Probe, boot_memory, initramfs
from staleline.simulation.observation import SeenRun, seen_run
from staleline.vocabulary import Path

__all__ = ["COMMAND_LINE", "Experiment", "SimulatedCpus", "run_experiment", "run_experiments"]

#: What every kernel is given. Addresses are to be those of its symbols; the timer check fails in
#: emulators; a reboot would hide what a panic said; and the cold start of 115,200 baud is slow.
COMMAND_LINE: Final = "console=ttyS0,115200 nokaslr no_timer_check panic=-1 quiet"
_CRASH_RESERVATION: Final = {"probe": "crashkernel=48M", "kernel": "crashkernel=256M"}
_SECONDS_OF_A_WAY: Final = 240
# As kdump's documentation gives them (6.12 Documentation/admin-guide/kdump/kdump.rst:423).
_OPTIONS_OF_A_CRASH_KERNEL: Final = "nr_cpus=1 reset_devices"


class SimulatedCpus(StrEnum):
    """A machine by what a user calls it."""

    AMD = "amd"
    AMD_COHERENT = "amd-coherent"
    HYGON = "hygon"

    @property
    def model(self) -> CpuModel:
        """The CPU model that has its leaves."""
        return {
            SimulatedCpus.AMD: CpuModel.ROME,
            SimulatedCpus.AMD_COHERENT: CpuModel.MILAN,
            SimulatedCpus.HYGON: CpuModel.HYGON,
        }[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is run once.

    Attributes:
        kernel: The first kernel.
        following: The next one, or a probe in its place.
        command_line: The user's part of the first kernel's.
        next_command_line: Likewise of the next one's.
        path: How it goes on.
        machine: Whose CPUs.
        cpus: How many.
        megabytes: Of RAM.
        mem_encrypt: Whether firmware has enabled memory encryption.
        nmi_delay: Ticks by which an NMI to another CPU is late at most.
        caches: Options of the machine's caches.
    """

    kernel: BootImage
    following: BootImage | Probe
    command_line: str = "mem_encrypt=on"
    next_command_line: str = "mem_encrypt=on"
    path: Path = Path.KEXEC
    machine: SimulatedCpus = SimulatedCpus.AMD
    cpus: int = 2
    megabytes: int = 768
    mem_encrypt: bool = True
    nmi_delay: int = 0
    caches: dict[str, str | int] = field(default_factory=dict)

    def with_caches(self, **options: str | int) -> Experiment:
        """The same, but for these options of the caches."""
        return replace(self, caches={**self.caches, **options})

    @property
    def whole_command_line(self) -> str:
        """All that the first kernel is given."""
        crash = ""
        if self.path is Path.CRASH:
            kind = "probe" if isinstance(self.following, Probe) else "kernel"
            crash = f" {_CRASH_RESERVATION[kind]}"
        return f"{COMMAND_LINE}{crash} {self.command_line}"

    @property
    def whole_next_command_line(self) -> str:
        """All that the next kernel is given."""
        crash = f" {_OPTIONS_OF_A_CRASH_KERNEL}" if self.path is Path.CRASH else ""
        return f"{COMMAND_LINE}{crash} {self.next_command_line}"


def run_experiment(
    experiment: Experiment, emulator: BuiltMachine, folder: FilePath, bounds: RunBounds
) -> SeenRun:
    """Run it once; the machine's files go to `folder`.

    Raises:
        KernelImageError: The machine has no room for the kernel.
    """
    configuration = _configuration(experiment, [experiment], emulator, folder)
    return seen_run(run(emulator, configuration, folder, bounds))


def run_experiments(
    first: Experiment,
    experiments: Sequence[Experiment],
    emulator: BuiltMachine,
    folder: FilePath,
    bounds: RunBounds,
) -> list[SeenRun]:
    """Boot once for several experiments that begin alike, and go on with each.

    Args:
        first: What holds until the next kernel is loaded.
        experiments: They differ from it in `following`, `path`, `next_command_line` and `caches`
            alone.
        emulator: A build.
        folder: For the machine's files.
        bounds: Of all of it; each has four minutes of CPU time from there on.

    Raises:
        KernelImageError: The machine has no room for the kernel.
    """
    configuration = _configuration(first, experiments, emulator, folder)
    ways = [Way(number, _SECONDS_OF_A_WAY, each.caches) for number, each in enumerate(experiments)]
    ended = run_ways(emulator, configuration, folder, bounds, ways)
    return [seen_run(each) for each in ended]


def _configuration(
    first: Experiment, experiments: Sequence[Experiment], emulator: BuiltMachine, folder: FilePath
) -> Configuration:
    floppy = folder / "floppy"
    folder.mkdir(parents=True, exist_ok=True)
    floppy.write_bytes(emulator.guest("boot").ljust(1440 * 1024, b"\0"))
    init = emulator.guest("init")
    files = {
        f"next/{_digit(number)}/{name}": content
        for number, experiment in enumerate(experiments)
        for name, content in _next_files(experiment, init).items()
    }
    return Configuration(
        model=first.machine.model,
        cpus=first.cpus,
        megabytes=first.megabytes,
        mem_encrypt=first.mem_encrypt,
        nmi_delay=first.nmi_delay,
        caches=first.caches,
        memory=boot_memory(
            first.kernel,
            initramfs({"init": init}, files),
            first.whole_command_line,
            first.megabytes,
        ),
        floppy=floppy,
    )


def _digit(number: int) -> str:
    """A way by its number, as next() of machine/guest/init.c calls it."""
    return chr(ord("0") + number)


def _next_files(experiment: Experiment, init: bytes) -> dict[str, bytes]:
    following = experiment.following
    path = {"path": str(experiment.path).encode()}
    if isinstance(following, Probe):
        return {**path, "probe": following.file}
    return {
        **path,
        "kernel": following.file,
        "initramfs": initramfs({"init": init}, {}),
        "command-line": experiment.whole_next_command_line.encode(),
    }
