# SPDX-License-Identifier: GPL-2.0-or-later
"""An ELF file as a kernel: its symbols, tables and patches."""
