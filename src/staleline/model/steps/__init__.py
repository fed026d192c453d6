# SPDX-License-Identifier: GPL-2.0-or-later
"""What may happen next, in the order of a handover."""
