# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue says what the sources say, era by era."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.errors import PolicyError
from staleline.policy.atoms import AtomValue
from staleline.policy.catalogue import candidates, catalogue, find, series_of
from staleline.policy.policy import load_policy, parse_policy
from staleline.vocabulary import ReportOrder, Site

Facts = dict[str, AtomValue]

ROME: Facts = {
    "vendor": "AuthenticAMD",
    "max_extended_leaf": 0x8000_0020,
    "sme_supported": True,
    "sme_bit_unchecked": True,
    "sme_enabled": True,
    "sme_active": True,
    "hypervisor": False,
    "tdx_host_enabled": False,
    "seamcalled": False,
    "snp_host": False,
    "sev_supported": True,
    "sev_guest": False,
    "sev_es_guest": False,
    "tdx_guest": False,
}
NEHALEM: Facts = {
    **ROME,
    "vendor": "GenuineIntel",
    "max_extended_leaf": 0x8000_0008,
    "sme_supported": False,
    "sev_supported": False,
    "sme_enabled": False,
    "sme_active": False,
}
MEM_ENCRYPT_OFF: Facts = {**ROME, "sme_active": False}
FIRMWARE_OFF: Facts = {**MEM_ENCRYPT_OFF, "sme_enabled": False}
HYGON: Facts = {**ROME, "vendor": "HygonGenuine"}
TDX_HOST: Facts = {**NEHALEM, "sme_bit_unchecked": False, "tdx_host_enabled": True}
PLAIN_GUEST: Facts = {**NEHALEM, "hypervisor": True}
TDX_GUEST: Facts = {**PLAIN_GUEST, "tdx_guest": True}
SEV_ES_GUEST: Facts = {
    **ROME,
    "hypervisor": True,
    "sev_guest": True,
    "sev_es_guest": True,
}

# (machine, stop_this_cpu, relocate_kernel) per policy. Sources: linux 5.10.262, 6.1.192,
# 6.12.117, 7.3.4 arch/x86/kernel/process.c stop_this_cpu() and machine_kexec_64.c
# machine_kexec(); commits bba4ed011a52, f23d74f6c66c, 08f253ec3767, 9b040453d444,
# 83214a775f33; LKML 2023-11-29 for the proposal.
EXPECTED = {
    "linux-4.14": [(ROME, 1, 1), (NEHALEM, 1, 0), (MEM_ENCRYPT_OFF, 1, 0)],
    "linux-4.15": [(ROME, 1, 1), (NEHALEM, 0, 0), (MEM_ENCRYPT_OFF, 1, 0), (FIRMWARE_OFF, 0, 0)],
    "linux-5.18": [(ROME, 1, 1), (NEHALEM, 1, 0), (MEM_ENCRYPT_OFF, 1, 0), (FIRMWARE_OFF, 1, 0)],
    "linux-6.5": [(ROME, 1, 1), (NEHALEM, 0, 0), (MEM_ENCRYPT_OFF, 1, 0), (HYGON, 1, 1)],
    "linux-6.18": [(ROME, 1, 1), (NEHALEM, 0, 0), (MEM_ENCRYPT_OFF, 1, 1), (HYGON, 0, 0)],
    "host-mem-incoherent": [
        (ROME, 1, 1),
        (NEHALEM, 0, 0),
        (MEM_ENCRYPT_OFF, 1, 1),
        (HYGON, 1, 1),
        (TDX_HOST, 1, 1),
    ],
    "host-mem-incoherent-patches": [
        (ROME, 1, 1),
        (NEHALEM, 0, 0),
        (MEM_ENCRYPT_OFF, 1, 1),
        (HYGON, 1, 1),
        (TDX_HOST, 1, 1),
        (SEV_ES_GUEST, 1, 0),
    ],
    "linux-7.2": [(ROME, 1, 1), (NEHALEM, 0, 0), (MEM_ENCRYPT_OFF, 1, 1), (HYGON, 0, 0)],
    "sme-posting-2017": [(ROME, 1, 0), (MEM_ENCRYPT_OFF, 1, 0), (FIRMWARE_OFF, 0, 0)],
    "tdx-kexec-v1": [(ROME, 1, 1), (MEM_ENCRYPT_OFF, 1, 1), (FIRMWARE_OFF, 0, 0), (TDX_HOST, 1, 1)],
    "cc-vendor-moved": [(ROME, 1, 1), (FIRMWARE_OFF, 1, 1), (NEHALEM, 0, 0), (TDX_HOST, 1, 1)],
    "sme-me-mask": [(ROME, 1, 1), (MEM_ENCRYPT_OFF, 0, 0), (TDX_HOST, 1, 1)],
    "unconditional": [(ROME, 1, 1), (NEHALEM, 1, 1), (TDX_GUEST, 1, 1)],
    "not-encrypted-guest": [(NEHALEM, 1, 1), (PLAIN_GUEST, 1, 1), (TDX_GUEST, 0, 0)],
    "bare-metal": [(NEHALEM, 1, 1), (PLAIN_GUEST, 0, 0), (TDX_GUEST, 0, 0)],
}


