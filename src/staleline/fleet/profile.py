# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's evidence without what tells it from hosts that are otherwise the same.

A profile is a snapshot like any other: without host, time, release and build ID, and with those
words of the command line that anything reads. It is kept once for all hosts that share it, so that
another kernel can be judged on them, and images run on their registers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts import snapshot_json
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.snapshot import KernelEvidence, Snapshot
from staleline.facts import MachineFacts, from_snapshot
from staleline.facts.capacity import cache_capacity
from staleline.fleet.asked import ClassValues, asked_values, number_of, registers_kind

__all__ = [
    "Description",
    "Hardware",
    "Profile",
    "Profiles",
    "description_of",
    "essential_words",
    "profile_of",
    "snapshot_of",
]

#: Lines of a snapshot that tell hosts apart, as `document_text` lays them out.
_OWN_LINES = (' "host": ', ' "collected": ', ' "kernel": ')
_FIRST_LINES = ("{", f' "schema": "{snapshot_json.SCHEMA}",')
_LAST_LINES = ["}", ""]

#: Of the words of a command line, those that some reader of it knows: `evidence.commandline`,
#: `facts.told`, and flags that are forced.
_READ_WORDS = ("mem_encrypt", "reboot", "bootconfig", "setcpuid", "elfcorehdr")
#: A longer line may have been cut, which is told by its length (COMMAND_LINE_SIZE is 2048).
_WHOLE_BELOW = 1900

_BRAND_LEAVES = (0x8000_0002, 0x8000_0003, 0x8000_0004)


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the cost of a flush depends on, and what people call the machine.

    Attributes:
        cpu: The brand string, else vendor, family and model.
        capacity: Bytes of L2 and L3: of a socket, of a cluster, of one CPU; None if not known.
    """

    vendor: str | None
    family: int | None
    model: int | None
    stepping: int | None
    cpu: str
    capacity: tuple[int, int, int] | None

    @property
    def number(self) -> int:
        """The same for the same hardware."""
        own = (self.vendor, self.family, self.model, self.stepping, self.cpu, self.capacity)
        return number_of("hardware", *own)


@dataclass(frozen=True, slots=True)
class Profile:
    """Evidence of hosts that are alike.

    Attributes:
        number: The same for the same text.
        text: A snapshot.
    """

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Description:
    """What is kept of one snapshot."""

    host: str | None
    collected: str | None
    kernel: KernelEvidence
    profile: Profile
    values: ClassValues
    registers: str
    hardware: Hardware


@dataclass(frozen=True, slots=True)
class _Known:
    """What snapshots alike in all but their own lines have in common."""

    profile: Profile
    values: ClassValues
    registers: str
    hardware: Hardware


class Profiles:
    """Describes snapshots; those that are alike are read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str | None], _Known] = {}

    def describe(self, text: str, where: str) -> Description:
        """What `text` tells.

        Raises:
            EvidenceError: As `staleline.evidence.detect.parse_snapshot`.
        """
        # Snapshots as the collector lays them out differ from one host to the next in three of
        # their lines. What is left is looked up before anything is parsed; what was seen before is
        # not read again.
        parted = _parted(text, where)
        if parted is None:
            return description_of(parse_snapshot(text, where))
        own, rest = parted
        shorter = _shorter(own.kernel)
        # The release counts besides: a command line is read as that kernel reads it.
        key = (_digest(rest, shorter), own.kernel.release)
        known = self._known.get(key)
        if known is None:
            whole = description_of(parse_snapshot(text, where))
            # By themselves these lines have to say what they say within the whole, or others bear
            # on them.
            if (whole.host, whole.collected, whole.kernel) != (
                own.host,
                own.collected,
                own.kernel,
            ):
                return whole
            known = _Known(whole.profile, whole.values, whole.registers, whole.hardware)
            self._known[key] = known
        return Description(
            own.host,
            own.collected,
            own.kernel,
            known.profile,
            known.values,
            known.registers,
            known.hardware,
        )


def _digest(rest: str, kernel: KernelEvidence) -> bytes:
    digest = hashlib.sha256(rest.encode("utf-8", "surrogatepass"))
    digest.update(repr(replace(kernel, release=None, build_id=None)).encode())
    return digest.digest()


