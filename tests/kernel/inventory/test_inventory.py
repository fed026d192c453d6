# SPDX-License-Identifier: GPL-2.0-or-later
"""Every WBINVD of an image is found, nothing else is, and new ones are called unlisted."""

from __future__ import annotations

import struct
import tomllib
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from staleline.errors import KernelImageError
from staleline.kernel.image.alternatives import patches_with
from staleline.kernel.image.image import KernelImage, Section, Segment
from staleline.kernel.image.symbols import SymbolTable
from staleline.kernel.inventory.codescan import code_areas
from staleline.kernel.inventory.inventory import Inventory, Reach, wbinvd_inventory
from staleline.kernel.inventory.roles import Phase, role_of
from tests.kernel.mutate import patched

TEXT = 0xFFFF_FFFF_8100_0000
PV_OPS = TEXT + 0x10_0000
SLOT = PV_OPS + 8
FUNCTION_SIZE = 0x40
NO_CODE = {".text": Section(".text", TEXT, 0)}


class Names:
    def __init__(self, names: list[str]) -> None:
        self._names = names

    def name(self, index: int) -> str:
        return self._names[index]

    def find(self, name: str) -> list[int]:
        return [index for index, other in enumerate(self._names) if other == name]


def kernel(**functions: str) -> KernelImage:
    """Functions by name, code in hexadecimal; ``{name}`` is the address of another as imm32.

    ``pv_ops`` holds a pointer to ``pv_native_wbinvd`` in its second slot, if there is one.
    """
    starts = {name: TEXT + FUNCTION_SIZE * index for index, name in enumerate(functions)}
    immediates = {name: at.to_bytes(8, "little")[:4].hex() for name, at in starts.items()}
    slot = (SLOT & 0xFFFF_FFFF).to_bytes(4, "little").hex()
    text = b"".join(
        bytes.fromhex(code.format(slot=slot, **immediates)).ljust(FUNCTION_SIZE, b"\xcc")
        for code in functions.values()
    )
    pointers = (0).to_bytes(8, "little") + starts.get("pv_native_wbinvd", 0).to_bytes(8, "little")
    symbols = [*starts.items(), ("pv_ops", PV_OPS), ("behind", PV_OPS + 16)]
    table = SymbolTable(
        np.array([at for _, at in symbols], np.uint64), Names([name for name, _ in symbols])
    )
    segments = (
        Segment(TEXT, 0x100_0000, memoryview(text), len(text), executable=True),
        Segment(PV_OPS, 0x110_0000, memoryview(pointers), len(pointers), executable=False),
    )
    sections = {".text": Section(".text", TEXT, len(text))}
    return KernelImage("test", None, None, None, segments, sections, table)


def found(inventory: Inventory) -> list[tuple[str, Reach, str | None]]:
    return [(place.function, place.reach, place.callee) for place in inventory.places]


def call(frm: int, to: int) -> str:
    """A near call from the start of one function to another, by their numbers."""
    return "e8" + ((to - frm) * FUNCTION_SIZE - 5).to_bytes(4, "little", signed=True).hex()


def test_the_instruction_itself():
    inventory = wbinvd_inventory(kernel(new_function="90 0f09 c3"))
    (place,) = inventory.places
    assert (place.function, place.address, place.reach) == ("new_function", TEXT + 1, Reach.INLINE)
    assert not place.keeps_lines
    assert inventory.unlisted == (place,)
    assert inventory.undecided == ()


def test_wbnoinvd_is_told_apart():
    (place,) = wbinvd_inventory(kernel(new_function="90 f30f09 c3")).places
    assert place.address == TEXT + 1
    assert place.keeps_lines


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("e80f090000", "the displacement of a call"),
        ("48c7c00f090000", "a constant"),
        ("8b850f090000", "the displacement of a load"),
        ("67480fb93a 48c7c00f090000", "a constant behind a ud1, as WARN has it since 6.19"),
        ("0f0b78656e 0fa2 b80f090000", "a constant behind Xen's prefix of CPUID"),
        ("660f01cf b80f090000", "a constant behind a SEAMCALL"),
        ("f30f01fe b80f090000", "a constant behind an RMPADJUST"),
    ],
)
def test_bytes_inside_an_instruction_do_not_count(code, what):
    inventory = wbinvd_inventory(kernel(function=code))
    assert inventory == Inventory((), ()), what


@pytest.mark.parametrize(
    "before", ["67480fb93a", "0f0b78656e0fa2", "660f01cf", "f20f01ff", "b8f3f3f3f3"]
)
def test_behind_instructions_that_are_hard_to_read(before):
    (place,) = wbinvd_inventory(kernel(function=before + "0f09 c3")).places
    assert place.address == TEXT + len(before) // 2
    assert not place.keeps_lines


