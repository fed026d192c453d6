# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels on a simulated machine whose caches are incoherent: what is observed there."""