def test_every_policy_has_an_expectation_here() -> None:
    assert set(EXPECTED) == set(catalogue())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_policy_flushes_where_its_kernels_source_says(name: str) -> None:
    policy = catalogue()[name]
    for machine, secondaries, jumping in EXPECTED[name]:
        assert policy.flushes(Site.STOP_THIS_CPU, machine) is bool(secondaries)
        assert policy.flushes(Site.RELOCATE_KERNEL, machine) is bool(jumping)


def test_the_per_cpu_flag_follows_seamcalls() -> None:
    policy = catalogue()["linux-6.18"]
    assert policy.flushes(Site.STOP_THIS_CPU, TDX_HOST) is False
    assert policy.flushes(Site.STOP_THIS_CPU, {**TDX_HOST, "seamcalled": True}) is True


def test_report_order_changed_with_6_5() -> None:
    # Linux commit 1f5e7eb7868e.
    before = {name for name, p in catalogue().items() if p.reported is ReportOrder.BEFORE_FLUSH}
    assert before == {"sme-posting-2017", "linux-4.14", "linux-4.15", "linux-5.18"}


def test_every_policy_names_its_sources() -> None:
    assert all(policy.sources for policy in catalogue().values())


@pytest.mark.parametrize(
    ("release", "names"),
    [
        ("5.10.0-46-amd64", ["linux-4.15"]),
        # 9b040453d444 and 1f5e7eb7868e are in 6.1.y, but not from its start.
        ("6.1.0-56-amd64", ["linux-5.18", "linux-6.5"]),
        ("6.12.107+deb13-amd64", ["linux-6.5"]),
        ("7.3.4+deb13-amd64", ["linux-7.2"]),
        ("6.18.44-custom", ["linux-6.18"]),
        ("3.16.0-4-amd64", []),
        ("not a release", []),
    ],
)
def test_a_release_number_names_candidates_only(release: str, names: list[str]) -> None:
    assert [policy.name for policy in candidates(release)] == names


def test_series_needs_a_whole_number() -> None:
    assert series_of("6.1000.2") is None
    assert series_of("6.18") == (6, 18)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(PolicyError, match=r"did you mean linux-6\.5"):
        find("linux-6.55")


MINIMAL = """
name = "mine"
title = "a rule of one's own"
[sites]
stop_this_cpu = "sme_supported"
relocate_kernel = "cc(ANY)"
[attributes]
ANY = "true"
"""


def test_a_policy_file_of_ones_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(MINIMAL)
    policy = find(str(file))
    assert policy.flushes(Site.RELOCATE_KERNEL, {}) is True
    assert policy.flushes(Site.STOP_THIS_CPU, {}) is None
    assert policy.reported is ReportOrder.AFTER_FLUSH


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("name =", "nam ="), "unknown key 'nam'"),
        (("stop_this_cpu", "stop_that_cpu"), "unknown site"),
        (('stop_this_cpu = "sme_supported"', ""), "stop_this_cpu is missing"),
        (("cc(ANY)", "cc(ALL)"), "cc(ALL) is not defined"),
        (('"true"', "true"), "attributes.ANY is not text"),
        (("[sites]", "[sites"), "not TOML"),
        (("[attributes]", '[protocol]\nreported_stopped = "later"\n[attributes]'), "'later'"),
        # Left out it would mean the other order.
        (
            ("[attributes]", '[protocol]\nreported_stoped = "before-flush"\n[attributes]'),
            "protocol.reported_stoped: unknown key",
        ),
        (
            ("[attributes]", "[protocol]\nreported_stopped = []\n[attributes]"),
            "reported_stopped: []",
        ),
        (
            ("[attributes]", '[kernel]\nlack = ["snp_host"]\n[attributes]'),
            "kernel.lack: unknown key",
        ),
        (
            ("[attributes]", '[kernel]\nlacks = ["sme_enabled"]\n[attributes]'),
            "kernel.lacks: 'sme_",
        ),
        # A crash passes crash_nmi_callback: for this one it would count as flushed, and be not.
        (
            ("[attributes]", '[crash]\nstop_this_cpu = "true"\n[attributes]'),
            "crash.stop_this_cpu: no CPU passes this site in a crash",
        ),
        (("[attributes]", '[releases]\nupstream = ["6.1..6.3..6.9"]\n[attributes]'), "6.3..6.9"),
        (("[attributes]", '[releases]\nupstreem = ["6.1"]\n[attributes]'), "releases.upstreem"),
        (("[attributes]", '[releases]\nupstream = ["6.9..6.1"]\n[attributes]'), "no release"),
        (("[attributes]", '[releases]\nupstream = ["6"]\n[attributes]'), "releases: '6'"),
        (('title = "a rule of one\'s own"', "title = 3"), "title is missing or not text"),
        (("[attributes]", "source = 3\n[attributes]"), "unknown site"),
    ],
)
def test_a_malformed_policy_is_refused_with_its_field(change: tuple[str, str], says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(MINIMAL.replace(*change), where="mine.toml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("mine.toml: ")


def test_files_that_are_not_policies(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    huge = tmp_path / "huge.toml"
    huge.write_text("#" * 70_000)
    for file, says in (
        (binary, r"binary\.toml\+0x0: not UTF-8"),
        (huge, "larger than"),
        (tmp_path / "absent.toml", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(PolicyError, match=says):
            load_policy(file)
