# SPDX-License-Identifier: GPL-2.0-or-later
"""Command lines as the kernel's own code reads them.

Every result in these tables is what the C functions gave that are cut out of the sources of
linux 5.10.262, 6.1.192, 6.12.118 and 7.3.4 and compiled: startup code's `__cmdline_find_option()`,
the decompressor's `__cmdline_find_option_bool()`, `next_arg()` and `parse_option_str()` as the EFI
stub uses them, and `reboot_setup()`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.evidence.commandline import (
    arguments,
    bootconfig_asked,
    decompressor_sees_on,
    efi_stub_choice,
    end_of_arguments,
    forces_reboot,
    init_words_start,
    startup_choice,
)

#: Line -> what startup code, the decompressor and the EFI stub make of it.
MEM_ENCRYPT = {
    b"": (None, False, None),
    b"mem_encrypt=on": (True, True, True),
    b"mem_encrypt=off": (False, False, False),
    b"mem_encrypt=on mem_encrypt=off": (False, False, False),
    b"mem_encrypt=off mem_encrypt=on": (True, True, True),
    # The last, the first place, the last that says either.
    b"mem_encrypt=off mem_encrypt=on mem_encrypt=off": (False, True, False),
    b"mem_encrypt=on mem_encrypt=": (None, True, True),
    b"mem_encrypt=on mem_encrypt=perhaps": (None, True, True),
    # Quotes are letters to the first two.
    b'mem_encrypt="on"': (None, False, True),
    b'"mem_encrypt=on"': (None, False, True),
    b'a="x mem_encrypt=on y"': (True, True, None),
    # Only the stub stops at --.
    b"-- mem_encrypt=on": (True, True, None),
    b'"--" mem_encrypt=on': (True, True, None),
    b"--=x mem_encrypt=on": (True, True, True),
    # A list holds what it says to the stub alone.
    b"mem_encrypt=x,on": (None, False, True),
    b"mem_encrypt=on,off": (None, False, True),
    b"mem_encrypt=onx": (None, False, None),
    b"mem_encrypt==on": (None, False, None),
    b"xmem_encrypt=on": (None, False, None),
    b"mem-encrypt=on": (None, False, None),
    # White space: control characters end words for the first two, 0xa0 for the stub.
    b"a\x01mem_encrypt=on": (True, True, None),
    b"a\tmem_encrypt=on\n": (True, True, True),
    b"a\xa0mem_encrypt=on": (None, False, True),
    # The decompressor takes the blank behind a beginning of the option for a letter.
    b"mem mem_encrypt=on": (True, False, True),
    b"mem  mem_encrypt=on": (True, True, True),
    b"mem_encrypt=o mem_encrypt=on": (True, False, True),
    # Places behind the ends of the buffers of startup code and stub.
    b"x" * 2040 + b" mem_encrypt=on": (None, True, None),
}


@pytest.mark.parametrize(("line", "read"), MEM_ENCRYPT.items(), ids=repr)
def test_three_readers_of_mem_encrypt(
    line: bytes, read: tuple[bool | None, bool, bool | None]
) -> None:
    assert (startup_choice(line), decompressor_sees_on(line), efi_stub_choice(line)) == read


@pytest.mark.parametrize(
    ("line", "forced"),
    [
        (b"reboot=force", True),
        (b"reboot=f", True),
        (b'reboot="force"', True),
        (b'"reboot=force"', True),
        (b"reboot=warm,force", True),
        (b"reboot=s1,f", True),
        (b"reboot=panic_force", True),
        (b"reboot=force reboot=warm", True),
        (b'x="a b" reboot=f', True),
        (b'x="a reboot=f b"', False),
        (b"reboot=warm", False),
        (b"reboot=pci,efi", False),
        (b"reboot= force", False),
        (b"reboot", False),
        (b"Reboot=force", False),
        (b"-- reboot=force", False),
        (b"reboot=force -- x", True),
    ],
)
def test_reboot_setup_takes_every_instance_before_the_words_of_init(
    line: bytes, forced: bool
) -> None:
    assert forces_reboot(line, panic_prefix=True) is forced


def test_before_5_2_panic_force_is_the_reboot_type_p() -> None:
    # commit b287a25a7148
    assert not forces_reboot(b"reboot=panic_force", panic_prefix=False)


def test_arguments_lose_the_quotes_around_them_or_their_values() -> None:
    # linux 7.3.4 lib/cmdline.c:225 next_arg()
    line = b'a "b c" d="e f" "g=h i" =j k="l" m="n'
    assert list(arguments(line)) == [
        (b"a", None),
        (b"b c", None),
        (b"d", b"e f"),
        (b"g", b"h i"),
        (b"=j", None),
        (b"k", b"l"),
        (b"m", b"n"),
    ]


def test_where_parts_of_a_line_end() -> None:
    assert end_of_arguments(b'a="b c"  d e', [b"a"]) == 9
    assert end_of_arguments(b"a d", [b"d"]) is None
    assert end_of_arguments(b"a", [b"a", b"a"]) is None
    assert init_words_start(b"a -- b") == 5
    assert init_words_start(b"a b") == 3


def test_bootconfig_is_asked_for_by_its_name_before_the_words_of_init() -> None:
    # linux 5.10.262 init/main.c:398 bootconfig_params()
    assert bootconfig_asked(b"quiet bootconfig")
    assert bootconfig_asked(b'bootconfig="0"')
    assert not bootconfig_asked(b"-- bootconfig")


#: Words that no beginning of an option is, without quotes and without white space.
unrelated = st.text("abcdxyz.,=/:0123456789", min_size=1).map(lambda text: f"z{text}".encode())
lines = st.lists(
    st.sampled_from((b"mem_encrypt=on", b"mem_encrypt=off", b"mem_encrypt=x", b"reboot=f", b"q")),
    max_size=5,
)


@given(lines, unrelated, st.integers(0, 5))
def test_an_unrelated_word_changes_nothing(words: list[bytes], word: bytes, at: int) -> None:
    line, longer = b" ".join(words), b" ".join((*words[:at], word, *words[at:]))
    assert startup_choice(longer) is startup_choice(line)
    assert decompressor_sees_on(longer) is decompressor_sees_on(line)
    assert efi_stub_choice(longer) is efi_stub_choice(line)
    for prefix in (False, True):
        assert forces_reboot(longer, panic_prefix=prefix) is forces_reboot(
            line, panic_prefix=prefix
        )


@given(lines, st.lists(st.sampled_from((b" ", b"\t", b"\n", b"  ")), min_size=5, max_size=5))
def test_readers_do_not_ask_which_white_space_parts_words(
    words: list[bytes], spaces: list[bytes]
) -> None:
    line = b" ".join(words)
    other = b"".join(word + space for word, space in zip(words, spaces, strict=False))
    assert startup_choice(other) is startup_choice(line)
    assert decompressor_sees_on(other) is decompressor_sees_on(line)
    assert efi_stub_choice(other) is efi_stub_choice(line)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(line: bytes) -> None:
    assert startup_choice(line) in (None, True, False)
    assert decompressor_sees_on(line) in (True, False)
    assert efi_stub_choice(line) in (None, True, False)
    assert 0 <= init_words_start(line) <= len(line)
