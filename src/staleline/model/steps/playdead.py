# SPDX-License-Identifier: GPL-2.0-or-later
"""Secondaries that go offline: each executes WBINVD in play_dead, whatever the policy.

What it may do otherwise, or behind that, is `Offline`.
"""

from __future__ import annotations

from collections.abc import Iterator

from staleline.model.form import Action
from staleline.model.scenario import Offline, Scenario
from staleline.model.state.cpus import (
    DIRTY,
    JUMPING,
    SECONDARY,
    JumpingAt,
    SecondaryAt,
)
from staleline.model.state.lines import Line
from staleline.model.state.texts import line_phrase
from staleline.model.steps.steps import WBINVD, step
from staleline.model.steps.wbinvd import completes

__all__ = ["goes_offline"]

_PLAY_DEAD = "7.3 arch/x86/kernel/smpboot.c:1408 play_dead_common, 1429, 1498"
_SPURIOUS = "7.3 arch/x86/kernel/smpboot.c:1436: spurious wake-ups"
_BEHIND = "7.3 drivers/acpi/processor_idle.c:585,592: io_idle() is called behind the flush"


def goes_offline(scenario: Scenario, line: Line) -> Iterator[Action]:
    """A secondary reports itself dead, executes WBINVD if it does, and sleeps."""
    if not scenario.plays_dead:
        return
    # Before a kexec, CPU hotplug is disabled from the stop on (kernel/reboot.c
    # migrate_to_reboot_cpu); in a kexec jump this is the stop.
    when = JumpingAt.WAITING if scenario.preserve_context else JumpingAt.RUNNING
    dies = SECONDARY.at(SecondaryAt.RUNNING) & JUMPING.at(when)
    if scenario.offline is Offline.UNFLUSHED:
        says = "{cpu} goes offline: it reports itself dead and sleeps, without a WBINVD."
        goes = (SECONDARY.goes(SecondaryAt.OFFLINE),)
        yield step(SECONDARY, "plays_dead", dies, goes, ("play_dead", _PLAY_DEAD, says))
        return
    yield step(
        SECONDARY,
        "plays_dead",
        dies,
        (SECONDARY.goes(SecondaryAt.OFFLINING),),
        (
            "play_dead",
            _PLAY_DEAD,
            "{cpu} goes offline: it reports itself dead and begins the WBINVD of play_dead.",
        ),
    )
    clean, left = completes(scenario, line, SECONDARY)
    yield step(
        SECONDARY,
        "is_offline",
        SECONDARY.at(SecondaryAt.OFFLINING) & clean,
        (SECONDARY.goes(SecondaryAt.OFFLINE), *left),
        ("play_dead", WBINVD, "The WBINVD of play_dead completes on {cpu}, which is offline."),
    )
    # The handler is the kernel's: it touches no page of a guest.
    if line.foreign:
        return
    name = f"{line_phrase(line)} through its {line.name_of(line.old)} alias."
    if scenario.offline is Offline.WOKEN:
        says = f"A stray wake-up takes {{cpu}} out of its sleep; its handler writes {name}"
        yield _dirties(line, "wakes_up", ("play_dead", _SPURIOUS, says))
    if scenario.offline is Offline.STORES:
        says = f"Behind its WBINVD, before it sleeps, {{cpu}} writes {name}"
        yield _dirties(line, "stores_behind", ("play_dead", _BEHIND, says))


def _dirties(line: Line, name: str, text: tuple[str, str, str]) -> Action:
    at_work = JUMPING.at(JumpingAt.RUNNING, JumpingAt.WAITING)
    entry = SECONDARY.entry(line.old)
    return step(
        SECONDARY,
        name,
        SECONDARY.at(SecondaryAt.OFFLINE) & at_work & entry.none_of(DIRTY),
        (entry.becomes(DIRTY), *SECONDARY.invalidates_others(line.old)),
        text,
    )
