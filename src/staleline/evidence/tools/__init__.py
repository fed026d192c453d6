# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers of what tools print of a machine."""
