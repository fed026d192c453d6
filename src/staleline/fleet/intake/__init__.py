# SPDX-License-Identifier: GPL-2.0-or-later
"""How evidence gets into a fleet: inputs, records, rows, and the owner's inventory."""