def test_code_that_is_none_is_undecided():
    """0x06 is no instruction in 64-bit mode."""
    inventory = wbinvd_inventory(kernel(function="06 06 0f09 c3"))
    assert inventory.places == ()
    assert inventory.undecided == (TEXT + 2,)


@pytest.mark.parametrize(
    "code", ["ff1425{slot}", "ff15" + (0x10_0008 - 0x46).to_bytes(4, "little").hex()]
)
def test_a_call_through_pv_ops(code):
    """Absolute (5.10) or relative to RIP (6.12)."""
    inventory = wbinvd_inventory(kernel(pv_native_wbinvd="0f09 c3", kdump_sev_callback=code))
    assert found(inventory) == [
        ("pv_native_wbinvd", Reach.INLINE, None),
        ("kdump_sev_callback", Reach.PV_OPS, "pv_native_wbinvd"),
    ]
    assert inventory.unlisted == ()


def test_calls_are_followed_upward_from_functions_that_pass_it_on():
    inventory = wbinvd_inventory(
        kernel(
            __wbinvd="0f09 c3",
            wbinvd_on_all_cpus="48c7c7{__wbinvd} c3",
            a_new_user=call(2, 1) + "c3",
            its_caller=call(3, 2) + "c3",
        )
    )
    assert found(inventory) == [
        ("__wbinvd", Reach.INLINE, None),
        ("wbinvd_on_all_cpus", Reach.PASSED, "__wbinvd"),
        ("a_new_user", Reach.CALL, "wbinvd_on_all_cpus"),
    ]
    assert [place.function for place in inventory.unlisted] == ["a_new_user"]


def test_a_part_split_off_belongs_to_its_function():
    image = kernel(**{"stop_this_cpu.cold": "0f09", "__pi___enc_copy": "0f09"})
    roles = [place.role and place.role.name for place in wbinvd_inventory(image).places]
    assert roles == ["stop of a secondary", "encryption in place"]


def test_only_code_is_searched():
    """pv_ops is data, and ``.altinstr_replacement`` lies in an executable segment."""
    image = kernel(function="c3")
    replacement = Segment(TEXT + 0x1000, 0x100_1000, memoryview(b"\x0f\x09"), 2, executable=True)
    segments = (*image.segments, replacement)
    section = Section(".altinstr_replacement", TEXT + 0x1000, 2)
    sections = {**image.sections, section.name: section}
    whole = KernelImage("test", None, None, None, segments, sections, image.symbols)
    assert wbinvd_inventory(whole).places == ()


def with_alternative(image: KernelImage, patch: str, entry: int) -> KernelImage:
    """The image with code patched in at `TEXT`; entries of 12 or 14 bytes (asm/alternative.h)."""
    table, code = TEXT + 0x2000, TEXT + 0x3000
    replacement = bytes.fromhex(patch)
    line = struct.pack("<ii", TEXT - table, code - (table + 4)) + bytes(entry - 10)
    line += bytes([5, len(replacement)])
    parts = {".altinstructions": (table, line), ".altinstr_replacement": (code, replacement)}
    segments = tuple(
        Segment(at, 0x100_0000, memoryview(data), len(data), executable=False)
        for at, data in parts.values()
    )
    sections = {name: Section(name, at, len(data)) for name, (at, data) in parts.items()}
    return replace(
        image, segments=(*image.segments, *segments), sections={**image.sections, **sections}
    )


@pytest.mark.parametrize("entry", [12, 14])
def test_what_is_patched_in_at_boot(entry):
    image = with_alternative(kernel(function="0f1f440000 c3"), "90 0f09", entry)
    assert found(wbinvd_inventory(image)) == [("function", Reach.ALTERNATIVE, None)]
    within = with_alternative(kernel(function="0f1f440000 c3"), "b80f090000", entry)
    assert wbinvd_inventory(within).places == ()


def test_a_patch_of_an_unknown_layout_is_left_out():
    image = with_alternative(kernel(function="0f1f440000 c3"), "90 0f09", 13)
    assert wbinvd_inventory(image).places == ()


def test_the_trampoline_of_secondaries():
    """``cli; wbinvd`` in 16 bits, at the third offset of struct real_mode_header."""
    blob = struct.pack("<3I", 0, 0, 16) + bytes(4) + b"\xfa\x0f\x09"
    image = kernel(real_mode_blob=blob.hex())
    (place,) = wbinvd_inventory(replace(image, sections=NO_CODE)).places
    assert (place.function, place.address) == ("trampoline_start", TEXT + 17)
    assert place.role is not None
    assert place.role.phase is Phase.BOOT


def test_an_image_without_section_headers_is_searched_by_segment():
    image = kernel(new_function="0f09 c3")
    bare = KernelImage("test", None, None, None, image.segments, {}, image.symbols)
    assert wbinvd_inventory(bare) == wbinvd_inventory(image)


