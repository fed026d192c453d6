# SPDX-License-Identifier: GPL-2.0-or-later
"""What decides whether a kexec interrupts the other CPUs, other than listed facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.layout import APIC, is_pointer
from staleline.kernel.image.staticbranches import static_branches
from staleline.kernel.influence.after_the_stop import KexecWay, waking_jumps
from staleline.kernel.rerun.changes import Memory
from staleline.kernel.rerun.fixedinputs import FIXED_ON_WAY as _FIXED
from staleline.kernel.rerun.fixedinputs import is_fixed
from staleline.kernel.sites.stoppath import forked, sends
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.rerun.reruns import Accesses

__all__ = ["way_dependencies", "with_way"]

_WORD: Final = 8


def with_way(
    image: KernelImage, unlisted: Mapping[Site, tuple[str, ...]]
) -> Mapping[Site, tuple[str, ...]]:
    """What sites depend on and no fact sets, and what the way to the secondaries' does.

    And the way on from there to the jump.
    """
    on_way = {
        Site.STOP_THIS_CPU: way_dependencies(image),
        Site.RELOCATE_KERNEL: waking_jumps(image),
    }
    both = {
        site: tuple(dict.fromkeys((*unlisted.get(site, ()), *reasons)))
        for site, reasons in on_way.items()
    }
    return {**unlisted, **both}


def way_dependencies(image: KernelImage) -> tuple[str, ...]:
    """One sentence for each thing; nothing where the way is unknown without any change.

    Args:
        image: The kernel.
    """
    try:
        names = tuple(dict.fromkeys(_Way(image).dependencies()))
    # The site itself is unknown then, and says why.
    except DerivationError:
        return ()
    return tuple(
        f"{Site.STOP_THIS_CPU} also depends on {name}, which no fact sets: "
        "it decides whether the other CPUs are interrupted"
        for name in names
    )


class _Way(KexecWay):
    """To where it interrupts the others."""

    def dependencies(self) -> Iterator[str]:
        """Names of what makes it interrupt nobody, or otherwise.

        Raises:
            DerivationError: It does not get to an interrupt as it is.
        """
        accesses = self._accesses_of(self._sends)
        yield from self._decided_elsewhere(accesses)
        as_given = self._sends()
        with self._emulated.emulator.series():
            # One at a time: there are some forty variables, and a run is short.
            for change in self._changes(accesses):
                if self._sends_otherwise(change, as_given):
                    yield str(change)

    def _sends(self) -> int | None:
        return sends(self._emulated, forked(self._cpus))

    def _changes(self, accesses: Accesses) -> Iterator[Memory]:
        for (address, size), content in accesses.reads.items():
            name = self._emulated.places.variable(address) or f"{address:#x}"
            is_device = address in APIC
            if size > _WORD or is_device or is_pointer(content) or is_fixed(_FIXED, name, size):
                continue
            for other in _others(content):
                yield Memory((address, size), other, name)
        # Patched at boot by what drivers and options set, so either way round may be the running
        # one.
        for branch in static_branches(self._emulated.image, accesses.blocks):
            name = f"static key {self._emulated.places.code(branch.key)}"
            yield Memory((branch.address, len(branch.other)), branch.other, name, is_code=True)

    def _sends_otherwise(self, change: Memory, as_given: int | None) -> bool:
        """With a change it gets to another end; one that fails is none.

        But where it is led to what the image does not have: there is the code of a running kernel.
        """
        address, size = change.cell
        self._emulated.memory.put_back(self._booted)
        is_unset = not any(self._emulated.memory.read(address, size)) and size == _WORD
        before = self._emulated.emulator.null_uses
        self._write(address, change.content, is_code=change.is_code)
        try:
            # Where it then interrupts nobody, or by another vector, whether the others stop depends
            # on what was changed.
            return self._sends() != as_given
        except DerivationError:
            uses = self._emulated.emulator.null_uses
            return uses.calls > before.calls or (is_unset and uses != before)
        finally:
            self._emulated.memory.put_back(self._booted)
            if change.is_code:
                self._emulated.emulator.forget_code(address, size)

    def _write(self, address: int, content: bytes, *, is_code: bool) -> None:
        self._emulated.memory.write(address, content)
        # What was translated before would be run as it was.
        if is_code:
            self._emulated.emulator.forget_code(address, len(content))


def _others(content: bytes) -> Iterator[bytes]:
    """All bits turned over, the lowest one, and the numbers that conditions ask for."""
    size, value = len(content), int.from_bytes(content, "little")
    every = (1 << 8 * size) - 1
    for other in sorted({value ^ every, value ^ 1, 0, 1} - {value}):
        yield other.to_bytes(size, "little")
