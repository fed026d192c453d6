# SPDX-License-Identifier: GPL-2.0-or-later
"""What is missing where the evidence does not settle something, and how to get it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement

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
    # Which of several rules a release carries is one more thing that was assumed.
    told = [({**world.assumed, _RULE: world.kernel}, outcome(world)) for world in worlds]
    if len({outcome for _, outcome in told}) == 1:
        return
    for name in dict.fromkeys(name for assumed, _ in told for name in assumed):
        # So little is known of this machine that nearly every fact may matter.
        open_and_many = len(told) > _FEW and len({assumed.get(name) for assumed, _ in told}) > 1
        if open_and_many or (len(told) <= _FEW and _splits(name, told)):
            yield _unknown_rule(worlds) if name == _RULE else _how_to_get(facts, name)


#: What is assumed of a world, and what comes out in it.
_Told = tuple[Mapping[str, bool | str], Hashable]


def _splits(name: str, told: Sequence[_Told]) -> bool:
    """Are there two worlds that differ in this fact, in nothing else, and in the outcome?

    What is assumed in one of them only, as it cannot matter in the other, makes no difference.
    """
    alike: dict[frozenset[str], list[_Told]] = {}
    for assumed, outcome in told:
        if name in assumed:
            alike.setdefault(frozenset(assumed), []).append((assumed, outcome))
    return any(
        _differ(name, sorted((first & second) - {name}), alike[first], alike[second])
        for first, second in combinations_with_replacement(alike, 2)
    )


def _differ(
    name: str, others: Sequence[str], first: Iterable[_Told], second: Iterable[_Told]
) -> bool:
    """Do one of `first` and one of `second` that agree in `others` differ in `name` and outcome?

    Two of the same side are not compared: they may differ in what the other side does not assume.
    """
    left, right = _by(others, name, first), _by(others, name, second)
    return any(
        value != other_value and outcome != other_outcome
        for key in left.keys() & right.keys()
        for value, outcome in left[key]
        for other_value, other_outcome in right[key]
    )


def _by(
    others: Sequence[str], name: str, told: Iterable[_Told]
) -> dict[tuple[bool | str, ...], set[tuple[bool | str, Hashable]]]:
    """The values of `name` with their outcomes, by what is assumed of `others`."""
    seen: dict[tuple[bool | str, ...], set[tuple[bool | str, Hashable]]] = {}
    for assumed, outcome in told:
        key = tuple(assumed[other] for other in others)
        seen.setdefault(key, set()).add((assumed[name], outcome))
    return seen


def _unknown_rule(worlds: Sequence[World]) -> Unknown:
    kernels = dict.fromkeys(world.kernel for world in worlds)
    text = f"the rule: {' or '.join(kernels)}; give the image to --kernel to read it"
    return Unknown(text, "unknown-rule")


def _how_to_get(facts: MachineFacts, name: str) -> Unknown:
    if name in _NO_EVIDENCE:
        return _NO_EVIDENCE[name]
    fact = facts[FACT_NAMES.get(name, name)]
    text = fact.missing or f"{fact.name} is not known"
    return Unknown(text, _IDS.get(name, "unknown-cpuid"))
