# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of the search for what a site depends on."""
