# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model keeps of lines, caches and CPUs."""
