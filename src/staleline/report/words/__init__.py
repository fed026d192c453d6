# SPDX-License-Identifier: GPL-2.0-or-later
"""Words, and how they get onto terminals and pages."""
