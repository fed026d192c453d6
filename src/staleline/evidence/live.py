# SPDX-License-Identifier: GPL-2.0-or-later
"""The snapshot of a host: everything that can be read without changing anything.

Needs only the standard library. What cannot be read is left out and noted, with the
reason and the remedy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from staleline.errors import EvidenceError
from staleline.evidence import cpuinfo, dev_cpu, host_files, kernel_log
from staleline.evidence.consistency import require_consistent
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    Note,
    Snapshot,
    StateEvidence,
)
from staleline.evidence.user_cpuid import read_allowed_cpus

__all__ = ["MSRS", "collect"]

#: MSRs that tell what firmware enabled, by vendor.
MSRS = {
    "AuthenticAMD": (0xC001_0010, 0xC001_0015, 0xC001_0131, 0xC001_0132, 0xC001_0133),
    "HygonGenuine": (0xC001_0010, 0xC001_0015, 0xC001_0131),
    "GenuineIntel": (0x87, 0x981, 0x982),
}


def collect(root: str | os.PathLike[str] = "/", *, read_at: dev_cpu.ReadAt = os.pread) -> Snapshot:
    """Return the snapshot of this host, or of the file tree `root` that is laid out as one.

    Args:
        root: The directory that holds proc, sys, dev and boot.
        read_at: Reads the files of dev/cpu at an offset.

    Raises:
        EvidenceError: What was read contradicts itself.
    """
    snapshot = _Collector(Path(root), read_at).snapshot()
    require_consistent(snapshot, str(root))
    return snapshot


@dataclass(slots=True)
class _Collector:
    root: Path
    read_at: dev_cpu.ReadAt
    notes: list[Note] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        cpus = self._cpus()
        return Snapshot(
            cpus=cpus,
            host=self._line("proc/sys/kernel/hostname", "host"),
            collected=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            cpuinfo=self._cpuinfo(),
            kernel=self._kernel(),
            state=self._state(),
            notes=tuple(self.notes),
        )

    @property
    def _is_this_host(self) -> bool:
        return self.root.resolve() == Path("/")

    def _note(self, what: str, why: str) -> None:
        self.notes.append(Note(what, why))

    def _line(self, path: str, what: str) -> str | None:
        line = host_files.read_line(self.root / path)
        if line is None:
            self._note(what, f"/{path} is missing or may not be read")
        return line

    def _cpus(self) -> tuple[CpuEvidence, ...]:
        tables = self._cpuid_of_devices() or self._cpuid_of_this_process()
        return tuple(self._cpu(number, table) for number, table in sorted(tables.items()))

    def _cpuid_of_devices(self) -> dict[int, CpuidTable]:
        tables: dict[int, CpuidTable] = {}
        for number in dev_cpu.cpu_numbers(self.root):
            try:
                tables[number] = dev_cpu.read_cpu(self.root, number, self.read_at)
            except EvidenceError as error:
                self._note(f"cpuid of CPU {number} by device", str(error))
                if not tables:
                    break
        return tables

    def _cpuid_of_this_process(self) -> dict[int, CpuidTable]:
        if not self._is_this_host:
            self._note("cpuid", "the file tree holds no dev/cpu/*/cpuid")
            return {}
        try:
            tables = read_allowed_cpus()
        except EvidenceError as error:
            self._note("cpuid", str(error))
            return {}
        self._note(
            "cpuid source",
            f"executed by this process on CPUs {', '.join(map(str, sorted(tables)))}; "
            "CPUs outside its affinity mask are not covered",
        )
        return tables

    def _cpu(self, number: int, table: CpuidTable) -> CpuEvidence:
        msrs = MSRS.get(table.vendor or "")
        if msrs is None:
            return CpuEvidence(table)
        try:
            readings = dev_cpu.read_msrs(self.root, number, msrs, self.read_at)
        except EvidenceError as error:
            self._note(f"msr of CPU {number}", str(error))
            return CpuEvidence(table)
        return CpuEvidence(table, readings.values, readings.faults)

    def _cpuinfo(self) -> CpuinfoEvidence | None:
        path = self.root / "proc/cpuinfo"
        text = host_files.read_line(path)
        if text is None:
            self._note("cpuinfo", "/proc/cpuinfo is missing or may not be read")
            return None
        try:
            return cpuinfo.parse_evidence(text + "\n", str(path))
        except EvidenceError as error:
            self._note("cpuinfo", str(error))
            return None

    def _kernel(self) -> KernelEvidence:
        release = self._line("proc/sys/kernel/osrelease", "kernel release")
        config = None if release is None else host_files.kernel_config(self.root, release)
        if config is None:
            self._note(
                "kernel config",
                f"neither /proc/config.gz nor /boot/config-{release} can be read; "
                "install the kernel package's config file",
            )
        return KernelEvidence(
            release=release, cmdline=self._line("proc/cmdline", "cmdline"), config=config
        )

    def _state(self) -> StateEvidence:
        log = kernel_log.read_kernel_log(self.root / "dev/kmsg")
        if log is None:
            self._note("kernel log", "/dev/kmsg may not be read; run as root")
            log = kernel_log.KernelLog((), complete=False)
        elif not log.complete:
            self._note(
                "kernel log",
                "its beginning has been overwritten; collect sooner after boot, "
                "or boot with a larger log_buf_len=",
            )
        return StateEvidence(
            sme_active=kernel_log.sme_active(log),
            tdx_module=kernel_log.tdx_module(log),
            sev_guests_run=kernel_log.sev_guests_run(log),
            offline_cpus=self._offline_cpus(),
            kexec_loaded=self._kexec_loaded(),
        )

    def _offline_cpus(self) -> tuple[int, ...] | None:
        try:
            offline = host_files.offline_cpus(self.root)
        except EvidenceError as error:
            self._note("offline CPUs", str(error))
            return None
        if offline is None:
            self._note("offline CPUs", "/sys/devices/system/cpu/{present,online} cannot be read")
        return offline

    def _kexec_loaded(self) -> int | None:
        line = self._line("sys/kernel/kexec_loaded", "kexec_loaded")
        return int(line) if line in ("0", "1") else None
