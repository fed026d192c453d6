# SPDX-License-Identifier: GPL-2.0-or-later
"""Many hosts, many kernels: hosts that no verdict can tell apart are judged once, by `audit`'s engine."""
