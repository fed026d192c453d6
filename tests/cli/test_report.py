# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline report`` and ``staleline serve`` as an operator and a reviewer use them."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from staleline.cli.main import main
from tests.conftest import RealKernel

HYGON = Path(__file__).parents[1] / "data" / "cpuid" / "registers" / "hygon-c86-3250.cpuid"
ROME = HYGON.parents[1] / "libcpuid" / "amd-epyc-7742-64-core-processor-dual.test"
WITH_SME = ("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on")
REVIEW = ("--policy", "linux-6.18", "--platform", "hygon-sme-incoherent")


def report(*arguments: object) -> int:
    return main(["report", *map(str, arguments)])


def document(directory: Path) -> dict[str, Any]:
    page = (directory / "index.html").read_text("utf-8")
    found = re.search(r'<script id="report" type="application/json">(.*?)</script>', page)
    assert found is not None
    data: dict[str, Any] = json.loads(found.group(1))
    assert data["schema"] == "staleline/explorer/1"
    return data


def verdicts(data: dict[str, Any]) -> dict[str, list[str]]:
    """Case -> verdict of each kernel."""
    return {
        case["id"]: [data["results"][number]["verdict"] for number in case["results"].values()]
        for case in data["cases"]
    }


def test_an_operator_sees_two_kernels_on_a_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # linux 7.3.4 arch/x86/kernel/cpu/hygon.c does not set the flag that 6.18 flushes by.
    kernels = ("--kernel", "linux-6.18", "--kernel", "host-mem-incoherent")
    assert report("-o", tmp_path / "r", "--snapshot", HYGON, *WITH_SME, *kernels) == 0
    assert re.fullmatch(
        rf"{tmp_path}/r/index\.html: 4 handovers, \d+ KiB\n", capsys.readouterr().out
    )
    data = document(tmp_path / "r")
    assert verdicts(data) == {
        "hygon-c86-3250.cpuid.kexec.on-on": ["at-risk", "safe"],
        "hygon-c86-3250.cpuid.kexec.on-off": ["at-risk", "safe"],
        "hygon-c86-3250.cpuid.crash.on-on": ["at-risk", "at-risk"],
        "hygon-c86-3250.cpuid.crash.on-off": ["at-risk", "at-risk"],
    }
    firmware = {
        name: (value, source)
        for name, _, value, source, _ in map(
            data["facts"].__getitem__, data["machines"][0]["layers"]["firmware"]
        )
    }
    assert firmware["sme_enabled"] == ("yes", "MSR 0xc0010010[23]")


def test_what_is_missing_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    assert report("-o", tmp_path / "r", "--snapshot", HYGON, "--kernel", "linux-6.18") == 0
    data = document(tmp_path / "r")
    unknown = [data["texts"][number] for result in data["results"] for number in result["unknown"]]
    assert any("0xc0010010" in reason for reason in unknown)


def test_two_builds_of_one_release_stay_apart(
    tmp_path: Path, real_kernels: dict[str, RealKernel]
) -> None:
    image = real_kernels["5.10"].path
    again = tmp_path / "rebuilt"
    again.symlink_to(image)
    kernels = ("--kernel", image, "--kernel", again)
    assert report("-o", tmp_path / "r", "--snapshot", HYGON, *WITH_SME, *kernels) == 0
    names = [kernel["name"] for kernel in document(tmp_path / "r")["kernels"]]
    assert names == [real_kernels["5.10"].release, f"{real_kernels['5.10'].release} ({again})"]


def test_two_policies_of_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'name = "linux-6.18"\ntitle = "another"\nsource = "none"\n'
        '[sites]\nstop_this_cpu = "true"\nrelocate_kernel = "true"\n'
        'crash_nmi_callback = "false"\n[protocol]\nreported_stopped = "after-flush"\n'
    )
    assert report("-o", tmp_path / "r", *REVIEW, "--policy", mine) == 1
    assert "two policies are called 'linux-6.18'; rename one" in capsys.readouterr().err


