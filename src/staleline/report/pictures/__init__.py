# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole run at a glance: as a picture, and as the text of one."""
