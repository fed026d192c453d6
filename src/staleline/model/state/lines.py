# SPDX-License-Identifier: GPL-2.0-or-later
"""Line roles: a handful of lines that stand for all memory, and their aliases.

Lines do not interact in any property, so each role is checked on its own, and a handover is
safe if and only if it is safe for every role that exists in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from staleline.model.scenario import ForeignLines, LeftBehind, Path, Scenario, Stop

__all__ = ["Alias", "Line", "Role", "lines_of"]


class Alias(StrEnum):
    """A key to one line: on incoherent hardware, a cache entry of its own."""

    PLAIN = "plain"
    CBIT = "cbit"
    FOREIGN = "foreign"


class Role(StrEnum):
    """What a line is to the two kernels."""

    IMAGE = "image"
    REST = "rest-of-ram"
    DECRYPTED = "decrypted-page"
    STOP_MASK = "stop-mask"
    FOREIGN_IMAGE = "foreign-page-under-image"
    FOREIGN_REST = "foreign-page"
    CRASH_SEGMENT = "crash-segment"
    CRASH_CONTROL = "crash-control-page"
    CRASH_VMCOREINFO = "crash-vmcoreinfo"
    WORK_AREA = "work-area"
    LEFT_BEHIND = "left-behind"
    LEFT_IMAGE = "left-behind-under-image"
    LEFT_PLAIN = "left-behind-decrypted"

    @property
    def is_left_behind(self) -> bool:
        """Is it a line that a CPU stores to after its flush?"""
        return self in _LEFT


_FOREIGN = frozenset({Role.FOREIGN_IMAGE, Role.FOREIGN_REST})
#: Pages that the old kernel maps without the C-bit even where it encrypts. Control pages
#: stay decrypted until they are freed: 7.3 kernel/kexec_core.c:294,457; but a guest keeps
#: them encrypted: 7.3 arch/x86/kernel/machine_kexec_64.c:688.
_DECRYPTED = frozenset({Role.DECRYPTED, Role.CRASH_CONTROL, Role.LEFT_PLAIN})
_DECRYPTED_BY_GUESTS = frozenset({Role.DECRYPTED, Role.LEFT_PLAIN})
_COPIED = frozenset({Role.IMAGE, Role.FOREIGN_IMAGE, Role.LEFT_IMAGE})
_LEFT = frozenset({Role.LEFT_BEHIND, Role.LEFT_IMAGE, Role.LEFT_PLAIN})
_CONVERTED = _COPIED | {Role.CRASH_SEGMENT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a role, in one scenario.

    Attributes:
        role: What the line is.
        old: The alias through which the old kernel, or its guests, use it.
        early: The alias of relocation and of the next kernel until it encrypts.
        next: The alias of the next kernel once it runs.
        copied: `relocate_kernel` writes the line.
        converted: The next kernel encrypts the line in place, where it encrypts at all.
        scratch: The next kernel writes the line through `early` while it encrypts, and hands
            it out as ordinary memory later.
        foreign: Its old user is a guest or the TDX module, not the old kernel.
        names: What texts call each alias.
    """

    role: Role
    old: Alias
    early: Alias
    next: Alias
    copied: bool = False
    converted: bool = False
    scratch: bool = False
    foreign: bool = False
    names: tuple[tuple[Alias, str], ...] = ()

    def left_by(self, left: LeftBehind) -> bool:
        """Is it one that a CPU which leaves such lines behind stores to after its flush?"""
        if self.role is Role.LEFT_PLAIN:
            return left.by_plain_alias
        return self.role in _LEFT and left.by_kernel_alias

    @property
    def aliases(self) -> tuple[Alias, ...]:
        """The aliases through which anybody uses the line, each once."""
        used = {self.old, self.next}
        if self.copied or self.converted or self.scratch:
            used.add(self.early)
        return tuple(alias for alias in Alias if alias in used)

    def name_of(self, alias: Alias) -> str:
        """What texts call this alias, e.g. ``"C-bit"``."""
        return dict(self.names)[alias]


