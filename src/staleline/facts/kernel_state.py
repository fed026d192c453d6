# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running kernel was told, and what it did since it booted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from staleline.evidence.snapshot import KernelEvidence, Snapshot, given_by_user
from staleline.facts.fact import Fact, Layer, Value
from staleline.facts.observation import Observation, first_told, observed_as, untold
from staleline.facts.running_code import stop_path_changed, tainted
from staleline.facts.told import commandline
from staleline.facts.told.log import of_log

__all__ = ["kernel_facts"]

_COLLECT = "run staleline collect on the host, as root"


def kernel_facts(
    snapshot: Snapshot, known: Mapping[str, Observation], judged: str | None = None
) -> Iterator[Fact]:
    """The kernel layer.

    Args:
        snapshot: The evidence.
        known: The other layers' observations, by fact name; where hardware or firmware
            leaves the kernel no choice, its state follows from them.
        judged: The release whose code reads the command line, if the evidence names none.
    """
    for name, text, observation in _observations(snapshot, known, judged):
        yield observation.fact(name, Layer.KERNEL, text)


def _observations(
    snapshot: Snapshot, known: Mapping[str, Observation], judged: str | None
) -> Iterator[tuple[str, str, Observation]]:
    kernel, state = snapshot.kernel, snapshot.state
    # Only for mem_encrypt=, which startup code reads; reboot= is of the kernel that runs.
    reading = replace(kernel, release=kernel.release or judged)
    yield "release", "kernel release", _given(kernel.release, "uname -r", _COLLECT)
    yield "cmdline", "kernel command line", _given(kernel.cmdline, "/proc/cmdline", _COLLECT)
    yield (
        "mem_encrypt",
        "memory encryption asked for (mem_encrypt=)",
        commandline.mem_encrypt(reading),
    )
    yield (
        "reboot_force",
        "CPUs are not stopped (reboot=force)",
        _reboot_force(snapshot, kernel),
    )
    yield (
        "crash_kernel_borrows",
        "the crash kernel uses memory that was in use (crashkernel=,cma)",
        commandline.crash_kernel_borrows(kernel),
    )
    yield "sme_active", "memory is mapped with the C-bit", _sme_active(snapshot, known)
    yield (
        "tdx_module",
        "state of the TDX module",
        _stated(
            snapshot,
            "tdx_module",
            f"the kernel log from its beginning is missing: {_COLLECT}, "
            "or give --state tdx_module=absent if TDX was not used",
        ),
    )
    yield (
        "seamcalled_cpus",
        "CPUs that entered the TDX module",
        _given(
            state.seamcalled_cpus,
            "state.seamcalled_cpus",
            "no kernel file tells: give --state seamcalled_cpus=LIST, such as 0-3,8",
        ),
    )
    yield "sev_guests_run", "SEV guests have run since boot", _sev_guests_run(snapshot, known)
    yield (
        "kexec_loaded",
        "a kernel is loaded for kexec",
        _given(
            None if state.kexec_loaded is None else state.kexec_loaded != 0,
            "/sys/kernel/kexec_loaded",
            'give --state "kexec_loaded=$(cat /sys/kernel/kexec_loaded)"',
        ),
    )
    yield (
        "offline_cpus",
        "CPUs present but offline",
        _given(
            state.offline_cpus,
            "/sys/devices/system/cpu/{present,online}",
            "give --state offline_cpus=LIST, those of /sys/devices/system/cpu/present that are not "
            "in /sys/devices/system/cpu/online, or none",
        ),
    )
    yield (
        "stop_path_changed",
        "code on the way into the next kernel is changed (live patch, kprobe)",
        stop_path_changed(snapshot),
    )
    yield "tainted", "reasons why the kernel calls itself tainted", tainted(snapshot)


def _given(value: Value, source: str, missing: str) -> Observation:
    return untold(missing) if value is None else observed_as(value, source)


def _stated(snapshot: Snapshot, name: str, missing: str) -> Observation:
    """What the snapshot states, with the message of the log that tells the same."""
    stated = _given(getattr(snapshot.state, name), f"state.{name}", missing)
    # Where both say the same, the log's message can be looked up; where not, the state is newer.
    by_log = next(of_log(snapshot, name), stated)
    return by_log if by_log.value == stated.value else stated


_SAY_FORCE = (
    "give --state reboot_force=no if cat /sys/kernel/reboot/force prints 0, "
    "or --state reboot_force=yes if it prints 1"
)
_MAY_HAVE_BEEN_TOLD = f"CPUs may have been told not to stop since boot: {_SAY_FORCE}"


def _reboot_force(snapshot: Snapshot, kernel: KernelEvidence) -> Observation:
    """What sysfs says now, else the command line, which counts for a yes."""
    if snapshot.state.reboot_force is not None:
        return observed_as(snapshot.state.reboot_force, "/sys/kernel/reboot/force")
    by_line = commandline.reboot_force(kernel)
    described = "kernel.cmdline" in given_by_user(snapshot)
    # Since 5.11 it can be changed there (linux 6.1.192 kernel/reboot.c:1141), so a command line
    # that was observed proves a no only of older kernels. One that the user gave describes a
    # machine, not a moment.
    if by_line.value is False and not described and commandline.can_change(kernel.release):
        return untold(_MAY_HAVE_BEEN_TOLD)
    return by_line


def _sme_active(snapshot: Snapshot, known: Mapping[str, Observation]) -> Observation:
    return first_told(
        (
            _stated(
                snapshot, "sme_active", f"the kernel log from its beginning is missing: {_COLLECT}"
            ),
            # Each of these keeps sme_enable() from setting the mask: firmware, CPU, or build.
            *_impossible(known, "sme_enabled"),
            *_without_capability(known),
            *_not_built_in(snapshot.kernel.config),
        )
    )


def _sev_guests_run(snapshot: Snapshot, known: Mapping[str, Observation]) -> Observation:
    return first_told(
        (
            _given(
                snapshot.state.sev_guests_run,
                "state.sev_guests_run",
                "the kernel keeps no record of guests: say whether SEV guests have run "
                "since boot (--state sev_guests_run=no)",
            ),
            *_impossible(known, "sev"),
        )
    )


def _impossible(known: Mapping[str, Observation], *names: str) -> Iterator[Observation]:
    for name in names:
        if known[name].value is False:
            yield observed_as(False, f"{name} is false by {known[name].source}")


def _without_capability(known: Mapping[str, Observation]) -> Iterator[Observation]:
    """One of two bits is enough for sme_enable() (6.12.118 mem_encrypt_identity.c)."""
    if all(known[name].value is False for name in ("sme", "sev")):
        yield observed_as(False, f"sme is false by {known['sme'].source}, and sev is")


def _not_built_in(config: Mapping[str, str] | None) -> Iterator[Observation]:
    option = "CONFIG_AMD_MEM_ENCRYPT"
    if config is not None and config.get(option) == "n":
        yield observed_as(False, f"kernel config: {option} is not set")
