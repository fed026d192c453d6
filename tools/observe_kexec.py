# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a kernel on the simulated machine, let it start another, and tell what was observed.

Observed is what one run on one simulated machine has shown: it is neither predicted nor measured
on hardware. See docs/machine.md.

Exit status: 0 nothing was destroyed and the next kernel worked, 2 lines were destroyed or the next
kernel did not work, 3 the next kernel was not reached, 1 bad input.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.boot_medium import BootChain, boot_cd
from tools.build_machine import BuildError, Emulator, installed
from tools.simulated_machine import Bounds, Configuration, Ending, Model, Run, run

__all__ = ["Handover", "Observation", "observation", "observe"]

# The slide of KASLR would have to be taken from LSTAR; the timer check fails in emulators; the
# first page of kernel messages tells why a kernel panicked, and a reboot would hide it.
_ALWAYS: Final = "console=ttyS0,115200 nokaslr no_timer_check panic=-1"
_SECONDS: Final = 3600.0
_LAST_LINES: Final = 12
_CPU_OPTION: Final = {"amd": Model.ROME, "amd-coherent": Model.MILAN, "hygon": Model.HYGON}
_FAULT: Final = re.compile(r"Kernel panic|general protection fault|BUG: |Oops: |files differ")
_FIRMWARE: Final = range(0xE0000, 0x100000)
_CLEAN, _BAD_INPUT, _DESTROYED, _NOT_OBSERVED = range(4)


@dataclass(frozen=True, slots=True)
class Handover:
    """A moment on the way from one kernel to the next.

    Attributes:
        moment: "relocation", when the jumping CPU enters the copy of relocate_kernel, or
            "handover", when it jumps to the next kernel.
        cpu: The jumping CPU.
        caches: What each CPU's caches hold then, as the machine reports it.
    """

    moment: str
    cpu: int
    caches: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a run has shown.

    Attributes:
        ending: How the run ended.
        reason: The machine's last words, where it stopped itself.
        up: Kernels that reached their first process, in order.
        worked: Whether the last kernel did its work and switched the machine off, without a fault.
        handovers: In order.
        flushes: WBINVDs of kernels: those of firmware are left out.
        races: Handovers while another CPU flushed.
        summary: The machine's counts; empty where it ended without.
        last_lines: Of the console.
        seconds: CPU time.
    """

    ending: Ending
    reason: str
    up: tuple[str, ...]
    worked: bool
    handovers: tuple[Handover, ...]
    flushes: tuple[Mapping[str, Any], ...]
    races: int
    summary: Mapping[str, Any]
    last_lines: tuple[str, ...]
    seconds: float

    @property
    def destroyed(self) -> int:
        """Lines that a stale write-back destroyed."""
        return sum(self.summary.get("destroyed", {}).values())

    @property
    def status(self) -> int:
        """As the exit status has it. What was not reached is never called clean."""
        if self.destroyed:
            return _DESTROYED
        if not self.summary or not any(each.moment == "handover" for each in self.handovers):
            return _NOT_OBSERVED
        return _CLEAN if self.worked else _DESTROYED


def main(arguments: list[str] | None = None) -> int:
    """Run once and tell."""
    options = _options(arguments)
    try:
        emulator = installed()
        chain = BootChain(
            kernel=options.kernel,
            command_line=f"{_ALWAYS} {options.command_line}",
            next_kernel=options.next or options.kernel,
            next_command_line=f"{_ALWAYS} {options.next_command_line}",
            path=options.path,
        )
        with tempfile.TemporaryDirectory(prefix="observe-") as work:
            folder = options.keep or Path(work)
            machine = _machine(options)
            bounds = Bounds(seconds=options.seconds)
            seen = observe(chain, machine, emulator, folder, bounds)
    except (BuildError, OSError) as error:
        sys.stderr.write(f"observe_kexec: {error}\n")
        return _BAD_INPUT
    sys.stdout.write("\n".join(_told(seen)) + "\n")
    return seen.status


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("kernel", type=Path, help="a vmlinuz")
    parser.add_argument("--next", type=Path, help="another (default: the same)")
    parser.add_argument("--on", choices=sorted(_CPU_OPTION), default="amd", help="CPUs")
    parser.add_argument("--command-line", default="mem_encrypt=on", help="default: %(default)s")
    parser.add_argument(
        "--next-command-line", default="mem_encrypt=on", help="default: %(default)s"
    )
    parser.add_argument("--path", choices=("kexec", "crash"), default="kexec")
    parser.add_argument("--cpus", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--megabytes", type=int, default=768, help="default: %(default)s")
    parser.add_argument(
        "--no-mem-encrypt", action="store_true", help="firmware left SYSCFG[23] off"
    )
    parser.add_argument("--nmi-delay", type=int, default=0, metavar="TICKS", help="late NMIs")
    parser.add_argument(
        "--caches", action="append", default=[], metavar="NAME=VALUE", help="see docs/machine.md"
    )
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="default: %(default)s")
    parser.add_argument("--keep", type=Path, help="leave all files in this folder")
    return parser.parse_args(arguments)


def _machine(options: argparse.Namespace) -> Configuration:
    pairs = [option.partition("=") for option in options.caches]
    if not all(name and value for name, _, value in pairs):
        raise BuildError("--caches wants NAME=VALUE")
    return Configuration(
        model=_CPU_OPTION[options.on],
        cpus=options.cpus,
        megabytes=options.megabytes,
        mem_encrypt=not options.no_mem_encrypt,
        nmi_delay=options.nmi_delay,
        caches={name: value for name, _, value in pairs},
    )


def observe(
    chain: BootChain, machine: Configuration, emulator: Emulator, folder: Path, bounds: Bounds
) -> Observation:
    """Boot a chain of kernels on a machine, whose files go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    medium = folder / "cd.iso"
    medium.write_bytes(boot_cd(chain, emulator.guest))
    return observation(run(emulator, machine.booting(medium), folder, bounds))


