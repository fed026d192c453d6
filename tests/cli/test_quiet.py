# SPDX-License-Identifier: GPL-2.0-or-later
"""Output that cannot be written, readers that go away, defects: one line and a status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest

from staleline.cli import main as main_module
from staleline.cli.main import TRACEBACK, main
from tests.fuzz.seeds import SEEDS
from tests.sampling import every

COMMAND = f"{sys.executable} -m staleline"


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


ROME = Path(__file__).parents[1] / "data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
HYGON = Path(__file__).parents[1] / "data/cpuid/registers/hygon-c86-3250.cpuid"
#: Every command, on input of which it writes something; ``@`` is a directory of the test's own.
WRITES = {
    "audit": f"audit --snapshot {ROME} --kernel linux-6.5",
    "preflight": f"preflight --next @/vmlinuz --snapshot {ROME} --kernel linux-6.5",
    "facts": f"facts {ROME}",
    "kernel": "kernel --no-cache @/vmlinuz",
    "check": "check linux-6.5 --format sarif",
    "prove": "prove linux-6.5 --platform guest-snp",
    "diff": "diff linux-6.5 linux-6.18",
    "claims": "claims d --json",
    "replay": "replay @/traces/kexec-on-on.itf.json",
    "report": "report -o @/report --policy linux-6.18 --platform guest-snp",
    "serve": "serve @/report",
    "litmus": "litmus --from @/traces/kexec-on-on.itf.json",
    "export": "export kexec:on-off --to smt2",
    "policies": "policies",
    "explain": "explain",
    "collect": "collect",
    "schema": "schema audit",
    "run": "run --help",
    "fleet": "fleet --help",
}


def test_every_command_is_tried() -> None:
    assert set(WRITES) == set(main_module.program.list_commands(click.Context(main_module.program)))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inputs")
    (directory / "vmlinuz").write_bytes(dict(SEEDS["loader"]())["bzimage-gzip"])
    asked = ("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on", "--path", "kexec")
    traces = ("--kernel", "linux-6.18", "--traces", str(directory / "traces"))
    main(["audit", "--snapshot", str(HYGON), *asked, *traces])
    main(WRITES["report"].replace("@", str(directory)).split())
    return directory


@pytest.mark.parametrize(
    ("name", "output", "reason"),
    [
        *((name, "> /dev/full", "No space") for name in WRITES),
        *((name, ">&-", "Bad file") for name in every(4, WRITES)),
    ],
)
def test_standard_output_that_cannot_be_written_is_one_line(
    name: str, output: str, reason: str, inputs: Path
) -> None:
    done = shell(f"{COMMAND} {WRITES[name].replace('@', str(inputs))} {output}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"staleline: standard output: cannot be written: {reason}")
    assert "; " in line


@pytest.mark.parametrize("name", every(3, WRITES))
def test_a_reader_that_goes_away_is_told_as_shells_tell_it(name: str, inputs: Path) -> None:
    words = WRITES[name].replace("@", str(inputs))
    done = shell(f"{COMMAND} {words} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("141\n", "")


#: How each place that a command writes to is named on its command line; ``@`` is the place.
_PLACES = {
    "output": "check linux-6.5 -o @/file",
    "findings": "check linux-6.5 --format sarif -o @/file",
    "traces of an audit": (
        f"audit --snapshot {HYGON} --msr 0xc0010010=0x800000 --cmdline mem_encrypt=on "
        "--path kexec --kernel linux-6.18 --traces @/traces"
    ),
    "traces of a proof": "prove linux-6.18 --platform hygon-sme-incoherent --traces @/traces",
    "certificate": "prove linux-6.5 --platform guest-snp --certificate @/file",
    "model": "export kexec:on-off --to murphi -o @/file",
    "snapshot": "collect -o @/file",
    "page": "report --policy linux-6.18 --platform guest-snp -o @/report",
}
#: Runs the command as nobody, whom permissions stop; what root alone can read is imported first.
_AS_NOBODY = (
    "import os, sys, pkgutil, importlib, staleline\n"
    "for one in pkgutil.walk_packages(staleline.__path__, 'staleline.'):\n"
    "    if one.name != 'staleline.__main__': importlib.import_module(one.name)\n"
    "from staleline.cli.main import main\n"
    "import codecs; codecs.lookup('utf-8-sig')\n"
    "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


@pytest.mark.parametrize("place", _PLACES)
def test_a_place_that_cannot_be_written_is_one_line(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    where = tmp_path / "file"
    assert main(_PLACES[place].replace("@", str(where)).split()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"staleline: {where}/\w+: cannot be written: .*; name another place", line)


@pytest.mark.parametrize("place", ["output", "traces of an audit", "model", "snapshot", "page"])
def test_a_directory_that_may_only_be_read_is_one_line(place: str) -> None:
    # Not pytest's own, into which nobody may not even look.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o555)
        words = _PLACES[place].replace("@", directory).split()
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert os.listdir(directory) == []
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        rf"staleline: {directory}/\w+: cannot be written: Permission denied; name .*", line
    )


@pytest.mark.parametrize("place", ["output", "certificate", "model", "snapshot"])
def test_a_full_disk_is_one_line(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_PLACES[place].replace("@/file", "/dev/full").split()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("staleline: /dev/full: cannot be written: No space left on device; make")


def test_a_fifo_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert main(["check", "linux-6.5", "-o", str(tmp_path / "fifo")]) == 1


def test_a_locale_without_the_characters_of_a_report_gets_the_report() -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = shell(f"{COMMAND} check linux-6.5", **ascii_only)
    assert done.stderr == ""
    assert "\\u2192" in done.stdout


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module.program, "invoke", interrupted)
    assert main(["policies"]) == 130


def test_a_defect_is_one_line_unless_its_place_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(main_module.program, "invoke", defect)
    with pytest.raises(ZeroDivisionError):  # as in every other test
        main(["policies"])
    monkeypatch.delenv(TRACEBACK)
    assert main(["policies"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("staleline: internal error, a defect of staleline: ZeroDivisionError")


def test_ctrl_c_while_it_works_is_told_as_shells_tell_it() -> None:
    """130, or an end by the signal itself, of which shells make 130; one line, no traceback."""
    # Tests may run where it is ignored, as in the background of a shell.
    words = ["env", "--default-signal=INT", sys.executable, "-m", "staleline"]
    working = subprocess.Popen(
        [
            *words,
            "check",
            "linux-6.18",
            "--cpus",
            "200",
            "--platform",
            "hygon-sme-incoherent",
            "--path",
            "kexec",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert working.stderr is not None
    assert "models with 200 CPUs each: about" in working.stderr.readline()
    # As from a terminal, which sends it to the processes that it started too.
    os.killpg(working.pid, signal.SIGINT)
    out, err = working.communicate(timeout=30)
    assert working.returncode in (130, -signal.SIGINT)
    assert (out, err.split("\n")) == ("", ["", "staleline: interrupted", ""])
