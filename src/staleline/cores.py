# SPDX-License-Identifier: GPL-2.0-or-later
"""How many processes at a time are worth it."""

from __future__ import annotations

import os

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """The cores that this process may use, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0))
