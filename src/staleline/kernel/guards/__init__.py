# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a site executes its WBINVD, instruction by instruction."""
