# SPDX-License-Identifier: GPL-2.0-or-later
"""Every format, as mails, web pages, terminals, editors and grep hand it on, tells the same."""

from __future__ import annotations

import html
import quopri
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.pasted.markup import as_shown
from staleline.evidence.snapshot import CpuinfoEvidence, Snapshot
from staleline.facts import from_snapshot
from tests.evidence import writers

DATA = Path(__file__).parents[2] / "data"
POSTED = sorted(
    path for path in (DATA / "posted").iterdir() if path.suffix in (".dmesg", ".txt", ".cpuinfo")
)
SHOWN = CpuinfoEvidence("AuthenticAMD", 23, 49, 0, frozenset({"fpu", "sme", "sev"}))


def _texts() -> dict[str, str]:
    dump = DATA / "cpuid/libcpuid/amd-epyc-9124-16-core-processor.test"
    machine = Snapshot(cpus=read_snapshot(dump).cpus[:1] * 2)
    return {
        **{path.name: path.read_text() for path in POSTED},
        "cpuid -r": writers.as_cpuid_tool(machine),
        "AIDA64": writers.as_aida64(machine),
        "libcpuid": writers.as_libcpuid_raw(machine),
        "libvirt": writers.as_libvirt(machine),
        "hwloc": writers.as_hwloc_files(machine)["pu0"],
        "x86info": writers.as_x86info(machine),
        "cpucontrol": writers.as_cpucontrol(machine),
        "cpuinfo": writers.as_cpuinfo(SHOWN, 2),
        "lscpu": writers.as_lscpu(SHOWN, 2),
        "lscpu -J": writers.as_lscpu_json(SHOWN, 2) + "\n",
    }


TEXTS = _texts()


def before_each(start: str | Callable[[int], str]) -> Callable[[str], str]:
    def written(text: str) -> str:
        lines = text.rstrip("\n").split("\n")
        starts = (start if isinstance(start, str) else start(n) for n in range(1, len(lines) + 1))
        return "".join(f"{begin}{line}\n" for begin, line in zip(starts, lines, strict=True))

    return written


def coloured(text: str) -> str:
    """As dmesg --color=always puts colours (util-linux sys-utils/dmesg.c)."""
    lines = text.rstrip("\n").split("\n")
    return "".join(f"\x1b[32m{line[:15]}\x1b[0m\x1b[1m{line[15:]}\x1b[0m\n" for line in lines)


def mail_as_sent(text: str) -> bytes:
    """Header, a part in quoted-printable, and a signature that is not, as lore.kernel.org has it.

    A header is not encoded, so its equals signs are its own (RFC 2045 section 6).
    """
    head = 'From: Jo <jo@example.org>\nContent-Type: multipart/mixed; boundary="=_12"\n\n'
    part = (
        "--=_12\nContent-Type: text/plain; charset=UTF-8; format=flowed\n"
        "Content-Transfer-Encoding: quoted-printable\n\n"
    )
    other = b"--=_12\nContent-Type: text/plain; charset=UTF-8\n\nif (a == 3D)\n--=_12--\n"
    return b"".join((head.encode(), part.encode(), quopri.encodestring(text.encode()), other))


