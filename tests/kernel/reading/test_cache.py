# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache gives back what was read, by this code, of this file; or nothing."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from staleline.kernel.file.source import file_digest
from staleline.kernel.reading import cache as cache_module
from staleline.kernel.reading.cache import ReadingCache, default_directory, edition
from staleline.kernel.reading.document import ImageDocument

DIGEST = "ab" * 32
DOCUMENT = cast("ImageDocument", {"sha256": DIGEST, "release": "6.12.107", "bugs": ["é"]})


@pytest.fixture
def kept(tmp_path: Path) -> ReadingCache:
    cache = ReadingCache(tmp_path / "readings")
    cache.put(DOCUMENT)
    return cache


def entry(cache: ReadingCache) -> Path:
    (path,) = cache.directory.iterdir()
    return path


def test_what_was_put_is_found_and_nothing_else(kept: ReadingCache) -> None:
    assert kept.get(DIGEST) == DOCUMENT
    assert kept.get("cd" * 32) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_makes_it_no_entry(kept: ReadingCache, place: float, flip: int) -> None:
    path = entry(kept)
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[int(place * len(sound))] ^= flip
    path.write_bytes(damaged)
    try:
        assert kept.get(DIGEST) is None
    finally:
        path.write_bytes(sound)


@pytest.mark.parametrize("length", [0, 1, 64, 65, 80])
def test_a_truncated_entry_is_none_and_is_written_again(kept: ReadingCache, length: int) -> None:
    entry(kept).write_bytes(entry(kept).read_bytes()[:length])
    assert kept.get(DIGEST) is None
    kept.put(DOCUMENT)
    assert kept.get(DIGEST) == DOCUMENT


def test_other_code_does_not_see_it_and_takes_its_place(
    kept: ReadingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = entry(kept)
    monkeypatch.setattr(cache_module, "edition", lambda: "0123456789abcdef")
    assert kept.get(DIGEST) is None
    kept.put(DOCUMENT)
    assert kept.get(DIGEST) == DOCUMENT
    assert entry(kept) != old


def test_the_edition_follows_every_module_that_reads_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "staleline"
    for name in ("kernel", "policy", "evidence"):
        (package / name).mkdir(parents=True)
        (package / name / "some.py").write_text("answer = 1\n")
    (package / "errors.py").write_text("")
    monkeypatch.setattr(cache_module, "_PACKAGE", package)
    editions = {edition.__wrapped__()}
    for name in ("kernel/some.py", "policy/some.py", "evidence/some.py", "errors.py"):
        (package / name).write_text("answer = 2\n")
        editions.add(edition.__wrapped__())
    (package / "policy" / "new.toml").write_text("")
    editions.add(edition.__wrapped__())
    assert len(editions) == 6


@pytest.mark.parametrize("library", ["unicorn", "capstone"])
def test_the_edition_follows_what_runs_code_and_what_decodes_it(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    before, installed = edition.__wrapped__(), cache_module._installed
    changed = {library: b"since"}
    monkeypatch.setattr(
        cache_module, "_installed", lambda name: changed.get(name) or installed(name)
    )
    assert edition.__wrapped__() != before


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ReadingCache(tmp_path / "file" / "readings")
    cache.put(DOCUMENT)
    assert cache.get(DIGEST) is None


def test_nothing_is_left_of_an_interrupted_write(
    kept: ReadingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = entry(kept).read_bytes()
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.put(DOCUMENT)
    assert entry(kept).read_bytes() == before


def test_the_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "staleline" / "readings"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/invalid")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_directory() == Path("/home/someone/.cache/staleline/readings")


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"vmlinuz")
    assert file_digest(tmp_path / "image") == hashlib.sha256(b"vmlinuz").hexdigest()


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_what_others_may_write_to_is_not_believed(kept: ReadingCache, mode: int) -> None:
    entry(kept).chmod(mode & 0o666)
    assert kept.get(DIGEST) is None
    entry(kept).chmod(0o600)
    assert kept.get(DIGEST) == DOCUMENT
    kept.directory.chmod(mode)
    assert kept.get(DIGEST) is None


def test_nothing_is_written_where_others_may_write(tmp_path: Path) -> None:
    open_to_all = tmp_path / "readings"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    ReadingCache(open_to_all).put(DOCUMENT)
    assert not list(open_to_all.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_another_user_owns_is_neither_believed_nor_written(kept: ReadingCache) -> None:
    os.chown(entry(kept), 65534, 65534)
    assert kept.get(DIGEST) is None
    entry(kept).unlink()
    os.chown(kept.directory, 65534, 65534)
    kept.put(DOCUMENT)
    assert not list(kept.directory.iterdir())


def test_a_symbolic_link_is_not_followed(kept: ReadingCache, tmp_path: Path) -> None:
    path = entry(kept)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert kept.get(DIGEST) is None
    link = tmp_path / "link"
    path.unlink()
    link.symlink_to(kept.directory)
    ReadingCache(link).put(DOCUMENT)
    assert not list(kept.directory.iterdir())


def test_a_fifo_in_its_place_does_not_block(kept: ReadingCache) -> None:
    path = entry(kept)
    path.unlink()
    os.mkfifo(path)
    assert kept.get(DIGEST) is None


def test_a_directory_that_it_makes_is_its_own(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        cache = ReadingCache(tmp_path / "some" / "readings")
        cache.put(DOCUMENT)
    finally:
        os.umask(before)
    assert cache.get(DIGEST) == DOCUMENT


@pytest.mark.parametrize("body", ["nonsense", "[]", '{"sha256": "cd"}', "[" * 100_000])
def test_what_is_whole_and_of_another_form_is_no_entry(kept: ReadingCache, body: str) -> None:
    sound = hashlib.sha256(body.encode()).hexdigest()
    entry(kept).write_text(f"{sound}\n{body}")
    assert kept.get(DIGEST) is None
    body = json.dumps(DOCUMENT)
    entry(kept).write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")
    assert kept.get(DIGEST) == DOCUMENT


def test_a_file_larger_than_any_image_is_not_digested(tmp_path: Path) -> None:
    """A hole of 64 GiB costs nothing to make, and minutes to read."""
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(64 << 30)
    with pytest.raises(OSError, match="large"):
        file_digest(tmp_path / "hole")
