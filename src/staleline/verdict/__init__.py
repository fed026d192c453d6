# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts, a kernel and a transition put together: safe, at risk or unknown."""
