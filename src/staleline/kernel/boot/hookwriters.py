# SPDX-License-Identifier: GPL-2.0-or-later
"""Who writes to the functions by which a kernel stops, and when.

What ``machine_ops`` and ``smp_ops`` hold is read from the image, and from the code for the
hypervisor that the kernel runs under (`staleline.kernel.boot.hypervisorhooks`). That is all only if
nothing else writes there: any code of the image may, at boot or later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from staleline.kernel.inventory.codescan import CodeArea, code_areas
from staleline.kernel.inventory.tablewrites import Pointers, pointers_into, table_writes
from staleline.policy.catalogue import series_of

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["unknown_hook_writers"]

_WORD: Final = 8
_JUMP: Final = "machine_kexec"
#: Who jumps, and is followed: kernel/kexec_core.c and crash_core.c.
_JUMPING: Final = ("kernel_kexec", "__crash_kexec")
#: Offsets of what is called on the way to the sites: asm/reboot.h and asm/smp.h, 5.10 to 7.3.
_MEMBERS: Final = {
    "machine_ops": {0x18: "shutdown", 0x20: "crash_shutdown"},
    "smp_ops": {
        0x18: "stop_other_cpus",
        0x20: "crash_stop_other_cpus",
        # Since 6.10; before it is another, which the same functions write.
        0x60: "stop_this_cpu",
    },
}
_SINCE: Final = {"smp_ops.stop_this_cpu": (6, 10)}
#: Code by its symbols, vmlinux.lds.S, 5.10 to 7.3.
_BOUNDS: Final = (("_text", "_etext"), ("_sinittext", "_einittext"))
#: Functions that write there on machines that are told apart, linux 5.10.262 to 7.3.4.
_KNOWN: Final = frozenset(
    (
        # Hypervisors: what they write is read, or nothing is said of their guests.
        "kvm_guest_init",  # arch/x86/kernel/kvm.c
        "ms_hyperv_init_platform",  # arch/x86/kernel/cpu/mshyperv.c
        "hv_root_crash_init",  # arch/x86/hyperv/hv_crash.c
        "vmware_platform_setup",  # arch/x86/kernel/cpu/vmware.c
        "xen_hvm_guest_init",  # arch/x86/xen/enlighten_hvm.c
        "xen_hvm_smp_init",  # arch/x86/xen/smp_hvm.c
        "xen_smp_init",  # arch/x86/xen/smp_pv.c
        "xen_start_kernel",  # arch/x86/xen/enlighten_pv.c
        # Guests whose firmware takes CPUs back: arch/x86/kernel/acpi/madt_wakeup.c.
        "acpi_mp_setup_reset",
        "acpi_parse_mp_wake",
    )
)


def unknown_hook_writers(image: KernelImage) -> tuple[str, ...]:
    """One sentence for each function that may write there, or jumps, and is not known."""
    tables, names = [], dict[int, str]()
    for table, members in _MEMBERS.items():
        start, size = image.symbols.only_address(table), image.symbols.size_of(table)
        if start is None or size is None:
            continue
        slots = {
            start + at: f"{table}.{of}"
            for at, of in members.items()
            if at + _WORD <= size and _has(image, f"{table}.{of}")
        }
        tables.append(Pointers(start, tuple(sorted(slots))))
        names |= slots
    jump = image.symbols.only_address(_JUMP)
    pointers = tuple(
        f"{place} points into a table of functions, and who writes there by it is not known"
        for table in tables
        for place in pointers_into(image, table)
    )
    writes = table_writes(image, tables, _KNOWN, _code(image), callee=jump)
    return pointers + tuple(
        f"{write.function}() leads to {_JUMP}() as well, whether others have stopped or not"
        if write.slot == jump
        else f"{write.function}() may write to {names[write.slot]}, and when it does is not known"
        for write in writes
        if write.slot != jump or write.function.split(".")[0] not in _JUMPING
    )


def _has(image: KernelImage, member: str) -> bool:
    """Is it in this kernel's table? Where few data have names, its size tells nothing."""
    series = series_of(image.release or "")
    return series is None or member not in _SINCE or series >= _SINCE[member]


def _code(image: KernelImage) -> Iterator[CodeArea]:
    """All of it; without sections, what its symbols say is code and no data."""
    bounds = [[image.symbols.only_address(name) for name in names] for names in _BOUNDS]
    ranges = [(start, end) for start, end in bounds if start and end and start < end]
    for area in code_areas(image):
        if any(name.endswith("text") for name in image.sections) or not ranges:
            yield area
            continue
        for start, end in ranges:
            first = max(start - area.address, 0)
            yield CodeArea(area.address + first, area.code[first : max(end - area.address, first)])
