# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels inside .deb, .rpm and unified kernel images, and in build trees."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import tarfile
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.errors import KernelImageError
from staleline.kernel.file.packages import read_package
from staleline.kernel.file.source import MemoryBytes
from staleline.kernel.image.assembly import load_image
from tests.kernel.kernelwriter import RELEASE, TEXT, Kernel, write_bzimage
from tests.kernel.packagewriter import (
    COMPRESSORS,
    VMLINUZ,
    File,
    ar,
    cpio,
    file_list,
    rpm_header,
    stripped_cpio,
    tar,
    write_deb,
    write_rpm,
    write_uki,
)

IMAGE = write_bzimage()
MODULE = File("usr/lib/modules/6.99.1/kernel/a.ko", b"\x7fELF" * 999)
FILES = [File("boot/config-6.99.1", b"# c\n"), File(VMLINUZ, IMAGE), MODULE]
FORMATS: Mapping[str, Callable[..., bytes]] = {"deb": write_deb, "rpm": write_rpm}


def read(package: bytes) -> tuple[str, bytes]:
    found = read_package(MemoryBytes("package", memoryview(package)))
    return found.member, bytes(found.content.read(0, found.content.size))


def message(package: bytes) -> str:
    with pytest.raises(KernelImageError) as error:
        read(package)
    return str(error.value)


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_the_image_of_a_package_however_compressed(write, compression):
    assert read(write(FILES, compression=compression)) == (VMLINUZ, IMAGE)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_package_is_loaded_like_its_image(tmp_path, kind):
    path = tmp_path / f"linux.{kind}"
    path.write_bytes(FORMATS[kind](FILES))
    image = load_image(path)
    assert (image.path, image.member, image.release) == (str(path), VMLINUZ, RELEASE)
    assert image.symbols.address("_text") == TEXT


@pytest.mark.parametrize(
    "name",
    [
        "boot/vmlinuz-6.1.0-56-amd64",  # Debian
        "usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz",  # Debian from 6.19
        "lib/modules/5.14.0-503.el9.x86_64/vmlinuz",  # Red Hat
        "lib/modules/6.11.4-301.fc41.x86_64/vmlinuz-virt.efi",  # Fedora's kernel-uki-virt
        "lib/modules/6.6.92.2-2.azl3/vmlinuz-uki.efi",  # Azure Linux's kernel-uki
        "boot/kernel.efi-5.15.0-1019-azure-fde",  # Ubuntu's for confidential machines
        "boot/efi/EFI/Linux/linux-6.12.efi",  # where systemd-boot looks for unified ones
    ],
)
def test_where_distributions_put_the_image(name):
    assert read(write_deb([File(name, b"image")])) == (name, b"image")


def test_a_package_of_debian_s_holds_the_image_that_dpkg_finds(real_kernels):
    """Kept as published; tools/fetch_kernels.py took the image "7" out with dpkg-deb."""
    package = real_kernels["7-deb"]
    name, image = read(package.path.read_bytes())
    assert name == f"usr/lib/modules/{package.release}/vmlinuz"
    assert package.release == real_kernels["7"].release
    assert hashlib.sha256(image).hexdigest() == real_kernels["7"].sha256


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("listed", [True, False])
def test_long_names_in_every_style_of_tar(style, listed):
    name = f"usr/lib/modules/{'6.99.1-long' * 10}/vmlinuz"
    files = [File("usr/share/doc/" + "x" * 80, b"doc"), File(name, IMAGE)]
    assert read(write_deb(files, style=style, md5sums=listed)) == (name, IMAGE)


@pytest.mark.parametrize(
    "package", [write_deb(FILES, md5sums=False), write_rpm(FILES, listed=False)]
)
def test_a_package_without_list_of_files_is_read_to_its_end(package):
    assert read(package) == (VMLINUZ, IMAGE)


@pytest.mark.parametrize("listed", [True, False])
def test_a_package_of_several_images_names_them(listed):
    files = [*FILES, File("boot/vmlinuz-other", IMAGE)]
    expected = f"package: a package of several kernel images: {VMLINUZ}, boot/vmlinuz-other; "
    assert message(write_deb(files, md5sums=listed)).startswith(expected)
    assert message(write_rpm(files, listed=listed)).startswith(expected)


