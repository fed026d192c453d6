# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples of docs/examples: the wrapper run with a kexec that only says how it was called."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from staleline.cli.preflight import command
from staleline.verdict.audit.measured import read_measured
from tests.conftest import RealKernel

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
UNITS = ("kexec-load-checked.service", "kdump-tools.service.d/preflight.conf")
SAYS = (
    "#!/bin/sh\n{{ for word; do printf '%s\\n' \"$word\"; done; echo END; }} >> {log}\n"
    "exit ${{STATUS:-0}}\n"
)


class Host:
    """A kexec and a staleline that write down their arguments."""

    def __init__(self, directory: Path) -> None:
        self.logs = {name: directory / f"{name}.log" for name in ("kexec", "staleline")}
        self.programs = {name: directory / name for name in self.logs}
        for name, program in self.programs.items():
            program.write_text(SAYS.format(log=shlex.quote(str(self.logs[name]))))
            program.chmod(0o755)
        # The real one succeeds whatever the check said.
        kexec = self.programs["kexec"]
        kexec.write_text(kexec.read_text().replace("${STATUS:-0}", "0"))

    def kexec(self, *arguments: str, status: int = 0, allow: str = "") -> int:
        for log in self.logs.values():
            log.unlink(missing_ok=True)
        environment = os.environ | {
            "KEXEC": str(self.programs["kexec"]),
            "STALELINE": str(self.programs["staleline"]),
            "STATUS": str(status),
            "STALELINE_ALLOW": allow,
        }
        wrapper = EXAMPLES / "kexec-with-preflight"
        done = subprocess.run(
            [wrapper, *arguments], env=environment, check=False, capture_output=True
        )
        return done.returncode

    def asked(self) -> list[list[str]]:
        """The arguments of every call of staleline."""
        calls: list[list[str]] = [[]]
        for word in self.logs["staleline"].read_text().splitlines():
            if word == "END":
                calls.append([])
            else:
                calls[-1].append(word)
        return calls[:-1]

    def called(self, name: str) -> list[str] | None:
        """The arguments it was called with; None if it was not."""
        log = self.logs[name]
        return log.read_text().splitlines()[:-1] if log.exists() else None


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "checked", "passed"),
    [
        (
            "-l /v --append=quiet --initrd=/i",
            "--next /v --append quiet",
            "-l --append quiet --initrd /i -- /v",
        ),
        (
            "-l /v --command-line 'a b $c'",
            "--next /v --append 'a b $c'",
            "-l --command-line 'a b $c' -- /v",
        ),
        ("--initrd /i /v -sp", "--next /v --append '' --crash", "--initrd /i -s -p -- /v"),
        (
            "--load-panic /v --reuse-cmdl",
            "--next /v --append '' --crash --reuse-cmdline",
            "--load-panic --reuse-cmdline -- /v",
        ),
        ("-t bzImage -f /v", "--next /v --append ''", "-t bzImage -f -- /v"),
        ("-l -- -p", "--next -p --append ''", "-l -- -p"),
        (
            "--dtb -p --hotplug -l /v",
            "--next /v --append ''",
            "--dtb -p --hotplug -l -- /v",
        ),
        ("-l /v --append=a --append=b", "--next /v --append b", "-l --append a --append b -- /v"),
    ],
)
def test_what_is_checked_is_what_is_loaded(
    host: Host, arguments: str, checked: str, passed: str
) -> None:
    assert host.kexec(*shlex.split(arguments)) == 0
    assert host.asked() == [["preflight", *shlex.split(checked)]]
    assert host.called("kexec") == shlex.split(passed)


@pytest.mark.parametrize("arguments", ["-e", "-u", "-p -u", "-S", "--version", "-f -e"])
def test_what_names_no_image_loads_nothing_and_is_not_checked(host: Host, arguments: str) -> None:
    words = shlex.split(arguments)
    assert host.kexec(*words) == 0
    assert host.called("staleline") is None
    assert host.called("kexec") == [*words, "--"]


@pytest.mark.parametrize("status", [2, 3])
@pytest.mark.parametrize(
    "first", ["-e", "-u", "-S", "--exec", "--unl", "--print-ckr-size", "-h", ""]
)
@pytest.mark.parametrize("second", ["-p", "-l", "--load-pan", "-fsp", "--load", ""])
@pytest.mark.parametrize("turned", [False, True])
def test_no_order_of_options_loads_what_is_not_safe(
    host: Host, first: str, second: str, status: int, *, turned: bool
) -> None:
    """The last one decides whether kexec loads: ``-e -p`` loads a crash kernel.

    kexec-tools 2.0.25 and 2.0.29, kexec/kexec.c, main(): do_load.
    """
    options = [option for option in (first, second) if option]
    words = ["/v", *reversed(options)] if turned else [*options, "/v"]
    assert host.kexec(*words, status=status) == status
    assert host.called("kexec") is None


