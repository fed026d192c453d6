# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image does on one machine, as a part of ``staleline/kernel/1``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from staleline.verdict.handover.kernels import Behaviour
from staleline.verdict.handover.on_machine import Reading, executed
from staleline.vocabulary import Site

__all__ = ["machine_document"]


def machine_document(reading: Reading) -> dict[str, Any]:
    """Plain values, for every way in which incomplete evidence may turn out."""
    return {
        "decisions": dict(reading.decisions),
        "possibilities": [_possibility(assumed, row) for assumed, row in reading.rows],
        "unknown": list(reading.unknown),
    }


def _possibility(assumed: Mapping[str, bool | str], behaviour: Behaviour) -> dict[str, Any]:
    return {
        "assumed": dict(assumed),
        "sme_active": behaviour.sme_active,
        "reported_stopped": behaviour.report,
        **{site: executed(behaviour, site) for site in Site},
    }
