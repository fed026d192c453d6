# SPDX-License-Identifier: GPL-2.0-or-later
"""What z3 does not answer is no answer."""

from __future__ import annotations

import pytest
import z3

from staleline.errors import ModelError
from staleline.policy.expression import parse
from staleline.policy.smt import equivalent


@pytest.mark.parametrize(
    ("reason", "raised"),
    [("interrupted from keyboard", KeyboardInterrupt), ("(resource limits reached)", ModelError)],
)
def test_no_answer_is_no_proof(monkeypatch, reason, raised):
    monkeypatch.setattr(z3.Solver, "check", lambda *_: z3.unknown)
    monkeypatch.setattr(z3.Solver, "reason_unknown", lambda _: reason)
    with pytest.raises(raised):
        equivalent(parse("hypervisor"), parse("sme_enabled"))
