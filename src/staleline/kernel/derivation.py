# SPDX-License-Identifier: GPL-2.0-or-later
"""The one way a reading can stop short."""

from __future__ import annotations

__all__ = ["DerivationError", "NobodyShotDownError"]


class DerivationError(Exception):
    """What a kernel does could not be established; the text says where and why.

    It never leaves `staleline.kernel.sites.runner`, which turns it into an unknown decision.
    """


class NobodyShotDownError(DerivationError):
    """A CPU that crashes goes on without having sent an NMI, so that others run on."""
