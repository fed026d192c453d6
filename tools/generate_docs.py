# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes what is made from the code: docs/explanations.md."""

from __future__ import annotations

from pathlib import Path

from staleline.report.explanations_text import explanations_markdown

__all__ = ["main"]

DOCS = Path(__file__).parents[1] / "docs"


def main() -> int:
    """Write it."""
    (DOCS / "explanations.md").write_text(explanations_markdown(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
