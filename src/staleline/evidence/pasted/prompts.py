# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines of a terminal that a person typed a command in."""

from __future__ import annotations

import re
from typing import Final

from staleline.pattern import Pattern

__all__ = ["host_of", "is_prompt", "without_prompts"]

#: No prompt and command is longer; time to try the pattern grows with the length.
_LONGEST: Final = 512
_NAME = r"[\w.-]{1,64}"
#: bash's, zsh's and csh's usual prompts; ``+`` is what sh -x puts before a command.
_PROMPT = Pattern(
    rf"\s{{0,4}}(?:\({_NAME}\) ?)?"
    rf"(?:(?P<at>\[?{_NAME}@(?P<host>{_NAME})(?:[: ][^\]#$%>]{{0,200}})?\]?)"
    rf"|{_NAME}:[~/]?[^#$%>\s]{{0,200}}|(?:ba|k|z|da)?sh-?[0-9.]{{0,8}}|PS [A-Z]:[^>]{{0,200}})?"
    r" ?(?P<mark>[#$%>+])(?:\s{1,4}(?P<command>\S.*))?\s*"
)
#: What prints evidence, or is asked along with it.
_COMMAND = Pattern(
    r"(?:(?:sudo|doas|exec|time|env|LC_ALL=\S+|LANG=\S+|-[EHn])\s+)*(?:\S{0,200}/)?"
    r"(?:dmesg|journalctl|[ez]?grep|z?cat|head|tail|z?less|lscpu|virsh|k?cpuid|cpuid_tool|x86info"
    r"|rdmsr|cpucontrol|xen-cpuid|xl|snphost|sevctl|uname|hwloc-gather-cpuid|lstopo|staleline"
    r"|lsmod|modinfo|systool|kpatch|systemd-detect-virt|virt-what|hostnamectl|nproc|hostname|date|ssh|exit|logout"
    r"|ls(?=\s+(?:-1\s+)?/sys/))\b.*"
)
_LEAVES = Pattern(r"(?:exit|logout)\b.*")
#: Options that take a word behind them: ssh(1), OpenSSH 9.6.
_SSH = Pattern(
    r"(?:sudo\s+)?ssh(?:\s+(?:-[BbcDEeFIiJLlmOoPpRSWw]\s*\S+|-[46AaCfGgKkMNnqsTtVvXxYy]+))*"
    rf"\s+(?:ssh://)?(?:[^\s@]{{1,64}}@)?(?P<host>{_NAME})(?::[0-9]+)?(?:\s+(?P<command>\S.*))?\s*"
)
#: Of ansible's minimal callback plugin, and of pssh -i.
_HEADING = Pattern(
    rf"(?P<ansible>{_NAME}) \| (?:CHANGED|SUCCESS|FAILED!?|UNREACHABLE!?)(?: \| rc=-?[0-9]+)?"
    rf" (?:>>|=>).*|\[[0-9]+\] [0-9:]{{8}} \[(?:SUCCESS|FAILURE)\] (?P<pssh>{_NAME})(?: .*)?"
)


def _prompt(line: str) -> re.Match[str] | None:
    if len(line) > _LONGEST:
        return None
    match = _PROMPT.fullmatch(line)
    if match is None:
        return None
    command = match["command"]
    typed = match["at"] is not None if command is None else _COMMAND.fullmatch(command)
    return match if typed else None


def is_prompt(line: str) -> bool:
    """Is this a shell's prompt, with a command that prints evidence or none?"""
    return _prompt(line) is not None


def host_of(line: str) -> str | None:
    """The host of which the lines behind `line` are; None where it does not say.

    That is the host that a prompt with a command names, or ssh is told to run one on, or over whose
    output a tool for many hosts writes its name. What only leads to another host says nothing.
    """
    if len(line) <= _LONGEST and (heading := _HEADING.fullmatch(line)):
        return heading["ansible"] or heading["pssh"]
    typed = _prompt(line)
    if typed is None or typed["command"] is None or _LEAVES.fullmatch(typed["command"]):
        return None
    if ssh := _SSH.fullmatch(typed["command"]):
        # A prompt shows the name without its domain.
        return None if ssh["command"] is None else _without_domain(ssh["host"])
    return typed["host"]


def _without_domain(host: str) -> str:
    return host if host.replace(".", "").isdecimal() else host.partition(".")[0]


def without_prompts(text: str) -> str:
    """`text` with an empty line for each prompt; rdmsr's stay, as its output needs them."""
    if not any(mark in text for mark in "#$%>"):
        return text
    return "\n".join(
        "" if "rdmsr" not in line and is_prompt(line) else line for line in text.split("\n")
    )
