# SPDX-License-Identifier: GPL-2.0-or-later
"""How code is run on one engine: on which terms, what it asks meanwhile, and how it ends."""
