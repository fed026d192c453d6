# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a kexec leave incoherent cache lines behind, and are they written back first?"""