def test_a_section_that_claims_gigabytes_is_refused():
    image = kernel(function="c3")
    sections = {".text": Section(".text", TEXT, 1 << 40)}
    huge = KernelImage("huge", None, None, None, image.segments, sections, image.symbols)
    with pytest.raises(KernelImageError, match="huge: code of more than 256 MiB"):
        code_areas(huge)


@pytest.fixture(scope="module")
def image(real_kernel) -> KernelImage:
    return real_kernel.image


@pytest.fixture(scope="module")
def inventory(image) -> Inventory:
    return wbinvd_inventory(image)


def test_every_place_of_a_real_kernel_is_listed(inventory):
    assert inventory.unlisted == ()
    assert inventory.undecided == ()


#: In every kernel from 5.10 on, whatever the flavour.
ALWAYS = {
    "stop_this_cpu": Phase.KEXEC,
    "identity_mapped": Phase.KEXEC,
    "hlt_play_dead": Phase.OFFLINE,
    "resume_play_dead": Phase.OFFLINE,
    "acpi_idle_play_dead": Phase.OFFLINE,
    "__enc_copy": Phase.BOOT,
    "__sme_early_enc_dec": Phase.BOOT,
    "trampoline_start": Phase.BOOT,
    "generic_set_mtrr": Phase.BOOT,
    "cpa_flush_all": Phase.RUNNING,
    "wbinvd_on_all_cpus": Phase.WRAPPER,
}


def test_what_every_kernel_has(inventory):
    phases = {place.function: place.role.phase for place in inventory.places}
    assert ALWAYS.items() <= phases.items()


def test_paravirt_calls_up_to_6_12(inventory, real_kernel):
    """``pv_ops.cpu.wbinvd`` is gone in 6.16; stop_this_cpu has native_wbinvd() at all times."""
    through = {place.function for place in inventory.places if place.reach is Reach.PV_OPS}
    assert ("hlt_play_dead" in through) is (real_kernel.series in {"5.10", "6.1", "6.12"})
    assert "stop_this_cpu" not in through


def test_what_is_patched_in_is_what_calls_pv_ops(image, inventory, real_kernel):
    """Two ways to the same places: PVOP_ALT_VCALL0(cpu.wbinvd, "wbinvd", ...), 6.1 to 6.12.

    5.10 has ``.parainstructions`` instead; since 6.17 only __wbnoinvd() has an alternative.
    """
    patched_in = {address for address, _ in patches_with(image, b"\x0f\x09")}
    through = {place.address for place in inventory.places if place.reach is Reach.PV_OPS}
    wbnoinvd = {place.address for place in inventory.places if place.function == "__wbnoinvd"}
    assert patched_in == (through if real_kernel.series in {"6.1", "6.12"} else wbnoinvd)


def test_a_generic_kernel_flushes_in_the_crash_nmi(real_kernels):
    """arch/x86/virt/svm/sev.c:1096 (7.3.4)."""
    inventory = wbinvd_inventory(real_kernels["7-generic"].image)
    assert inventory.unlisted == ()
    (place,) = [
        place for place in inventory.places if place.role and place.role.phase is Phase.CRASH
    ]
    assert place.function == "kdump_sev_callback"


def test_a_planted_wbinvd_is_unlisted(image, inventory):
    """At the start of a function that has nothing to do with caches."""
    address = image.symbols.address("do_exit")
    planted = wbinvd_inventory(patched(image, address, b"\x0f\x09"))
    assert [place.function for place in planted.unlisted] == ["do_exit"]
    assert set(planted.places) - set(inventory.places) == set(planted.unlisted)


def test_a_removed_wbinvd_is_missed(image, inventory):
    (flush,) = [place for place in inventory.places if place.function == "stop_this_cpu"]
    without = wbinvd_inventory(patched(image, flush.address, b"\x66\x90"))
    assert set(inventory.places) - set(without.places) == {flush}


def test_every_role_is_complete_and_no_function_has_two():
    text = files("staleline.kernel.inventory").joinpath("flushroles.toml").read_text("utf-8")
    entries = tomllib.loads(text)["role"]
    functions = [function for entry in entries for function in entry["functions"]]
    assert len(functions) == len(set(functions))
    for entry in entries:
        role = role_of(entry["functions"][0])
        assert role is not None
        assert all((role.name, role.source, role.when, role.kexec)), role
        assert role.phase is Phase(entry["phase"])


def test_roles_name_what_is_run_and_what_is_read():
    run = {"stop_this_cpu": True, "hlt_play_dead.isra.0": True, "acpi_idle_play_dead": False}
    roles = {name: role_of(name) for name in run}
    assert {name: bool(role and role.run) for name, role in roles.items()} == run
    assert None not in roles.values()
    assert role_of("do_exit") is None
