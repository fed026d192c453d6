# SPDX-License-Identifier: GPL-2.0-or-later
"""What is missing where the evidence does not settle something, and how to get it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations_with_replacement

from staleline.facts import MachineFacts
from staleline.verdict.audit.worlds import NEXT_ENCRYPTS, World
from staleline.verdict.handover.unknown import Unknown
from staleline.verdict.machines.possible import FACT_NAMES

__all__ = ["missing"]

#: Machine field -> id of the explanation of what is missing; any other comes from CPUID.
_IDS = {
    "sme_enabled": "unknown-syscfg",
    "snp_host": "unknown-syscfg",
    "sev_guest": "unknown-sev-status",
    "sev_es_guest": "unknown-sev-status",
    "snp_guest": "unknown-sev-status",
    "tdx_host_enabled": "unknown-tdx-keyids",
    "mem_encrypt": "unknown-command-line",
    "sev_guests_run": "unknown-sev-guests",
    "tdx_used": "unknown-tdx-use",
    "reboot_force": "unknown-reboot-force",
    "several_cpus": "unknown-cpu-count",
    "offline": "unknown-offline-cpus",
    "hypervisor": "unknown-hypervisor",
    "jumped_by_kernel": "unknown-hypervisor",
}

_RULE = "the rule"
#: Worlds that are compared with each other; the time that takes grows with their square.
_FEW = 500

#: What no evidence tells, by machine field.
_NO_EVIDENCE = {
    NEXT_ENCRYPTS: Unknown(
        "whether the next kernel uses the C-bit: its startup code could not be run to its end; "
        "say with --next on or --next off",
        "unknown-next-kernel",
    ),
    "guest_keys_snooped": Unknown(
        "whether devices take lines of guest keys out of the caches: CPUID 0x8000001F EAX[10] "
        "speaks of CPUs only; say --state sev_guests_run=no if no SEV guest has run",
        "unknown-guest-keys-and-devices",
    ),
    "guest_aliases_coherent": Unknown(
        "whether the private and the shared alias of this guest's lines are coherent: that depends "
        "on the host, and on how its hypervisor backs them",
        "unknown-guest-aliases",
    ),
    "guest_flushes": Unknown(
        "whether the hypervisor executes this guest's WBINVD: KVM does so only for some devices",
        "unknown-guest-aliases",
    ),
}
#: Known, and yet not known of what the caches hold.
_TDX_FAILED = Unknown(
    "whether the TDX module wrote memory before its initialisation failed, and whether that was "
    "flushed then: no record tells; boot again with TDX off (kvm_intel.tdx=0)",
    "unknown-tdx-use",
)


#: What is assumed of a world, by name.
_Assumed = Mapping[str, bool | str]
#: The same as a number, and what comes out in that world.
_Told = tuple[int, Hashable]


def missing(
    facts: MachineFacts, worlds: Sequence[World], outcome: Callable[[World], Hashable]
) -> Iterator[Unknown]:
    """What would have to be known for an outcome to be the same in all worlds.

    Args:
        facts: They say how each missing one is obtained.
        worlds: The worlds that fit the evidence.
        outcome: What differs between them, for instance the verdict.

    Yields:
        One sentence per fact that splits the worlds by outcome, and one if the rule does.
    """
    outcomes = [outcome(world) for world in worlds]
    if len(set(outcomes)) == 1:
        return
    # Which of several rules a release carries is one more thing that was assumed.
    assumed = [{**world.assumed, _RULE: world.kernel} for world in worlds]
    names = Counter(chain.from_iterable(assumed))
    if len(worlds) > _FEW:
        # So little is known of this machine that nearly every fact may matter.
        values = Counter(
            name for name, _ in set(chain.from_iterable(each.items() for each in assumed))
        )
        splitting = [name for name in names if values[name] > 1 or names[name] < len(worlds)]
    else:
        splitting = list(_splitting(list(names), assumed, outcomes))
    for name in splitting:
        yield _unknown_rule(worlds) if name == _RULE else _how_to_get(facts, name)


def _splitting(
    names: Sequence[str], assumed: Sequence[_Assumed], outcomes: Sequence[Hashable]
) -> Iterator[str]:
    """Names of facts in which two worlds differ, and in nothing else but the outcome.

    What is assumed in one of the two only, as it cannot matter in the other, makes no difference.
    """
    # What is assumed of a world as one number, a digit for each name: worlds agree in some names
    # if their numbers, masked by these, are equal.
    alike: dict[int, list[_Told]] = {}
    digits = _digits(names, assumed)
    for each, outcome in zip(assumed, outcomes, strict=True):
        told = mask = 0
        for name, value in each.items():
            digit = digits[name]
            told |= digit.values[value]
            mask |= digit.mask
        alike.setdefault(mask, []).append((told, outcome))
    for name in names:
        mask = digits[name].mask
        groups = [group for group in alike if group & mask]
        if any(
            _differ(mask, first & second & ~mask, alike[first], alike[second])
            for first, second in combinations_with_replacement(groups, 2)
        ):
            yield name


@dataclass(frozen=True, slots=True)
class _Digit:
    """Where a name's value stands in the number that is made of all of them, and each value there.

    No value is 0: that is where nothing is assumed.
    """

    mask: int
    values: Mapping[bool | str, int]


def _digits(names: Iterable[str], assumed: Iterable[_Assumed]) -> Mapping[str, _Digit]:
    values: dict[str, dict[bool | str, None]] = {name: {} for name in names}
    for each in assumed:
        for name, value in each.items():
            values[name][value] = None
    digits, shift = {}, 0
    for name, known in values.items():
        width = len(known).bit_length()
        numbers = {value: number << shift for number, value in enumerate(known, start=1)}
        digits[name] = _Digit(((1 << width) - 1) << shift, numbers)
        shift += width
    return digits


def _differ(mask: int, others: int, first: Iterable[_Told], second: Iterable[_Told]) -> bool:
    """Do one of `first` and one of `second` that agree in `others` differ in `mask` and outcome?"""
    left, right = _by(others, mask, first), _by(others, mask, second)
    return any(
        value != other_value and outcome != other_outcome
        # Two of the same side are not compared: they may differ in what the other side does not
        # assume.
        for key in left.keys() & right.keys()
        for value, outcome in left[key]
        for other_value, other_outcome in right[key]
    )


def _by(others: int, mask: int, told: Iterable[_Told]) -> dict[int, set[_Told]]:
    """The values at `mask` with their outcomes, by what is assumed of `others`."""
    seen: dict[int, set[_Told]] = {}
    for assumed, outcome in told:
        seen.setdefault(assumed & others, set()).add((assumed & mask, outcome))
    return seen


def _unknown_rule(worlds: Sequence[World]) -> Unknown:
    kernels = dict.fromkeys(world.kernel for world in worlds)
    text = f"the rule: {' or '.join(kernels)}; give the image to --kernel to read it"
    return Unknown(text, "unknown-rule")


def _how_to_get(facts: MachineFacts, name: str) -> Unknown:
    if name in _NO_EVIDENCE:
        return _NO_EVIDENCE[name]
    fact = facts[FACT_NAMES.get(name, name)]
    if name == "tdx_used" and fact.value is not None:
        return _TDX_FAILED
    text = fact.missing or f"{fact.name} is not known"
    return Unknown(text, _IDS.get(name, "unknown-cpuid"))
