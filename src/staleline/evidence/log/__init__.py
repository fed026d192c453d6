# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers of kernel logs, and what each message says."""
