# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and addresses of a kernel, whatever table they came from.

Every address is a link address: what the linker assigned, before KASLR. Per-CPU symbols
are no exception, their address is that of the initial copy in ``.data..percpu``:

- Linked at 0 in 5.10 to 6.12, so ``pcpu_hot`` may be at 0x2c900.
- Linked in place in 6.16 and later, e.g. at 0xffffffff83c7b000.

In both cases ``address(name) - address("__per_cpu_start")`` is the offset in a CPU's area,
and ``KernelImage.read(address(name), n)`` reads the initial value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from staleline.kernel.derivation import DerivationError

__all__ = ["AmbiguousNameError", "SymbolNames", "SymbolTable", "no_symbols", "required_address"]


class AmbiguousNameError(DerivationError):
    """Several symbols bear a name, and it is not known which is meant."""

    def __init__(self, name: str, addresses: Sequence[int]) -> None:
        count = "two" if len(addresses) == 2 else str(len(addresses))
        where = " and ".join(f"{address:#x}" for address in addresses[:_SHOWN])
        more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
        super().__init__(f"ambiguous: {count} symbols named {name} at {where}{more}")


_SHOWN = 4
_STARTUP = "__pi_"


class SymbolNames(Protocol):
    """The names of a symbol table, by index."""

    def name(self, index: int) -> str:
        """Name of one symbol."""

    def find(self, name: str) -> Sequence[int]:
        """Indices of all symbols of that name, ascending."""


class SymbolTable:
    """Symbols in ascending order of address.

    Args:
        addresses: One link address per symbol (uint64), ascending.
        names: Their names, by the same index.
    """

    def __init__(self, addresses: NDArray[np.uint64], names: SymbolNames) -> None:
        self._addresses = addresses
        self._names = names
        # Every run asks for the same few.
        self._places: dict[str, tuple[int, ...]] = {}
        self._enclosing: dict[int, tuple[str, int] | None] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.addresses(name))

    @property
    def sorted_addresses(self) -> NDArray[np.uint64]:
        """Link address of every symbol, ascending; aliases repeat."""
        return self._addresses

    def address(self, name: str) -> int | None:
        """Link address of the symbol; None if there is none.

        Raises:
            AmbiguousNameError: Several places carry the name.
        """
        places = self.addresses(name)
        # Static functions may share a name: kernels with CONFIG_MSHV_ROOT have two
        # ``crash_nmi_callback`` (linux 7.3.4 arch/x86/hyperv/hv_crash.c:283 and
        # kernel/reboot.c:813), of which the linker puts the wrong one first. Who can tell them
        # apart asks for `addresses`.
        if len(places) > 1:
            raise AmbiguousNameError(name, places)
        return places[0] if places else None

    def only_address(self, name: str) -> int | None:
        """The same, but None if several places carry the name."""
        places = self.addresses(name)
        return places[0] if len(places) == 1 else None

    def addresses(self, name: str) -> tuple[int, ...]:
        """Link addresses of all symbols of that name, each once, ascending."""
        places = self._places.get(name)
        if places is None:
            # An alias has the same place again: one symbol of several names is not ambiguous.
            every = (int(self._addresses[index]) for index in self._names.find(name))
            places = self._places[name] = tuple(sorted(set(every)))
        return places

    def names_at(self, address: int) -> tuple[str, ...]:
        """All names at exactly this address."""
        first, end = self._range(address)
        return tuple(self._names.name(index) for index in range(first, end))

    def listed(self) -> Iterator[tuple[str, int]]:
        """Every name and its address. It takes long: a second for a distribution's kernel."""
        yield from (
            (self._names.name(index), address)
            for index, address in enumerate(self._addresses.tolist())
        )

    def enclosing(self, address: int) -> tuple[str, int] | None:
        """The nearest symbol at or below an address and the distance to it in bytes.

        Of several names at one address it is the first in the table, as in
        ``get_symbol_pos()`` (kernel/kallsyms.c, 6.12), but for names by which startup code knows
        what has another (linux 7.3.4 arch/x86/boot/startup/Makefile:42). None below the first
        symbol.
        """
        if address not in self._enclosing:
            self._enclosing[address] = self._nearest(address)
        return self._enclosing[address]

    def start_of(self, address: int) -> int | None:
        """Where the symbol is that encloses an address."""
        enclosing = self.enclosing(address)
        return None if enclosing is None else address - enclosing[1]

    def function_of(self, address: int) -> str:
        """The function that encloses an address; empty below the first.

        Of a part that the compiler split off, such as .cold or .isra.0, it is the whole's name.
        """
        name, _ = self.enclosing(address) or ("", 0)
        return name.split(".")[0]

    def place(self, address: int) -> str:
        """An address as reasons have it: symbol and distance, or the number where none is below."""
        name, distance = self.enclosing(address) or (f"{address:#x}", 0)
        return f"{name}+{distance:#x}" if distance else name

    def _nearest(self, address: int) -> tuple[str, int] | None:
        _, end = self._range(address)
        if end == 0:
            return None
        start = int(self._addresses[end - 1])
        first, _ = self._range(start)
        names = map(self._names.name, range(first, end))
        name = next((name for name in names if not name.startswith(_STARTUP)), None)
        return name or self._names.name(first), address - start

    def size_of(self, name: str) -> int | None:
        """Distance from a symbol to the next higher address; None for the last one.

        Raises:
            AmbiguousNameError: Several places carry the name.
        """
        start = self.address(name)
        if start is None:
            return None
        # Tables have no sizes, kallsyms none at all: alignment behind a function counts as its own.
        _, end = self._range(start)
        return int(self._addresses[end]) - start if end < len(self) else None

    def with_added(self, others: Mapping[str, int]) -> SymbolTable:
        """The same symbols and others, by name and link address.

        At one address the others come first.
        """
        names = list(others)
        added = np.fromiter(others.values(), np.uint64, len(names))
        addresses = np.concatenate((added, self._addresses))
        order = np.argsort(addresses, kind="stable")
        return SymbolTable(addresses[order], _JoinedNames(names, self._names, order))

    def _range(self, address: int) -> tuple[int, int]:
        """First index at and first index above an address."""
        if not 0 <= address < 1 << 64:
            return (0, 0) if address < 0 else (len(self), len(self))
        key = np.uint64(address)
        return (
            int(np.searchsorted(self._addresses, key, "left")),
            int(np.searchsorted(self._addresses, key, "right")),
        )


