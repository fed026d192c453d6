# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running kernel made of its command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from staleline.evidence.commandline import (
    COMMAND_LINE_SIZE,
    XLF_MEM_ENCRYPTION,
    bootconfig_asked,
    borrows_crash_memory,
    decompressor_sees_on,
    efi_stub_choice,
    encoded,
    end_of_arguments,
    forces_reboot,
    init_words_start,
    startup_choice,
)
from staleline.evidence.snapshot import KernelEvidence
from staleline.facts.observation import Observation, observed_as, untold

__all__ = ["UnseenError", "crash_kernel_borrows", "mem_encrypt", "reboot_force", "seen_by_startup"]

_COLLECT = "run staleline collect on the host, as root"
_OPTION = b"mem_encrypt"
#: More places at which a line may have been put together are not looked at.
_CUTS_MAX = 32
#: bootconfig came with 5.6 (commit 7684b8582c24); `panic_` in reboot= with 5.2.
_WITH_BOOTCONFIG = (5, 6)
_WITH_PANIC = (5, 2)
_WITH_SYSFS = (5, 11)
_ANY = (99, 0)

_Series = tuple[int, int]
#: By reader and line: what it made of it.
_Readings = Mapping[tuple[str, bytes], bool | None]


class UnseenError(Exception):
    """The evidence does not tell what the loader passed; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class _Release:
    """A release as far as its number tells what is in it."""

    series: _Series
    patch: int

    @property
    def is_numbered(self) -> bool:
        """Is the last number that of a stable release? Distributions leave it at 0."""
        return self.patch > 0


@dataclass(frozen=True, slots=True)
class _Reader:
    """One piece of code that reads ``mem_encrypt=``; a row of commandline.toml."""

    name: str
    title: str
    first: _Series
    last: _Series
    booted_by: frozenset[str]

    def may_have_read(self, release: _Release | None, booted_by: str | None) -> bool:
        """Could it be in a kernel of this release, and run where that was started so?"""
        if booted_by is not None and booted_by not in self.booted_by:
            return False
        # A release up to 6.8 whose last number says nothing is a distribution's, which may have
        # taken the later readers in.
        if release is None or not (release.is_numbered or _is_later(release)):
            return True
        return self.first <= release.series <= self.last


def mem_encrypt(kernel: KernelEvidence) -> Observation:
    """``on`` or ``off``: does it use memory encryption where the hardware has it?"""
    release = _release(kernel.release)
    flags, later = kernel.xloadflags, release is not None and _is_later(release)
    # The flag is the reader's own answer, handed on to startup code, so it needs no command line.
    # Up to 6.8 nobody set it, and that it is clear says nothing.
    if flags is not None and (flags & XLF_MEM_ENCRYPTION or later):
        choice = "on" if flags & XLF_MEM_ENCRYPTION else "off"
        return observed_as(choice, "xloadflags in /sys/kernel/boot_params/data")
    if kernel.cmdline is None and kernel.loader_cmdline is None:
        return untold(f"the command line was not read: {_COLLECT}")
    try:
        read = dict(_readings(kernel, release))
    except UnseenError as error:
        return untold(str(error))
    choices = set(read.values())
    if flags is not None and release is None and choices != {False}:
        return untold(
            "the flag XLF_MEM_ENCRYPTION is not set, which settles it from linux 6.9 on: give the "
            "release"
        )
    default = _by_default(kernel, release)
    if None in choices and default.value == "off":
        choices = {bool(choice) for choice in choices}
    if None in choices and True not in choices:
        return default
    # A choice is told where everything that the evidence leaves open comes to the same.
    if len(choices) > 1:
        return untold(_disagreement(read))
    return observed_as("on" if True in choices else "off", _source(kernel, read))


def seen_by_startup(kernel: KernelEvidence) -> frozenset[bytes]:
    """The command lines that the loader may have passed, of which startup code saw one.

    Raises:
        UnseenError: The evidence does not tell.
    """
    if kernel.loader_cmdline is not None:
        return frozenset({encoded(kernel.loader_cmdline)})
    line = encoded(kernel.cmdline or "")
    # boot_command_line has room for this many bytes, and drops what is more without a word
    # (linux 7.3.4 arch/x86/kernel/setup.c:915-921).
    if len(line) >= COMMAND_LINE_SIZE - 1:
        raise UnseenError(f"/proc/cmdline has {len(line)} bytes and may have been cut: {_COLLECT}")
    return frozenset(
        passed
        # /proc/cmdline is not what startup code saw: the words of bootconfig stand in front of it,
        # then those of CONFIG_CMDLINE.
        for behind in _behind_bootconfig(line, kernel)
        for passed in _behind_builtin(behind, kernel.config or {})
    )


def reboot_force(kernel: KernelEvidence) -> Observation:
    """Does ``reboot=`` keep CPUs from being stopped? It is read from all of /proc/cmdline."""
    if kernel.cmdline is None:
        return untold(f"the command line was not read: {_COLLECT}")
    release, line = _release(kernel.release), encoded(kernel.cmdline)
    if (
        kernel.cmdline == kernel.loader_cmdline
        and kernel.bootconfig is None
        and _takes_bootconfig(line, kernel)
    ):
        return untold(f"only the loader's words are known, not bootconfig's: {_COLLECT}")
    known = (release.series >= _WITH_PANIC,) if release is not None else (False, True)
    forced = {forces_reboot(line, panic_prefix=prefix) for prefix in known}
    if len(forced) > 1:
        return untold("reboot=panic_f... counts since linux 5.2 only: give the release")
    # `parse_args()` runs over bootconfig's words, CONFIG_CMDLINE and the loader's (linux 7.3.4
    # init/main.c setup_command_line()).
    return observed_as(forced.pop(), "/proc/cmdline")


def crash_kernel_borrows(kernel: KernelEvidence) -> Observation:
    """Is the crash kernel told of memory besides its reservation (``crashkernel=size,cma``)?

    Until then processes have it. The words are sought in all of /proc/cmdline, which has more than
    the line that the kernel reads them from (linux 7.3.4 arch/x86/kernel/setup.c:559).
    """
    if kernel.cmdline is None:
        return untold(f"the command line was not read: {_COLLECT}")
    return observed_as(borrows_crash_memory(encoded(kernel.cmdline)), "/proc/cmdline")


def can_change(release: str | None) -> bool:
    """Can /sys/kernel/reboot/force change it after boot? Where the release is unknown, it may."""
    known = _release(release)
    return known is None or known.series >= _WITH_SYSFS


# ---- who reads ---------------------------------------------------------------------------


def _readings(
    kernel: KernelEvidence, release: _Release | None
) -> Iterator[tuple[tuple[str, bytes], bool | None]]:
    """What each reader that may have run makes of each line that it may have seen."""
    config = kernel.config or {}
    with_builtin = config.get("CONFIG_CMDLINE_BOOL") == "y"
    builtin = encoded(config.get("CONFIG_CMDLINE", "")) if with_builtin else b""
    for reader in _readers():
        # Which code reads the option depends on the release and on the way of booting.
        if not reader.may_have_read(release, kernel.booted_by):
            continue
        if reader.name == "efi" and config.get("CONFIG_CMDLINE_OVERRIDE") == "y":
            # The stub leaves the loader's line out: 7.3.4 x86-stub.c:964.
            yield (reader.title, builtin), bool(efi_stub_choice(builtin))
            continue
        for line in seen_by_startup(kernel):
            yield (reader.title, line), _choice(reader, builtin, line)


def _choice(reader: _Reader, builtin: bytes, line: bytes) -> bool | None:
    """None where the build decides; later readers take what is not said for off."""
    match reader.name:
        case "startup":
            return startup_choice(line)
        case "decompressor":
            return decompressor_sees_on(line)
        case _:
            return bool(efi_stub_choice(builtin, line))


def _source(kernel: KernelEvidence, read: _Readings) -> str:
    if not any(_OPTION in line for _, line in read):
        return "no mem_encrypt= on the command line"
    return "/proc/cmdline" if kernel.loader_cmdline is None else "the loader's command line"


def _disagreement(read: _Readings) -> str:
    by_line: dict[bytes, set[bool | None]] = {}
    for (_, line), choice in read.items():
        by_line.setdefault(line, set()).add(choice)
    if len(set(map(frozenset, by_line.values()))) > 1:
        return (
            "which words of /proc/cmdline came from the loader is not known, and startup code "
            f"sees no others (bootconfig, CONFIG_CMDLINE): {_COLLECT}"
        )
    by = " and ".join(dict.fromkeys(name for name, _ in read))
    return (
        f"{by} differ in what they make of mem_encrypt= here, and release and way of booting "
        f"decide which of them read it: {_COLLECT}, or give mem_encrypt= once, as on or off"
    )


def _by_default(kernel: KernelEvidence, release: _Release | None) -> Observation:
    """What no mem_encrypt= means, or one that is neither on nor off."""
    config = kernel.config or {}
    option = "CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT"
    if _off_by_default(release):
        return observed_as("off", f"the default of linux {kernel.release}")
    if config.get(option) == "n":
        return observed_as("off", f"kernel config: {option} is not set")
    if config.get(option) == "y":
        # Since cbebd68f59f0 (6.3 and stable) a missing option is off in spite of it, since
        # e814b59e6c2b (6.8.2, 6.7.11, 6.6.23 ...) on again; 5.10.262 has the first only.
        return untold(
            f"what this kernel takes a missing mem_encrypt= for depends on fixes, with {option}=y: "
            "give mem_encrypt=on or mem_encrypt=off"
        )
    return untold(
        "the command line says neither mem_encrypt=on nor =off, and what linux 4.14 to 6.8 then "
        f"does is their build's choice: give the release and the kernel config ({option}) "
        "by staleline collect, or boot with mem_encrypt=on or =off"
    )


# ---- what they see -----------------------------------------------------------------------


def _takes_bootconfig(line: bytes, kernel: KernelEvidence) -> bool:
    """May words of bootconfig stand in the line?"""
    config, release = kernel.config or {}, _release(kernel.release)
    if config.get("CONFIG_BOOT_CONFIG") == "n":
        return False
    if release is not None and release.is_numbered and release.series < _WITH_BOOTCONFIG:
        return False
    # Without a configuration a kernel is taken to have none that it forces on itself.
    return config.get("CONFIG_BOOT_CONFIG_FORCE") == "y" or bootconfig_asked(line)


def _behind_bootconfig(line: bytes, kernel: KernelEvidence) -> tuple[bytes, ...]:
    """The line without bootconfig's words: ``kernel.`` in front, ``init.`` behind ``--``."""
    if kernel.bootconfig is None:
        return _any_part(line) if _takes_bootconfig(line, kernel) else (line,)
    words = [key for key in kernel.bootconfig if key.startswith("kernel.")]
    inits = any(key.startswith("init.") for key in kernel.bootconfig)
    end = end_of_arguments(line, (encoded(key.removeprefix("kernel.")) for key in words))
    return _any_part(line) if inits or end is None else (line[end:],)


