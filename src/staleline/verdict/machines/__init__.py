# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines of which everything is known, and those that evidence may describe."""
