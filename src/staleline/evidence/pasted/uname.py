# SPDX-License-Identifier: GPL-2.0-or-later
"""Host and release as uname prints them behind a prompt, or in a row that only it prints.

::

    $ uname -a
    Linux node17 6.12.107+deb13-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.12.107-1 x86_64 GNU/Linux
    $ uname -r
    6.12.107+deb13-amd64

Debian shows such a row at every login, without the system's name at its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from staleline.errors import EvidenceError
from staleline.evidence.pasted.architecture import is_x86, refused_architecture
from staleline.evidence.pasted.prompts import is_prompt
from staleline.evidence.snapshot import KernelEvidence, Snapshot
from staleline.pattern import Pattern

__all__ = ["named_systems"]

#: No row of uname is longer, and what takes time is to try patterns on long lines.
_LONGEST: Final = 512
_RELEASE: Final = r"[1-9][0-9]?\.[0-9]{1,3}[\w.+~-]{0,100}"
_COMMAND = Pattern(
    r".*[#$%>+]\s*(?:/\S{0,40}/)?uname(?P<options>(?:\s+(?:-[asnrvmpio]{1,8}|--[a-z-]{3,20}))+)\s*"
)
#: All that ``-a`` prints up to the version, of which a number is the first word.
_ROW = Pattern(
    rf"\s{{0,8}}Linux (?P<host>\S{{1,64}}) (?P<release>{_RELEASE}) #[0-9]\S{{0,60}} .{{1,200}}"
)
_MACHINE = Pattern(
    r"(x86_64|i[3-6]86|aarch64\w*|armv\w+|ppc\w*|s390x?|riscv\w+|loongarch\w+|mips\w*)"
)
_RELEASES = Pattern(_RELEASE)
#: Long options by their letter; the others' words come behind these.
_LONG: Final = {
    "--all": "a",
    "--kernel-name": "s",
    "--nodename": "n",
    "--kernel-release": "r",
}
#: What is printed first, whatever the order of the options (coreutils 9.1 src/uname.c).
_ORDER: Final = "snr"


def named_systems(text: str, where: str) -> Iterator[Snapshot]:
    """The machine as often as it is named.

    Raises:
        EvidenceError: One is not x86, or runs no Linux.
    """
    for number, (before, line) in enumerate(pairwise(("", *text.split("\n"))), 1):
        if len(line) > _LONGEST or len(before) > _LONGEST:
            continue
        at = f"{where}:{number}"
        if _ROW.fullmatch(line):
            yield _of_words(line.split(), "snr", at)
        elif "uname" in before and (asked := _COMMAND.fullmatch(before)) and is_prompt(before):
            yield from _told(line, asked["options"].split(), at)


def _told(line: str, options: list[str], where: str) -> Iterator[Snapshot]:
    """What a command printed; nothing where its output was left out."""
    asked = "".join(option if option[1] != "-" else _LONG.get(option, "v") for option in options)
    letters = _ORDER if "a" in asked else "".join(one for one in _ORDER if one in asked)
    words = line.split()
    whole = (
        len(words) == len(letters) if set(asked) <= {"-", *_ORDER} else len(words) > len(letters)
    )
    if letters and whole and not is_prompt(line):
        yield _of_words(words, letters, where)


def _of_words(words: list[str], letters: str, where: str) -> Snapshot:
    told = dict(zip(letters, words, strict=False))
    if told.get("s", "Linux") != "Linux":
        what = f"is of a system that calls itself {words[0][:40]!r}, and not Linux"
        raise EvidenceError(what, where=where, do="give one file per machine")
    machine = next(filter(_MACHINE.fullmatch, words[len(letters) :]), "x86_64")
    if not is_x86(machine):
        raise refused_architecture(machine, where)
    release = told.get("r", "")
    kernel = KernelEvidence(release if _RELEASES.fullmatch(release) else None)
    return Snapshot(cpus=(), host=told.get("n"), kernel=kernel)