def _behind_builtin(line: bytes, config: Mapping[str, str]) -> tuple[bytes, ...]:
    """The line without CONFIG_CMDLINE, which stands in front of the loader's."""
    # Without a configuration a kernel is taken to have none: on x86 no distribution sets it.
    if config.get("CONFIG_CMDLINE_BOOL") != "y":
        return (line,)
    if config.get("CONFIG_CMDLINE_OVERRIDE") == "y":
        raise UnseenError(
            "CONFIG_CMDLINE_OVERRIDE hides the loader's command line, which startup code saw: "
            f"the kernel log from its beginning has it; {_COLLECT}"
        )
    builtin = encoded(config.get("CONFIG_CMDLINE", ""))
    if not builtin and "CONFIG_CMDLINE" in config:
        return (line,)
    if builtin and line.startswith(builtin + b" "):
        return (line[len(builtin) + 1 :],)
    return _any_part(line)


def _any_part(line: bytes) -> tuple[bytes, ...]:
    """Every line that may be the loader's if others put words in front and behind ``--``."""
    dashes = init_words_start(line)
    # Cuts that leave out no word of interest come to the same as one that is looked at.
    fronts = {0, *_cuts(line[:dashes])}
    backs = {dashes, *(dashes + cut for cut in _cuts(line[dashes:])), len(line)}
    if len(fronts) + len(backs) > _CUTS_MAX:
        raise UnseenError(f"which words of /proc/cmdline came from the loader: {_COLLECT}")
    tails = {line[back:] for back in backs} | {line[dashes:back] for back in backs}
    return tuple({line[front:dashes] + tail for front in fronts for tail in tails})


