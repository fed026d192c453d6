# SPDX-License-Identifier: GPL-2.0-or-later
"""A call is known only where everything that it took is as it was."""

from __future__ import annotations

import pytest

from staleline.kernel.emulator.execution.end import EndKind
from staleline.kernel.emulator.knowncalls import KnownCalls, TakenMemory
from staleline.kernel.emulator.layout import PAGE
from staleline.kernel.emulator.memory import MachineMemory
from tests.kernel.emulator.test_emulator import TEXT, Machine

_PLACE = 4 * PAGE


@pytest.fixture(scope="module")
def memory() -> MachineMemory:
    return Machine("c3").memory


@pytest.fixture
def known(memory: MachineMemory) -> KnownCalls[str]:
    """Of a call that reads 8 bytes, stores to 8 others, reads those again and one more."""
    memory.write(_PLACE, bytes(range(64)))
    taken = TakenMemory(memory)
    taken.read(_PLACE, 8)
    taken.write(_PLACE + 16, 8)
    memory.write(_PLACE + 16, b"its own.")
    taken.read(_PLACE + 16, 9)
    taken.read(1 << 62, 8)  # nothing is there
    calls = KnownCalls[str](memory)
    calls.keep("begins", taken, "came of it")
    memory.write(_PLACE, bytes(range(64)))
    return calls


def test_it_is_known_where_all_is_as_it_was(known: KnownCalls[str]) -> None:
    assert known.find("begins") == "came of it"
    assert known.find("begins otherwise") is None


@pytest.mark.parametrize("at", [*range(8), 24])
def test_one_byte_that_it_took_is_another(
    known: KnownCalls[str], memory: MachineMemory, at: int
) -> None:
    memory.write(_PLACE + at, b"\xff")
    assert known.find("begins") is None


@pytest.mark.parametrize("at", [*range(8, 24), *range(25, 64)])
def test_what_it_did_not_take_may_be_anything(
    known: KnownCalls[str], memory: MachineMemory, at: int
) -> None:
    memory.write(_PLACE + at, b"\xff")
    assert known.find("begins") == "came of it"


def test_the_oldest_of_many_is_forgotten(memory: MachineMemory) -> None:
    calls = KnownCalls[int](memory)
    for number in range(100):
        memory.write(_PLACE, bytes([number]))
        taken = TakenMemory(memory)
        taken.read(_PLACE, 1)
        calls.keep("begins", taken, number)
    assert calls.find("begins") == 99
    memory.write(_PLACE, b"\0")
    assert calls.find("begins") is None


#: Stores what it loads from where RDI points behind it, unless that is 0.
_STORING = "488b07 4885c0 7404 48894708 c3"


@pytest.mark.parametrize("held", [[1, 0, 1], [0, 1, 0], [1, 2, 2]])
def test_a_call_that_is_not_run_again_tells_what_it_would(held: list[int]) -> None:
    machine = Machine(_STORING)
    place = machine.memory.direct(_PLACE)
    for value in held:
        machine.memory.write_int(place, value, 8)
        end, accesses = machine.emulator.accesses_of(
            TEXT, (place,), cpu=machine.cpu, reads=range(place, place + 8)
        )
        assert end.kind is EndKind.RETURNED
        assert [one.is_write for one in accesses] == [False, *([True] if value else [])]
        assert machine.memory.read_int(place + 8, 8) == 0


def test_other_code_is_another_call() -> None:
    machine = Machine(_STORING)
    place = machine.memory.direct(_PLACE)
    machine.memory.write_int(place, 1, 8)
    told = [len(machine.emulator.accesses_of(TEXT, (place,), cpu=machine.cpu, reads=range(0))[1])]
    machine.memory.write(TEXT + 6, b"\xeb")  # JMP in place of JE
    machine.emulator.forget_code(TEXT + 6, 1)
    told.append(
        len(machine.emulator.accesses_of(TEXT, (place,), cpu=machine.cpu, reads=range(0))[1])
    )
    assert told == [1, 0]


def test_a_call_that_asks_the_cpu_is_run_again() -> None:
    machine = Machine("b900000000 0f32 c3")  # RDMSR
    for _ in range(2):
        before = machine.cpu.traps
        machine.emulator.accesses_of(TEXT, (), cpu=machine.cpu, reads=range(0))
        assert machine.cpu.traps == before + 1
