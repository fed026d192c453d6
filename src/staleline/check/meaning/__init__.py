# SPDX-License-Identifier: GPL-2.0-or-later
"""What expressions and actions of the model mean, for all that read them."""
