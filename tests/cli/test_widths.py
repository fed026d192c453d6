# SPDX-License-Identifier: GPL-2.0-or-later
"""Every report on terminals of 60 to 200 columns: what a reader must not miss is whole."""

import os
import re
import shlex
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from staleline.cli.main import main
from tests.conftest import RealKernel
from tests.findings import ROOT
from tests.fleet.equality import fleet_of, some_hosts

ROME = ROOT / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
HYGON = ROOT / "tests/data/cpuid/registers/hygon-c86-3250.cpuid"
NEHALEM = ROOT / "tests/data/cpuid/libcpuid/intel-xeon-cpu-e5520.test"
SME_ON = "--msr 0xc0010010=0x800000 --cmdline mem_encrypt=on --state offline_cpus=none"
#: Verdict, path and handover. "at risk" in two words may be wrapped between them.
_WHOLE = re.compile(
    r"\b(?:safe|at-risk|unknown|kexec|crash|(?:on|off)→(?:on|off))\b", re.IGNORECASE
)
REPORTS = {
    "audit, unknown": f"audit --snapshot {ROME} --kernel linux-6.18",
    "audit, at risk": f"audit --snapshot {HYGON} --kernel linux-6.18 {SME_ON}",
    "audits": f"audit --snapshot {ROME} --snapshot {HYGON} --kernel linux-6.18 {SME_ON} -v",
    "facts": f"facts {HYGON} {NEHALEM}",
    "kernel": "kernel {5.10}",
    "kernels": "kernel {5.10} {6.12} {7}",
    "matrix": "kernel {5.10} {6.12} --matrix",
    "kernel on a machine": f"kernel {{7}} --snapshot {HYGON}",
    "diff": "diff linux-6.5 linux-6.18",
    "diff of images": "diff {5.10} {6.12}",
    "preflight": f"preflight --snapshot {HYGON} --kernel {{7}} --next {{6.12}} {SME_ON} --explain",
    "claims": "claims",
    "prove": "prove linux-6.5 --path kexec --platform hygon-sme-incoherent",
    "readable": "prove linux-6.5 --path kexec --platform intel-tdx --readable",
    "atoms": "policies --atoms",
    "check": "check linux-6.5 --path kexec",
    "check of an image": "check {6.12} --platform hygon-sme-incoherent",
    "policies": "policies linux-6.18",
    "explain": "explain stale-write-back",
    "fleet": "fleet audit {fleet} --now 1796040000",
    "what a fleet misses": "fleet missing {fleet} --now 1796040000",
    "pairs": "fleet pairs {fleet} --next on --next off",
}
#: Those that take a second each time are looked at on the edges and once between them.
SLOW = {"kernel on a machine", "preflight", "prove", "readable"}
#: One line by intent: a log or a shell takes it as it is.
_ONE_LINE = re.compile(
    r"^(?:safe|at risk|unknown): (?:kexec|crash) |^kexec (?:at-risk|safe|unknown), crash "
)


@pytest.fixture(scope="module")
def places(real_kernels: dict[str, RealKernel], tmp_path_factory):
    """Where the images and the fleet are that reports name."""
    fleet = fleet_of(some_hosts(12, seed=5), tmp_path_factory.mktemp("widths"))
    return {name: str(kernel.path) for name, kernel in real_kernels.items()} | {"fleet": str(fleet)}


@pytest.fixture
def report(places, capsys):
    """One report as a terminal of this width gets it."""

    def print_it(name, width):
        words = re.sub(r"\{([^}]*)\}", lambda named: places[named[1]], REPORTS[name])
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(os.environ, "COLUMNS", str(width))
            main(shlex.split(words))
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return print_it


@pytest.mark.parametrize("name", REPORTS)
def test_every_width_shows_verdicts_paths_and_handovers_whole(report, name):
    widest = Counter(map(str.lower, _WHOLE.findall(report(name, 200))))

    @settings(
        max_examples=1 if name in SLOW else 5,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @example(width=60)
    @example(width=80)
    @given(width=st.integers(60, 200))
    def at(width: int) -> None:
        text = report(name, width)
        assert "…" not in text
        for line in text.splitlines():
            assert line == line.rstrip()
            assert len(line) <= width or _ONE_LINE.search(line), line
        # Where rows stand below each other, words of headings are there more often.
        assert widest <= Counter(map(str.lower, _WHOLE.findall(text)))

    at()
