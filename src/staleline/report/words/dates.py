# SPDX-License-Identifier: GPL-2.0-or-later
"""The day that a report is of."""

from __future__ import annotations

import datetime
import os

__all__ = ["today"]

#: Up to the year 5138; behind 9999 there are no dates.
_DIGITS = 11


def today() -> str:
    """The day in UTC; that of SOURCE_DATE_EPOCH where a report is to be the same every time."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
        if epoch.isdecimal() and len(epoch) <= _DIGITS
        else datetime.datetime.now(datetime.UTC)
    )
    return now.date().isoformat()
