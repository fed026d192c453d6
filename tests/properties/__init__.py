# SPDX-License-Identifier: GPL-2.0-or-later
"""The principles of evidence as properties, over machines that are thinned, retold and random."""