def test_the_head_says_of_a_path_what_an_audit_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Every crash handover is settled; which of them this machine can meet is not.
    told = ("--state", "reboot_force=no", "--cmdline", "mem_encrypt=on")
    asked = ("--snapshot", ROME, *told, "--kernel", "linux-6.5")
    assert report("-o", tmp_path / "r", *asked) == 0
    capsys.readouterr()
    assert main(["audit", "--json", *map(str, asked)]) == 3
    assert json.loads(capsys.readouterr().out)["paths"] == {"kexec": "safe", "crash": "unknown"}
    page = (tmp_path / "r" / "index.html").read_text("utf-8")
    head = re.sub(r"<[^>]+>", " ", page[page.index("<h1>") : page.index("<noscript>")])
    text = re.sub(r"\s+", " ", head)
    assert "kexec safe 3 handovers: 3 safe" in text
    assert "crash unknown 3 handovers: 2 at risk, 1 safe; which of them the machine" in text
    assert "MSR 0xc0010010 was not read: as root, modprobe msr" in text


def test_a_reviewer_narrows_what_is_shown(tmp_path: Path) -> None:
    narrowed = ("--path", "kexec", "--next", "same")
    assert report("-o", tmp_path / "r", *REVIEW, *narrowed) == 0
    assert set(verdicts(document(tmp_path / "r"))) == {
        f"hygon-sme-incoherent.kexec.{transition}"
        for transition in ("off-off", "off-off.sev-guests", "on-on", "on-on.sev-guests")
    }


def test_traces_of_a_report_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report("-o", tmp_path / "r", *REVIEW, "--path", "kexec")
    traces = sorted((tmp_path / "r" / "traces").iterdir())
    assert traces
    assert main(["replay", str(traces[0])]) == 0
    assert "Replayed" in capsys.readouterr().out


def test_a_report_replaces_an_older_one(tmp_path: Path) -> None:
    report("-o", tmp_path / "r", *REVIEW)
    before = set((tmp_path / "r").rglob("*"))
    assert report("-o", tmp_path / "r", *REVIEW, "--path", "crash") == 0
    after = set((tmp_path / "r").rglob("*"))
    assert after < before
    assert all("crash" in path.name for path in after if path.suffix == ".json")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*REVIEW, "--snapshot", HYGON), "--policy is for platform classes"),
        (("--platform", "amd-no-sme"), "--platform without a policy; give --policy RULE"),
        (("--policy", "linux-6.18", "--platform", "vax"), "no platform class 'vax'"),
        (("--policy", "linux-9.9"), "linux-9.9"),
        (
            ("--policy", "linux-6.18", "--platform", "intel-tdx", "--next", "on"),
            "no handover of these platforms is left; ask for --next any",
        ),
        (("--snapshot", "/nonexistent"), "/nonexistent"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    says: str,
) -> None:
    assert report("-o", tmp_path / "r", *arguments) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_directory_of_other_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert report("-o", tmp_path, *REVIEW, "--path", "crash") == 1
    assert "holds files, and none is a report" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_serve_shows_a_report_until_ctrl_c(tmp_path: Path) -> None:
    report("-o", tmp_path / "r", *REVIEW, "--path", "crash")
    with serving(tmp_path / "r") as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        port = re.match(r"http://127\.0\.0\.1:(\d+)/  \(Ctrl-C ends\)\n", said)
        assert port is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(port.group(1)), timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().read() == (tmp_path / "r" / "index.html").read_bytes()
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@contextmanager
def serving(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """``staleline serve`` as a terminal starts it, and ended whatever becomes of the test.

    What a shell starts in the background ignores SIGINT, and hands that on to its children.
    """
    command = [sys.executable, "-m", "staleline", "serve", str(directory)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_serve_needs_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path)]) == 1
    assert "write one: staleline report -o DIR" in capsys.readouterr().err
