# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel command lines as each piece of Linux that reads them does.

There are three kinds of readers, and they disagree about quotes, ``--`` and repetition:

* startup code and the decompressor walk over characters. Words end at any character up to
  the space, quotes are letters, ``--`` is a word like others;
* the EFI stub and ``parse_args()`` cut by ``next_arg()``, which knows quotes, and stop
  at ``--``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Final

__all__ = [
    "COMMAND_LINE_SIZE",
    "XLF_MEM_ENCRYPTION",
    "arguments",
    "asked_otherwise",
    "bootconfig_asked",
    "borrows_crash_memory",
    "decompressor_sees_on",
    "efi_stub_choice",
    "encoded",
    "end_of_arguments",
    "forces_reboot",
    "init_words_start",
    "lost_word",
    "may_be_put_in_front_of",
    "startup_choice",
    "words_in_front",
]

#: arch/x86/include/asm/setup.h, linux 4.14 to 7.3.
COMMAND_LINE_SIZE = 2048
#: 6.12 arch/x86/include/uapi/asm/bootparam.h:27.
XLF_MEM_ENCRYPTION = 1 << 7

#: `isspace()` of lib/ctype.c, linux 5.10 to 7.3: 0xa0 too, which is a byte of some letters.
_SPACE = frozenset(b"\t\n\v\f\r \xa0")
_QUOTE = ord('"')
_BLANK = ord(" ")
_EQUALS = ord("=")
#: `sme_enable()` has room for 15 characters of the value, linux 5.10
#: arch/x86/mm/mem_encrypt_identity.c:531.
_VALUE_SIZE = 15
#: The decompressor takes no more than this from the pointer on, linux 7.3.4
#: arch/x86/boot/cmdline.c:116.
_SEGMENT = 0x10000
#: What decides of a handover: how memory is mapped, and whether others are stopped.
_ASKED_FOR = ("mem_encrypt=", "reboot=")
#: What GRUB and others put first into the line that they pass.
_OF_LOADER = "BOOT_IMAGE="


def encoded(text: str) -> bytes:
    """The bytes of a command line that was read as text, up to its end."""
    return text.encode("utf-8", "replace").partition(b"\0")[0]


