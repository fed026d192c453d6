# SPDX-License-Identifier: GPL-2.0-or-later
"""Renderers of finished documents; nothing is decided here."""
