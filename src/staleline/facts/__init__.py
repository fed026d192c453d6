# SPDX-License-Identifier: GPL-2.0-or-later
"""What a snapshot tells of a machine: named, three-valued, in layers."""

from __future__ import annotations

from staleline.facts.fact import Fact, Layer, MachineFacts, Value
from staleline.facts.machine import from_snapshot

__all__ = ["Fact", "Layer", "MachineFacts", "Value", "from_snapshot"]