def test_links_and_absent_files_are_no_images():
    """Fedora's kernel-core has /boot/vmlinuz-* as %ghost, openSUSE's a symbolic link."""
    others = [File("boot/vmlinuz-link", target="../x"), File("boot/vmlinuz-ghost", ghost=True)]
    assert read(write_rpm([*others, *FILES])) == (VMLINUZ, IMAGE)
    assert read(write_deb([*others[:1], *FILES])) == (VMLINUZ, IMAGE)


def test_an_image_that_the_list_of_files_does_not_have_is_not_taken_for_the_one_it_has():
    """Whichever came first in the archive was."""
    other = File("boot/vmlinuz-other", IMAGE)
    package = RPM[:96] + rpm_header([]) + rpm_header(file_list(FILES)) + cpio([other, *FILES])
    assert "its list of files has no boot/vmlinuz-other" in message(package)


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_a_checksum_beside_an_image_is_no_other(write):
    assert read(write([*FILES, File(f"{VMLINUZ}.hmac", b"0")])) == (VMLINUZ, IMAGE)


@pytest.mark.parametrize("listed", [True, False])
def test_a_package_without_image_says_which_one_has_it(listed):
    expected = "package: a package without kernel image (boot/vmlinuz-*, lib/modules/*/vmlinuz); "
    expected += "give the package that holds it: linux-binary-*"
    assert message(write_deb([MODULE], md5sums=listed)).startswith(expected)
    assert message(write_rpm([MODULE], listed=listed)).startswith(expected)


def test_the_image_is_taken_without_unpacking_what_follows():
    """What lies behind the image is damaged, which nobody sees."""
    package = bytearray(write_deb([*FILES[:2], File("usr/lib/x", bytes(1 << 20))], compression=""))
    package[-(1 << 20) - 1024 - 300] ^= 0xFF  # in the header of the last file
    assert read(bytes(package)) == (VMLINUZ, IMAGE)


DEB, RPM = write_deb(FILES, compression=""), write_rpm(FILES, compression="")
CONTROL = ("control.tar", tar([]))


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (b"!<arch>\n", "package+0x8: damaged package: no part data.tar"),
        (b"!<arch>\n" + bytes(60), "package+0x8: damaged package: no header of a part"),
        (DEB[:-512], "damaged package: a part ends after the file"),
        (ar([CONTROL, ("data.tar", b"x" * 512)]), "damaged tar archive at unpacked offset 0x200"),
        (ar([CONTROL, ("data.tar", tar(FILES)[:1500])]), "damaged tar archive"),
        (ar([CONTROL, ("data.tar", tar(FILES[1:])[:1500])]), "ends after 988 of"),
        (ar([CONTROL, ("data.tar.xz", b"\xfd7zXZ\0" + bytes(99))]), "damaged xz data: "),
        (ar([CONTROL, ("data.tar.gz", b"\x1f\x8b" + bytes(99))]), "damaged gzip data: "),
        (ar([CONTROL, ("data.tar.zst", b"\x28\xb5\x2f\xfd" + bytes(99))]), "damaged"),
        (b"\xed\xab\xee\xdb", "package+0x4: 16 bytes expected at 0x60"),
        (RPM[:96] + bytes(100), "package+0x60: damaged package: no header structure"),
        (write_rpm([MODULE], compression="", listed=False)[:-80], "damaged cpio archive"),
        (RPM[: RPM.index(IMAGE) + 5], "ends after 5 of"),
    ],
)
def test_damaged_packages_get_one_line(package, expected):
    text = message(package)
    assert expected in text
    assert re.fullmatch(r"package[^\n]*: [^\n]+; [^\n]+", text)


