# SPDX-License-Identifier: GPL-2.0-or-later
"""What options asked for, as findings tell it: by names that are labels of metrics too."""

from __future__ import annotations

import shlex

__all__ = ["asked_command_line"]


def asked_command_line(append: str | None, *, reuse: bool) -> dict[str, str]:
    """The next kernel's command line, as far as it was given."""
    asked = {"reuse_cmdline": "yes"} if reuse else {}
    # As a shell's word: a label without text would be none, and an empty line is not any line.
    return asked if append is None else asked | {"append": shlex.quote(append)}
