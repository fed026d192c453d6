# SPDX-License-Identifier: GPL-2.0-or-later
"""Every WBINVD in a kernel's code."""