def arguments(line: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Name and value of every parameter before a ``--``; None where there is no ``=``."""
    for name, value, _ in _arguments(line):
        # Linux 7.3.4 lib/cmdline.c:225 next_arg() and kernel/params.c:162 parse_args(); the same in
        # 6.12, 6.1 and 5.10.
        if value is None and name == b"--":
            return
        yield name, value


def end_of_arguments(line: bytes, names: Iterable[bytes]) -> int | None:
    """Where the text behind the first parameters starts; None if they have other names."""
    at = 0
    rest = _arguments(line)
    for wanted in names:
        name, _, at = next(rest, (None, None, 0))
        if name != wanted:
            return None
    return at


def init_words_start(line: bytes) -> int:
    """Where the words of init start, behind ``--``; the end if there are none."""
    return next(
        (at for name, value, at in _arguments(line) if value is None and name == b"--"), len(line)
    )


def _arguments(line: bytes) -> Iterator[tuple[bytes, bytes | None, int]]:
    at = _skip_space(line, 0)
    while at < len(line):
        name, value, at = _next_argument(line, at)
        yield name, value, min(at, len(line))


def _next_argument(line: bytes, start: int) -> tuple[bytes, bytes | None, int]:
    quoted = in_quote = line[start] == _QUOTE
    start += quoted
    end, equals = start, start
    while end < len(line) and (in_quote or line[end] not in _SPACE):
        if equals == start and line[end] == _EQUALS:
            equals = end  # one at the very start does not count
        in_quote ^= line[end] == _QUOTE
        end += 1
    after = _skip_space(line, end + 1)
    if equals == start:
        name = line[start:end]
        return (name.removesuffix(b'"') if quoted else name), None, after
    value = line[equals + 1 : end]
    if value.startswith(b'"'):
        value = value[1:].removesuffix(b'"')
    elif quoted:
        value = value.removesuffix(b'"')
    return line[start:equals], value, after


def _skip_space(line: bytes, at: int) -> int:
    while at < len(line) and line[at] in _SPACE:
        at += 1
    return at


def startup_choice(line: bytes) -> bool | None:
    """What ``sme_enable()`` takes ``mem_encrypt=`` for; None if it is neither on nor off."""
    value: bytes | None = None
    for word in line[:COMMAND_LINE_SIZE].translate(_TO_BLANKS).split(b" "):
        if word.startswith(b"mem_encrypt="):
            # The last instance counts, as a whole: linux 5.10.262 arch/x86/lib/cmdline.c:117
            # __cmdline_find_option() and arch/x86/mm/mem_encrypt_identity.c:586; the same in
            # 6.1.192.
            value = word.removeprefix(b"mem_encrypt=")[:_VALUE_SIZE]
    return {b"on": True, b"off": False}.get(value or b"")


#: `myisspace()` of both copies of cmdline.c: every character up to the space.
_TO_BLANKS = bytes(_BLANK if code <= _BLANK else code for code in range(256))


def decompressor_sees_on(line: bytes) -> bool:
    """``parse_mem_encrypt()``: ``on`` first stands behind where ``off`` first stands, if at all."""
    # Linux 6.12.118 arch/x86/boot/compressed/misc.c:379, 7.3.4 :368.
    return _place_of(line, b"mem_encrypt=on") > _place_of(line, b"mem_encrypt=off")


def _place_of(line: bytes, option: bytes) -> int:
    """Where a word stands, from 1; 0 if it was not found."""
    # linux 7.3.4 arch/x86/boot/cmdline.c:99 __cmdline_find_option_bool().
    at = 0
    line = line[: _SEGMENT - 1].translate(_TO_BLANKS)
    while at < len(line):
        if line[at] == _BLANK:
            at += 1
            continue
        end = _end_of_word(line, at)
        word = line[at:end]
        if word == option:
            return at + 1
        # A blank at which a beginning of the option breaks off is taken for a letter of that word,
        # so the word behind is skipped: ``mem mem_encrypt=on`` holds no ``mem_encrypt=on``.
        if option.startswith(word):
            end = _end_of_word(line, end + 1)
        at = end
    return 0


def _end_of_word(line: bytes, at: int) -> int:
    end = line.find(b" ", at)
    return len(line) if end < 0 else end


def efi_stub_choice(*lines: bytes) -> bool | None:
    """What the EFI stub takes ``mem_encrypt=`` for; None if no parameter says on or off.

    Args:
        lines: In the order in which the stub reads them: CONFIG_CMDLINE, the loader's.
    """
    choice: bool | None = None
    for line in lines:
        for name, value in arguments(line[: COMMAND_LINE_SIZE - 1]):
            if name == b"mem_encrypt" and value is not None:
                said = value.split(b",")
                # The last parameter that says either counts, and a list says ``on`` if it holds it:
                # linux 7.3.4 drivers/firmware/efi/libstub/efi-stub-helper.c:48 efi_parse_options().
                choice = True if b"on" in said else False if b"off" in said else choice
    return choice


def bootconfig_asked(line: bytes) -> bool:
    """Does it say ``bootconfig``, so that the kernel takes one? linux 5.10.262 init/main.c:398."""
    return any(name == b"bootconfig" for name, _ in arguments(line))


def forces_reboot(line: bytes, *, panic_prefix: bool) -> bool:
    """Does ``reboot=`` set reboot_force? Its parts are told apart by their first letters.

    Args:
        line: All of /proc/cmdline.
        panic_prefix: A part may begin with ``panic_``, as since 5.2 (commit b287a25a7148);
            earlier ``panic_force`` means the reboot type ``p``.
    """
    parts = (
        part
        for name, value in arguments(line)
        if name == b"reboot" and value is not None
        for part in value.split(b",")
    )
    # Every instance counts: linux 7.3.4 and 5.10.262 kernel/reboot.c reboot_setup().
    return any(_without_panic(part, panic_prefix).startswith(b"f") for part in parts)


def _without_panic(part: bytes, known: bool) -> bytes:
    return part.removeprefix(b"panic_") if known else part


def lost_word(line: str, loaders: str) -> str | None:
    """The first word of the loader's line that /proc/cmdline should have and does not.

    Only words are looked for that somebody asks for.
    """
    # Behind so many bytes the line was cut (linux 7.3.4 setup.c:915-921).
    if len(encoded(line)) >= COMMAND_LINE_SIZE - 1:
        return None
    # Others put words before it, and bootconfig some behind its ``--``, and nobody takes one out
    # (init/main.c setup_command_line(), arch/x86/kernel/setup.c:909-939).
    behind = iter(line.split())
    asked = (word for word in loaders.split() if word.lstrip('"').startswith(_ASKED_FOR))
    return next((word for word in asked if word not in behind), None)


def borrows_crash_memory(line: bytes) -> bool:
    """Does it say ``crashkernel=size,cma``?"""
    # As get_last_crashkernel() has it: anywhere in the line, to the next space, whatever quotes say
    # (linux 7.3.4 kernel/crash_reserve.c:186). Kernels before 6.17 take no such word for anything.
    return re.search(rb"crashkernel=[^ ]*,cma(?: |$)", line.strip()) is not None


def asked_otherwise(first: str, second: str) -> str | None:
    """The parameter by which two lines decide of a handover that they set to different values."""
    lines = [encoded(line).strip() for line in (first, second)]
    for name, read in _DECIDING.items():
        if len({read(line) for line in lines}) > 1:
            return name
    return None


#: Parameter -> what whoever reads it makes of a line.
_DECIDING: Final[Mapping[str, Callable[[bytes], Hashable]]] = {
    "mem_encrypt=": lambda line: (
        startup_choice(line),
        decompressor_sees_on(line),
        efi_stub_choice(line),
    ),
    "reboot=": lambda line: (
        forces_reboot(line, panic_prefix=True),
        forces_reboot(line, panic_prefix=False),
    ),
    "crashkernel=": borrows_crash_memory,
    "setcpuid=": lambda line: b"setcpuid=" in line,
}


def words_in_front(line: str, loaders: str) -> str | None:
    """What stands before the loader's words in `line`; None if it does not end with them."""
    line, loaders = line.strip(), loaders.strip()
    front = line.removesuffix(loaders)
    cut_within_word = bool(loaders and front) and not front[-1:].isspace()
    # Bootconfig and CONFIG_CMDLINE stand there; what a loader puts first, nobody puts before it.
    if not line.endswith(loaders) or cut_within_word or _OF_LOADER in front:
        return None
    return front


def may_be_put_in_front_of(loaders: str) -> bool:
    """Does the loader's line itself show that words before it are not the loader's?"""
    return loaders.strip().startswith(_OF_LOADER) or bootconfig_asked(encoded(loaders))
