# SPDX-License-Identifier: GPL-2.0-or-later
"""The page with every handover of several kernels, and its server."""
