# SPDX-License-Identifier: GPL-2.0-or-later
"""Code that boot patches: applied if it always is, and if a CPU feature decides, told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.image.alternatives import always_patched, passed_alternatives, unread_patches
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.dependencies import dependencies
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import Site
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import find_guard, patched
from tests.kernel.places import address_of, function_at
from tests.sampling import covering

ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, True)
K8 = RawMachine(cpuid("K8"), cpuid("K8"))
#: asm/cpufeatures.h, 5.10 to 7.3: on every CPU; ERMS, CPUID 7 EBX[9]; a feature of Centaur's.
ALWAYS, ERMS, XSTORE = 3 * 32 + 21, 9 * 32 + 9, 5 * 32 + 2
SERIES = ["5.10", "6.12", "6.18", "7"]
SITES = {"stop_this_cpu": "stop_this_cpu", "machine_kexec": "relocate_kernel"}


@pytest.fixture(scope="module", params=SERIES)
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def with_alternative(image: KernelImage, address: int, code: bytes, feature: int) -> KernelImage:
    """The first entry of .altinstructions patches this, and the first replacement is this code."""
    table, source = (image.sections[n] for n in (".altinstructions", ".altinstr_replacement"))
    start, flags = table.virtual_address, b"" if entry_size(image) == 12 else b"\0\0"
    entry = (
        ((address - start) & 0xFFFF_FFFF).to_bytes(4, "little")
        + ((source.virtual_address - start - 4) & 0xFFFF_FFFF).to_bytes(4, "little")
        + feature.to_bytes(2, "little")
        + flags
        + bytes([len(code), len(code)])
    )
    return patched(patched(image, start, entry), source.virtual_address, code)


def entry_size(image: KernelImage) -> int:
    """``flags`` were added in 6.3."""
    assert image.release is not None
    return 12 if image.release.startswith(("5.10", "6.1.")) else 14


@pytest.mark.parametrize("function", ["stop_this_cpu", "identity_mapped"])
def test_a_wbinvd_that_every_boot_patches_away_is_not_executed(image, function):
    flush = find_guard(image, function).flush
    mutant = with_alternative(image, flush.address, b"\x90\x90", ALWAYS)
    decision = KernelReader(mutant).decide(ROME)
    found = {
        "stop_this_cpu": decision.stop_this_cpu.flushes,
        "identity_mapped": decision.relocate_kernel.flushes,
    }
    assert found.pop(function) is False
    assert set(found.values()) == {True}


def test_a_guard_that_every_boot_patches_counts_as_patched(image):
    """The jump around WBINVD becomes one that is always taken."""
    address, (opcode, distance) = find_guard(image, "stop_this_cpu").never
    # As boot moves it, it leads there again: apply_reloc() adds to a distance of one byte too
    # (linux 7.3.4 arch/x86/kernel/alternative.c).
    below = image.sections[".altinstr_replacement"].virtual_address - address
    code = bytes([opcode, (distance - below) & 0xFF])
    decision = KernelReader(with_alternative(image, address, code, ALWAYS)).decide(ROME)
    assert decision.stop_this_cpu.flushes is False


def test_a_wbinvd_that_every_boot_patches_in_is_executed(image):
    guard = find_guard(image, "stop_this_cpu")
    none = patched(image, *guard.no_flush)
    mutant = with_alternative(none, guard.flush.address, b"\x0f\x09", ALWAYS)
    assert KernelReader(none).decide(ROME).stop_this_cpu.flushes is False
    assert KernelReader(mutant).decide(ROME).stop_this_cpu.flushes is True


@pytest.mark.parametrize(("image", "feature"), covering(SERIES, [ERMS, XSTORE]), indirect=["image"])
def test_a_wbinvd_that_a_feature_patches_away_leaves_its_rule_unknown(image, feature):
    flush = find_guard(image, "stop_this_cpu").flush
    mutant = with_alternative(image, flush.address, b"\x90\x90", feature)
    reasons = dependencies(mutant).unlisted
    word, bit = divmod(feature, 32)
    what = f"code patched with CPU feature {word}*32+{bit} at stop_this_cpu+"
    assert any(what in reason for reason in reasons[Site.STOP_THIS_CPU])
    assert reasons[Site.RELOCATE_KERNEL] == ()


def test_what_real_kernels_always_patch_is_on_no_way_to_a_site(real_kernel):
    """But for calls that become direct, tests of features, and thunks."""
    image = real_kernel.image
    functions = {function_at(image, one.address) for one in always_patched(image)}
    assert functions <= {"alt_reloc_selftest"}  # arch/x86/kernel/alternative.c, since 6.9


def test_a_relative_jump_that_is_patched_in_leads_where_it_did(image):
    """apply_relocation(), arch/x86/kernel/alternative.c (6.12.118)."""
    flush, panic = find_guard(image, "stop_this_cpu").flush, address_of(image, "panic")
    source = image.sections[".altinstr_replacement"].virtual_address
    jump = b"\xe9" + ((panic - source - 5) & 0xFFFF_FFFF).to_bytes(4, "little")
    mutant = with_alternative(image, flush.address, jump, ALWAYS)
    (one,) = (one for one in always_patched(mutant) if one.address == flush.address)
    distance = int.from_bytes(one.code[1:], "little", signed=True)
    assert flush.address + 5 + distance == panic


@pytest.mark.parametrize(
    ("before", "relative"),
    [
        ("90", "e8"),  # nop; call panic
        ("90", "0f84"),  # nop; je panic
        ("", "488d3d"),  # lea rdi, [rip + panic]
        ("f30fb8c0", "488b05"),  # popcnt eax, eax; mov rax, [rip + panic]
    ],
)
def test_whatever_is_relative_in_a_patch_means_what_it_did(image, before, relative):
    """apply_relocation(), arch/x86/kernel/alternative.c:451 (6.12.117)."""
    place, panic = find_guard(image, "stop_this_cpu").flush.address, address_of(image, "panic")
    source = image.sections[".altinstr_replacement"].virtual_address
    opcode = bytes.fromhex(before + relative)
    end = len(opcode) + 4
    code = opcode + ((panic - source - end) & 0xFFFF_FFFF).to_bytes(4, "little")
    mutant = with_alternative(image, place, code, ALWAYS)
    (one,) = (one for one in always_patched(mutant) if one.address == place)
    assert one.code[:-4] == opcode
    assert place + end + int.from_bytes(one.code[-4:], "little", signed=True) == panic


def test_what_is_relative_within_a_patch_moves_along(image):
    """call 1f; int3; 1: add rsp, 8, as ``__FILL_RETURN_SLOT`` (asm/nospec-branch.h, 6.12.117)."""
    code = bytes.fromhex("e801000000cc4883c408")
    place = find_guard(image, "stop_this_cpu").flush.address
    mutant = with_alternative(image, place, code, ALWAYS)
    (one,) = (one for one in always_patched(mutant) if one.address == place)
    assert one.code == code


def test_an_image_without_the_tables_has_no_patches(image):
    bare = replace(image, sections={})
    assert always_patched(bare) == []
    assert list(passed_alternatives(bare, [(0, 1 << 63)])) == []
    assert (unread_patches(image), unread_patches(bare)) == (False, True)


def test_tables_in_a_form_that_is_not_known_are_unread(image):
    """Entries that point to no replacement."""
    table = image.sections[".altinstructions"]
    assert unread_patches(patched(image, table.virtual_address, b"\x7f" * entry_size(image)))


def test_a_patch_is_passed_where_any_block_overlaps_it(image):
    """Blocks that lie in each other, overlap, touch, or begin and end in a patch."""
    patches = list(passed_alternatives(image, [(0, (1 << 64) - 1)]))
    places = [patch.address for patch in patches[::97]]
    blocks = [(at + begin, size) for at in places for begin, size in ((-3, 3), (-3, 9), (0, 2))]
    blocks += [(at + 1, 40) for at in places[::2]]
    passed = [
        patch
        for patch in patches
        if any(
            patch.address < start + size and start < patch.address + len(patch.code)
            for start, size in blocks
        )
    ]
    assert list(passed_alternatives(image, reversed(blocks))) == passed
    assert len(places) <= len(passed) < len(patches)
    assert list(passed_alternatives(image, [])) == []
