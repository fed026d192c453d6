# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers that turn what people have (dumps, /proc, a live host) into a snapshot."""
