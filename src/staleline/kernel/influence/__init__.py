# SPDX-License-Identifier: GPL-2.0-or-later
"""What decisions depend on: everything is changed, and the answers compared."""