def test_both_paths_are_asked_about_where_both_are_named(host: Host) -> None:
    assert host.kexec("-l", "-p", "/v") == 0
    assert host.asked() == [
        ["preflight", "--next", "/v", "--append", ""],
        ["preflight", "--next", "/v", "--append", "", "--crash"],
    ]


@pytest.mark.parametrize("variable", ["POSIXLY_CORRECT", "GETOPT_COMPATIBLE"])
def test_no_variable_changes_how_options_are_read(
    host: Host, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    assert host.kexec("/v", "--append", "a  'b' $(c)", "-p") == 0
    assert host.asked() == [["preflight", "--next", "/v", "--append", "a  'b' $(c)", "--crash"]]
    assert host.called("kexec") == ["--append", "a  'b' $(c)", "-p", "--", "/v"]


@pytest.mark.parametrize("status", [1, 2, 3])
def test_nothing_is_loaded_that_is_not_called_safe(host: Host, status: int) -> None:
    assert host.kexec("-l", "/v", status=status) == status
    assert host.called("kexec") is None
    assert host.kexec("-l", "/v", status=status, allow="2 3") == (1 if status == 1 else 0)
    assert (host.called("kexec") is None) is (status == 1)


@pytest.mark.parametrize(
    "option",
    [
        *("--load-preserve-context", "--load-pres", "--load-jump-back-helper"),
        *("--load-live-update", "--no-such-option", "-Z"),
    ],
)
def test_what_it_does_not_understand_is_not_loaded(host: Host, option: str) -> None:
    assert host.kexec("-l", "/v", option) != 0
    assert host.called("kexec") is None


def commands(unit: str) -> list[tuple[str, list[str]]]:
    """What a unit executes, in its order: the setting and the words of the command."""
    lines = (EXAMPLES / unit).read_text().splitlines()
    settings = (line.partition("=") for line in lines if line.startswith("Exec"))
    return [(name, shlex.split(value)) for name, _, value in settings]


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_calls_preflight_with_options_it_has(unit: str) -> None:
    ((name, *arguments),) = (
        words[1:] for _, words in commands(unit) if words[0] == "/usr/bin/staleline"
    )
    assert name == "preflight"
    context = click.Context(command)
    assert command.parse_args(context, arguments) == []
    assert context.params["following"]


def test_the_unit_has_nothing_loaded_unless_the_check_succeeds() -> None:
    settings, words = zip(*commands("kexec-load-checked.service"), strict=True)
    assert settings == ("ExecStartPre", "ExecStartPre", "ExecStart")
    assert words[0] == ["/sbin/kexec", "--unload"]
    assert words[1][:2] == ["/usr/bin/staleline", "preflight"]
    assert words[2][:2] == ["/sbin/kexec", "--load"]


def test_what_a_unit_loaded_outlives_it() -> None:
    """`systemctl kexec` stops all units before systemd-shutdown jumps (systemd 252)."""
    assert not [name for unit in UNITS for name, _ in commands(unit) if "Stop" in name]


def test_every_function_that_is_traced_is_in_every_kernel(
    real_kernels: dict[str, RealKernel],
) -> None:
    script = (EXAMPLES / "wbinvd.bt").read_text()
    traced = set(re.findall(r"kretprobe:(\w+)", script))
    assert traced == {"__wbinvd", "wbinvd_on_all_cpus"}
    for series in ("5.10", "6.12", "7"):
        symbols = real_kernels[series].image.symbols
        assert all(name in symbols for name in traced), series


def test_what_the_script_prints_is_what_is_read(tmp_path: Path) -> None:
    formats = re.findall(r'printf\("(.*)\\n"', (EXAMPLES / "wbinvd.bt").read_text())
    lines = [text.replace("%d", "7").replace("%llu", "812345") for text in formats]
    file = tmp_path / "trace"
    file.write_text("\n".join(["Attaching 5 probes...", *lines]))
    measured = read_measured(file)
    assert measured.one_cpu == pytest.approx(812.345e-6)
    assert measured.all_cpus == pytest.approx(812.345e-6)
    assert measured.events == 2
