# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples become tests that show incoherence, and that coherent aliases cannot pass."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from staleline.check.answer import check
from staleline.check.runs.trace import Counterexample
from staleline.errors import UsageError
from staleline.litmus.counterexample import counterexample_tests, litmus_of
from staleline.litmus.language import CONTROLS, litmus_programs
from staleline.model.scenario import Flush, ForeignLines, Path, Scenario
from tests.litmus.lines import Caches, outcomes

UNFLUSHED = [
    Scenario(
        path=path,
        old_encrypts=old,
        next_encrypts=following,
        incoherent=True,
        flush_secondary=secondary,
        flush_jumping=jumping,
    )
    for path in Path
    for old, following in ((False, True), (True, False), (True, True))
    for secondary, jumping in product((Flush.NEVER, Flush.ALWAYS), repeat=2)
]


def runs() -> Iterator[Counterexample]:
    for scenario in UNFLUSHED:
        found = check(scenario).counterexample
        if found is not None:
            yield found


RUNS = list(runs())


def test_there_are_runs_of_every_transition_and_path() -> None:
    assert len(RUNS) >= 12
    assert len({(run.scenario.path, run.scenario.old_encrypts, run.line) for run in RUNS}) >= 4


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.scenario.path}-{run.line}")
def test_a_counterexample_is_seen_where_aliases_are_incoherent_and_nowhere_else(
    run: Counterexample,
) -> None:
    program = litmus_of(run, "run.itf.json")
    other = "y" in {step.cpu for step in program.steps}
    shown = {name for name, _ in outcomes(program, Caches(False), same_cpu=not other, swap=False)}
    assert shown in ({"*destroyed"}, {"*stale"})
    for scope in (False, True):
        caches = Caches(True, True, scope)
        for same in (False, True):
            found = set(outcomes(program, caches, same_cpu=same, swap=False))
            assert not [name for name, _ in found if name.startswith("*")]


def test_the_file_has_the_controls_and_the_run_in_words() -> None:
    text = counterexample_tests(RUNS[0], "run.itf.json")
    assert [one.name for one in litmus_programs(text)][:-1] == list(CONTROLS)
    assert all(step.sentence in text for step in RUNS[0].steps)
    assert text.isascii()


def test_what_needs_a_guests_key_is_refused() -> None:
    scenario = Scenario(
        path=Path.KEXEC,
        old_encrypts=False,
        next_encrypts=False,
        incoherent=True,
        foreign=ForeignLines.SEV_GUESTS,
        flush_secondary=Flush.NEVER,
        flush_jumping=Flush.NEVER,
    )
    found = check(scenario).counterexample
    assert found is not None
    with pytest.raises(UsageError, match=r"run.itf.json: it needs a guest's key"):
        litmus_of(found, "run.itf.json")
