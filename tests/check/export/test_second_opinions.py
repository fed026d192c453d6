# SPDX-License-Identifier: GPL-2.0-or-later
"""rumur and spin, given our models in their languages, count the same states and agree.

`full_grid_of_second_opinions.py` asks about more and larger cases; it takes minutes.
"""

from __future__ import annotations

import pytest
from tools.second_opinion import install_checkers

from tests.check.export.grid import Grid, require_agreement, small_grid
from tests.sampling import every


@pytest.fixture(scope="module", autouse=True)
def _checkers() -> None:
    install_checkers()


@pytest.mark.parametrize("case", every(2, small_grid()), ids=str)
def test_states_and_verdicts_are_equal(case: Grid) -> None:
    require_agreement(case)
