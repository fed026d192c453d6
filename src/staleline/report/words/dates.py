# SPDX-License-Identifier: GPL-2.0-or-later
"""The day that a report is of."""

from __future__ import annotations

import datetime
import os

__all__ = ["today"]


def today() -> str:
    """The day in UTC; that of SOURCE_DATE_EPOCH where a report is to be the same every time."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
        if epoch.isdecimal()
        else datetime.datetime.now(datetime.UTC)
    )
    return now.date().isoformat()
