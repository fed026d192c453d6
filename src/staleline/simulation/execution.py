# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the simulated machine: its configuration, bounds on a run, and what it reports."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.medium import MemoryImage

__all__ = [
    "Configuration",
    "CpuModel",
    "EndedRun",
    "Ending",
    "RunBounds",
    "Way",
    "ended_in",
    "run",
    "run_ways",
]

_CONSOLE: Final = "console.txt"
_REPORT: Final = "report.jsonl"
_LOG: Final = "bochs.log"
_CONSOLE_BYTES: Final = 4 << 20
_FILE_BYTES: Final = 256 << 20  # of any file: a last resort, beside the machine's own limits
_POLL_SECONDS: Final = 0.1
_SUMMARY_SECONDS: Final = 60  # to check what caches hold, and tell
_RESET: Final = b'"event":"reset"'
#: By ACPI, and by the port that machine/guest/probe.S uses (iodev/unmapped.cc of Bochs).
_POWERED_OFF: Final = ("soft power off", "Shutdown port")
_CPU_TIME: Final = f"SIGNAL {int(signal.SIGXCPU)} caught"


class CpuModel(StrEnum):
    """A CPU model of machine/patches, or of Bochs itself: these have no SME."""

    ROME = "epyc_rome"
    MILAN = "epyc_milan"
    HYGON = "hygon_dhyana"
    ZAMBEZI = "zambezi"
    SKYLAKE = "corei7_skylake_x"


class Ending(StrEnum):
    """How a run came to its end."""

    POWERED_OFF = "powered off"
    STOPPED = "stopped by the machine"
    TIME = "time is up"
    CONSOLE = "too much console output"
    RESET = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A machine, switched off.

    Attributes:
        model: Of its CPUs.
        cpus: How many, all in one package.
        megabytes: Of RAM.
        mem_encrypt: Whether firmware has enabled memory encryption.
        nmi_delay: Ticks by which an NMI to another CPU is late at most.
        caches: Options of the directive "caches" in bochsrc; None for a machine without.
        memory: What it holds when it is switched on.
        floppy: An image to boot from, or None.
    """

    model: CpuModel = CpuModel.ROME
    cpus: int = 2
    megabytes: int = 512
    mem_encrypt: bool = True
    nmi_delay: int = 0
    caches: Mapping[str, str | int] | None = field(default_factory=dict)
    memory: tuple[MemoryImage, ...] = ()
    floppy: Path | None = None

    def bochsrc(self, emulator: BuiltMachine, folder: Path) -> str:
        """The configuration as the emulator reads it; its output goes to `folder`."""
        lines = [
            "config_interface: textconfig",
            "display_library: nogui",
            f"romimage: file={emulator.folder / 'bios'}, options=fastboot",
            f"vgaromimage: file={emulator.folder / 'vgabios'}",
            f"cpu: model={self.model}, count=1:{self.cpus}:1, ips=50000000, rdrand_seed=1, "
            f"reset_on_triple_fault=0, mem_encrypt={int(self.mem_encrypt)}, "
            f"nmi_delay={self.nmi_delay}",
            f"memory: guest={self.megabytes}, host={self.megabytes}",
            # Neither the time of day nor its passing reach the guest.
            "clock: sync=none, time0=1700000000",
            "pci: enabled=1, chipset=i440fx",
            "mouse: enabled=0",
            f"com1: enabled=1, mode=file, dev={folder / _CONSOLE}",
            f"log: {folder / _LOG}",
            "panic: action=fatal",
            "error: action=ignore",
            "info: action=ignore",
            "debug: action=ignore",
        ]
        lines += [
            f"optramimage{number}: file={folder / _memory(number)}, address={image.address:#x}"
            for number, image in enumerate(self.memory, 1)
        ]
        if self.floppy:
            lines += ["boot: floppy", f"floppya: 1_44={self.floppy}, status=inserted"]
        if self.caches is not None:
            options = {"report": folder / _REPORT, **self.caches}
            told = ", ".join(f"{name}={value}" for name, value in options.items())
            lines.append(f"caches: {told}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """What was seen of a machine from power-on to its end.

    Attributes:
        ending: How it ended.
        reason: The machine's last words, where it stopped itself.
        console: What came through the serial port.
        report: The file of events.
        seconds: CPU time of the emulator.
    """

    ending: Ending
    reason: str
    console: str
    report: Path
    seconds: float

    def events(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """Reported events, of these kinds or all."""
        if not self.report.exists():
            return
        with self.report.open() as lines:
            for line in lines:
                if line.endswith("\n"):  # the last one may be cut
                    event = json.loads(line)
                    if not kinds or event["event"] in kinds:
                        yield event


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBounds:
    """What ends a run that has no end of its own.

    Attributes:
        seconds: Of wall-clock time.
        console_bytes: What comes through the serial port.
        resets: After power-on; a kernel that panics may reset the machine, which boots again.
    """

    seconds: float
    console_bytes: int = _CONSOLE_BYTES
    resets: int = 0


def run(
    emulator: BuiltMachine, configuration: Configuration, folder: Path, bounds: RunBounds
) -> EndedRun:
    """Switch a machine on, and off again where a bound is reached.

    Args:
        emulator: A build.
        configuration: The machine.
        folder: For its files, which are replaced.
        bounds: Of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    for number, image in enumerate(configuration.memory, 1):
        (folder / _memory(number)).write_bytes(image.content)
    (folder / "bochsrc").write_text(configuration.bochsrc(emulator, folder))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "emulator.txt").open("w") as out:
        machine = subprocess.Popen(  # noqa: S603
            [str(emulator.program), "-q", "-f", str(folder / "bochsrc")],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=_limit_files,  # noqa: PLW1509
        )
        try:
            ending = _wait(machine, folder, bounds)
            _switch_off(machine)
        finally:
            machine.kill()
            machine.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended_in(folder, ending, after.ru_utime - before.ru_utime)


