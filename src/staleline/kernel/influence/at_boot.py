# SPDX-License-Identifier: GPL-2.0-or-later
"""What the derivation asks or reads, other than the listed facts, that changes a decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from staleline.hardware import EXTENDED_LEAVES
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.influence.initialvariables import InitialVariables
from staleline.kernel.influence.search import Search, Tried
from staleline.kernel.rerun.inputs import (
    HIGHEST_EXTENDED,
    HIGHEST_LEAVES,
    REAL_SIGNATURES,
    Flips,
    Register,
    random_flips,
)

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.boot.rawfacts import RawFacts
    from staleline.kernel.rerun.reruns import Reruns
    from staleline.kernel.rerun.variation import Variation

__all__ = ["search_boot"]

_SIGNATURE: Final = Register(1, 0, 0)
_HIGHEST: Final = Register(0, 0, 0)
_HIGHEST_EXTENDED: Final = Register(EXTENDED_LEAVES, 0, 0)


def search_boot(reruns: Reruns, rows: Sequence[RawFacts]) -> Search:
    """Try everything on every row, each divided into two halves at random in its own way.

    Args:
        reruns: The image.
        rows: Machines to begin with; on the first one is found out what the derivation reads.

    Raises:
        DerivationError: The derivation does not end on the first.
    """
    variables = InitialVariables(reruns)
    variables.look_at(raw_machine(rows[0]))
    search = Search()
    for seed, facts in enumerate(rows):
        machine = raw_machine(facts)
        search.run = _runner(reruns, machine)
        # A decision that depends on a single one of them differs in one of the two.
        for complement in (False, True):
            flips = _flips(machine, facts, seed, complement=complement)
            search.round(flips, variables.half(seed, complement=complement))
    return search


def _runner(reruns: Reruns, machine: RawMachine) -> Callable[[Variation], Tried]:
    base = reruns.decide(machine)

    def run(variation: Variation) -> Tried:
        calls = reruns.null_uses.calls
        outcome = reruns.decide(machine, variation)
        lost = outcome.lost(base)
        why = outcome.sites[min(lost)].unknown if lost else None
        calls_unset = reruns.null_uses.calls > calls
        return Tried(outcome.differs(base), outcome.asked, why, calls_unset)

    return run


def _flips(machine: RawMachine, facts: RawFacts, seed: int, *, complement: bool) -> Flips:
    """Random bits, and another CPU of the same vendor with other highest leaves."""
    turn = 2 * seed + complement
    # The structural ones take values that exist: any other leads to code for which there is no
    # machine.
    signatures = REAL_SIGNATURES.get(facts.vendor, (_value(machine, _SIGNATURE),))
    extended = HIGHEST_EXTENDED[facts.leaf]
    wanted = {
        _SIGNATURE: signatures[turn % len(signatures)],
        _HIGHEST: HIGHEST_LEAVES[turn % len(HIGHEST_LEAVES)],
        _HIGHEST_EXTENDED: extended[turn % len(extended)],
    }
    structural = {register: value ^ _value(machine, register) for register, value in wanted.items()}
    free = random_flips(seed, complement=complement)
    return lambda register: structural.get(register, 0) or free(register)


def _value(machine: RawMachine, register: Register) -> int:
    answer = machine.jumping.read(register.number, register.subleaf or 0)
    return 0 if answer is None else answer[register.index]