@pytest.mark.parametrize("compression", ["zst", "gz", "xz", ""])
@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_package_that_is_a_tar_archive(tmp_path, compression, style):
    """Arch's .pkg.tar.zst, Slackware's .txz, make tar-pkg; they were called no kernel image."""
    path = tmp_path / "linux.pkg.tar"
    name = "usr/lib/modules/6.99.1-arch1-1/vmlinuz"
    archive = tar([File(".PKGINFO", b"pkgname = linux\n"), File(name, IMAGE), MODULE], style)
    path.write_bytes(COMPRESSORS[compression](archive))
    image = load_image(path)
    assert (image.member, image.release) == (name, RELEASE)
    path.write_bytes(tar([MODULE]))
    with pytest.raises(KernelImageError, match="a package without kernel image"):
        load_image(path)


def test_alpine_s_package_of_several_streams(tmp_path):
    """Signature, control and data are a gzip stream each, and one tar archive together."""
    path = tmp_path / "linux-lts.apk"
    parts = (tar([file])[:-1024].rstrip(b"\0") for file in (File(".SIGN.RSA.x", b"s" * 512),))
    first = b"".join(part + bytes(-len(part) % 512) for part in parts)
    path.write_bytes(gzip.compress(first) + gzip.compress(tar([File("boot/vmlinuz-lts", IMAGE)])))
    assert load_image(path).member == "boot/vmlinuz-lts"


def test_members_by_number_as_rpm_has_them_in_format_6():
    """They were called a damaged archive."""
    others = [File("boot/vmlinuz-link", target="../x"), File("boot/vmlinuz-ghost", ghost=True)]
    files = [*others, *FILES, File("usr/odd", b"123")]
    for compression in ("zst", ""):
        assert read(write_rpm(files, compression=compression, stripped=True)) == (VMLINUZ, IMAGE)
    assert "a package without kernel image" in message(write_rpm(others, stripped=True))
    assert "damaged cpio archive" in message(write_rpm(FILES, listed=False, stripped=True))


def test_of_hard_links_by_number_the_last_has_the_content():
    """rpm lib/rpmfi.c iterReadArchiveNext()."""
    files = [File("boot/config-6.99.1", IMAGE), File(VMLINUZ, IMAGE), MODULE]
    inodes = [
        (1095, 4, 3, struct.pack(">3I", 1, 1, 1)),
        (1096, 4, 3, struct.pack(">3I", 7, 7, 8)),
    ]
    archive = stripped_cpio([File("first of the links"), *files[1:]])
    package = RPM[:96] + rpm_header([]) + rpm_header([*file_list(files), *inodes]) + archive
    assert read(package) == (VMLINUZ, IMAGE)


def test_a_list_of_files_that_cannot_be_is_none():
    """The archive decides then."""
    entries = file_list(FILES)
    without_modes = [*entries[:1], *entries[2:]]
    for wrong in (without_modes, [(1116, 4, 3, b"\xff" * 12), *entries[:3], *entries[4:]]):
        blob = RPM[:96] + rpm_header([]) + rpm_header(wrong)
        assert read(blob + cpio(FILES)) == (VMLINUZ, IMAGE)


def of_size(header: bytes, size: bytes) -> bytes:
    """A tar header that claims this size, with its checksum."""
    changed = header[:124] + size + header[136:148] + b" " * 8 + header[156:]
    return changed[:148] + b"%06o\0 " % sum(changed) + changed[156:]


def test_large_name_fields_are_refused_before_they_are_read():
    header = of_size(tar([File("x" * 200, b"")])[:512], b"77777777777\0")
    package = ar([CONTROL, ("data.tar", bytes(header))])
    assert "damaged tar archive" in message(package)
    assert "damaged cpio archive" in message(RPM[: RPM.index(b"070701")] + b"070701" + b"f" * 104)


def test_an_image_larger_than_any_is_refused_before_it_is_read():
    header = of_size(tar([File(VMLINUZ, b"")])[:512], b"77777777777\0")
    text = message(ar([CONTROL, ("data.tar", bytes(header))]))
    assert f"({VMLINUZ}): an image of 8589934591 bytes, the limit is " in text


