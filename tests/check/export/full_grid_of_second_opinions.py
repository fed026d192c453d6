# SPDX-License-Identifier: GPL-2.0-or-later
"""rumur and spin agree with us on every case of the grid, five CPUs by two roles included.

Not collected by default: run ``pytest tests/check/export/full_grid_of_second_opinions.py``.
"""

from __future__ import annotations

import pytest
from tools.second_opinion import install_checkers

from tests.check.export.grid import Grid, full_grid, require_agreement


@pytest.fixture(scope="module", autouse=True)
def _checkers() -> None:
    install_checkers()


def test_there_are_enough_cases() -> None:
    assert len(full_grid()) >= 60


@pytest.mark.parametrize("case", full_grid(), ids=str)
def test_states_and_verdicts_are_equal(case: Grid) -> None:
    require_agreement(case)
