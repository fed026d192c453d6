# SPDX-License-Identifier: GPL-2.0-or-later
"""What a snapshot tells of a machine: named, three-valued, in layers."""
