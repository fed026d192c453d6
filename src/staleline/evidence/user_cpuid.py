# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUID executed by this process on each CPU it may run on; needs no privilege.

The instruction is placed in an anonymous file that is mapped read-and-execute, never
writable and executable at once, and called through ctypes with the thread bound to one CPU.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from staleline.errors import EvidenceError
from staleline.evidence.enumeration import ExecuteCpuid, read_cpuid
from staleline.evidence.registers import CpuidTable, Registers

__all__ = ["read_allowed_cpus"]

#: void f(uint32_t leaf /*edi*/, uint32_t subleaf /*esi*/, uint32_t out[4] /*rdx*/)
_CODE = bytes.fromhex(
    "53"  # push rbx                  (callee-saved, CPUID writes it)
    "4989d0"  # mov r8, rdx
    "89f8"  # mov eax, edi
    "89f1"  # mov ecx, esi
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8+4], ebx
    "41894808"  # mov [r8+8], ecx
    "4189500c"  # mov [r8+12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
_SYS_ARCH_PRCTL = 158
_ARCH_GET_CPUID = 0x1011


def read_allowed_cpus() -> dict[int, CpuidTable]:
    """Return the CPUID leaves of every CPU in this thread's affinity mask, by CPU number.

    Raises:
        EvidenceError: CPUID cannot be executed here (not x86-64 Linux, no executable
            memory, or CPUID faulting is on).
    """
    if not (sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 1 << 32):
        raise EvidenceError("CPUID exists only on x86", do="collect on the x86-64 host itself")
    allowed = os.sched_getaffinity(0)
    try:
        with _execute_cpuid() as execute:
            return {cpu: _read_on(cpu, execute) for cpu in sorted(allowed)}
    except OSError as error:
        raise EvidenceError(
            f"CPUID cannot be executed by this process: {error.strerror}",
            do="run as root with the cpuid module loaded",
        ) from error
    finally:
        os.sched_setaffinity(0, allowed)


def _read_on(cpu: int, execute: ExecuteCpuid) -> CpuidTable:
    os.sched_setaffinity(0, {cpu})
    return read_cpuid(execute)


@contextmanager
def _execute_cpuid() -> Iterator[ExecuteCpuid]:
    libc = ctypes.CDLL(None, use_errno=True)
    # With CPUID faulting on for this thread (arch_prctl ARCH_SET_CPUID 0) the instruction
    # would kill the process.
    if libc.syscall(_SYS_ARCH_PRCTL, _ARCH_GET_CPUID, 0) == 0:
        raise EvidenceError("CPUID faults in this process", do="collect outside of the sandbox")
    address = _map_code(libc)
    function = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(address)
    registers = (ctypes.c_uint32 * 4)()

    def execute(leaf: int, subleaf: int) -> Registers:
        function(leaf, subleaf, ctypes.addressof(registers))
        eax, ebx, ecx, edx = registers
        return eax, ebx, ecx, edx

    try:
        yield execute
    finally:
        libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE))


def _map_code(libc: ctypes.CDLL) -> int:
    """Map `_CODE` executable; returns its address."""
    file = os.memfd_create("cpuid", os.MFD_CLOEXEC)
    try:
        os.write(file, _CODE.ljust(mmap.PAGESIZE, b"\xcc"))
        libc.mmap.restype = ctypes.c_void_p
        address: int | None = libc.mmap(
            None,
            ctypes.c_size_t(mmap.PAGESIZE),
            mmap.PROT_READ | mmap.PROT_EXEC,
            mmap.MAP_PRIVATE,
            file,
            ctypes.c_long(0),
        )
    finally:
        os.close(file)
    if address is None or address == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return address
