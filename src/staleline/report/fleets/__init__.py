# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of a fleet: a summary, documents, metrics, and a page."""
