# SPDX-License-Identifier: GPL-2.0-or-later
"""Many hosts by many kernels: those that no verdict tells apart are judged once."""
