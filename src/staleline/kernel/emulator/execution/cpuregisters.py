# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers of the CPU that an engine emulates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from unicorn import x86_const as x86

from staleline.hardware import GENERAL_REGISTERS, MASK_32
from staleline.kernel.emulator.registerfile import RegisterFile
from staleline.kernel.emulator.traps import STATUS_FLAGS, CpuState, LogicalCpu, control_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import unicorn

__all__ = ["CpuRegisters"]

#: Those that make up a `CpuState`, in its order.
_SAVED: Final = (
    *(getattr(x86, f"UC_X86_REG_{name.upper()}") for name in GENERAL_REGISTERS),
    x86.UC_X86_REG_RIP,
    x86.UC_X86_REG_EFLAGS,
    x86.UC_X86_REG_FS_BASE,
    x86.UC_X86_REG_GS_BASE,
)
#: Those of SSE and x87 (MMX's are the same).
_VECTORS: Final = (
    *(getattr(x86, f"UC_X86_REG_XMM{number}") for number in range(16)),
    *(getattr(x86, f"UC_X86_REG_ST{number}") for number in range(8)),
)
#: Whatever else code may keep something in.
_EVERY_REGISTER: Final = {
    getattr(x86, f"UC_X86_REG_{name.upper()}"): name
    for name in (
        *GENERAL_REGISTERS,
        *("cs", "ds", "es", "fs", "gs", "ss", "fs_base", "gs_base"),
        *(f"xmm{number}" for number in range(16)),
        *(f"st{number}" for number in range(8)),
        *("mxcsr", "fpcw", "fpsw", "fptag"),
    )
}
_CPUID_INPUT: Final = (x86.UC_X86_REG_RAX, x86.UC_X86_REG_RCX)
_CPUID_OUTPUT: Final = (
    x86.UC_X86_REG_RAX,
    x86.UC_X86_REG_RBX,
    x86.UC_X86_REG_RCX,
    x86.UC_X86_REG_RDX,
)


class CpuRegisters:
    """Those of one engine.

    Attributes:
        saved: Reads those that make up a `CpuState`, in its order.

    Args:
        engine: The engine.
        enter_ring3: Puts it into a state in which it runs code in ring 3.
    """

    def __init__(self, engine: unicorn.Uc, enter_ring3: Callable[[], None]) -> None:
        self._engine = engine
        self._saved = RegisterFile(engine, _SAVED)
        self._input = RegisterFile(engine, _CPUID_INPUT)
        self._output = RegisterFile(engine, _CPUID_OUTPUT)
        self._enter_ring3 = enter_ring3
        self.saved = self._saved.read

    @property
    def address(self) -> int:
        """Where code is."""
        return int(self._engine.reg_read(x86.UC_X86_REG_RIP))

    def state(self) -> CpuState:
        """Those that are kept when a run is left."""
        values = self._saved.read()
        count = len(GENERAL_REGISTERS)
        return CpuState(values[:count], *values[count:])

    def restore(self, state: CpuState) -> None:
        """Ring 3 with these registers."""
        # Unicorn delivers #GP without forgetting it, so the next one would be a double fault;
        # the context that this puts back has none pending.
        self._enter_ring3()
        self._saved.write((*state.general, state.rip, state.flags, state.fs_base, state.gs_base))

    def vectors(self) -> tuple[object, ...]:
        """What lies in those of SSE and x87."""
        return tuple(map(self._engine.reg_read, _VECTORS))

    def asked(self) -> tuple[int, int]:
        """EAX and ECX: what CPUID asks for, or which MSR."""
        leaf, number = self._input.read()
        return leaf & MASK_32, number & MASK_32

    def answer(self, values: Sequence[int]) -> None:
        """EAX, EBX, ECX and EDX, as CPUID leaves them."""
        self._output.write(values)

    def everything(self, cpu: LogicalCpu) -> dict[str, int]:
        """All that a CPU holds where code is, by name, but for status flags: a call keeps none."""
        values = {name: self._engine.reg_read(number) for number, name in _EVERY_REGISTER.items()}
        values["flags"] = self._engine.reg_read(x86.UC_X86_REG_EFLAGS) & ~STATUS_FLAGS
        written, control, counts = cpu.kept
        values |= {f"MSR {number:#x}": value for number, value in written}
        values |= {control_name(number): value for number, value in control}
        values |= {"the time stamp": counts[0][1], "RDRAND": counts[1][1]}
        return values | {"how often the CPU was asked for something": cpu.traps}

    def put(self, register: str, value: int) -> None:
        """Change a general one."""
        self._engine.reg_write(getattr(x86, f"UC_X86_REG_{register.upper()}"), value)
