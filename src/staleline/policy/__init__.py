# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules written as data: one predicate per site over platform facts."""
