# SPDX-License-Identifier: GPL-2.0-or-later
"""Tools that name the hypervisor are heard where CPUID shows none, and never against it."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.facts import from_snapshot

ROME = (Path(__file__).parents[2] / "data" / "simulated" / "epyc_rome.txt").read_text()
#: hostnamectl of systemd 257.
HOSTNAMECTL = (
    " Static hostname: h\n       Icon name: computer-vm\n         Chassis: vm\n"
    "  Virtualization: kvm\nOperating System: Debian GNU/Linux 13 (trixie)\n"
    "          Kernel: Linux 6.12.48+deb13-amd64\n    Architecture: x86-64\n"
)


def hypervisor(text: str) -> tuple[object, object, object]:
    facts = from_snapshot(parse_snapshot(text, "file"))
    return tuple(facts[name].value for name in ("hypervisor", "hypervisor_name", "jumped_by"))  # type: ignore[return-value]


BARE = (False, "none", "kernel")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("$ systemd-detect-virt\nkvm\n$\n", (True, "KVM", "kernel")),
        ("root@h:~# systemd-detect-virt --vm\nmicrosoft\nroot@h:~#\n", (True, "Hyper-V", None)),
        ("$ systemd-detect-virt\namazon\n$\n", (True, None, None)),
        ("# virt-what\nkvm\naws\n#\n", (True, "KVM", "kernel")),
        # xen-dom0 asks Xen to jump; its CPUID is the machine's.
        ("# virt-what\nxen\nxen-dom0\n#\n", (True, "Xen", "xen")),
        ("# virt-what\nxen-dom0\n#\n", (True, "Xen", "xen")),
        ("# virt-what\nxen\nxen-domU\n#\n", (True, "Xen", None)),
        (f"$ hostnamectl\n{HOSTNAMECTL}", (True, "KVM", "kernel")),
        # None of these denies or names one.
        ("$ systemd-detect-virt\nnone\n$\n", BARE),
        ("$ systemd-detect-virt\nlxc\n$\n", BARE),
        ("$ systemd-detect-virt -c\nkvm\n$\n", BARE),
        ("$ systemd-detect-virt\nbash: systemd-detect-virt: command not found\n$\n", BARE),
        ("systemd-detect-virt says\nkvm\n", BARE),
        ("$ systemd-detect-virt\nkvm", BARE),  # it may be cut
    ],
)
def test_what_stands_behind_a_dump(told: str, expected: tuple[object, object, object]) -> None:
    assert hypervisor(f"{ROME}\n{told}") == expected


def test_two_tools_that_disagree_prove_that_there_is_one() -> None:
    told = "$ systemd-detect-virt\nxen\n$ virt-what\nkvm\n$\n"
    assert hypervisor(f"{ROME}\n{told}") == (True, None, None)


def test_hostnamectl_alone_tells_its_hypervisor_or_is_refused_by_its_name() -> None:
    assert hypervisor(HOSTNAMECTL)[:2] == (True, "KVM")
    with pytest.raises(EvidenceError, match="is the output of hostnamectl"):
        parse_snapshot(HOSTNAMECTL.replace("  Virtualization: kvm\n", ""), "file")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("none", (None, None, None)),
        ("sev", ("AuthenticAMD", True, None)),
        ("sev-es", ("AuthenticAMD", True, True)),
        # Below Hyper-V it is told by the isolation alone, and SEV_STATUS is hidden.
        ("sev-snp", ("AuthenticAMD", None, None)),
        ("tdx", ("GenuineIntel", False, False)),
    ],
)
def test_systemd_names_a_confidential_guest(word: str, told: tuple[object, ...]) -> None:
    """Of systemd 254 src/basic/confidential-virt.c; the text was of no known format."""
    text = f"# systemd-detect-virt\nkvm\n# systemd-detect-virt --cvm\n{word}\n#\n"
    facts = from_snapshot(parse_snapshot(text, "file"))
    names = ("vendor", "sev_guest", "sev_es_guest")
    assert tuple(facts[name].value for name in names) == told
    assert facts["hypervisor"].value is True


def test_systemd_says_how_it_found_a_hypervisor() -> None:
    """As systemd/systemd issue 8844 has it."""
    text = (
        "guest1 % SYSTEMD_LOG_LEVEL=debug systemd-detect-virt\n"
        "Found container virtualization none.\nFound VM virtualization xen\nxen\n"
    )
    assert hypervisor(text)[:2] == (True, "Xen")
