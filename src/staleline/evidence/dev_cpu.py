# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of /dev/cpu/N/cpuid and /dev/cpu/N/msr (drivers of the modules cpuid and msr).

Both are read at an offset that names the register: leaf | sub-leaf << 32, 16 bytes
(Linux arch/x86/kernel/cpuid.c), and the MSR number, 8 bytes (arch/x86/kernel/msr.c).
Neighbouring offsets overlap, so no plain file can hold what these devices answer.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from staleline.errors import EvidenceError
from staleline.evidence.enumeration import read_cpuid
from staleline.evidence.registers import CpuidTable, Registers

__all__ = ["MsrReadings", "ReadAt", "cpu_numbers", "read_cpu", "read_msrs"]

#: (file descriptor, bytes, offset) -> bytes, as os.pread.
ReadAt = Callable[[int, int, int], bytes]


@dataclass(frozen=True, slots=True)
class MsrReadings:
    """MSRs of one CPU: values of those it has, numbers of those it does not have."""

    values: dict[int, int] = field(default_factory=dict)
    faults: frozenset[int] = frozenset()


def cpu_numbers(root: Path) -> tuple[int, ...]:
    """The logical CPUs that `root`/dev/cpu lists, in ascending order."""
    try:
        names = os.listdir(root / "dev/cpu")
    except OSError:
        return ()
    return tuple(sorted(int(name) for name in names if name.isascii() and name.isdecimal()))


def read_cpu(root: Path, cpu: int, read_at: ReadAt = os.pread) -> CpuidTable:
    """Return the CPUID leaves of logical CPU `cpu`, read from the device with `read_at`.

    Raises:
        EvidenceError: The device cannot be opened or read.
    """
    path = root / f"dev/cpu/{cpu}/cpuid"
    with _opened(path, "modprobe cpuid, and run as root") as device:

        def execute(leaf: int, subleaf: int) -> Registers:
            data = _read_cpuid(read_at, device, path, leaf | subleaf << 32)
            eax, ebx, ecx, edx = struct.unpack("<4I", data)
            return eax, ebx, ecx, edx

        return read_cpuid(execute)


def read_msrs(
    root: Path, cpu: int, numbers: Iterable[int], read_at: ReadAt = os.pread
) -> MsrReadings:
    """Return the MSRs `numbers` of logical CPU `cpu`, read from the device with `read_at`.

    Raises:
        EvidenceError: The device cannot be opened or read.
    """
    path = root / f"dev/cpu/{cpu}/msr"
    values: dict[int, int] = {}
    faults: set[int] = set()
    with _opened(path, "modprobe msr, and run as root") as device:
        for number in numbers:
            try:
                data = read_at(device, 8, number)
            except OSError as error:
                # rdmsr_safe_on_cpu() turns the #GP of a missing MSR into EIO.
                if error.errno != errno.EIO:
                    raise _cannot_read(path, number, error) from error
                faults.add(number)
            else:
                values[number] = _unpack_msr(path, number, data)
    return MsrReadings(values, frozenset(faults))


@contextmanager
def _opened(path: Path, do: str) -> Iterator[int]:
    try:
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EvidenceError(f"cannot be opened: {error.strerror}", where=path, do=do) from error
    try:
        yield device
    finally:
        os.close(device)


def _read_cpuid(read_at: ReadAt, device: int, path: Path, offset: int) -> bytes:
    try:
        data = read_at(device, 16, offset)
    except OSError as error:
        raise _cannot_read(path, offset, error) from error
    if len(data) != 16:
        raise EvidenceError(
            f"gave {len(data)} of 16 bytes", where=f"{path}+{offset:#x}", do="modprobe cpuid"
        )
    return data


def _unpack_msr(path: Path, number: int, data: bytes) -> int:
    if len(data) != 8:
        raise EvidenceError(
            f"gave {len(data)} of 8 bytes", where=f"{path}+{number:#x}", do="modprobe msr"
        )
    return int.from_bytes(data, "little")


def _cannot_read(path: Path, offset: int, error: OSError) -> EvidenceError:
    return EvidenceError(
        f"cannot be read: {error.strerror}", where=f"{path}+{offset:#x}", do="run as root"
    )
