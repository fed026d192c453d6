# SPDX-License-Identifier: GPL-2.0-or-later
"""Search over the model: verdicts, counterexamples."""
