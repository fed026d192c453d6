# SPDX-License-Identifier: GPL-2.0-or-later
"""What decides whether a kexec interrupts the other CPUs, other than listed facts."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.layout import APIC, is_pointer
from staleline.kernel.image.staticbranches import static_branches
from staleline.kernel.influence.after_the_stop import KexecWay, waking_jumps
from staleline.kernel.influence.beyond import turned_beyond
from staleline.kernel.influence.guardinputs import inputs_of, name_of, unlisted_bits
from staleline.kernel.influence.inflow import Loaded, inflows
from staleline.kernel.influence.turns import turns
from staleline.kernel.rerun.changes import Memory
from staleline.kernel.rerun.constantmemory import variable_memory
from staleline.kernel.rerun.fixedinputs import FIXED_ON_WAY as _FIXED
from staleline.kernel.rerun.fixedinputs import is_fixed
from staleline.kernel.rerun.trace import Recorder
from staleline.kernel.sites.stoppath import forked, sends
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.influence.inflow import Origin
    from staleline.kernel.influence.turns import Turn
    from staleline.kernel.rerun.reruns import Accesses
    from staleline.kernel.rerun.trace import ExecutedInstruction

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
                if self._sends_otherwise([change], as_given):
                    yield str(change)
            yield from self._at_turns(as_given)

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

    def _at_turns(self, as_given: int | None) -> Iterator[str]:
        """What flows into conditions by which it interrupts otherwise, in whichever form."""
        steps = self._trace(self._sends)
        memory, symbols = self._emulated.memory, self._emulated.image.symbols
        variable = variable_memory(symbols, ())

        def is_constant(address: int) -> bool:
            return not any(address in part for part in variable)

        flows = inflows(steps, is_constant)
        executed = frozenset(step.address for step in steps)
        for turn in turns(steps, int, is_constant, memory.read):
            asked = inputs_of(flows[index] for index in turn.indices)
            names = list(dict.fromkeys(filter(None, (self._open(*one) for one in asked))))
            if names and any(
                self._sends_otherwise(way, as_given) for way in _ways(turn, memory.read, executed)
            ):
                yield from names

    def _open(self, origin: Origin, mask: int) -> str | None:
        """The name of an input that no listed fact sets, and that is not as it is for a reason."""
        if isinstance(origin, Loaded):
            name = self._emulated.places.variable(origin.address) or f"{origin.address:#x}"
            is_device = origin.address in APIC
            return None if is_device or is_fixed(_FIXED, name, len(origin.content)) else name
        bits = unlisted_bits(origin, mask, varied=0, fixed=0)
        return name_of(origin, bits, hex) if bits else None

    def _trace(self, run: Callable[[], object]) -> Sequence[ExecutedInstruction]:
        """Every instruction of a run; memory is as after boot then."""
        recorder = Recorder(self._emulated.memory, self._emulated.emulator)
        recorder.record(run)
        self._emulated.memory.put_back(self._booted)
        return recorder.steps

    def _sends_otherwise(self, changes: Sequence[Memory], as_given: int | None) -> bool:
        """With changes it gets to another end; one that fails is none.

        But where it is led to what the image does not have: there is the code of a running kernel.
        """
        memory, emulator = self._emulated.memory, self._emulated.emulator
        memory.put_back(self._booted)
        is_unset = any(
            size == _WORD and not any(memory.read(address, size))
            for address, size in (change.cell for change in changes)
        )
        before = emulator.null_uses
        for change in changes:
            self._write(change.cell[0], change.content, is_code=change.is_code)
        try:
            # Where it then interrupts nobody, or by another vector, whether the others stop depends
            # on what was changed.
            return self._sends() != as_given
        except DerivationError:
            uses = emulator.null_uses
            return uses.calls > before.calls or (is_unset and uses != before)
        finally:
            memory.put_back(self._booted)
            for change in changes:
                if change.is_code:
                    emulator.forget_code(*change.cell)

    def _write(self, address: int, content: bytes, *, is_code: bool) -> None:
        self._emulated.memory.write(address, content)
        # What was translated before would be run as it was.
        if is_code:
            self._emulated.emulator.forget_code(address, len(content))


def _ways(
    turn: Turn, read: Callable[[int, int], bytes], executed: Container[int]
) -> Iterator[tuple[Memory, ...]]:
    """The other way round, and a jump with conditions that are asked only then."""
    for other in turn.others:
        yield (other,)
    if turn.detours:
        yield from turned_beyond(read, next(iter(turn.others)), turn.detours[0].target, executed)


def _others(content: bytes) -> Iterator[bytes]:
    """All bits turned over, the lowest one, and the numbers that conditions ask for."""
    size, value = len(content), int.from_bytes(content, "little")
    every = (1 << 8 * size) - 1
    for other in sorted({value ^ every, value ^ 1, 0, 1} - {value}):
        yield other.to_bytes(size, "little")
