# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of the kernel log as text: ``dmesg``, ``dmesg -T``, ``journalctl -k``, syslog.

::

    [    0.000000] Linux version 6.12.107+deb13-amd64 (...) #1 SMP ...
    [    0.000000] Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on

Where the text ends says nothing of where the log ended, so silence about what may happen
at any time (the TDX module, guests) means nothing; silence about SME means something if
the text reaches from the kernel's first message to its last one before init.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from staleline.errors import EvidenceError
from staleline.evidence import kernel_log
from staleline.evidence.snapshot import KernelEvidence, LogEvidence, Note, Snapshot, StateEvidence
from staleline.evidence.staleline_collect import is_relevant

__all__ = ["is_row", "parse"]

_TIME = r"[0-9]{1,10}\.[0-9]{6}|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:.,]{8,12} [0-9]{4}"
_ROW = re.compile(
    rf"(?:<[0-9]{{1,3}}>)?\[ *(?:{_TIME})\](?:\[ *[TC][0-9]+\])? (.*)"
    r"|[0-9]{1,3},[0-9]+,[0-9]+,[-c+,\w=]*;(.*)"
    r"|(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}T\S{8,24}) \S+ kernel: "
    r"(?:\[ *[0-9.]+\] )?(.*)"
)
_VERSION = re.compile(r"Linux version (\S+) ")
_COMMAND_LINE = re.compile(r"(?:Kernel c|C)ommand line: (.*)")
#: Linux 5.10 to 7.3 init/main.c kernel_init() and run_init_process().
_INIT = re.compile(r"Run \S+ as init process|Freeing unused kernel")
#: printk keeps about 1000 bytes of a message (LOG_LINE_MAX); a longer one is cut or split.
_CUT = 900

_NOTES = (
    Note("cpuid", "only the kernel log was given; run cpuid -r, or staleline collect"),
    Note("kernel log", "it is not known that the text is whole"),
)


def is_row(line: str) -> bool:
    """Is this a line of a kernel log?"""
    return _ROW.fullmatch(line) is not None


def parse(text: str, where: str) -> Snapshot:
    """Return what the kernel log `text` tells of the last boot in it.

    Raises:
        EvidenceError: `text` holds no message.
    """
    messages = _last_boot(list(_messages(text)))
    if not messages:
        raise EvidenceError("holds no kernel message", where=where, do="give the output of dmesg")
    version = _first(_VERSION, messages)
    command_line = _first(_COMMAND_LINE, messages)
    log = LogEvidence(tuple(filter(is_relevant, messages)), complete=False)
    booted = version is not None and any(_INIT.match(message) for message in messages)
    return Snapshot(
        cpus=(),
        kernel=KernelEvidence(
            release=version,
            cmdline=None if command_line is None or len(command_line) > _CUT else command_line,
        ),
        state=StateEvidence(sme_active=kernel_log.sme_active(replace(log, complete=booted))),
        log=log,
        notes=_NOTES,
    )


def _messages(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        if found := _ROW.fullmatch(line.rstrip("\r")):
            yield next(group for group in found.groups() if group is not None)


def _last_boot(messages: list[str]) -> list[str]:
    starts = [i for i, message in enumerate(messages) if _VERSION.match(message)]
    # Messages before the first one of the last boot are of another kernel.
    return messages[starts[-1] :] if starts else messages


def _first(pattern: re.Pattern[str], messages: list[str]) -> str | None:
    return next((found[1] for message in messages if (found := pattern.match(message))), None)
