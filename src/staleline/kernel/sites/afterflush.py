# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of the lines that a CPU stores to after its last WBINVD."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.decision import Fate, Store
from staleline.kernel.boot.machine import SECONDARY
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.execution.end import EndKind
from staleline.kernel.emulator.layout import CONTROL_PAGES, RAM_SIZE, SWAP_PAGE
from staleline.kernel.image.symbols import required_address
from staleline.vocabulary import Through

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import KeptMemory, MachineMemory
    from staleline.kernel.emulator.notedstores import NotedAccess
    from staleline.kernel.emulator.traps import LogicalCpu

__all__ = ["StopWait", "as_in_crash", "stores_after_nmi", "stores_before_jump", "stores_offline"]

_LINE: Final = 64
_STOPS_OTHERS: Final = "native_stop_other_cpus"
_ONLINE: Final = "__cpu_online_mask"
_COUNT: Final = "__num_online_cpus"
#: How many CPU numbers there are; before boot has counted them, as many as masks have bits.
_NUMBERS: Final = "nr_cpu_ids"
#: What becomes of a store, by what was noted of it.
_FateOf = Callable[["NotedAccess", Store], Fate]


def stores_before_jump(
    emulated: EmulatedMachine, accesses: Iterable[NotedAccess]
) -> tuple[Store, ...]:
    """On the jumping CPU, in a kexec."""
    return _stores(emulated, accesses, lambda _, store: _unless(Through.PLAIN, store))


def stores_after_nmi(
    emulated: EmulatedMachine, accesses: Iterable[NotedAccess]
) -> tuple[Store, ...]:
    """On a secondary, in a crash."""
    return _stores(emulated, accesses, lambda _, store: _unless(Through.OWN, store))


def stores_offline(emulated: EmulatedMachine, accesses: Iterable[NotedAccess]) -> tuple[Store, ...]:
    """On a CPU that goes offline: nobody waits for it, so nothing is taken back."""
    return _stores(emulated, accesses, lambda _, __: Fate.LEFT_BEHIND)


def as_in_crash(stores: Iterable[Store]) -> tuple[Store, ...]:
    """What would be left behind in a kexec is not the next kernel's memory in a crash."""
    return tuple(
        replace(store, fate=Fate.OUTSIDE_RESERVATION) if store.fate is Fate.LEFT_BEHIND else store
        for store in stores
    )


