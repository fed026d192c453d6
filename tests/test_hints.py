# SPDX-License-Identifier: GPL-2.0-or-later
"""Every hint that is printed can be pasted, and leads to a value that is read as it is meant."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import staleline
from staleline.cli.main import main
from staleline.errors import UsageError
from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import STATES, Given
from staleline.evidence.snapshot import Snapshot
from staleline.facts import from_snapshot
from staleline.report.words.explanations import explanations

SOURCES = Path(staleline.__file__).parent
CPUID = Path(__file__).parent / "data" / "cpuid"
ROME = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"

#: MSR -> its value on a real host, and what `rdmsr` of msr-tools 1.3 prints of it: hexadecimal
#: without 0x, and with it as a constant of C (-c). With -a there is a line for each CPU.
HOST = {0xC0010010: 0xF40000, 0xC0010131: 0, 0x87: 0x4000000020, 0x982: 0x2700000000B}
#: Files that hints have printed, and what they hold on a host.
FILES = {
    "/proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz-6.12 root=/dev/sda1 mem_encrypt=on quiet\n",
    "/sys/kernel/kexec_loaded": "1\n",
    "/sys/devices/system/cpu/present": "0-127\n",
}
#: What stands for what the user knows.
LIST = "0-3,8"


def rdmsr(*arguments: str) -> str:
    """As msr-tools 1.3 answers on a host of two CPUs; options in any order."""
    options = {word for word in arguments if word.startswith("-")}
    assert options <= {"-a", "-c"}
    (number,) = (word for word in arguments if not word.startswith("-"))
    value = HOST[int(number, 16)]
    line = f"{value:#x}" if "-c" in options else f"{value:x}"
    return f"{line}\n" * (2 if "-a" in options else 1)


def pasted(text: str) -> str:
    """What the shell makes of ``$(...)`` in it."""

    def output(found: re.Match[str]) -> str:
        command, *arguments = shlex.split(found[1])
        answer = rdmsr(*arguments) if command == "rdmsr" else "".join(FILES[a] for a in arguments)
        assert command in {"rdmsr", "cat"}
        return answer.rstrip("\n")

    return re.sub(r"\$\(([^()]*)\)", output, text)


def sentences() -> Iterator[str]:
    """All that may be printed: pages, facts of machines of which little is known, code's texts."""
    for page in explanations().values():
        yield from (page.title, page.means, page.evidence, page.do)
    for machine in (Snapshot(cpus=()), *map(read_snapshot, CPUID.glob("registers/*.cpuid"))):
        yield from (fact.missing for fact in from_snapshot(machine) if fact.missing is not None)
    for file in SOURCES.rglob("*.py"):
        yield from _texts(file)


def _texts(file: Path) -> Iterator[str]:
    """Strings of the code; those that are put together are told by facts and errors instead."""
    tree = ast.parse(file.read_text())
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


OPTION = re.compile(r"--(?:msr|state|cmdline) (?:\"(?:[^\"\\]|\\.)*\"|[^\s,;`()\"]+)")
HINTS = sorted({found for text in sentences() for found in OPTION.findall(text)})
#: Forms that name no value: they say how an option is written.
FORMS = {"--state NAME=VALUE", "--msr {item!r}"}


def given(hint: str) -> Given:
    option, value = shlex.split(hint)[:2]
    value = pasted(value).replace("LIST", LIST)
    return {
        "--msr": lambda: Given(msr=(value,)),
        "--state": lambda: Given(state=(value,)),
        "--cmdline": lambda: Given(cmdline=value),
    }[option]()


def test_there_are_hints_for_all_that_can_be_given() -> None:
    assert len(HINTS) >= 12
    assert {hint.split()[0] for hint in HINTS} == {"--msr", "--state", "--cmdline"}


@pytest.mark.parametrize(
    "hint", [hint for hint in HINTS if re.search(r"=|\$\(", hint) and hint not in FORMS]
)
def test_a_hint_can_be_pasted(hint: str) -> None:
    """And what `rdmsr` prints becomes the value that the MSR has."""
    snapshot = given(hint).added_to(Snapshot(cpus=()))
    for number, value in snapshot.cpus[0].msr.items() if "rdmsr" in hint else ():
        assert value == HOST[number]


def test_no_hint_lets_rdmsr_print_hexadecimal_without_0x() -> None:
    commands = {
        found for text in sentences() for found in re.findall(r"\brdmsr(?: -\w+)* 0x\w+", text)
    }
    assert commands
    assert all(" -c " in command for command in commands)
    with pytest.raises(UsageError):
        Given(msr=(f"0xc0010010={rdmsr('-a', '0xc0010010')}",))


def test_what_is_missing_of_a_register_is_got_by_its_hint() -> None:
    """The whole way: from the fact that is unknown to the same fact, known."""
    snapshot = read_snapshot(CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test")
    missing = str(from_snapshot(snapshot)["sme_enabled"].missing)
    (hint,) = OPTION.findall(missing)
    assert from_snapshot(given(hint).added_to(snapshot)).boolean("sme_enabled") is True


def test_a_refusal_says_what_is_then_accepted() -> None:
    for wrong in ("0xc0010010=800000", "c0010010=800000", "0xc0010010=", "syscfg"):
        with pytest.raises(UsageError) as caught:
            Given(msr=(wrong,))
        (hint,) = OPTION.findall(str(caught.value.do))
        assert Given(msr=(shlex.split(hint)[1],)).msr
    for name, (form, _) in STATES.items():
        with pytest.raises(UsageError) as caught:
            Given(state=(f"{name}=?",))
        assert str(caught.value.do) == f"write {name}={form}"
        example = form.split("|")[0].split()[-1]
        assert Given(state=(f"{name}={example}",)).state


def test_every_state_that_a_text_names_can_be_given() -> None:
    named = {name for text in sentences() for name in re.findall(r"--state \"?(\w+)=", text)}
    assert named - {"NAME"} <= set(STATES)


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_no_line_ends_within_what_is_pasted(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A line end within `"0xc0010010=$(rdmsr -a -c 0xc0010010)"` makes two commands of one.
    monkeypatch.setenv("COLUMNS", str(columns))
    asked = ["audit", "--snapshot", str(ROME), "--kernel", "linux-6.5"]
    assert main([*asked, "--json"]) == 3
    told = " ".join(json.loads(capsys.readouterr().out)["unknown"])
    assert main(asked) == 3
    _in_one_piece(re.findall(r'"[^"]*"', told), capsys.readouterr().out)
    for page in explanations().values():
        assert main(["explain", page.id]) == 0
        commands = [one for one in re.findall(r"`[^`]*`", page.do) if len(one) < columns - 4]
        _in_one_piece(commands, capsys.readouterr().out)


def _in_one_piece(commands: list[str], text: str) -> None:
    assert [command for command in commands if command not in text] == []
