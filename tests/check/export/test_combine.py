# SPDX-License-Identifier: GPL-2.0-or-later
"""Several lines in one model say what each line says alone."""

from __future__ import annotations

from itertools import combinations

import pytest

from staleline.check.export.combine import combined
from staleline.check.meaning.interpreter import reachable
from staleline.check.search.search import search
from staleline.errors import ModelError
from staleline.model.scenario import Scenario
from staleline.model.world import world
from tests.check.scenarios import TRANSITIONS, every_scenario, kexec
from tests.check.search.counting import count_states


@pytest.mark.parametrize("scenario", every_scenario(1)[::29], ids=str)
def test_a_pair_of_lines_is_safe_if_and_only_if_both_are(scenario: Scenario) -> None:
    for pair in combinations(world(scenario), 2):
        alone = {search(model, 1).violated for _, model in pair} - {None}
        assert bool(alone) == (search(combined(pair), 1).violated is not None)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_states_are_counted_without_visiting_all(transition: str) -> None:
    lines = world(kexec(transition))
    for secondaries in range(3):
        for model in (lines[0][1], combined(lines[:2])):
            if len(model.globals) < 6 or secondaries < 2:
                counted = count_states(model, secondaries)
                assert counted == len(reachable(model, secondaries))


def test_variables_of_cpus_are_shared_and_those_of_lines_are_not() -> None:
    model = combined(world(kexec("on→off"))[:2])
    names = [variable.name for variable in (*model.globals, *model.locals)]
    assert names.count("jumping_pc") == names.count("pc") == 1
    assert {"image_dram", "rest_of_ram_dram"} < set(names)
    assert len(set(names)) == len(names)


def test_the_same_role_twice_is_refused() -> None:
    line = world(kexec("on→off"))[0]
    with pytest.raises(ModelError, match="different roles"):
        combined([line, line])
    with pytest.raises(ModelError, match="different roles"):
        combined([])
