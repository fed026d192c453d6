# SPDX-License-Identifier: GPL-2.0-or-later
"""Names that are anybody's text, in Chromium and on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from staleline.report.explorer.cases import ExploredKernels
from staleline.report.explorer.files import write_report
from tests.report.conftest import Opener
from tests.report.explorer.explored import hygon

_HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>\u2028\"'"


def renamed(name: str) -> ExploredKernels:
    """Its machine and the kernel at risk under another name."""
    one = hygon()
    return ExploredKernels(
        machines=(replace(one.machines[0], name=name, note=name),),
        kernels=(replace(one.kernels[0], name=name, note=name), one.kernels[1]),
        results={
            replace(case, machine=name): {
                name if kernel == "linux-6.18" else kernel: result
                for kernel, result in results.items()
            }
            for case, results in one.results.items()
        },
        overall={
            (name, name if kernel == "linux-6.18" else kernel): replace(overall, missing=(name,))
            for (_, kernel), overall in one.overall.items()
        },
        under=(name,),
        files={name: name},
    )


def test_hostile_names_stay_text(open_page: Opener, tmp_path: Path) -> None:
    page = open_page(write_report(renamed(_HOSTILE), tmp_path / "report"))
    page.keyboard.press("ArrowRight")
    assert page.locator("img, script:not([id]):not([type=module])").count() == 0
    assert page.title().startswith("</script>")
    assert "<img src=x onerror=alert(1)>" in page.locator("#handover-title").inner_text()


@pytest.mark.parametrize("width", [1280, 820, 390])
@pytest.mark.parametrize("script", [True, False])
def test_a_name_of_5000_letters_makes_nothing_wider(
    open_page: Opener, tmp_path: Path, width: int, script: bool
) -> None:
    written = write_report(renamed("x" * 5000), tmp_path / "report")
    window = {"viewport": {"width": width, "height": 900}, "java_script_enabled": script}
    page = open_page(written, **window)
    widths = page.locator("body, body *:not(.unseen, .skip, symbol *)").evaluate_all(
        "(all) => all.filter((one) => one.getBoundingClientRect().right > innerWidth"
        " && !one.closest('.scroll, .picture')).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert widths == []
    for place in page.locator(".scroll, .picture").all():
        assert place.evaluate("node => node.scrollWidth") < 2000