def _cuts(line: bytes) -> Iterator[int]:
    for word in re.finditer(rb"[^\x00-\x20]+", line):
        if _OPTION in word[0]:
            yield from word.span()


# ---- releases ----------------------------------------------------------------------------


def _release(text: str | None) -> _Release | None:
    numbers = re.match(r"([0-9]{1,3})\.([0-9]{1,4})(?:\.([0-9]{1,5}))?", text or "")
    if numbers is None:
        return None
    return _Release((int(numbers[1]), int(numbers[2])), int(numbers[3] or 0))


def _is_later(release: _Release) -> bool:
    """Is it of a series without the first reader, in which XLF_MEM_ENCRYPTION is asked (6.9)?"""
    return release.series > _readers()[0].last


def _off_by_default(release: _Release | None) -> bool:
    if release is None:
        return False
    table = _table()["off_by_default"]
    series = ".".join(map(str, release.series))
    stable = table["stable"].get(series)
    return release.series >= _series(table["from"]) or (
        stable is not None and release.patch >= stable
    )


@cache
def _readers() -> tuple[_Reader, ...]:
    """Every reader; startup code first."""
    return tuple(
        _Reader(
            row["name"],
            row["title"],
            _series(row["first"]),
            _series(row["last"]),
            frozenset(row["booted_by"]),
        )
        for row in _table()["reader"]
    )


@cache
def _table() -> Mapping[str, Any]:
    text = files(__package__).joinpath("commandline.toml").read_text("utf-8")
    return tomllib.loads(text)


def _series(text: str) -> _Series:
    if text == "any":
        return _ANY
    major, minor = text.split(".")
    return int(major), int(minor)
