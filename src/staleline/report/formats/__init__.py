# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings in the formats of other tools."""
