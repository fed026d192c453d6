# SPDX-License-Identifier: GPL-2.0-or-later
"""The way into the next kernel: who is stopped, what is flushed, what is left dirty."""
