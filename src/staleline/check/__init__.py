# SPDX-License-Identifier: GPL-2.0-or-later
"""Exhaustive checking of handovers: is one safe, which flushes does it need, what breaks it."""

from __future__ import annotations

from staleline.check.answer import Answer, AnswerKind, check
from staleline.check.requirements import Requirements, required_flushes
from staleline.check.runs.trace import Change, Counterexample, Step

__all__ = [
    "Answer",
    "AnswerKind",
    "Change",
    "Counterexample",
    "Requirements",
    "Step",
    "check",
    "required_flushes",
]
