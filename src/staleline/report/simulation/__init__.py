# SPDX-License-Identifier: GPL-2.0-or-later
"""What was observed on a simulated machine, beside what was predicted."""
