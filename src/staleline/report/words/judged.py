# SPDX-License-Identifier: GPL-2.0-or-later
"""What reports need of one handover's verdict, wherever it comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from staleline.check.answer import Answer
from staleline.kernel.boot.decision import Store
from staleline.verdict.handover.reasons import Unneeded, UnneededEither
from staleline.verdict.handover.unknown import Unknown
from staleline.vocabulary import Site, Verdict

__all__ = ["Judged"]


class Judged(Protocol):
    """What a judgement and an audit's row have in common."""

    @property
    def verdict(self) -> Verdict: ...  # noqa: D102
    @property
    def because(self) -> str: ...  # noqa: D102
    @property
    def flushes(self) -> Mapping[Site, bool | None]: ...  # noqa: D102
    @property
    def needed(self) -> Mapping[Site, bool | None]: ...  # noqa: D102
    @property
    def attainable(self) -> bool: ...  # noqa: D102
    @property
    def unneeded(self) -> Mapping[Site, Unneeded | UnneededEither]: ...  # noqa: D102
    @property
    def faults(self) -> Collection[Site]: ...  # noqa: D102
    @property
    def left_behind(self) -> Mapping[Site, tuple[Store, ...]]: ...  # noqa: D102
    @property
    def unknown(self) -> tuple[Unknown, ...]: ...  # noqa: D102
    @property
    def answer(self) -> Answer | None: ...  # noqa: D102