def observation(ended: Run) -> Observation:
    """What a run has shown."""
    lines = ended.console.splitlines()
    summaries = list(ended.events("summary"))
    last = ended.console.rpartition("== up ")[2]
    flushes = tuple(
        flush for flush in ended.events("flush") if int(flush["rip"], 16) not in _FIRMWARE
    )
    return Observation(
        ending=ended.ending,
        reason=ended.reason,
        up=tuple(line.split()[2] for line in lines if re.match(r"== up \S+ online", line)),
        worked="== worked " in last and not _FAULT.search(last),
        handovers=tuple(_handovers(ended)),
        flushes=flushes,
        races=sum(1 for _ in ended.events("flush-race")),
        summary=summaries[-1] if summaries else {},
        last_lines=tuple(lines[-_LAST_LINES:]),
        seconds=ended.seconds,
    )


def _handovers(ended: Run) -> Iterable[Handover]:
    for event in ended.events("relocation", "handover"):
        yield Handover(event["event"], event["cpu"], tuple(event["caches"]))


def _told(seen: Observation) -> Iterable[str]:
    verdicts = {
        _CLEAN: "observed: nothing destroyed, and the next kernel worked",
        _DESTROYED: "observed: "
        + (f"{seen.destroyed:,} lines destroyed" if seen.destroyed else "nothing destroyed")
        + ("" if seen.worked else ", and the next kernel did not work"),
        _NOT_OBSERVED: f"not observed: no handover before the end ({seen.ending})",
    }
    yield verdicts[seen.status]
    yield f"  {seen.ending}, {seen.seconds:.0f} s of CPU time; up: {', '.join(seen.up) or 'none'}"
    for handover in seen.handovers:
        yield f"  at the {handover.moment} by CPU {handover.cpu}:"
        for cache in handover.caches:
            dirty, flushing = cache["dirty"], ", flushing" if cache["flushing"] else ""
            yield (
                f"    CPU {cache['cpu']} ({cache['state']}{flushing}) "
                f"dirty: {dirty['plain']:,} plain, {dirty['C-bit']:,} C-bit"
            )
    for flush in seen.flushes:
        yield (
            f"  {flush['instruction']} by CPU {flush['cpu']} in kernel {flush['kernel']} at "
            f"{flush['rip']}: {flush['dirty']:,} of {flush['held']:,} lines dirty, "
            f"{flush['destroyed']:,} destroyed"
        )
    if seen.summary:
        counts = ("destroyed_loads", "destroyed_fetches", "stale_loads", "wrong_alias_loads")
        yield "  " + ", ".join(
            f"{name.replace('_', ' ')}: {seen.summary[name]:,}" for name in counts
        )
    if seen.status != _CLEAN:
        yield from (f"  | {line}" for line in seen.last_lines)


if __name__ == "__main__":
    sys.exit(main())
