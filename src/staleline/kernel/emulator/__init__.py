# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated machine: CPUs, memory, and all that their code may do."""
