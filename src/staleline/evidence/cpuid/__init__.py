# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers of dumps of CPUID, a module for each format."""
