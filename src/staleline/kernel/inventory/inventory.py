# SPDX-License-Identifier: GPL-2.0-or-later
"""Every WBINVD of an image, and who gets to it.

The sites of a kexec are run (`staleline.kernel.sites.sites`); this reads the rest of the code, so
that a new site does not go unnoticed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from staleline.kernel.image.alternatives import patches_with
from staleline.kernel.inventory.codescan import CodeArea, code_areas, instruction_starts, verify
from staleline.kernel.inventory.roles import FlushRole, role_of
from staleline.kernel.opcodes import WBINVD

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["FlushPlace", "Inventory", "Reach", "wbinvd_inventory"]

_REPEAT: Final = 0xF3
_CLI: Final = b"\xfa"
_REAL_MODE: Final = "real_mode_blob"
_TRAMPOLINE: Final = "trampoline_start"
_PV_OPS: Final = "pv_ops"
_PV_OPS_LIMIT: Final = 0x1000


class Reach(StrEnum):
    """How a place in the code gets to the instruction."""

    INLINE = "inline"
    PV_OPS = "through pv_ops"
    ALTERNATIVE = "patched in at boot"
    CALL = "by a call"
    PASSED = "by passing the function on"


@dataclass(frozen=True, slots=True)
class FlushPlace:
    """One place in the code that executes WBINVD or gets to it.

    Attributes:
        function: The symbol it is in.
        address: Link address of the instruction.
        reach: How it gets to WBINVD.
        callee: The function called or passed on; None if inline or through pv_ops.
        keeps_lines: The instruction is WBNOINVD; only known where it is inline.
        role: What the function is there for; None if it is in no list.
    """

    function: str
    address: int
    reach: Reach
    callee: str | None
    keeps_lines: bool
    role: FlushRole | None


@dataclass(frozen=True, slots=True)
class Inventory:
    """All of them.

    Attributes:
        places: By address.
        undecided: Addresses where the bytes are, in code that could not be disassembled.
    """

    places: tuple[FlushPlace, ...]
    undecided: tuple[int, ...]

    @property
    def unlisted(self) -> tuple[FlushPlace, ...]:
        """Places in functions that are in no list."""
        return tuple(place for place in self.places if place.role is None)


def wbinvd_inventory(image: KernelImage) -> Inventory:
    """Search the image's code.

    Calls are followed upward from functions that flush for their callers (`FlushRole`), and
    from the pointer in ``pv_ops`` where a kernel has one.

    Raises:
        KernelImageError: Sections or symbols lie outside the image.
    """
    search = _Search(image)
    search.find_inline()
    # After inline code, which a patch may only put in another form.
    search.find_alternatives()
    search.find_trampoline()
    for function in search.passing_on():
        search.find_users(function)
    places = sorted(search.places.values(), key=lambda place: place.address)
    return Inventory(tuple(places), tuple(sorted(search.undecided)))


class _Search:
    """What was found so far."""

    def __init__(self, image: KernelImage) -> None:
        self._image = image
        self._areas = code_areas(image)
        self.places: dict[int, FlushPlace] = {}
        self.undecided: set[int] = set()

    def find_inline(self) -> None:
        """The instruction itself, with or without the prefix that makes it WBNOINVD."""
        for area in self._areas:
            places = list(area.find(WBINVD))
            # F3 makes WBNOINVD of it (AMD APM volume 3); which of the two it is, disassembly says.
            prefixed = [at - 1 for at in places if area.byte_before(at) == _REPEAT]
            self._add(area, places, Reach.INLINE)
            self._add(area, prefixed, Reach.INLINE, keeps_lines=True)

    def find_alternatives(self) -> None:
        """What is patched in where nothing flushes yet: there it is the only trace of it."""
        for place, patch in patches_with(self._image, WBINVD):
            area = CodeArea(place, patch)
            starts = instruction_starts(area, place, place + len(patch) - 1)
            if not starts.isdisjoint(area.find(WBINVD)) and place not in self.places:
                function, _ = self._image.symbols.enclosing(place) or ("?", 0)
                self._note(function, place, Reach.ALTERNATIVE)

    def find_trampoline(self) -> None:
        """Real-mode code lies in the image as data (arch/x86/realmode/rm/trampoline_64.S)."""
        for blob in self._image.symbols.addresses(_REAL_MODE):
            header = self._image.read(blob, 12)
            start = blob + int.from_bytes(header[8:], "little")  # struct real_mode_header
            # trampoline_start begins so (linux 7.3.4 arch/x86/realmode/rm/trampoline_64.S:63).
            if self._image.read(start, 3) == _CLI + WBINVD:
                self._note(_TRAMPOLINE, start + 1, Reach.INLINE)

    def passing_on(self) -> Iterator[int]:
        """Functions found that flush for their callers, also those found meanwhile."""
        # Until there are none: a caller of one of them may be another.
        seen: set[int] = set()
        while new := {self._start(place) for place in self._passing()} - seen:
            seen |= new
            yield from sorted(new)

    def find_users(self, function: int) -> None:
        """Who calls a function, or passes it on to be called."""
        name = self._image.symbols.names_at(function)[0]
        slots = list(_pv_ops_slots(self._image, function))
        for area in self._areas:
            self._add(area, area.branches_to(function), Reach.CALL, name)
            self._add(area, area.moves_of(function), Reach.PASSED, name)
            for slot in slots:
                self._add(area, area.calls_through(slot), Reach.PV_OPS, name)

    def _passing(self) -> Iterator[FlushPlace]:
        return (place for place in self.places.values() if place.role and place.role.passes_on)

    def _start(self, place: FlushPlace) -> int:
        _, distance = self._image.symbols.enclosing(place.address) or ("", 0)
        return place.address - distance

    def _add(
        self,
        area: CodeArea,
        candidates: Iterable[int],
        reach: Reach,
        callee: str | None = None,
        *,
        keeps_lines: bool = False,
    ) -> None:
        verified = verify(self._image, area, candidates)
        self.undecided.update(verified.undecided)
        for address, function in verified.functions.items():
            self._note(function, address, reach, callee, keeps_lines=keeps_lines)

    def _note(
        self,
        function: str,
        address: int,
        reach: Reach,
        callee: str | None = None,
        *,
        keeps_lines: bool = False,
    ) -> None:
        role = role_of(function)
        self.places[address] = FlushPlace(function, address, reach, callee, keeps_lines, role)


def _pv_ops_slots(image: KernelImage, function: int) -> Iterator[int]:
    """Addresses of pointers to a function in ``pv_ops`` (asm/paravirt_types.h)."""
    start = image.symbols.only_address(_PV_OPS)
    size = None if start is None else image.symbols.size_of(_PV_OPS)
    if start is None or size is None:
        return
    pointers = struct.iter_unpack("<Q", image.read(start, min(size, _PV_OPS_LIMIT) // 8 * 8))
    yield from (start + 8 * i for i, (pointer,) in enumerate(pointers) if pointer == function)
