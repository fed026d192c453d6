# SPDX-License-Identifier: GPL-2.0-or-later
"""Who writes to the functions by which a kernel stops, and to what it flushes by, and when.

What ``machine_ops`` and ``smp_ops`` hold is read from the image, and from the code for the
hypervisor that the kernel runs under (`staleline.kernel.boot.hypervisorhooks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from capstone import x86 as cx  # type: ignore[import-untyped]

from staleline.errors import KernelImageError
from staleline.kernel.derivation import DerivationError
from staleline.kernel.inventory.codescan import CodeArea, code_areas
from staleline.kernel.inventory.functioncode import function_code, operand_address, stores_by
from staleline.kernel.inventory.pointers import Pointers
from staleline.kernel.inventory.tablewrites import (
    TableWrite,
    pointers_into,
    table_writes,
)
from staleline.policy.catalogue import series_of

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["FLUSH_INPUTS", "unknown_hook_writers", "unknown_input_writers"]

_WORD: Final = 8
_INPUT_SIZE: Final = 1
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


#: By which a CPU decides whether it flushes -> who writes there at boot, linux 5.10.262 to 7.3.4:
#: asm/mem_encrypt.h sme_me_mask up to 6.14, through cc_platform_has() (coco/core.c) since 5.16;
#: cache_state_incoherent since 6.18, per CPU.
FLUSH_INPUTS: Final[Mapping[str, frozenset[str]]] = {
    # arch/x86/mm/mem_encrypt_identity.c, boot/startup/sme.c; what head64.c calls before, inlined
    "sme_me_mask": frozenset(("sme_enable", "__pi_sme_enable", "__startup_64")),
    "sev_status": frozenset(("sme_enable", "__pi_sme_enable", "hv_vtom_init")),
    # Guests: arch/x86/hyperv/ivm.c, kernel/cpu/mshyperv.c, coco/tdx/tdx.c; kernel/cpu/amd.c
    "cc_vendor": frozenset(
        (
            *("sme_enable", "__pi_sme_enable", "__startup_64", "bsp_init_amd"),
            *("hv_vtom_init", "ms_hyperv_init_platform", "tdx_early_init"),
        )
    ),
    # arch/x86/kernel/cpu/amd.c
    # virt/vmx/tdx/tdx.c clears it behind a WBINVD: tdx_cpu_flush_cache(), inlined, 7.3.4
    "cache_state_incoherent": frozenset(
        ("early_init_amd", "tdx_cpu_flush_cache", "tdx_offline_cpu", "tdx_shutdown_cpu")
    ),
}
#: What is written there makes a CPU flush, and nothing else: virt/vmx/tdx/tdx.c, 7.3.4, where a
#: CPU makes a SEAMCALL.
_MAY_BE_SET: Final = frozenset(("cache_state_incoherent",))


@dataclass(frozen=True, slots=True)
class _Searched:
    """What writes there, by function and place, or jumps.

    Attributes:
        hooks: Names of the functions of tables, by address.
        inputs: Names of variables, by address.
        tables: The tables.
        writes: Each function, and which of them it may write to.
        jump: Address of the function that jumps; None if the image does not name it.
    """

    hooks: Mapping[int, str]
    inputs: Mapping[int, str]
    tables: tuple[Pointers, ...]
    writes: tuple[TableWrite, ...]
    jump: int | None


_SEARCHED: WeakKeyDictionary[KernelImage, _Searched] = WeakKeyDictionary()


def unknown_hook_writers(image: KernelImage) -> tuple[str, ...]:
    """One sentence for each function that may write there, or jumps, and is not known."""
    searched = _searched(image)
    pointers = tuple(
        f"{place} points into a table of functions, and who writes there by it is not known"
        for table in searched.tables
        for place in pointers_into(image, table)
    )
    return pointers + tuple(
        f"{write.function}() leads to {_JUMP}() as well, whether others have stopped or not"
        if write.slot == searched.jump
        else f"{write.function}() may write to {searched.hooks[write.slot]}, "
        "and when it does is not known"
        for write in searched.writes
        if _is_unknown(searched, write)
    )


def unknown_input_writers(image: KernelImage) -> Mapping[str, str]:
    """Variables that others than the known functions write to, and a sentence that says who."""
    searched, writers = _searched(image), dict[str, str]()
    for write in searched.writes:
        name = searched.inputs.get(write.slot)
        function = write.function.split(".")[0]
        if name is None or function in FLUSH_INPUTS[name]:
            continue
        if name not in _MAY_BE_SET or not _only_sets(image, write):
            writers.setdefault(
                name, f"{write.function}() may write to {name}, and when it does is not known"
            )
    return writers


def _only_sets(image: KernelImage, write: TableWrite) -> bool:
    """Does a function store constants there that are not zero, and nothing else?"""
    function = image.symbols.only_address(write.function)
    try:
        stores = [
            one
            for one in function_code(image, function or 0)
            if any(operand_address(one, operand) == write.slot for operand in stores_by(one))
        ]
    except (DerivationError, KernelImageError):
        return False
    return bool(stores) and all(
        one.id == cx.X86_INS_MOV and one.operands[-1].type == cx.X86_OP_IMM and one.operands[-1].imm
        for one in stores
    )


def _is_unknown(searched: _Searched, write: TableWrite) -> bool:
    function = write.function.split(".")[0]
    if write.slot == searched.jump:
        return function not in _JUMPING and function not in _KNOWN
    return write.slot in searched.hooks and function not in _KNOWN


def _searched(image: KernelImage) -> _Searched:
    """All code is looked at once."""
    if image not in _SEARCHED:
        _SEARCHED[image] = _search(image)
    return _SEARCHED[image]


def _search(image: KernelImage) -> _Searched:
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
        if not slots:
            raise DerivationError(f"{table} is smaller than what its functions are looked up in")
        tables.append(Pointers(start, tuple(sorted(slots))))
        names |= slots
    jump = image.symbols.only_address(_JUMP)
    places = {image.symbols.only_address(name): name for name in FLUSH_INPUTS}
    inputs = {at: name for at, name in places.items() if at is not None}
    cells = [Pointers(at, (at,), _INPUT_SIZE) for at in inputs]
    # What is read of them is all only if nothing else writes there: any code of the image may, at
    # boot or later. So with the variables by which a site decides, which are what the boot that was
    # run has left in them.
    writes = table_writes(image, [*tables, *cells], areas=_code(image), callee=jump)
    return _Searched(names, inputs, tuple(tables), writes, jump)


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
