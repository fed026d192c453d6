# SPDX-License-Identifier: GPL-2.0-or-later
"""The handover as a transition system: lines, aliases, caches, CPUs."""
