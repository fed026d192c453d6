# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever became of the cache, commands say what they say without one."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from staleline.cli.main import main
from staleline.kernel.reading import running
from tests.conftest import RealKernel

ROME = Path(__file__).parents[1] / "data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"


@pytest.fixture(scope="module")
def image(real_kernels: dict[str, RealKernel]) -> Path:
    return real_kernels["5.10"].path


@pytest.fixture(scope="module", autouse=True)
def nothing_doubted() -> Iterator[None]:
    """The search for doubts, most of a reading's time and here without a result, is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "doubts_aside", lambda _image: dict)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(directory))
        yield directory


def audited(image: Path, *options: str) -> tuple[int, str, str]:
    known = ("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on")
    states = ("--state", "reboot_force=no", "--state", "offline_cpus=none")
    asked = ("--snapshot", str(ROME), *known, *states, "--path", "kexec")
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        status = main(["audit", *asked, "--kernel", str(image), *options])
    return status, output.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def expected(image: Path) -> tuple[int, str, str]:
    answer = audited(image, "--no-cache")
    assert answer[2] == ""
    return answer


def _junk(entry: Path) -> None:
    entry.write_bytes(b"\x00\xff" * 4000)


def _cut(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes()[:100])


def _directory(entry: Path) -> None:
    entry.unlink()
    entry.mkdir()


def _fifo(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)


def _forged(entry: Path) -> None:
    """Whole, and telling the opposite."""
    body = entry.read_bytes().partition(b"\n")[2].replace(b"true", b"false")
    entry.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def _foreign(entry: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    _forged(entry)
    os.chown(entry, 65534, 65534)


def _world_writable(entry: Path) -> None:
    _forged(entry)
    entry.chmod(0o666)


def _in_a_shared_directory(entry: Path) -> None:
    _forged(entry)
    entry.parent.chmod(0o777)


@pytest.mark.parametrize(
    "harm", [_junk, _cut, _directory, _fifo, _foreign, _world_writable, _in_a_shared_directory]
)
def test_an_entry_that_is_not_to_be_trusted_changes_nothing(
    harm: Callable[[Path], None], image: Path, cache: Path, expected: tuple[int, str, str]
) -> None:
    decisions = cache / "staleline" / "decisions"
    assert audited(image) == expected
    (entry,) = decisions.glob("*.json")
    harm(entry)
    try:
        assert audited(image) == expected
    finally:
        decisions.chmod(0o700)
        if entry.is_dir():
            entry.rmdir()
        else:
            entry.unlink(missing_ok=True)


def test_what_only_this_user_can_have_written_is_believed(
    image: Path, cache: Path, expected: tuple[int, str, str]
) -> None:
    """So that the others' forgeries above would have been seen."""
    assert audited(image) == expected
    (entry,) = (cache / "staleline" / "decisions").glob("*.json")
    _forged(entry)
    assert audited(image) != expected
    entry.unlink()


_AS_A_STRANGER = (
    "import os, sys\n"
    "import staleline.cli.audit, staleline.cli.main, staleline.kernel.reading.decided\n"
    "from staleline.cli.kernel import command\n"
    "from staleline.kernel.reading.cache import default_directory\n"
    "if os.geteuid() == 0: os.setgid(54321); os.setuid(54321)\n"
    "print(default_directory())\n"
)


def test_a_user_without_a_home_has_no_cache() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root becomes a user whom /etc/passwd does not know")
    done = subprocess.run(
        [sys.executable, "-c", _AS_A_STRANGER],
        capture_output=True,
        text=True,
        check=False,
        env={
            key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")
        },
    )
    assert (done.stdout, done.stderr) == ("/dev/null/.cache/staleline/readings\n", "")
