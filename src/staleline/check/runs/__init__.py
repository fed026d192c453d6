# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of the model: counterexamples, written, read and played back."""