def lines_of(scenario: Scenario) -> tuple[Line, ...]:
    """One line of every role that exists in the scenario, the likeliest to break first."""
    return tuple(_line(scenario, role) for role in _roles(scenario))


def _roles(scenario: Scenario) -> tuple[Role, ...]:
    return (*_ordinary_roles(scenario), *_roles_left_behind(scenario))


def _roles_left_behind(scenario: Scenario) -> Iterator[Role]:
    """A line that is stored to after a flush may lie anywhere in the old kernel's memory."""
    left = (scenario.left_by_secondary, scenario.left_by_jumping)
    confined = scenario.path is Path.CRASH or scenario.preserve_context
    if any(alias.by_kernel_alias for alias in left):
        if not confined:
            yield Role.LEFT_BEHIND
        # Of the reservation of a crash the old kernel's own mapping is read-only.
        if scenario.path is not Path.CRASH:
            yield Role.LEFT_IMAGE
    if any(alias.by_plain_alias for alias in left) and not scenario.preserve_context:
        yield Role.LEFT_PLAIN


def _ordinary_roles(scenario: Scenario) -> tuple[Role, ...]:
    if scenario.path is Path.CRASH:
        # The next kernel is confined to its reservation; other memory it only reads.
        control = () if scenario.load_settled else (Role.CRASH_CONTROL,)
        # Not written at load alone, but by the CPU that crashes as well.
        return (Role.CRASH_SEGMENT, *control, Role.CRASH_VMCOREINFO)
    foreign = scenario.foreign is not ForeignLines.NONE
    # Before the other roles: nothing else that the old kernel had is written again.
    if scenario.preserve_context:
        # The next kernel is confined to the image's destination, the rest is preserved.
        return (Role.IMAGE, Role.FOREIGN_IMAGE) if foreign else (Role.IMAGE,)
    roles = [Role.IMAGE, Role.REST]
    roles += [Role.FOREIGN_IMAGE, Role.FOREIGN_REST] if foreign else []
    roles += [Role.DECRYPTED] if scenario.old_encrypts else []
    # Where nobody is asked to stop, nobody reports.
    roles += [] if scenario.stop is Stop.SKIPPED else [Role.STOP_MASK]
    encrypts = scenario.next_encrypts and not scenario.keeps_encryption
    roles += [Role.WORK_AREA] if scenario.work_area and encrypts else []
    return tuple(roles)


def _line(scenario: Scenario, role: Role) -> Line:
    """A line of one role; where the hardware keeps aliases coherent, all aliases are one."""
    kernel = Alias.CBIT if scenario.old_encrypts else Alias.PLAIN
    old = Alias.FOREIGN if role in _FOREIGN else kernel
    # An encrypted guest copies the image through its own alias: 7.3 machine_kexec_64.c:255
    # sets the C-bit in the identity map of encrypted guests.
    early = kernel if scenario.keeps_encryption else Alias.PLAIN
    following = Alias.CBIT if scenario.next_encrypts else Alias.PLAIN
    if not scenario.incoherent:
        old = early = following = Alias.PLAIN
    return Line(
        role=role,
        old=Alias.PLAIN if role in _decrypted(scenario) else old,
        early=early,
        next=following,
        copied=role in _COPIED,
        converted=role in _CONVERTED,
        scratch=role is Role.WORK_AREA,
        foreign=role in _FOREIGN,
        names=tuple(_names(scenario).items()),
    )


def _decrypted(scenario: Scenario) -> frozenset[Role]:
    if scenario.keeps_encryption:
        return _DECRYPTED_BY_GUESTS
    return _DECRYPTED | {Role.CRASH_VMCOREINFO} if scenario.vmcoreinfo_decrypted else _DECRYPTED


def _names(scenario: Scenario) -> dict[Alias, str]:
    if not scenario.incoherent:
        return dict.fromkeys(Alias, "only")
    # TDX has a KeyID per guest, SEV a key per ASID (Intel TDX module base architecture
    # specification; AMD APM volume 2, 15.34).
    third = "private KeyID" if scenario.foreign is ForeignLines.TDX else "guest ASID"
    return {Alias.PLAIN: "plain", Alias.CBIT: "C-bit", Alias.FOREIGN: third}
