# SPDX-License-Identifier: GPL-2.0-or-later
"""Proofs for any number of CPUs, and their certificates."""
