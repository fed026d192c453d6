# SPDX-License-Identifier: GPL-2.0-or-later
"""Exhaustive checking of handovers: is one safe, which flushes does it need, what breaks it."""