#: What people's programs make of a text; bytes where it is of a file.
HANDED_ON: dict[str, Callable[[str], str | bytes]] = {
    "quoted": before_each("> "),
    "quoted twice": before_each("> > "),
    "quoted twice, tight": before_each(">> "),
    "quoted with bars": before_each("| "),
    "quoted with no-break spaces": before_each(">\N{NO-BREAK SPACE}"),
    "indented": before_each("    "),
    "indented by a tab": before_each("\t"),
    "quoted and indented": before_each(">     "),
    "quoted, between other lines": lambda text: (
        f"On Monday, Jo wrote:\n> Hi,\n{before_each('> ')(text)}\nThat is odd.\n"
    ),
    "in a mail": lambda text: f"Hi,\nhere it is:\n\n{text}\n-- \nJo\n",
    "a mail as it was sent": mail_as_sent,
    "quoted-printable": lambda text: quopri.encodestring(text.encode()),
    "fenced": lambda text: f"```\n{text}```\n",
    "of a web page": lambda text: text.replace("\n  ", "\n\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}"),
    "escaped by a web page": html.escape,
    "escaped twice": lambda text: html.escape(html.escape(text)),
    "escaped, with its blanks": lambda text: html.escape(text).replace("  ", "&nbsp; "),
    "escaped by numbers": lambda text: "".join(
        one if one.isalnum() or one == "\n" else f"&#{ord(one)};" for one in text
    ),
    "a saved page": lambda text: (
        "<!DOCTYPE html>\n<html><head><title>[ 0.0] x</title><style>b {}</style></head>\n"
        f"<body><p>Hi</p><pre class='x'>{html.escape(text)}</pre></body></html>\n"
    ),
    "an excerpt of a page": lambda text: f"<pre><code>{html.escape(text)}</code></pre>\n",
    "broken by a page": lambda text: html.escape(text).replace("\n", "<br/>\n"),
    "broken by a page only": lambda text: html.escape(text).replace("\n", "<br>"),
    "cells of a page": lambda text: "".join(
        f'<tr><td class="n">{html.escape(line)}</td></tr>\n' for line in text.splitlines()
    ),
    "coloured by a page": lambda text: re.sub(
        r"(0x[0-9a-fA-F]+|\bSME\b|\bsme\b)", r'<span class="m">\1</span>', html.escape(text)
    ),
    "with an invisible space": lambda text: "\N{ZERO WIDTH SPACE}" + text,
    "with a byte-order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "with DOS line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "coloured": coloured,
    "coloured, shown by cat -v": lambda text: coloured(text).replace("\x1b", "^["),
    "coloured, in a syslog file": lambda text: coloured(text).replace("\x1b", "#033"),
    "coloured, without ESC": lambda text: coloured(text).replace("\x1b", ""),
    "shown by cat -A": lambda text: text.replace("\t", "^I").replace("\n", "$\n"),
    "in a fold": lambda text: f"<details><summary>it</summary>\n\n```\n{text}```\n</details>\n",
    "in a wiki": lambda text: f"{{noformat}}\n{text}{{noformat}}\n",
    "of a root's terminal": lambda text: f"root@node17:~# dmesg\n{text}root@node17:~# ",
    "of Red Hat's terminal": lambda text: f"[jo@node17 ~]$ sudo cat it\n{text}[jo@node17 ~]$ \n",
    "of a shell": lambda text: f"$ sudo dmesg\n{text}$ exit\n",
    "of script(1)": lambda text: (
        "Script started on 2026-11-23 10:00:00+00:00\n\x1b]0;root@node17: ~\x07\x1b[?2004h"
        + "root@node17:~# dmesg\n\x1b[?2004l"
        + text
    ).replace("\n", "\r\n"),
}
BY_LINE: dict[str, Callable[[str], str]] = {
    "grep -n": before_each(lambda number: f"{number}:"),
    "grep -n of files": before_each(lambda number: f"dmesg.txt:{number}:"),
    "grep of files": before_each("/var/log/kern.log:"),
    "CI's clock": before_each(lambda number: f"2026-11-23T10:00:{number % 60:02}.1234567Z "),
    "a clock and a bar": before_each(lambda number: f"2026-11-23 10:00:{number % 60:02} | "),
    "cat -n": before_each(lambda number: f"{number:6d}\t"),
}


def _same(text: str, handed_on: str | bytes) -> None:
    assert parse_snapshot(handed_on, "file") == parse_snapshot(text, "file")


