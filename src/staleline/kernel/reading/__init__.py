# SPDX-License-Identifier: GPL-2.0-or-later
"""All that is known of images, read once and kept."""
