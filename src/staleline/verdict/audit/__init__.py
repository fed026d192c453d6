# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine and its kernels, judged over all that the evidence leaves open."""