def test_the_kernel_of_a_unified_kernel_image(tmp_path):
    path = tmp_path / "linux.efi"
    path.write_bytes(write_uki(IMAGE))
    assert load_image(path).release == RELEASE
    path.write_bytes(write_uki(IMAGE, b".other"))
    with pytest.raises(KernelImageError, match="neither a Linux setup header"):
        load_image(path)
    path.write_bytes(write_uki(IMAGE)[:-1])
    with pytest.raises(KernelImageError, match=r"linux.efi\+0x.*the file is truncated"):
        load_image(path)


def test_a_unified_image_of_two_kernels_is_that_of_neither(tmp_path):
    """A profile may have a kernel of its own: "Multi-Profile UKIs" of the UAPI group."""
    path = tmp_path / "linux.efi"
    path.write_bytes(write_uki(IMAGE, b".linux", (b".profile", b"ID=b"), (b".linux", IMAGE)))
    with pytest.raises(KernelImageError, match="a unified image of 2 kernels, of which its profi"):
        load_image(path)


def test_a_unified_image_for_another_architecture_is_named(tmp_path):
    path = tmp_path / "linux.efi"
    path.write_bytes(write_uki(b"MZ".ljust(0x38, b"\0") + b"ARM\x64" + bytes(0x400)))
    with pytest.raises(KernelImageError, match=r"\(.linux\).*: a kernel for arm64"):
        load_image(path)


@pytest.mark.parametrize("place", ["vmlinux", "arch/x86/boot/bzImage", "vmlinuz"])
def test_the_kernel_of_a_build_tree(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Kernel().elf(symtab=True) if place == "vmlinux" else IMAGE)
    assert load_image(tmp_path).path == str(path)


def test_the_linked_kernel_of_a_build_tree_comes_first(tmp_path):
    (tmp_path / "vmlinux").write_bytes(Kernel(kallsyms=False).elf(symtab=True))
    (tmp_path / "vmlinuz").write_bytes(b"not read")
    assert load_image(tmp_path).symbols.address("function_1") == TEXT + 32


def test_a_directory_of_several_kernels_is_that_of_none(tmp_path):
    """Ubuntu's /boot/vmlinuz is a link to the latest, which need not be the one that runs."""
    for name in ("vmlinuz-6.8.0-40-generic", "vmlinuz-6.8.0-45-generic"):
        (tmp_path / name).write_bytes(IMAGE)
    (tmp_path / "vmlinuz").symlink_to("vmlinuz-6.8.0-45-generic")
    with pytest.raises(KernelImageError) as error:
        load_image(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: a directory of several kernels (vmlinuz, vmlinuz-6.8.0-40-generic); "
        "give one of them"
    )


def test_what_lies_beside_the_one_kernel_of_a_directory_is_no_other(tmp_path):
    """Fedora's /lib/modules/RELEASE holds a unified image of the same kernel and checksums."""
    (tmp_path / "vmlinuz-6.8").write_bytes(IMAGE)
    (tmp_path / "vmlinuz").symlink_to("vmlinuz-6.8")
    for name in ("vmlinuz-virt.efi", "vmlinuz-6.8.hmac", "vmlinuz.sig", "config-6.8"):
        (tmp_path / name).write_bytes(b"not read")
    assert load_image(tmp_path).release == RELEASE


def test_a_directory_without_kernel(tmp_path):
    with pytest.raises(KernelImageError) as error:
        load_image(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: a directory without kernel (vmlinux, arch/x86/boot/bzImage, vmlinuz); "
        "give an image, or the directory a kernel was built in"
    )


@settings(max_examples=200)
@given(st.sampled_from([DEB, RPM, write_deb(FILES), write_rpm(FILES)]), st.data())
def test_mutated_packages_give_an_image_or_one_line(package, data):
    blob = bytearray(package)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(8, 0x800) | st.integers(8, len(blob) - 1))
        blob[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(blob)) | st.integers(8, len(blob)))
    assert re.fullmatch(r"read|package[^\n]*: [^\n]+; [^\n]+", outcome(bytes(blob[:cut])))


def outcome(package: bytes) -> str:
    try:
        read(package)
    except KernelImageError as error:
        return str(error)
    return "read"
