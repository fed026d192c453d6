# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/findings/ quotes is what its commands print."""

from __future__ import annotations

import pytest

from staleline.cli.main import main
from tests.conftest import RealKernel
from tests.findings import FINDINGS, Quoted, quotations, quoted_in_order

HYGON = tuple(quotations(FINDINGS / "hygon-not-flushed-since-6.18.md"))
#: The images it names -> the series they stand for.
SERIES = {
    "vmlinuz-6.17.13+deb13-cloud-amd64": "6.17",
    "vmlinuz-7.3.4+deb13-cloud-amd64": "7",
}


def printed(
    quoted: Quoted, kernels: dict[str, RealKernel], capsys: pytest.CaptureFixture[str]
) -> str:
    images = {name: kernels[SERIES[name]].path for name in quoted.images}
    main([*quoted.command(images), *(["--no-cache"] if quoted.arguments[0] == "kernel" else [])])
    return capsys.readouterr().out


@pytest.mark.parametrize("number", range(len(HYGON)))
def test_hygon(
    number: int, real_kernels: dict[str, RealKernel], capsys: pytest.CaptureFixture[str]
) -> None:
    output = printed(HYGON[number], real_kernels, capsys)
    assert quoted_in_order(HYGON[number], output), output


def test_the_page_shows_both_sides_of_6_18() -> None:
    assert {image for quoted in HYGON for image in quoted.images} == set(SERIES)


def test_other_output_is_noticed(
    real_kernels: dict[str, RealKernel], capsys: pytest.CaptureFixture[str]
) -> None:
    """What 6.17 prints is not what is quoted of 7."""
    before, since = HYGON[:2]
    assert not quoted_in_order(since, printed(before, real_kernels, capsys))
