# SPDX-License-Identifier: GPL-2.0-or-later
"""How images are reported: what a reader must not miss is there, at every width."""

from __future__ import annotations

import io
from typing import cast

import pytest
from rich.console import Console

from staleline.kernel.reading.document import ImageDocument, PlaceDocument, RuleDocument
from staleline.kernel.reading.imagereport import ImageReport
from staleline.report.images.kernel_text import print_image, print_images


def rule(condition: str | None, *reads: str, unknown: tuple[str, ...] = ()) -> RuleDocument:
    return {
        "condition": condition,
        "reads": list(reads),
        "equals": [],
        "unknown": list(unknown),
    }


def place(function: str, phase: str | None) -> PlaceDocument:
    role = None if phase is None else "some role"
    return {
        "function": function,
        "address": "0xffffffff81050900",
        "reach": "inline",
        "callee": None,
        "keeps_lines": False,
        "role": role,
        "phase": phase,
        "when": role and "always",
        "kexec": role and "nothing",
        "source": role and "some file",
    }


def image(release: str, **changes: object) -> ImageDocument:
    """A kernel as of 6.12, with changes."""
    document = {
        "sha256": "00" * 32,
        "member": None,
        "release": release,
        "banner": None,
        "build_id": "0123456789abcdef",
        "package": None,
        "version": None,
        "title": "Checked leaf",
        "bugs": [],
        "nearest": None,
        "inventory": {"places": [place("stop_this_cpu", "kexec")], "undecided": []},
        "offline": {},
        "inputs": {},
        "not_varied": {},
        "after_flush": {},
        "crash_relocate_kernel": None,
        "policy": "linux-6.5",
        "equals": ["linux-6.5"],
        "reported_stopped": "after-flush",
        "lacks": [],
        "sites": {
            "stop_this_cpu": rule("sme_supported", "sme_supported"),
            "relocate_kernel": rule("sme_active", "mem_encrypt"),
            "crash_nmi_callback": rule("false"),
        },
        "encrypts": rule("sme_enabled and mem_encrypt", "sme_enabled", "mem_encrypt"),
        "unknown": [],
        "runs": 1,
        "truth_table": [],
    }
    return cast("ImageDocument", {**document, **changes})


def asleep(*lines: str) -> dict[str, object]:
    stores = [
        {
            "line": line,
            "code": "some_function+0x1",
            "address": "0x1000",
            "physical": "0x1000",
            "size": 8,
            "through": "own",
            "fate": "left-behind",
        }
        for line in lines
    ]
    return {"flushes": True, "unknown": None, "stores": stores}


def way(name: str, *lines: str) -> dict[str, object]:
    return {"way": name, "by_mwait": False, "asleep": asleep(*lines), "woken": None}


NOT_IN_CATALOGUE: dict[str, object] = {"policy": None, "equals": [], "title": None}


def one(
    document: ImageDocument, width: int = 100, *, full: bool = False, all_sites: bool = False
) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_image(console, ImageReport("/boot/vmlinuz", document), full=full, all_sites=all_sites)
    return printed(console, width)


