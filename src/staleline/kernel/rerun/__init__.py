# SPDX-License-Identifier: GPL-2.0-or-later
"""An image run again with parts of what it asks or reads changed."""
