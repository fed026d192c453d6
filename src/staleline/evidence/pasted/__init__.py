# SPDX-License-Identifier: GPL-2.0-or-later
"""What people put around the text that a reader knows, and text that none knows."""
