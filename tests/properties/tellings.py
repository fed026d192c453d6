# SPDX-License-Identifier: GPL-2.0-or-later
"""One machine told in many ways, each of which tells nothing that is not so.

A telling is the texts that somebody would hand over, by file name, and what they would say on
the command line. Texts can be thinned before they are read; see `text_removals`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.snapshot import Snapshot
from staleline.hardware import HYPERVISORS
from tests.evidence.writers import (
    as_aida64,
    as_cpuid_tool,
    as_cpuinfo,
    as_libcpuid_raw,
    as_libvirt,
    as_lscpu,
    as_lscpu_json,
    as_nested_lscpu_json,
    as_tar,
)
from tests.properties.corpus import Truth
from tests.properties.messages import KEYIDS, SEV_STATUS, SYSCFG, TME_ACTIVATE, log_of

__all__ = ["TELLINGS", "Telling", "some_telling"]

#: What `--msr` takes; the others are read by nobody.
_ASKED_MSRS = (SYSCFG, SEV_STATUS, TME_ACTIVATE, KEYIDS)
_DUMPS: tuple[Callable[[Snapshot], str], ...] = (
    as_cpuid_tool,
    as_aida64,
    as_libcpuid_raw,
    snapshot_text,
)


@dataclass(frozen=True)
class Telling:
    """What is handed over.

    Attributes:
        name: For messages.
        files: The texts by name; one is a file, several are an archive.
        msr: As given by ``--msr``.
        cmdline: As given by ``--cmdline``.
        state: As given by ``--state``.
    """

    name: str
    files: Mapping[str, str]
    msr: tuple[str, ...] = ()
    cmdline: str | None = None
    state: tuple[str, ...] = ()
    loose: bool = field(default=False)

    def read(self) -> Snapshot:
        """As the program reads it."""
        machine = self._read()
        if not self.msr and self.cmdline is None and not self.state:
            return machine
        return with_given(machine, msr=self.msr, cmdline=self.cmdline, state=self.state)

    def _read(self) -> Snapshot:
        if len(self.files) == 1 and self.loose:
            return parse_snapshot(next(iter(self.files.values())), "telling")
        with tempfile.NamedTemporaryFile(dir=_directory(), suffix=".tar") as file:
            file.write(as_tar(self.files))
            file.flush()
            return read_snapshot(file.name)


def _directory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def some_telling(truth: Truth, random: Random) -> Telling:
    """Any of `TELLINGS`."""
    return random.choice(TELLINGS)(truth, random)


def _whole(truth: Truth, random: Random) -> Telling:
    return Telling("snapshot", {"host.json": snapshot_text(truth.snapshot())}, loose=True)


def _one_cpu(truth: Truth, random: Random) -> Telling:
    machine = truth.snapshot()
    one = replace(machine, cpus=machine.cpus[:1])
    return Telling("one CPU for all", {"host.json": snapshot_text(one)}, loose=True)


def _dump(truth: Truth, random: Random) -> Telling:
    write = random.choice(_DUMPS)
    machine = Snapshot(truth.snapshot().cpus)
    return Telling(write.__name__, {"dump": write(machine)}, loose=True)


def _libvirt(truth: Truth, random: Random) -> Telling:
    text = as_libvirt(truth.snapshot())
    return Telling("libvirt", {"cpu.xml": text}, loose=True)


def _given(truth: Truth, random: Random) -> Telling:
    dump = _dump(truth, random)
    registers = [f"{n:#x}={truth.msr[n]:#x}" for n in _ASKED_MSRS if n in truth.msr]
    kept = tuple(one for one in registers if random.random() < 0.7)
    # Only registers say that no MSR is there; what faults cannot be given.
    machine = Snapshot(tuple(replace(cpu, msr={}) for cpu in truth.snapshot().cpus))
    files = {"dump": as_cpuid_tool(machine)}
    state = [f"sme_active={_word(truth.sme_active)}"]
    state += [f"sev_guests_run={_word(truth.sev_guests_run)}"]
    if truth.cpuid.vendor == "GenuineIntel":
        state.append(f"tdx_module={truth.tdx_module}")
    state += _of_machine(truth)
    cmdline = random.choice((truth.cmdline, None))
    return replace(
        dump,
        name="given",
        files=files,
        msr=kept,
        cmdline=cmdline,
        state=(*(one for one in state if random.random() < 0.5), *_beside(cmdline, truth)),
    )


def _of_machine(truth: Truth) -> Iterator[str]:
    cpus = truth.cpus + len(truth.offline)
    # A socket of many CPUs in CPUID is no machine with one.
    if cpus > 1 or truth.cpuid.logical_cpus == 1:
        yield f"cpus={cpus}"
    if not truth.guest:
        yield "hypervisor=none"
    elif truth.hypervisor in HYPERVISORS.values():
        yield f"hypervisor={truth.hypervisor.lower()}"


def _word(value: bool) -> str:
    return "yes" if value else "no"


def _cpuinfo(truth: Truth, random: Random) -> Telling:
    if truth.shown is None:
        return _dump(truth, random)
    write = random.choice((as_cpuinfo, as_lscpu, as_lscpu_json, as_nested_lscpu_json))
    cmdline = random.choice((truth.cmdline, None))
    offline = () if write is as_cpuinfo else (_listed(truth.offline),)
    text = write(truth.shown, truth.cpus, *offline)
    state = _beside(cmdline, truth)
    return Telling(write.__name__, {"cpuinfo": text}, cmdline=cmdline, state=state, loose=True)


def _beside(cmdline: str | None, truth: Truth) -> tuple[str, ...]:
    """A command line that is given describes the machine: then what sysfs says goes with it."""
    return () if cmdline is None else (f"reboot_force={_word(truth.reboot_force)}",)


def _listed(cpus: tuple[int, ...]) -> str | None:
    return ",".join(map(str, cpus)) or None


def _log(truth: Truth, random: Random) -> Telling:
    text = "\n".join(log_of(truth, random)) + "\n"
    return Telling("log", {"dmesg": text}, loose=True)


def _report(truth: Truth, random: Random) -> Telling:
    files = dict(_tree(truth, random))
    return Telling("sosreport", {f"sosreport-node17/{name}": text for name, text in files.items()})


def _loose(truth: Truth, random: Random) -> Telling:
    files = {"cpuid.txt": as_cpuid_tool(truth.snapshot())}
    if truth.shown is not None:
        files["lscpu"] = as_lscpu(truth.shown, truth.cpus, _listed(truth.offline))
    files["dmesg"] = "\n".join(log_of(truth, random)) + "\n"
    return Telling("loose files", files)


def _halves(truth: Truth, random: Random) -> Telling:
    whole = truth.snapshot()
    registers = replace(Snapshot(whole.cpus), host=whole.host, notes=whole.notes)
    rest = replace(whole, cpus=())
    return Telling(
        "two snapshots", {"a.json": snapshot_text(registers), "b.json": snapshot_text(rest)}
    )


#: Each way of telling a machine.
TELLINGS: tuple[Callable[[Truth, Random], Telling], ...] = (
    *(_whole, _one_cpu, _dump, _libvirt, _given, _cpuinfo, _log, _report, _loose, _halves),
)


def _tree(truth: Truth, random: Random) -> Iterator[tuple[str, str]]:
    """A sosreport's files."""
    if truth.shown is not None:
        yield "proc/cpuinfo", as_cpuinfo(truth.shown, truth.cpus)
        yield (
            "sos_commands/processor/lscpu",
            as_lscpu(truth.shown, truth.cpus, _listed(truth.offline)),
        )
    yield "proc/cmdline", truth.cmdline + "\n"
    online = f"0-{truth.cpus - 1}" if truth.cpus > 1 else "0"
    present = ",".join([online, *map(str, truth.offline)])
    yield "sys/devices/system/cpu/present", present + "\n"
    yield "sys/devices/system/cpu/online", online + "\n"
    yield "sys/kernel/kexec_loaded", "1\n"
    if not truth.release.startswith(("4.", "5.4", "5.10")):
        yield "sys/kernel/reboot/force", f"{int(truth.reboot_force)}\n"
    yield f"boot/config-{truth.release}", "CONFIG_AMD_MEM_ENCRYPT=y\nCONFIG_KEXEC_CORE=y\n"
    yield "sos_commands/kernel/uname_-a", f"Linux node17 {truth.release} #1 SMP x86_64 GNU/Linux\n"
    yield "sos_commands/kernel/dmesg", "\n".join(log_of(truth, random)) + "\n"
    yield "sos_commands/processor/cpuid_-r", as_cpuid_tool(Snapshot(truth.snapshot().cpus))
