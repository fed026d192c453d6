# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules, judged on every class of platform."""
