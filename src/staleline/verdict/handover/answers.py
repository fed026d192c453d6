# SPDX-License-Identifier: GPL-2.0-or-later
"""The model's answers, each asked for once in a process."""

from __future__ import annotations

from functools import cache

from staleline.check.answer import Answer, check
from staleline.model.scenario import Scenario
from staleline.model.state.lines import Role

__all__ = ["answer_to"]


@cache
def answer_to(scenario: Scenario, roles: frozenset[Role] | None = None) -> Answer:
    """What the model says of one scenario, of lines of all roles that it has or of some.

    Raises:
        ModelError: The state limit was reached.
    """
    # Audits, preflights, policies and proofs of many machines share a few hundred scenarios.
    return check(scenario, roles)
