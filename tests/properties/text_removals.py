# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways in which texts get thinner on their way: lines and words cut, filtered, files left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from tests.properties.tellings import Telling

__all__ = ["thinned"]

#: Words that people grep a log or a dump for.
_WORDS = (
    "SME",
    "SEV",
    "tdx",
    "Memory Encryption",
    "CPU",
    "kernel",
    "Linux version",
    "Command line",
)


def thinned(telling: Telling, random: Random) -> tuple[str, Telling]:
    """The telling with one thing gone, and what is gone."""
    choices: list[Callable[[Telling, Random], tuple[str, Telling]]] = [_text, _text, _text]
    if len(telling.files) > 1:
        choices += [_without_file] * 3
    if telling.msr or telling.state or telling.cmdline is not None:
        choices.append(_without_given)
    return random.choice(choices)(telling, random)


def _without_file(telling: Telling, random: Random) -> tuple[str, Telling]:
    lost = random.choice(sorted(telling.files))
    files = {name: text for name, text in telling.files.items() if name != lost}
    return f"file {lost}", replace(telling, files=files)


def _without_given(telling: Telling, random: Random) -> tuple[str, Telling]:
    kinds = [kind for kind in ("msr", "state", "cmdline") if getattr(telling, kind)]
    if not kinds:
        return "nothing", telling
    kind = random.choice(kinds)
    if kind == "cmdline":
        return "--cmdline", replace(telling, cmdline=None)
    values = getattr(telling, kind)
    # What sysfs says goes with a command line that is given: see `tellings`.
    if telling.cmdline is not None:
        values = [value for value in values if not value.startswith("reboot_force")]
    if not values:
        return "nothing", telling
    lost = random.choice(values)
    kept: dict[str, Any] = {kind: tuple(value for value in getattr(telling, kind) if value != lost)}
    return f"--{kind} {lost}", replace(telling, **kept)


def _text(telling: Telling, random: Random) -> tuple[str, Telling]:
    name = random.choice(sorted(telling.files))
    text = telling.files[name]
    if name.endswith(".json") or text.lstrip()[:1] in ("{", "<"):
        # A line of a document is not a piece of it.
        return "nothing", telling
    if name.endswith("/proc/cmdline"):
        return _without_file(telling, random)
    what, less = random.choice((_line, _line, _block, _end, _start, _filtered, _word))(text, random)
    return f"{what} of {name}", replace(telling, files={**telling.files, name: less})


def _line(text: str, random: Random) -> tuple[str, str]:
    lines = text.split("\n")
    lost = random.randrange(len(lines))
    return f"line {lost} {lines[lost]!r}", "\n".join(lines[:lost] + lines[lost + 1 :])


def _block(text: str, random: Random) -> tuple[str, str]:
    lines = text.split("\n")
    start = random.randrange(len(lines))
    end = start + random.choice((2, 5, 20))
    return f"lines {start} to {end}", "\n".join(lines[:start] + lines[end:])


def _end(text: str, random: Random) -> tuple[str, str]:
    lines = text.split("\n")
    start = random.randrange(len(lines))
    return f"all from line {start}", "\n".join(lines[:start]) + "\n"


def _start(text: str, random: Random) -> tuple[str, str]:
    lines = text.split("\n")
    end = random.randrange(len(lines))
    return f"all up to line {end}", "\n".join(lines[end:])


def _filtered(text: str, random: Random) -> tuple[str, str]:
    word, kept = random.choice(_WORDS), random.random() < 0.5
    lines = [line for line in text.split("\n") if (word in line) is kept]
    return f"lines {'without' if kept else 'with'} {word!r}", "\n".join(lines) + "\n"


def _word(text: str, random: Random) -> tuple[str, str]:
    """A flag of /proc/cpuinfo or lscpu."""
    lines = text.split("\n")
    rows = [i for i, line in enumerate(lines) if line.lstrip().lower().startswith("flags")]
    if not rows:
        return _line(text, random)
    row = rows[0]
    name, colon, flags = lines[row].partition(":")
    words = flags.split()
    if not words:
        return "nothing", text
    lost = random.choice(words)
    less = name + colon + " " + " ".join(word for word in words if word != lost)
    return f"flag {lost}", "\n".join([*lines[:row], less, *lines[row + 1 :]])