@pytest.mark.parametrize("how", HANDED_ON)
@pytest.mark.parametrize("of", TEXTS)
def test_a_text_handed_on_tells_the_same(how: str, of: str) -> None:
    _same(TEXTS[of], HANDED_ON[how](TEXTS[of]))


@pytest.mark.parametrize("how", BY_LINE)
@pytest.mark.parametrize("of", sorted(TEXTS.keys() - {"lscpu -J"}))
def test_lines_that_grep_and_cat_number_tell_the_same(how: str, of: str) -> None:
    _same(TEXTS[of], BY_LINE[how](TEXTS[of]))
    _same(TEXTS[of], before_each("> ")(BY_LINE[how](TEXTS[of])))


@pytest.mark.parametrize("of", TEXTS)
def test_a_quotation_cut_anywhere_is_refused_or_tells_less(of: str) -> None:
    full = from_snapshot(parse_snapshot(TEXTS[of], "file"))
    text = before_each("> ")(TEXTS[of])
    for end in range(1, len(text), max(1, len(text) // 60)):
        try:
            cut = from_snapshot(parse_snapshot(text[:end], "file"))
        except EvidenceError:
            continue
        for fact in cut:
            differs = (full[fact.name].missing or "").startswith("CPUs differ")
            assert fact.value in (None, full[fact.name].value) or differs, (fact.name, end)


def message_of(text: str | bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        parse_snapshot(text, "file")
    return str(caught.value)


def test_a_quotation_behind_bare_lines_may_be_of_another_machine() -> None:
    text = (
        "[    0.000000] Linux version 6.12.107+deb13-amd64 (x) #1 SMP\n"
        "You wrote:\n"
        "> On mine it says\n"
        "> [    1.000000] Memory Encryption Features active: AMD SME\n"
    )
    assert message_of(text).startswith("file:4: is of another quotation, or file, than line 1;")
    assert parse_snapshot(text.replace("> [    1.000000]", "> that"), "file").log is not None


def test_two_quotations_may_be_of_two_machines() -> None:
    text = (
        "> [    0.000000] Linux version 6.12.107+deb13-amd64 (x) #1 SMP\n"
        "On mine it says:\n"
        "[    1.000000] Memory Encryption Features active: AMD SME\n"
    )
    assert message_of(text) == (
        "file:3: is of another quotation, or file, than line 1; "
        "give one file per machine, without the lines of others"
    )
    files = "a:[    0.1] x86/fpu: x\nb:[    0.1] Memory Encryption Features active: AMD SME\n"
    assert message_of(files).startswith("file:2: is of another quotation, or file, than line 1;")


def test_a_prompt_is_no_quotation() -> None:
    text = "> rdmsr -a 0xc0010010\n740000\n"
    assert parse_snapshot(text, "file").cpus[0].msr == {0xC0010010: 0x740000}
    quoted = "> # rdmsr -a 0xc0010010\n> 740000\n"
    assert parse_snapshot(quoted, "file").cpus[0].msr == {0xC0010010: 0x740000}


def test_character_references_of_a_web_page() -> None:
    text = "&lt;6&gt;[    0.100000] Memory Encryption Features active: AMD SME\n"
    assert parse_snapshot(text, "file").state.sme_active is True
    quoted = "&gt; [    0.000000] Command line: a=&quot;b c&quot;\n"
    assert parse_snapshot(quoted, "file").kernel.cmdline == 'a="b c"'


@pytest.mark.parametrize(
    "line",
    [
        # No reference without its semicolon, and no tag that none of a page's is.
        "[    0.000000] Command line: ro url=http://h/?a=1&copy=2&lt=3&region=x",
        "[    0.000000] Linux version 6.1.9 (Jo <jo@b>) (gcc (x <a@p>)) #1 SMP",
        "[    9.000000]  <TASK>\n[    9.000001] </TASK>\n[    9.1] a <b 1> <i x>",
    ],
)
def test_what_looks_like_a_page_and_is_none_is_left_alone(line: str) -> None:
    assert as_shown(line, "file") == line


def test_lines_of_a_page_keep_their_numbers() -> None:
    page = "<html>\n<body>\n<p>Hi\n<pre>\n[    0.1] x</pre></body></html>"
    assert as_shown(page, "file").split("\n")[4] == "[    0.1] x"


def test_a_page_of_two_texts_or_of_none_is_refused() -> None:
    block = "<pre>[    0.100000] Memory Encryption Features active: AMD SME</pre>"
    for shown, what in ((f"{block}{block}", "2 blocks"), ("<p>x</p>", "no block")):
        with pytest.raises(EvidenceError) as caught:
            parse_snapshot(f"<html><body>{shown}</body></html>", "file")
        assert str(caught.value) == (
            f"file: is the source of a web page with {what} of lines as a tool printed them "
            "(<pre>); save the text that it shows of one machine"
        )


def test_only_a_text_whose_equals_signs_are_all_escaped_is_mail() -> None:
    line = "[    0.000000] Command line: a=3D mem_encrypt=on\n"
    assert parse_snapshot(line, "file").kernel.cmdline == "a=3D mem_encrypt=on"
    mail = "[    0.000000] Command line: quiet mem_en=\ncrypt=3Don\n"
    assert parse_snapshot(mail, "file").kernel.cmdline == "quiet mem_encrypt=on"


def test_what_json_strings_hold_is_left_as_it_is() -> None:
    machine = Snapshot(cpus=(), host="a\N{NO-BREAK SPACE}b\N{ZERO WIDTH SPACE}c")
    text = snapshot_text(machine)
    _same(text, text.replace("\n ", "\n\N{NO-BREAK SPACE}"))
    assert parse_snapshot(text, "file").host == machine.host


@pytest.mark.parametrize("prompt", ["# ", "$ sudo ", "root@node17:~# "])
@pytest.mark.parametrize(
    "dress", ["{n}:{line}", "msr.txt:{line}", "msr.txt:{n}:{line}", "{n:6}\t{line}"]
)
def test_grep_over_commands_of_rdmsr_tells_the_same(prompt: str, dress: str) -> None:
    text = f"{prompt}rdmsr 0xc0010010\nf40000\n{prompt}rdmsr -a 0xc0010131\n0\n0\n"
    lines = text.splitlines()
    dressed = "".join(dress.format(n=n, line=line) + "\n" for n, line in enumerate(lines, 1))
    read = parse_snapshot(dressed, "file")
    assert read.cpus == parse_snapshot(text, "file").cpus
    assert read.cpus[0].msr == {0xC0010010: 0xF40000, 0xC0010131: 0}


@pytest.mark.parametrize(
    "of", ["cpuid -r", "AIDA64", "libcpuid", "hwloc", "x86info", "cpucontrol", "cpuinfo", "lscpu"]
)
def test_a_text_cut_within_its_last_lines_tells_no_more_and_is_no_error(of: str) -> None:
    text = TEXTS[of]
    whole = from_snapshot(parse_snapshot(text, "file"))
    for cut in range(len(text) - 130, len(text), 3):
        less = from_snapshot(parse_snapshot(text[:cut], "file"))
        assert all(fact.value in (None, whole[fact.name].value) for fact in less)


def test_a_command_line_of_a_mail_that_is_not_decoded_is_unknown() -> None:
    """`mem_encrypt=3Don` was neither on nor off: a stray equals sign hides that it is a mail's.

    As lists show mails of which somebody quotes a part: "=3D" stands for each equals sign.
    """
    text = (
        "a == b\n[    0.000000] Linux version 6.12.1 (a@b)\n"
        "[    0.000000] Command line: root=3D/dev/sda1 ro mem_encrypt=3Don\n[    0.1] x\n"
    )
    machine = parse_snapshot(text, "file")
    assert machine.kernel.release == "6.12.1"
    assert machine.kernel.cmdline is None
