# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of /proc and /sys that a command in a transcript shows, read as the collector reads them.

::

    # cat /proc/cmdline /sys/kernel/reboot/force
    BOOT_IMAGE=/vmlinuz ro mem_encrypt=on
    0

The files that are formats of their own, such as /proc/cpuinfo, are known by their lines. Of live
patches ``ls`` tells which there are, and not what they replace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Final

from staleline.errors import EvidenceError
from staleline.evidence.hosts import snapshot_json
from staleline.evidence.hosts.archive import ArchiveTree
from staleline.evidence.pasted.prompts import is_prompt
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.staleline_collect import collect, document_text
from staleline.pattern import Pattern

__all__ = ["shown_files"]

_COMMAND_MAX: Final = 512
_LINES_MAX: Final = 64
_COMMAND = Pattern(
    r"(?P<prompt>.*[#$%>+]\s*)(?:(?:sudo|doas)\s+)?(?:/\S{0,40}/)?"
    r"cat(?P<paths>(?:\s+/(?:proc|sys)/\S+)+)"
    r"(?:\s+2>\s*/dev/null)?\s*"
)
#: One line each.
_LINE = Pattern(
    r"/(?:proc/(?:cmdline|xen/capabilities|sys/kernel/(?:hostname|osrelease|tainted))"
    r"|sys/(?:hypervisor/type|kernel/(?:reboot/force|kexec_(?:loaded|crash_loaded|crash_size))"
    r"|devices/(?:jailhouse/enabled|system/cpu/(?:online|present))|bus/pci/drivers/ccp/[^/\s]{1,20}/tsme_status))"
)
#: As many as there are; a prompt behind them shows that none is missing.
_LINES = Pattern(r"/(?:proc/bootconfig|sys/fs/cgroup/misc\.peak|sys/kernel/debug/kprobes/list)")
#: What no command changes while a kernel runs.
_STAYS = Pattern(
    r"/(?:proc/(?:cmdline|bootconfig|xen/capabilities|sys/kernel/osrelease)|sys/hypervisor/type"
    r"|sys/bus/pci/drivers/ccp/.*)"
)
_KPROBES: Final = "/sys/kernel/debug/kprobes/list"
_PROBE = Pattern(r"\s*[0-9a-fA-F]{8,16} +[krj] +\S.*")
#: The names of live patches, of which it does not tell what they replace.
_LISTED = Pattern(
    r".*[#$%>+]\s*(?:(?:sudo|doas)\s+)?(?:/\S{0,40}/)?ls(?:\s+-1)?\s+/sys/kernel/livepatch/?\s*"
)
_NAME = Pattern(r"\s*[\w-]{1,64}(?:\s+[\w-]{1,64})*\s*")
#: One that names nobody, and behind which nothing was typed.
_BARE_PROMPT = Pattern(r"[#$%>] ?")
#: What a command says instead, as coreutils and sudo do.
_COMPLAINT = Pattern(r"(?:cat|sudo|doas|-?(?:ba|da|z)?sh): ")


def shown_files(text: str, where: str) -> tuple[Snapshot | None, str]:
    """What the files tell that `text` shows, and `text` with empty lines in their place.

    Of a file whose content may change what was shown last counts.

    Raises:
        EvidenceError: One that stays while a kernel runs is shown with two contents.
    """
    lines = text.split("\n")
    files: dict[str, bytes] = {}
    shown_at: dict[str, int] = {}
    for shown, numbers in list(_files(lines)):
        for path, told in shown.items():
            content = f"{told}\n".encode()
            if _STAYS.fullmatch(path) and files.get(path[1:], content) != content:
                raise EvidenceError(
                    f"shows {path} otherwise than line {shown_at[path]}: of another boot or host",
                    where=f"{where}:{numbers.start}",
                    do="give one file per machine, of one boot",
                )
            files[path[1:]] = content
            shown_at[path] = numbers.start
        lines[numbers.start : numbers.stop] = [""] * len(numbers)
    if not files:
        return None, text
    document = collect(ArchiveTree(files))
    document.update(collected=None)
    # What else the collector would have read is of no interest here.
    machine = replace(snapshot_json.parse(document_text(document), where), notes=())
    return machine, "\n".join(lines)


def _files(lines: Sequence[str]) -> Iterator[tuple[dict[str, str], range]]:
    """Files by path, and the lines that show them."""
    for number, line in enumerate(lines):
        if "/sys/kernel/livepatch" in line and len(line) <= _COMMAND_MAX:
            yield from _live_patches(lines, number)
        asked = _COMMAND.fullmatch(line) if "cat" in line and len(line) <= _COMMAND_MAX else None
        if asked is None or not is_prompt(line):
            continue
        paths, prompt = asked["paths"].split(), asked["prompt"]
        behind = lines[number + 1 :][: _LINES_MAX + len(paths)]
        told: list[str] = []
        for shown in behind:
            if not shown.strip() or _is_asked_behind(shown, prompt):
                break
            told.append(shown)
        whole = _is_asked_behind((*behind, "")[len(told)], prompt)
        if paths == [_KPROBES] and not whole:
            yield from _probes_at_least(behind, number)
            continue
        # The last line of a text may be cut.
        if len(told) == len(behind) or any(map(_COMPLAINT.match, told)):
            continue
        numbers = range(number + 1, number + 1 + len(told))
        if all(map(_LINE.fullmatch, paths)) and len(told) == len(paths):
            yield dict(zip(paths, map(str.rstrip, told), strict=True)), numbers
        elif len(paths) == 1 and _LINES.fullmatch(paths[0]) and whole:
            yield {paths[0]: "\n".join(told)}, numbers


def _is_asked_behind(line: str, prompt: str) -> bool:
    """Does the shell wait for the next command, so that the last one's output is whole?

    Behind the same prompt as the last command's, the next may be any.
    """
    return is_prompt(line) or _BARE_PROMPT.fullmatch(line) is not None or line.startswith(prompt)


def _live_patches(lines: Sequence[str], number: int) -> Iterator[tuple[dict[str, str], range]]:
    """A file of each live patch that is listed; one that is cut or none proves nothing."""
    line = lines[number]
    if _LISTED.fullmatch(line) is None or not is_prompt(line):
        return
    behind = lines[number + 1 :][:_LINES_MAX]
    told = list(takewhile(_NAME.fullmatch, behind))
    names = " ".join(told).split()
    numbers = range(number + 1, number + 1 + len(told))
    yield {f"/sys/kernel/livepatch/{name}/enabled": "" for name in names}, numbers


def _probes_at_least(behind: Sequence[str], number: int) -> Iterator[tuple[dict[str, str], range]]:
    """A list of kprobes that may go on: those that it shows are there, and any other may be."""
    told = list(takewhile(_PROBE.fullmatch, behind))
    if told:
        yield {_KPROBES: "\n".join([*told, "?"])}, range(number + 1, number + 1 + len(told))
