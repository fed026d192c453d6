# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input: exit status 1, one line that says what and where, no verdict, no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import RealKernel

CPUID = Path(__file__).parents[1] / "data" / "cpuid"
ROME = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"


def refused(*arguments: object) -> str:
    """Run the command as a process of its own; returns the one line of its refusal."""
    return refused_by([sys.executable, "-m", "staleline", *map(str, arguments)])


def refused_by(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("staleline: ")
    return line


def with_image(image: object) -> str:
    return refused("audit", "--snapshot", ROME, "--kernel", image)


def with_dump(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    line = refused("audit", "--snapshot", path, "--kernel", "linux-6.5")
    assert str(path) in line
    return line


def test_images_that_are_not_kernels(tmp_path: Path, real_kernels: dict[str, RealKernel]) -> None:
    real = real_kernels["6.12"].path.read_bytes()
    for name, content in {
        "empty": b"",
        "text": b"not a kernel at all\n" * 100,
        "truncated-header": real[:600],
        "truncated-payload": real[: len(real) // 2],
        "arm64": bytes(56) + b"ARMd" + bytes(4096),
    }.items():
        image = tmp_path / name
        image.write_bytes(content)
        assert str(image) in with_image(image)
    assert "/bin/true" in with_image(shutil.which("true", path="/bin"))
    assert str(tmp_path) in with_image(tmp_path)
    assert "absent" in with_image(tmp_path / "absent")


def test_dumps_that_are_not_dumps(tmp_path: Path) -> None:
    rome = ROME.read_bytes()
    for name, content in {
        "empty": b"",
        "binary": bytes(range(256)) * 16,
        "prose": b"The quick brown fox.\n" * 10,
        "truncated": rome[:200] + b"\nCPUID 0000",
        "snapshot.json": b'{"schema": "staleline/snapshot/1", "cpus": [',
        "wrong-schema.json": b'{"schema": "staleline/snapshot/9", "cpus": []}',
    }.items():
        with_dump(tmp_path / name, content)
    sparse = tmp_path / "huge"
    with sparse.open("wb") as file:
        file.truncate(2**40)
    assert "huge" in refused("audit", "--snapshot", sparse, "--kernel", "linux-6.5")


def test_a_contradictory_snapshot_names_both_sides(tmp_path: Path) -> None:
    content = (
        '{"schema": "staleline/snapshot/1", "cpus": ['
        '{"cpuid": {"0x00000000:0": ["0x1", "0x68747541", "0x444d4163", "0x69746e65"]}},'
        '{"cpuid": {"0x00000000:0": ["0x1", "0x756e6547", "0x6c65746e", "0x49656e69"]}}]}'
    )
    line = with_dump(tmp_path / "two-vendors.json", content.encode())
    assert "AuthenticAMD" in line
    assert "GenuineIntel" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audit", "--kernel", "linux-6.55"], "did you mean"),
        (["audit", "--kernel", "3.10.0"], "no rule is known"),
        (["audit", "--msr", "syscfg=1"], "--msr"),
        (["audit", "--msr", "0x10=-1"], "out of range"),
        (["audit", "--state", "sme_active=maybe"], "--state"),
        (["audit", "--next", "later"], "later"),
        (["audit"], "does not name a kernel"),
        (["frobnicate"], "frobnicate"),
        (["check", "no-such-policy"], "no-such-policy"),
        (["policies", "absent.toml"], "absent.toml"),
    ],
)
def test_requests_that_make_no_sense(arguments: list[str], says: str) -> None:
    if arguments[0] == "audit":
        arguments = ["audit", "--snapshot", str(ROME), *arguments[1:]]
    assert says in refused(*arguments)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(ROME.read_bytes())
    secret.chmod(0)
    arguments = ("audit", "--snapshot", str(secret), "--kernel", "linux-6.5")
    if os.geteuid() == 0:  # root may read everything: ask as nobody
        code = (
            "import os, sys\n"
            "import staleline.cli.audit, staleline.cli.main\n"
            "import staleline.evidence.detect, staleline.evidence.live\n"
            "import staleline.verdict.audit.subject\n"
            "import staleline.report.machines.audits\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "sys.exit(staleline.cli.main.main(sys.argv[1:]))"
        )
        line = refused_by([sys.executable, "-c", code, *arguments])
    else:
        line = refused(*arguments)
    assert "ermission" in line
    assert str(secret) in line
