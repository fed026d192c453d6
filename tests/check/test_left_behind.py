# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that a CPU stores to after its flush: on which handovers they do harm."""

from __future__ import annotations

import pytest

from staleline.check.answer import check
from staleline.model.scenario import Flush, LeftBehind, SharedCache
from tests.check.scenarios import TRANSITIONS, crash, kexec

LEFT = [LeftBehind.KERNEL, LeftBehind.PLAIN, LeftBehind.BOTH]


def broken_line(scenario) -> str | None:
    found = check(scenario).counterexample
    return None if found is None else found.line


@pytest.mark.parametrize(
    ("left", "transition", "line"),
    [
        ("kernel-alias", "off→off", None),
        ("kernel-alias", "off→on", "left-behind"),
        ("kernel-alias", "on→off", "left-behind-under-image"),
        ("kernel-alias", "on→on", "left-behind-under-image"),
        ("plain-alias", "off→off", None),
        ("plain-alias", "off→on", "left-behind-decrypted"),
        ("plain-alias", "on→off", None),
        ("plain-alias", "on→on", "left-behind-decrypted"),
    ],
)
def test_what_a_secondary_leaves_behind_does_the_harm_of_a_missing_flush(
    left: str, transition: str, line: str | None
) -> None:
    scenario = kexec(transition, left_by_secondary=LeftBehind(left))
    assert broken_line(scenario) == line


@pytest.mark.parametrize(
    ("transition", "line"),
    [
        ("off→off", None),
        ("off→on", None),
        ("on→off", "left-behind-under-image"),
        ("on→on", "left-behind-under-image"),
    ],
)
def test_what_the_jumping_cpu_leaves_under_its_own_alias_is_stale_to_the_image(
    transition: str, line: str | None
) -> None:
    """Where the old kernel does not encrypt, ``__enc_copy`` reaches it."""
    assert broken_line(kexec(transition, left_by_jumping=LeftBehind.KERNEL)) == line


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_what_the_jumping_cpu_stores_plain_does_no_harm(transition: str) -> None:
    """`Fate.JUMPS_ALONG` rests on this: relocate_kernel calls functions behind its WBINVD."""
    assert broken_line(kexec(transition, left_by_jumping=LeftBehind.PLAIN)) is None
    in_crash = crash(transition, flush_secondary=Flush.ALWAYS, left_by_jumping=LeftBehind.PLAIN)
    assert broken_line(in_crash) is None


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_the_old_kernels_own_alias_is_not_used_in_the_reservation_of_a_crash(
    transition: str,
) -> None:
    """`Fate.OUTSIDE_RESERVATION` rests on this."""
    left = {"left_by_secondary": LeftBehind.KERNEL, "left_by_jumping": LeftBehind.KERNEL}
    assert broken_line(crash(transition, flush_secondary=Flush.ALWAYS, **left)) is None


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_coherent_aliases_make_it_harmless(transition: str, left: LeftBehind) -> None:
    scenario = kexec(transition, incoherent=False, left_by_secondary=left, left_by_jumping=left)
    assert broken_line(scenario) is None


def test_a_kexec_jump_preserves_all_but_the_image() -> None:
    scenario = kexec("on→off", preserve_context=True, left_by_jumping=LeftBehind.BOTH)
    assert broken_line(scenario) == "left-behind-under-image"


def test_a_flush_that_reaches_all_cores_does_not_reach_what_is_stored_after_it() -> None:
    scenario = kexec(
        "on→off", left_by_jumping=LeftBehind.KERNEL, shared_cache=SharedCache.ALL_CORES
    )
    assert broken_line(scenario) == "left-behind-under-image"


def test_the_run_says_where_the_line_is_stored_to() -> None:
    found = check(kexec("off→on", left_by_secondary=LeftBehind.KERNEL)).counterexample
    assert found is not None
    told = [step.sentence for step in found.steps]
    assert any("which then writes the line stored to after a flush" in one for one in told)
