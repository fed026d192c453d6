# SPDX-License-Identifier: GPL-2.0-or-later
"""What commands share: options that are used once, output, and its failures."""
