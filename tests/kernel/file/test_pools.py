# SPDX-License-Identifier: GPL-2.0-or-later
"""The images among many files: which are found, each once."""

from __future__ import annotations

import io
from pathlib import Path

import pycdlib  # type: ignore[import-not-found,import-untyped,unused-ignore]

from staleline.kernel.file.pools import ImagePool


def images(directory: Path) -> list[str]:
    with ImagePool() as pool:
        pool.add([str(directory)], [])
        return [Path(image).name for image in pool.images]


def test_all_kernels_of_a_boot_directory_are_found_each_once(tmp_path: Path) -> None:
    """Ubuntu's and Debian's links to the latest were taken for the only kernel."""
    for release in ("6.1.0-50-amd64", "6.12.1-amd64"):
        (tmp_path / f"vmlinuz-{release}").write_bytes(b"image")
        (tmp_path / f"System.map-{release}").write_bytes(b"map")
    (tmp_path / "vmlinuz").symlink_to("vmlinuz-6.12.1-amd64")
    (tmp_path / "vmlinuz.old").symlink_to("vmlinuz-6.1.0-50-amd64")
    assert images(tmp_path) == ["vmlinuz-6.1.0-50-amd64", "vmlinuz-6.12.1-amd64"]


def test_a_link_to_an_image_elsewhere_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "boot").mkdir()
    (tmp_path / "store/abc").write_bytes(b"image")
    (tmp_path / "boot/vmlinuz-6.12").symlink_to(tmp_path / "store/abc")
    assert images(tmp_path / "boot") == ["vmlinuz-6.12"]


def test_the_directory_of_one_build_is_one_image(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"image")
    (tmp_path / "vmlinuz-virt.efi").write_bytes(b"the same, unified")
    assert images(tmp_path) == [tmp_path.name]


def test_links_of_an_iso_image_keep_nothing_else_from_being_read(tmp_path: Path) -> None:
    """Live media have them beside the kernels that they lead to."""
    iso = pycdlib.PyCdlib()
    iso.new(rock_ridge="1.09", interchange_level=3)
    iso.add_fp(io.BytesIO(b"image"), 5, "/VMLINUZ1.;1", rr_name="vmlinuz-6.12.1-amd64")
    iso.add_symlink("/VMLINUZ.;1", rr_symlink_name="vmlinuz", rr_path="vmlinuz-6.12.1-amd64")
    iso.write(str(tmp_path / "live.iso"))
    with ImagePool() as pool:
        pool.add([str(tmp_path / "live.iso")], [])
        assert [pool.called[image] for image in pool.images] == [
            f"{tmp_path}/live.iso:/vmlinuz-6.12.1-amd64"
        ]


def test_packages_of_debian_s_installer_and_of_ubuntu_s_symbols_are_packages(
    tmp_path: Path,
) -> None:
    for name in ("linux-image-x-dbgsym.ddeb", "linux-image-x.udeb", "linux-image-x.deb"):
        (tmp_path / name).write_bytes(b"image")
    assert len(images(tmp_path)) == 3
