# SPDX-License-Identifier: GPL-2.0-or-later
"""What startup code makes of a command line: real images, and the decompressor's rule."""

from __future__ import annotations

import pytest

from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.sites.runner import KernelReader
from tests.conftest import RealKernel

ROME = RawFacts(
    vendor="AuthenticAMD",
    leaf=True,
    sme=True,
    sev=True,
    hypervisor=False,
    sme_enabled=True,
    sev_status=False,
    mem_encrypt=False,
)
#: The last mem_encrypt= counts up to 6.8 (linux 5.10.262, 6.1.192 sme_enable()).
LAST_COUNTS = frozenset({"5.10", "6.1"})


@pytest.mark.parametrize(
    ("command_line", "last", "first"),
    [
        ("mem_encrypt=on", True, True),
        ("mem_encrypt=off", False, False),
        ("", False, False),
        ("mem_encrypt=on mem_encrypt=off mem_encrypt=on", True, False),
        ("mem_encrypt=off mem_encrypt=on", True, True),
        ("mem_encrypt=on mem_encrypt=maybe", False, True),
        ("x" * 2000 + " mem_encrypt=on", True, True),
        ("\u00fc=\u00e9 mem_encrypt=on", True, True),
    ],
)
def test_every_image_reads_the_command_line_as_its_time_does(
    readers: dict[str, KernelReader], command_line: str, last: bool, first: bool
) -> None:
    machine = raw_machine(ROME)
    for series, reader in readers.items():
        expected = last if series in LAST_COUNTS else first
        assert reader.encrypts(machine, command_line) is expected, series


@pytest.fixture(scope="module")
def readers(real_kernels: dict[str, RealKernel]) -> dict[str, KernelReader]:
    wanted = ("5.10", "6.1", "6.12", "7")
    return {series: KernelReader(real_kernels[series].image) for series in wanted}


def test_the_answer_does_not_depend_on_what_was_asked_before(
    readers: dict[str, KernelReader],
) -> None:
    machine = raw_machine(ROME)
    for reader in readers.values():
        asked = [
            reader.encrypts(machine, text) for text in ("mem_encrypt=on", "", "mem_encrypt=on")
        ]
        assert asked == [True, False, True]
