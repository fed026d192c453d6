# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts where the evidence holds messages of which nobody knows whether they are the machine's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from staleline.errors import EvidenceError
from staleline.evidence.consistency import require_consistent
from staleline.evidence.log import kernel_log
from staleline.evidence.snapshot import Snapshot, UnreadMessage
from staleline.facts.fact import Fact, Layer, MachineFacts
from staleline.facts.observation import Observation, observed_as, untold

__all__ = ["NAME", "in_doubt", "unread_fact"]

NAME = "unread_messages"
_TEXT = "lines whose form is not known would change what is known"
#: What an image, or the code that runs, may exclude; the rest is tried both ways where unknown.
_JUDGED_AS_TOLD = frozenset(
    {"crash_kernel_borrows", "jumped_by", "sme_active", "stop_path_changed", "tdx_module"}
)
_DO = "give the output of dmesg as it was printed, or the file without what is not of this machine"


def unread_fact(snapshot: Snapshot) -> Fact:
    """That the evidence holds no such message, or that what it holds changes nothing."""
    held = f"{_shown(snapshot.unread)} would change nothing" if snapshot.unread else "no line"
    return _fact(observed_as(False, held))


def in_doubt(
    facts: MachineFacts, snapshot: Snapshot, facts_of: Callable[[Snapshot], MachineFacts]
) -> MachineFacts:
    """`facts` of `snapshot`, without those that its unread messages would make others.

    Args:
        facts: As if there were no such messages.
        snapshot: The evidence.
        facts_of: The facts of other evidence of the machine.
    """
    messages = [_said(unread) for unread in snapshot.unread]
    try:
        # They are taken both ways: as what its kernel said, and as nothing. What comes out alike is
        # known, and what does not is unknown, with the line that has to be made plain.
        others = facts_of(_as_said(snapshot, messages))
    except EvidenceError:
        differ = {fact.name for fact in facts if _is_denied(fact, messages)}
    else:
        differ = {fact.name for fact in facts if _differs(fact, others[fact.name])}
        if not differ:
            return facts
    return MachineFacts.of(_doubted(facts, differ, _shown(snapshot.unread)))


def _said(unread: UnreadMessage) -> Snapshot:
    """What the message tells; the line behind it shows that it is not cut."""
    # Most evidence holds no such message.
    from staleline.evidence.log import dmesg

    return dmesg.parse(f"<6>{unread.message}\n<6>.\n", unread.where)


def _as_said(snapshot: Snapshot, messages: list[Snapshot]) -> Snapshot:
    """The machine whose kernel said all of it.

    Raises:
        EvidenceError: There is none.
    """
    from staleline.evidence.hosts.merge import merged

    machine = merged([replace(snapshot, unread=()), *messages], "")
    machine = kernel_log.with_state(machine)
    require_consistent(machine, None)
    return machine


def _is_denied(fact: Fact, messages: list[Snapshot]) -> bool:
    """Does a message by itself tell another value?"""
    told = (kernel_log.told(message.log).get(fact.name) for message in messages)
    return fact.value is not None and any(one and one.value != fact.value for one in told)


def _differs(fact: Fact, other: Fact) -> bool:
    if fact.value is None and fact.name not in _JUDGED_AS_TOLD:
        return False
    return fact.value != other.value


def _doubted(facts: MachineFacts, differ: set[str], shown: str) -> Iterator[Fact]:
    for fact in facts:
        if fact.name == NAME:
            yield _fact(observed_as(True, f"{shown}: {_DO}"))
        elif fact.name in differ:
            yield untold(f"{shown}: {_DO}").fact(fact.name, fact.layer, fact.text)
        else:
            yield fact


def _shown(unread: tuple[UnreadMessage, ...]) -> str:
    first = unread[0]
    more = f", and {len(unread) - 1} more do," if len(unread) > 1 else ""
    return f'{first.where} holds "{first.message}"{more} in a form that is not known'


def _fact(observation: Observation) -> Fact:
    return observation.fact(NAME, Layer.KERNEL, _TEXT)
