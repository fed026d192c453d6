# SPDX-License-Identifier: GPL-2.0-or-later
"""Audits of machines, and facts about them."""
