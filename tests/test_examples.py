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
from staleline.kernel.image import load_image
from staleline.verdict.measured import read_measured
from tests.conftest import RealKernel

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
UNITS = ("kexec-load-checked.service", "kdump-tools.service.d/preflight.conf")
SAYS = "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done > {log}\nexit ${{STATUS:-0}}\n"


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

    def called(self, name: str) -> list[str] | None:
        """The arguments it was called with; None if it was not."""
        log = self.logs[name]
        return log.read_text().splitlines() if log.exists() else None


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "checked"),
    [
        ("-l /v --append=quiet --initrd=/i", "--next /v --append quiet"),
        ("-l /v --command-line 'a b $c'", "--next /v --append 'a b $c'"),
        ("--initrd /i /v -sp", "--next /v --append '' --crash"),
        ("--load-panic /v --reuse-cmdl", "--next /v --append '' --crash --reuse-cmdline"),
        ("-t bzImage -f /v", "--next /v --append ''"),
    ],
)
def test_a_load_is_checked_and_goes_on_unchanged(host: Host, arguments: str, checked: str) -> None:
    words = shlex.split(arguments)
    assert host.kexec(*words) == 0
    assert host.called("staleline") == ["preflight", *shlex.split(checked)]
    assert host.called("kexec") == words


@pytest.mark.parametrize("arguments", ["-e", "-u", "-p -u", "-S", "--version", "-f -e"])
def test_what_loads_nothing_is_not_checked(host: Host, arguments: str) -> None:
    words = shlex.split(arguments)
    assert host.kexec(*words) == 0
    assert host.called("staleline") is None
    assert host.called("kexec") == words


@pytest.mark.parametrize("status", [1, 2, 3])
def test_nothing_is_loaded_that_is_not_called_safe(host: Host, status: int) -> None:
    assert host.kexec("-l", "/v", status=status) == status
    assert host.called("kexec") is None
    assert host.kexec("-l", "/v", status=status, allow="2 3") == (1 if status == 1 else 0)
    assert (host.called("kexec") is None) is (status == 1)


@pytest.mark.parametrize("option", ["--load-preserve-context", "--no-such-option"])
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
        symbols = load_image(real_kernels[series].path).symbols
        assert all(name in symbols for name in traced), series


def test_what_the_script_prints_is_what_is_read(tmp_path: Path) -> None:
    formats = re.findall(r'printf\("(.*)\\n"', (EXAMPLES / "wbinvd.bt").read_text())
    lines = [text.replace("%d", "7").replace("%llu", "812345") for text in formats]
    file = tmp_path / "trace"
    file.write_text("\n".join(["Attaching 5 probes...", *lines]))
    measured = read_measured(file)
    assert (measured.one_cpu, measured.all_cpus, measured.events) == (
        pytest.approx(812.345e-6),
        pytest.approx(812.345e-6),
        2,
    )
