# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking hardware: a kernel module with its tests, and what it was answered."""
