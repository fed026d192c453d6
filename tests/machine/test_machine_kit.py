# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kit measured is right if the machine agrees; ``make machine-test`` asks machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tools.machine_kit import CASES, KitFinding, counterexamples

from staleline.litmus.results import MeasuredAliases, read_litmus_result
from staleline.simulation.execution import CpuModel

ANSWERED = Path(__file__).parents[1] / "data" / "simulated" / "litmus"
INCOHERENT = read_litmus_result(ANSWERED / "rome-7.3.4.jsonl")
COHERENT = read_litmus_result(ANSWERED / "milan-7.3.4.jsonl")


def test_there_is_a_counterexample_of_each_path_and_transition() -> None:
    names = [program.name for program in counterexamples()]
    assert len(set(names)) == len(names) == 6
    asked = {test.name: test.starred for test in INCOHERENT.tests if test.name in names}
    shown = {test.name for test in INCOHERENT.tests if test.starred}
    assert set(asked) == set(names) <= shown


@pytest.mark.parametrize("aliases", [MeasuredAliases.INCOHERENT, MeasuredAliases.NOT_OBSERVED])
def test_counts_have_to_be_the_machines(aliases: MeasuredAliases) -> None:
    result = INCOHERENT if aliases is MeasuredAliases.INCOHERENT else COHERENT
    case = next(case for case in CASES if case.expected is aliases)
    right = KitFinding(case, result, result.destroyed, ())
    assert right.right
    assert not replace(right, destroyed=result.destroyed + 1).right
    assert not replace(right, destroyed=None).right
    assert not replace(right, unseen=("kexec-on-off-image",)).right
    other = next(case for case in CASES if case.expected is not aliases)
    assert not replace(right, case=other).right


def test_every_answer_is_expected_somewhere() -> None:
    expected = {case.expected for case in CASES}
    assert expected == set(MeasuredAliases) - {MeasuredAliases.NOT_MEASURED}
    assert {case.model for case in CASES} == set(CpuModel)
    assert len({str(case) for case in CASES}) == len(CASES)
