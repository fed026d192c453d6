# SPDX-License-Identifier: GPL-2.0-or-later
"""In what a kernel differs that kexecs, or crashes, from one that has just booted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.hardware import MASK_64

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.image.image import KernelImage

__all__ = ["begin_crash", "begin_kexec"]

_IN_PROGRESS: Final = "kexec_in_progress"
_STATE: Final = "system_state"
_PREPARES: Final = "kernel_restart_prepare"
_CRASHING: Final = "panic_cpu"
_ONLINE_COUNT: Final = "__num_online_cpus"
#: MOV DWORD PTR [RIP + displacement], immediate.
_STORES: Final = b"\xc7\x05"
_STORE_SIZE: Final = 10
#: SYSTEM_RUNNING, SYSTEM_HALT, SYSTEM_POWER_OFF, SYSTEM_RESTART (include/linux/kernel.h).
_FROM_RUNNING_TO_RESTART: Final = 3


def begin_kexec(image: KernelImage, memory: MachineMemory, *, online: int) -> None:
    """A kexec has begun, and so many CPUs are left online."""
    # By kernel_kexec(), which has kernel_restart_prepare() set the state (kernel/kexec_core.c,
    # kernel/reboot.c, linux 5.10.223 to 7.3.4).
    _write(image, memory, _IN_PROGRESS, 1, 1)
    _write(image, memory, _ONLINE_COUNT, online, 4)
    restart = _restart_state(image)
    if restart is not None:
        _write(image, memory, _STATE, restart, 4)


def begin_crash(image: KernelImage, memory: MachineMemory, *, crashing: int) -> None:
    """This CPU crashes while the kernel runs, and no kexec has begun."""
    _write(image, memory, _IN_PROGRESS, 0, 1)
    # By crash_kexec() or panic() (kernel/kexec_core.c, since 6.13 kernel/crash_core.c;
    # kernel/panic.c).
    _write(image, memory, _CRASHING, crashing, 4)
    restart = _restart_state(image)
    if restart is not None:
        _write(image, memory, _STATE, restart - _FROM_RUNNING_TO_RESTART, 4)


def _restart_state(image: KernelImage) -> int | None:
    """SYSTEM_RESTART, 5 or 6, as the kernel's own code stores it."""
    start, state = image.symbols.address(_PREPARES), image.symbols.address(_STATE)
    size = image.symbols.size_of(_PREPARES) if start is not None else None
    if start is None or state is None or not size:
        return None
    code = image.read(start, size)
    at = code.find(_STORES)
    while at >= 0:
        displacement = int.from_bytes(code[at + 2 : at + 6], "little", signed=True)
        if (start + at + _STORE_SIZE + displacement) & MASK_64 == state:
            return int.from_bytes(code[at + 6 : at + _STORE_SIZE], "little")
        at = code.find(_STORES, at + 1)
    return None


def _write(image: KernelImage, memory: MachineMemory, name: str, value: int, size: int) -> None:
    address = image.symbols.address(name)
    # What an image does not name stays as it is.
    if address is not None:
        memory.write_int(address, value, size)
