# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel image and what its own code decides, read by running it in an emulator."""