@dataclass(frozen=True, slots=True)
class StopWait:
    """The jumping CPU, which waits until a secondary has stopped.

    Attributes:
        emulated: The machine, when the secondary has halted.
        jumping: The CPU.
        report: The bytes by which a secondary reports itself stopped.
        began: Memory before the jumping CPU began to stop others, if it has; else None.
    """

    emulated: EmulatedMachine
    jumping: LogicalCpu
    report: range
    began: KeptMemory | None = None

    def stores_of_stopped(self, accesses: Sequence[NotedAccess]) -> tuple[Store, ...]:
        """What the secondary stored after its flush, and what becomes of it.

        Raises:
            DerivationError: What the jumping CPU stores later could not be found out.
        """
        reports = [index for index, one in enumerate(accesses) if _overlap(one, self.report)]
        # What comes behind the report may come behind all that the jumping CPU stores as well.
        end = reports[-1] + 1 if reports else 0
        ordered = set(accesses[:end]) - set(accesses[end:])
        # Without any, the jumping CPU need not be run for it.
        taken = self.lines_taken_back() if ordered else frozenset()

        def fate(access: NotedAccess, store: Store) -> Fate:
            if access in ordered and taken.issuperset(_lines(store.physical, store.size)):
                return Fate.TAKEN_BACK
            return Fate.LEFT_BEHIND

        return _stores(self.emulated, accesses, fate)

    def lines_taken_back(self) -> frozenset[int]:
        """Lines that the jumping CPU stores to once it has seen that all others are stopped.

        Memory is put back afterwards.

        Raises:
            DerivationError: It did not return.
        """
        function = required_address(self.emulated.image.symbols, _STOPS_OTHERS)
        cpu = self.jumping.going_on_as(self.jumping, self.jumping.record)
        # With no other CPU online, so that it does not wait.
        with self._as_it_began(), self._alone():
            # It is told to wait, as machine_shutdown() tells it (linux 7.3.4
            # arch/x86/include/asm/smp.h:58).
            end, accesses = self.emulated.emulator.accesses_of(
                function, (1,), cpu=cpu, reads=self.report
            )
        if end.kind is not EndKind.RETURNED:
            what = self.emulated.emulator.told(end)
            raise DerivationError(f"{_STOPS_OTHERS}() did not return: {what}")
        # The last time that it looks at the report is where a wait ends. An instruction that looks
        # and stores at once is no look.
        looks = [at for at in range(len(accesses)) if _looks_at(accesses, at, self.report)]
        later = [one for one in accesses[looks[-1] + 1 :] if one.is_write] if looks else []
        return frozenset(line for one in later for line in _written(self.emulated.memory, one))

    @contextmanager
    def _as_it_began(self) -> Iterator[None]:
        """Memory of when the jumping CPU began to stop others, if it has."""
        if self.began is None:
            yield
            return
        kept = self.emulated.memory.kept()
        self.emulated.memory.put_back(self.began)
        try:
            yield
        finally:
            self.emulated.memory.put_back(kept)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other CPU is online, as far as memory says."""
        memory, symbols = self.emulated.memory, self.emulated.image.symbols
        online = required_address(symbols, _ONLINE)
        counts = {symbols.address(_COUNT): 1, symbols.address(_NUMBERS): SECONDARY + 1}
        wanted = {online: (1 << self.jumping.number).to_bytes(8, "little")} | {
            address: value.to_bytes(4, "little")
            for address, value in counts.items()
            if address is not None
        }
        before = {address: memory.read(address, len(value)) for address, value in wanted.items()}
        try:
            for address, value in wanted.items():
                memory.write(address, value)
            yield
        finally:
            for address, value in before.items():
                memory.write(address, value)


def _looks_at(accesses: Sequence[NotedAccess], index: int, report: range) -> bool:
    access = accesses[index]
    if access.is_write or not _overlap(access, report):
        return False
    following = accesses[index + 1] if index + 1 < len(accesses) else None
    stores_too = following is not None and following.is_write and following.code == access.code
    return not stores_too


def _written(memory: MachineMemory, access: NotedAccess) -> Iterable[int]:
    physical = memory.physical(access.address)
    return () if physical is None else _lines(physical, access.size)


def _overlap(access: NotedAccess, where: range) -> bool:
    return access.address < where.stop and where.start < access.address + access.size


def _lines(physical: int, size: int) -> range:
    return range(physical // _LINE, (physical + size - 1) // _LINE + 1)


def _unless(through: Through, store: Store) -> Fate:
    """Left behind but for what goes through one alias, by which CPU it is and on which path."""
    if store.through is not through:
        return Fate.LEFT_BEHIND
    return Fate.JUMPS_ALONG if through is Through.PLAIN else Fate.OUTSIDE_RESERVATION


def _stores(
    emulated: EmulatedMachine, accesses: Iterable[NotedAccess], fate: _FateOf
) -> tuple[Store, ...]:
    """Sorted, each once."""
    return tuple(sorted(set(_named(emulated, accesses, fate))))


def _named(
    emulated: EmulatedMachine, accesses: Iterable[NotedAccess], fate: _FateOf
) -> Iterator[Store]:
    memory, places = emulated.memory, emulated.places
    for access in accesses:
        physical = memory.physical(access.address)
        # Registers of devices are not cached.
        if physical is None:
            continue
        store = Store(
            address=access.address,
            physical=physical,
            size=access.size,
            # A line is dirty under the alias of the mapping that it was stored through.
            through=_through(access.address, physical),
            line=places.line(access.address, physical),
            code=places.code(access.code),
        )
        yield replace(store, fate=fate(access, store))


def _through(address: int, physical: int) -> Through:
    # The old kernel's page tables map memory with the C-bit where it encrypts, but for control
    # pages, which are decrypted, and the identity map of relocate_kernel, which has none (linux
    # 7.3.4 arch/x86/kernel/machine_kexec_64.c:245 _KERNPG_TABLE_NOENC).
    is_identity = address < RAM_SIZE
    is_control = physical in CONTROL_PAGES or physical in SWAP_PAGE
    return Through.PLAIN if is_identity or is_control else Through.OWN
