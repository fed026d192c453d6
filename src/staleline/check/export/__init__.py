# SPDX-License-Identifier: GPL-2.0-or-later
"""The model in the languages of other model checkers."""