def many(*documents: ImageDocument | str, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    reports = [
        ImageReport(one, error=f"{one}: bad")
        if isinstance(one, str)
        else ImageReport("/boot/x", one)
        for one in documents
    ]
    print_images(console, reports)
    return printed(console, width)


def printed(console: Console, width: int) -> str:
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    return text


def words(text: str) -> str:
    return " ".join(text.split())


def test_always_never_and_unknown_are_words() -> None:
    sites = {
        "stop_this_cpu": rule("true"),
        "relocate_kernel": rule("false"),
        "crash_nmi_callback": rule(None, unknown=("int3 at crash_nmi_callback+0x0",)),
    }
    reason = "crash_nmi_callback: int3 at crash_nmi_callback+0x0"
    text = words(one(image("6.12", sites=sites, unknown=[reason])))
    assert "secondaries always WBINVD" in text
    assert "jumping CPU never WBINVD" in text
    assert "secondaries, crash WBINVD unknown" in text
    assert f"unknown {reason}" in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_race_is_told_wherever_an_image_is(width: int) -> None:
    racing = image("5.10", reported_stopped="before-flush")
    assert "race" in words(one(racing, width))
    first, second = many(racing, image("6.12"), width=width).splitlines()[1:3]
    assert "race" in first
    assert "race" not in second


def test_a_rule_of_no_catalogue_names_the_nearest_and_where_it_differs() -> None:
    nearest = {
        "policy": "linux-6.5",
        "same": ["stop_this_cpu"],
        "other": ["relocate_kernel", "reported_stopped"],
    }
    own = image("6.12.99", **NOT_IN_CATALOGUE, nearest=nearest)
    text = words(one(own))
    assert "not in the catalogue; nearest is linux-6.5" in text
    assert "differs at relocate_kernel and reported stopped" in text
    assert "not in catalogue" in many(own, image("6.12")).splitlines()[1]
    assert "not in the catalogue" in words(one(image("1", **NOT_IN_CATALOGUE)))


def test_the_crash_path_of_the_jumping_cpu_is_told_if_it_differs() -> None:
    assert "jumping CPU, crash" not in one(image("6.12"))
    crashing = image("7.3", crash_relocate_kernel=rule("true"))
    assert "jumping CPU, crash always WBINVD" in words(one(crashing))


def test_a_flush_in_no_list_is_a_finding_and_others_are_counted() -> None:
    places = [
        place("stop_this_cpu", "kexec"),
        place("native_play_dead", "offline"),
        place("drm_clflush_sg", "running"),
        place("frobnicate_caches", None),
    ]
    inventory = {"places": places, "undecided": ["0xffffffff81000000"]}
    own = image("6.12", inventory=inventory)
    text = words(one(own))
    assert "on a kexec: stop_this_cpu" in text
    assert "when a CPU goes offline: native_play_dead" in text
    assert "at other times: 1 function" in text
    assert "in no list, so nobody looked when: frobnicate_caches" in text
    assert "0xffffffff81000000" in text
    assert "drm_clflush_sg" not in text
    assert "drm_clflush_sg 0xffffffff81050900: WBINVD inline" in words(one(own, all_sites=True))
    assert "WBINVD in no list" in many(own, image("6.1")).splitlines()[1]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_images_that_do_alike_share_a_rule_and_others_do_not(width: int) -> None:
    snp = {**image("")["sites"], "crash_nmi_callback": rule("snp_host", "snp_host")}
    text = many(
        image("6.12.1-cloud-amd64"),
        image("6.12.1-amd64", sites=snp),
        image("6.16.12+deb13-cloud-amd64"),
        "/boot/broken",
        width=width,
    )
    assert words(text).count("linux-6.5: Checked leaf") == 2
    assert "kernels 6.12.1-cloud-amd64, 6.16.12+deb13-cloud-amd64" in words(text)
    assert "kernels 6.12.1-amd64" in words(text)
    assert "/boot/broken" in text
    assert "not read" in text


def test_names_cannot_write_markup() -> None:
    assert "[bold]6.12[/]" in one(image("[bold]6.12[/]"))
    assert "[bold]6.12[/]" in many(image("[bold]6.12[/]"), image("6.1"))


def test_what_could_not_be_varied_is_told_in_full_only() -> None:
    why = "sme_enable() on CPU 0 did not return: fault at sev_es_terminate+0x2a"
    document = image("6.16", not_varied={"MSR 0xc0010131[2]": why})
    assert f"not varied MSR 0xc0010131[2]: {why}" in words(one(document, full=True))
    assert one(document) == one(image("6.16"))
    assert "not varied" not in one(image("6.16"), full=True)


def test_what_is_left_behind_is_told_and_what_is_taken_back_is_not():
    store = {
        "line": "__gcov0.stop_this_cpu+0x28",
        "code": "stop_this_cpu+0x91",
        "address": "0xffffffff83000028",
        "physical": "0x2000028",
        "size": 8,
        "through": "own",
        "fate": "left-behind",
    }
    mask = {**store, "line": "cpus_stop_mask", "fate": "taken-back"}
    after = {"stop_this_cpu": {"leaves_behind": "sme_supported", "stores": [mask, store]}}
    text = " ".join(one(image("6.12", after_flush=after)).split())
    assert "dirty, if sme_supported" in text
    assert "__gcov0.stop_this_cpu+0x28, stored to by stop_this_cpu+0x91" in text
    assert "cpus_stop_mask" not in text


def test_cpus_that_are_offline_are_told_by_what_they_leave() -> None:
    clean, dirty = way("hlt_play_dead() by HLT"), way("acpi_idle_play_dead() by HLT", "the stack")
    found = words(one_image(image("6.12", offline={"A": [clean, dirty], "B": [clean, dirty]})))
    assert "may leave a dirty line" in found
    assert (
        "in acpi_idle_play_dead() by HLT it stores to the stack behind its WBINVD (A, B)" in found
    )
    assert "sleeps with clean caches" in words(one_image(image("6.12", offline={"A": [clean]})))


def one_image(document: ImageDocument) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_image(console, ImageReport("vmlinuz", document))
    return printed(console, 100)
