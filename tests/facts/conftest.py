# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirt's CPU data files, which are test data that this project does not distribute."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data" / "cpuid"
_SUITE = "trixie"  # libvirt 11.3.0


@pytest.fixture(scope="session")
def libvirt_cpudata() -> Path:
    """A directory that holds every file of the index that comes from libvirt."""
    given = os.environ.get("STALELINE_LIBVIRT_CPUDATA")
    if given:
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "staleline" / "libvirt-cputestdata"
    if not _whole(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _extract(_download(directory), directory)
        shutil.rmtree(directory / "apt")
    assert _whole(directory), f"{directory} does not hold the files of index.csv"
    return directory


def _wanted() -> dict[str, str]:
    with (DATA / "index.csv").open(newline="") as file:
        return {
            Path(row["source_path"]).name: row["sha256"]
            for row in csv.DictReader(file)
            if row["file"].startswith("libvirt/")
        }


def _whole(directory: Path) -> bool:
    return all(
        (directory / name).is_file()
        and hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest
        for name, digest in _wanted().items()
    )


def _download(directory: Path) -> Path:
    """Fetch libvirt's source with apt, in a state of its own, without touching the system's."""
    state = directory / "apt"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(_source_line())
    apt = [
        "apt-get",
        "-q",
        f"-oDir::Etc::sourcelist={state}/sources.list",
        "-oDir::Etc::sourceparts=-",
        f"-oDir::State::lists={state}/lists",
        f"-oDir::Cache={state}/cache",
        "-oAPT::Sandbox::User=",
    ]
    subprocess.run([*apt, "update"], check=True, cwd=state)
    subprocess.run(
        [*apt, "source", "--download-only", "--tar-only", "libvirt"], check=True, cwd=state
    )
    return next(state.glob("libvirt_*.orig.tar.*"))


def _source_line() -> str:
    """A source entry for the Debian archive that this system is configured to use."""
    targets = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(SIGNED_BY)",
            "Created-By: Packages",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for target in targets.splitlines():
        origin, label, uri, signed_by = target.split("|")
        if (origin, label) == ("Debian", "Debian"):
            option = f" [signed-by={signed_by}]" if signed_by.startswith("/") else ""
            return f"deb-src{option} {uri} {_SUITE} main\n"
    raise AssertionError(
        "apt is not configured for a Debian archive; set STALELINE_LIBVIRT_CPUDATA"
    )


def _extract(archive: Path, directory: Path) -> None:
    wanted = _wanted()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if "/tests/cputestdata/" in member.name and name in wanted:
                content = tar.extractfile(member)
                assert content is not None
                (directory / name).write_bytes(content.read())
