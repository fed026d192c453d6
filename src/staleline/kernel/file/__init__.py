# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a kernel comes in, unpacked down to its ELF file."""