class _NoNames:
    """The names of a table without symbols."""

    def name(self, index: int) -> str:
        """There is none to ask for."""
        raise IndexError(index)

    def find(self, name: str) -> Sequence[int]:  # noqa: ARG002
        """Nothing."""
        return ()


def no_symbols() -> SymbolTable:
    """A table without symbols."""
    return SymbolTable(np.empty(0, np.uint64), _NoNames())


class _JoinedNames:
    """A list of names and those of a table behind it, in an order of both."""

    def __init__(self, names: Sequence[str], table: SymbolNames, order: NDArray[np.int64]) -> None:
        self._names = names
        self._index = {name: index for index, name in enumerate(names)}
        self._table = table
        self._order = order
        self._place = np.argsort(order, kind="stable")

    def name(self, index: int) -> str:
        """Name of one symbol."""
        which = int(self._order[index])
        return (
            self._names[which]
            if which < len(self._names)
            else self._table.name(which - len(self._names))
        )

    def find(self, name: str) -> Sequence[int]:
        """Indices of all symbols of that name, ascending."""
        joined = [index + len(self._names) for index in self._table.find(name)]
        if name in self._index:
            joined.append(self._index[name])
        return sorted(self._place[joined].tolist()) if joined else []


def required_address(symbols: SymbolTable, name: str) -> int:
    """Link address of a symbol that the reading cannot do without.

    Raises:
        DerivationError: There is none of that name, or more than one.
    """
    address = symbols.address(name)
    if address is None:
        raise DerivationError(f"the image has no symbol {name}")
    return address
