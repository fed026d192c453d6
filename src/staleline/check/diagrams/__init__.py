# SPDX-License-Identifier: GPL-2.0-or-later
"""The model with many CPUs, explored by decision diagrams."""
