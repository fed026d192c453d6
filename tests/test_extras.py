# SPDX-License-Identifier: GPL-2.0-or-later
"""An installation without the optional libraries: what it does, and how it says what it lacks."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from staleline.extras import EXTRAS, missing_extra

ROOT = Path(__file__).parents[1]
ROME = ROOT / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"

#: Runs the command where importing any optional library fails as if it were not installed.
WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from staleline.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run_without(absent: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    script = WITHOUT.format(absent=absent)
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def declared(extra: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {line.split(">")[0] for line in project["optional-dependencies"][extra]}
    return {"z3" if name == "z3-solver" else name for name in names}


def test_every_optional_library_is_of_an_extra_that_the_package_declares() -> None:
    for module, extra in EXTRAS.items():
        assert module in declared(extra.name), module
    assert set(EXTRAS) == declared("images") | declared("prove")


def test_a_host_is_audited_by_a_known_rule_without_any_of_them() -> None:
    told = ("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on", "--path", "kexec")
    done = run_without(
        {*EXTRAS, "zstandard"}, "audit", "--snapshot", str(ROME), "--kernel", "linux-6.18", *told
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("SAFE on kexec")


def test_facts_and_the_catalogue_need_none_of_them() -> None:
    for arguments in (["facts", str(ROME)], ["policies"], ["explain"], ["schema"], ["collect"]):
        done = run_without({*EXTRAS, "zstandard"}, *arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments


def test_what_needs_one_says_which() -> None:
    done = run_without(set(EXTRAS), "claims")
    assert done.returncode == 1
    assert "install staleline[prove], or staleline[all]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_module_that_no_extra_brings_is_a_defect_and_not_advice() -> None:
    unknown = ModuleNotFoundError("No module named 'stalelines'", name="stalelines")
    assert missing_extra(unknown) is None
