# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways to install staleline: what is built for them, and each tried in a clean root."""