def ended_in(folder: Path, ending: Ending = Ending.STOPPED, seconds: float = 0) -> EndedRun:
    """A run by what it has left in its folder.

    Args:
        folder: Of its files.
        ending: How it ended, as far as its starter knows.
        seconds: CPU time.
    """
    reason = _last_words(folder) if ending is Ending.STOPPED else ""
    if any(word in reason for word in _POWERED_OFF):
        ending = Ending.POWERED_OFF
    elif _CPU_TIME in reason:
        ending = Ending.TIME
    return EndedRun(
        ending=ending,
        reason=reason,
        console=_console(folder / _CONSOLE),
        report=folder / _REPORT,
        seconds=seconds,
    )


@dataclass(frozen=True, slots=True)
class Way:
    """One of several ways in which a machine goes on from where its guest asks for it.

    Attributes:
        number: What the guest reads, from 0 on.
        seconds: Of CPU time at most.
        caches: Options of the caches from then on.
    """

    number: int
    seconds: int
    caches: Mapping[str, str | int]


def run_ways(
    emulator: BuiltMachine,
    configuration: Configuration,
    folder: Path,
    bounds: RunBounds,
    ways: Sequence[Way],
) -> list[EndedRun]:
    """Switch a machine on once and let it go on in several ways, as `run` does with one.

    What comes before that is in each of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "ways"
    lines = []
    for way in ways:
        place = folder / str(way.number)
        place.mkdir(exist_ok=True)
        # What another run has left would be taken for this one's if it does not come so far.
        _clear(place)
        options = (f"{name}={value}" for name, value in way.caches.items())
        lines.append(" ".join((str(way.number), str(place), str(way.seconds), *options)))
    told.write_text("\n".join(lines) + "\n")
    caches = {**(configuration.caches or {}), "variants": str(told)}
    whole = run(emulator, replace(configuration, caches=caches), folder, bounds)
    seconds = whole.seconds / len(ways)
    return [
        ended_in(place, Ending.STOPPED, seconds)
        # A machine that never came to where they part has made none of their consoles: it is each
        # of them.
        if (place / _CONSOLE).exists()
        else replace(whole, seconds=seconds)
        for place in (folder / str(way.number) for way in ways)
    ]


def _clear(folder: Path) -> None:
    for name in (_CONSOLE, _REPORT, _LOG):
        (folder / name).unlink(missing_ok=True)


def _memory(number: int) -> str:
    return f"memory-{number}"


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))


def _wait(machine: subprocess.Popen[bytes], folder: Path, bounds: RunBounds) -> Ending:
    until = time.monotonic() + bounds.seconds
    console, report = folder / _CONSOLE, folder / _REPORT
    told = 0
    while machine.poll() is None:
        if time.monotonic() > until:
            return Ending.TIME
        if _size(console) > bounds.console_bytes:
            return Ending.CONSOLE
        # Read again only where there is more, as a report can be long.
        if _size(report) > told:
            told = _size(report)
            if report.read_bytes().count(_RESET) > 1 + bounds.resets:  # power-on is the first
                return Ending.RESET
        time.sleep(_POLL_SECONDS)
    return Ending.STOPPED


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _switch_off(machine: subprocess.Popen[bytes]) -> None:
    """Let the emulator write its summary."""
    if machine.poll() is None:
        machine.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            machine.wait(_SUMMARY_SECONDS)


def _console(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return file.read(_CONSOLE_BYTES).decode(errors="replace").replace("\r", "")


def _last_words(folder: Path) -> str:
    """The panic that the emulator logged last."""
    log = folder / _LOG
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    # Bochs puts eleven digits of time, the level and the device in brackets before each line.
    panics = [line for line in lines if ">>PANIC<<" in line or line[11:13] == "p["]
    return panics[-1].strip() if panics else ""
