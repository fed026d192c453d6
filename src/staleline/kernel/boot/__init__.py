# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's own code in the order of a boot, on a machine of which everything is known."""
