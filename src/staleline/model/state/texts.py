# SPDX-License-Identifier: GPL-2.0-or-later
"""Nouns that the sentences of a counterexample share."""

from __future__ import annotations

from staleline.model.state.lines import Alias, Line, Role

__all__ = ["line_phrase", "role_noun"]

_PHRASES = {
    Role.IMAGE: "the image's destination line",
    Role.REST: "the line in the rest of RAM",
    Role.DECRYPTED: "the line in a decrypted page",
    Role.STOP_MASK: "the stop mask's line",
    Role.FOREIGN_IMAGE: "the line in the {foreign} page under the image",
    Role.FOREIGN_REST: "the line in a {foreign} page",
    Role.CRASH_SEGMENT: "the line of a segment in the crash reservation",
    Role.CRASH_CONTROL: "the line of a control page in the crash reservation",
    Role.CRASH_VMCOREINFO: "the line of the vmcoreinfo copy in the crash reservation",
    Role.WORK_AREA: "the line in the work area of the in-place encryption",
    Role.LEFT_BEHIND: "the line stored to after a flush",
    Role.LEFT_IMAGE: "the line under the image that is stored to after a flush",
    Role.LEFT_PLAIN: "the decrypted line stored to after a flush",
}


def line_phrase(line: Line) -> str:
    """The line as a noun phrase, e.g. ``"the image's destination line"``."""
    return _PHRASES[line.role].format(foreign=role_noun(line))


def role_noun(line: Line) -> str:
    """Whose pages foreign lines lie in: a guest's or TDX private ones."""
    return "guest" if "guest" in line.name_of(Alias.FOREIGN) else "TDX private"