def _parted(text: str, where: str) -> tuple[Snapshot, str] | None:
    """Its own lines, read, and the rest; None if it is laid out otherwise."""
    lines = text.split("\n")
    if tuple(lines[:2]) != _FIRST_LINES or lines[-2:] != _LAST_LINES:
        return None
    own: dict[str, str] = {}
    for number, line in enumerate(lines):
        start = next((start for start in _OWN_LINES if line.startswith(start)), None)
        if start is None:
            continue
        if start in own or not line.endswith(","):
            return None
        own[start] = line[:-1]
        lines[number] = start
    if len(own) != len(_OWN_LINES):
        return None
    fields = ",\n".join(own.values())
    try:
        read = snapshot_json.parse(
            f'{{"schema": "{snapshot_json.SCHEMA}", "cpus": [],\n{fields}\n}}', where
        )
    except EvidenceError:
        return None  # what is wrong is told by reading all of it
    return read, "\n".join(lines)


def description_of(snapshot: Snapshot) -> Description:
    """What one snapshot tells, with the profile of its kind of host."""
    profile = profile_of(snapshot)
    alike = _with_kernel(_reduced(snapshot), snapshot.kernel)
    facts = from_snapshot(alike)
    return Description(
        host=snapshot.host,
        collected=snapshot.collected,
        kernel=snapshot.kernel,
        profile=profile,
        values=asked_values(facts),
        registers=registers_kind(alike),
        hardware=_hardware(alike, facts),
    )


def profile_of(snapshot: Snapshot) -> Profile:
    """The profile of its kind of host."""
    text = snapshot_text(_reduced(snapshot))
    return Profile(number_of("profile", text), text)


def snapshot_of(profile: str, release: str | None, build_id: str | None) -> Snapshot:
    """A host of this profile with this kernel."""
    snapshot = snapshot_json.parse(profile, "a profile of the fleet")
    return _with_kernel(snapshot, KernelEvidence(release=release, build_id=build_id))


def _with_kernel(snapshot: Snapshot, named: KernelEvidence) -> Snapshot:
    kernel = replace(snapshot.kernel, release=named.release, build_id=named.build_id)
    return replace(snapshot, kernel=kernel)


def _reduced(snapshot: Snapshot) -> Snapshot:
    kernel = replace(_shorter(snapshot.kernel), release=None, build_id=None)
    return replace(snapshot, host=None, collected=None, kernel=kernel)


def _shorter(kernel: KernelEvidence) -> KernelEvidence:
    """With the words that are read; whole where their places may count."""
    config: Mapping[str, Any] = kernel.config or {}
    lines = (kernel.cmdline, kernel.loader_cmdline)
    told_apart = None not in lines and lines[0] != lines[1]
    if kernel.bootconfig or config.get("CONFIG_CMDLINE_BOOL") == "y" or told_apart:
        return kernel
    return replace(
        kernel,
        cmdline=_maybe(essential_words, kernel.cmdline),
        loader_cmdline=_maybe(essential_words, kernel.loader_cmdline),
    )


def _maybe(function: Callable[[str], str], text: str | None) -> str | None:
    return None if text is None else function(text)


def essential_words(line: str) -> str:
    """The words of a plain command line that any reader of it knows; another one whole."""
    quoted = '"' in line or "'" in line
    if quoted or len(line) >= _WHOLE_BELOW or not (line.isascii() and line.isprintable()):
        return line
    # Behind "--" words are init's, and no parameters (6.12 kernel/params.c:182).
    return " ".join(word for word in line.split(" ") if word == "--" or _is_read(word))


def _is_read(word: str) -> bool:
    # Anywhere in the word: that may keep one too many, and never one too few.
    return any(name in word for name in _READ_WORDS)


def _hardware(snapshot: Snapshot, facts: MachineFacts) -> Hardware:
    capacity = cache_capacity(snapshot)
    vendor, family, model = facts.text("vendor"), facts.integer("family"), facts.integer("model")
    plain = f"{vendor or 'unknown vendor'} family {family} model {model}"
    return Hardware(
        vendor=vendor,
        family=family,
        model=model,
        stepping=facts.integer("stepping"),
        cpu=_brand(snapshot) or plain,
        capacity=None
        if capacity is None
        else (capacity.socket, capacity.cluster, capacity.jumping_cpu),
    )


def _brand(snapshot: Snapshot) -> str | None:
    """The name that the CPU gives itself (AMD APM volume 3, CPUID 0x80000002)."""
    cpuid = snapshot.cpus[0].cpuid if snapshot.cpus else None
    leaves = [cpuid.recorded(leaf) for leaf in _BRAND_LEAVES] if cpuid else [None]
    if None in leaves:
        return None
    raw = b"".join(word.to_bytes(4, "little") for leaf in leaves if leaf for word in leaf)
    text = " ".join(raw.split(b"\0", 1)[0].decode("latin-1").split())
    return text if text.isprintable() and text.isascii() else None
