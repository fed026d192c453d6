# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole machines: the collector, trees of /proc and /sys, archives."""
