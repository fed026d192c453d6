# SPDX-License-Identifier: GPL-2.0-or-later
"""Decisions for every combination of facts, as a rule."""
