# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline kernel`` over ISO images, as installers come in them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pycdlib  # type: ignore[import-not-found,import-untyped,unused-ignore]
import pytest

from staleline.cli.main import main
from tests.cli.test_archive import lines
from tests.conftest import RealKernel
from tests.kernel.packagewriter import File, write_deb


def write_iso(path: Path, files: dict[str, bytes], *, rock_ridge: bool) -> None:
    """An image with these files in its root, by their short and long names."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09" if rock_ridge else None)
    for name, content in files.items():
        stem, _, end = name.upper().replace("-", "_").partition(".")
        short = f"/{stem}.{end};1"
        long = name if rock_ridge else None
        iso.add_fp(io.BytesIO(content), len(content), short, rr_name=long)
    iso.write(str(path))
    iso.close()


@pytest.mark.parametrize("rock_ridge", [True, False])
def test_kernels_of_an_iso_image_are_called_by_their_place_in_it(
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
    rock_ridge: bool,
) -> None:
    kernel, iso = real_kernels["6.12"], tmp_path / "netinst.iso"
    files = {
        "vmlinuz": kernel.path.read_bytes(),
        "README.txt": b"no kernel",
        "linux-doc.deb": write_deb([File("usr/share/doc/linux", b"text")]),
    }
    write_iso(iso, files, rock_ridge=rock_ridge)
    status = main(["kernel", str(iso), "--format", "jsonl", "--brief"])
    captured = capsys.readouterr()
    (found,) = lines(captured.out)
    assert status == 0
    member = "/vmlinuz" if rock_ridge else "/VMLINUZ.;1"
    assert found["image"] == f"{iso}:{member}"
    assert (found["release"], found["rule"]) == (kernel.release, "linux-6.5")
    assert "1 package without kernel skipped" in captured.err


def test_a_damaged_iso_image_and_a_missing_library_are_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged.iso"
    damaged.write_bytes(bytes(0x8001) + b"CD001" + bytes(4096))
    assert main(["kernel", str(damaged)]) == 1
    assert f"{damaged}: ISO image cannot be read" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pycdlib", None)
    assert main(["kernel", str(damaged)]) == 1
    assert "needs pycdlib; install staleline[iso]" in capsys.readouterr().err
