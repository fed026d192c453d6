# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lines there are in a handover, and through which aliases who uses them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.model.scenario import Flush, ForeignLines, LeftBehind, Path, Scenario, Stop
from staleline.model.state.lines import Alias, Line, Role, lines_of

ON_TO_OFF = Scenario(
    path=Path.KEXEC,
    old_encrypts=True,
    next_encrypts=False,
    incoherent=True,
    flush_secondary=Flush.ALWAYS,
    flush_jumping=Flush.ALWAYS,
)


def line(role: Role, **changes: object) -> Line:
    scenario = replace(ON_TO_OFF, **changes)  # type: ignore[arg-type]
    return next(each for each in lines_of(scenario) if each.role is role)


def roles(**changes: object) -> set[Role]:
    return {each.role for each in lines_of(replace(ON_TO_OFF, **changes))}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "following", "aliases"),
    [
        (False, False, (Alias.PLAIN, Alias.PLAIN, Alias.PLAIN)),
        (True, False, (Alias.CBIT, Alias.PLAIN, Alias.PLAIN)),
        # relocate_kernel() copies through a map without the C-bit (linux 7.3.4
        # arch/x86/kernel/machine_kexec_64.c:245 _KERNPG_TABLE_NOENC).
        (False, True, (Alias.PLAIN, Alias.PLAIN, Alias.CBIT)),
        (True, True, (Alias.CBIT, Alias.PLAIN, Alias.CBIT)),
    ],
)
def test_the_image_is_copied_plain_on_hosts(
    old: bool, following: bool, aliases: tuple[Alias, Alias, Alias]
) -> None:
    image = line(Role.IMAGE, old_encrypts=old, next_encrypts=following)
    assert (image.old, image.early, image.next) == aliases
    assert image.copied
    assert image.converted


def test_an_encrypted_guest_copies_through_its_own_alias() -> None:
    # _PAGE_ENC in the identity map (linux 7.3.4 arch/x86/kernel/machine_kexec_64.c:255).
    image = line(Role.IMAGE, guest=True, next_encrypts=True)
    assert (image.old, image.early, image.next) == (Alias.CBIT,) * 3


def test_decrypted_pages_are_plain_whoever_encrypts() -> None:
    assert line(Role.DECRYPTED).old is Alias.PLAIN
    assert Role.DECRYPTED not in roles(old_encrypts=False)


def test_a_hosts_control_page_is_decrypted_and_a_guests_is_not() -> None:
    # arch_kexec_post_alloc_pages() is for hosts alone (linux 7.3.4 machine_kexec_64.c:688).
    crash = {"path": Path.CRASH}
    assert line(Role.CRASH_CONTROL, **crash).old is Alias.PLAIN
    assert line(Role.CRASH_CONTROL, **crash, guest=True, next_encrypts=True).old is Alias.CBIT


def test_the_vmcoreinfo_copy_is_mapped_as_the_kernels_own_memory() -> None:
    # vmap() with PAGE_KERNEL (linux 7.3.4 kernel/crash_core.c:76, 6.12.117 :62; 5.10.223
    # kernel/kexec_core.c:522, 6.1.176 :523).
    crash = {"path": Path.CRASH}
    assert line(Role.CRASH_VMCOREINFO, **crash).old is Alias.CBIT
    assert line(Role.CRASH_VMCOREINFO, **crash, old_encrypts=False).old is Alias.PLAIN


def test_guests_lines_are_under_a_third_key() -> None:
    for foreign, name in (
        (ForeignLines.SEV_GUESTS, "guest ASID"),
        (ForeignLines.TDX, "private KeyID"),
    ):
        image = line(Role.FOREIGN_IMAGE, foreign=foreign)
        assert image.foreign
        assert image.old is Alias.FOREIGN
        assert image.name_of(Alias.FOREIGN) == name
    assert not {Role.FOREIGN_IMAGE, Role.FOREIGN_REST} & roles()


def test_a_crash_kernel_writes_its_reservation_only() -> None:
    written_in_crash = {Role.CRASH_SEGMENT, Role.CRASH_VMCOREINFO}
    assert roles(path=Path.CRASH) == {*written_in_crash, Role.CRASH_CONTROL}
    assert roles(path=Path.CRASH, load_settled=True) == written_in_crash
    assert roles(path=Path.CRASH, foreign=ForeignLines.SEV_GUESTS) == roles(path=Path.CRASH)


def test_a_kexec_jump_writes_the_images_destination_only() -> None:
    # All other memory is preserved (linux 7.3.4 kernel/kexec_core.c:1181).
    assert roles(preserve_context=True) == {Role.IMAGE}


def test_nobody_reports_where_nobody_is_asked_to_stop() -> None:
    assert Role.STOP_MASK in roles()
    assert Role.STOP_MASK not in roles(stop=Stop.SKIPPED)


@pytest.mark.parametrize(
    ("changes", "there"),
    [
        ({"left_by_secondary": LeftBehind.KERNEL}, {Role.LEFT_BEHIND, Role.LEFT_IMAGE}),
        ({"left_by_jumping": LeftBehind.PLAIN}, {Role.LEFT_PLAIN}),
        (
            {"left_by_jumping": LeftBehind.BOTH},
            {Role.LEFT_BEHIND, Role.LEFT_IMAGE, Role.LEFT_PLAIN},
        ),
        # Of the reservation the old kernel's own mapping is read-only (linux 7.3.4
        # arch/x86/kernel/machine_kexec_64.c:634), and the rest nobody writes again.
        ({"left_by_secondary": LeftBehind.KERNEL, "path": Path.CRASH}, set()),
        ({"left_by_secondary": LeftBehind.PLAIN, "path": Path.CRASH}, {Role.LEFT_PLAIN}),
        ({"left_by_jumping": LeftBehind.BOTH, "preserve_context": True}, {Role.LEFT_IMAGE}),
    ],
)
def test_where_a_line_that_is_stored_to_late_may_lie(
    changes: dict[str, object], there: set[Role]
) -> None:
    assert {role for role in roles(**changes) if role.is_left_behind} == there


def test_who_stores_late_through_which_alias() -> None:
    left = line(Role.LEFT_BEHIND, left_by_secondary=LeftBehind.BOTH)
    assert left.left_by(LeftBehind.KERNEL)
    assert not left.left_by(LeftBehind.PLAIN)
    assert not left.left_by(LeftBehind.NONE)
    plain = line(Role.LEFT_PLAIN, left_by_secondary=LeftBehind.BOTH)
    assert plain.left_by(LeftBehind.PLAIN)
    assert not plain.left_by(LeftBehind.KERNEL)
    assert not line(Role.IMAGE).left_by(LeftBehind.BOTH)


def test_the_work_area_is_looked_at_where_something_is_encrypted_in_place() -> None:
    assert Role.WORK_AREA not in roles(work_area=True)
    assert Role.WORK_AREA in roles(work_area=True, next_encrypts=True)
    assert Role.WORK_AREA not in roles(work_area=True, next_encrypts=True, guest=True)
