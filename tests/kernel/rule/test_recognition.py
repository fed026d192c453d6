# SPDX-License-Identifier: GPL-2.0-or-later
"""An image is recognised by what it does, whole or site by site; its release only orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.rule.imagepolicy import ImagePolicy, image_policy
from staleline.kernel.rule.truthrows import TruthTable
from staleline.policy.catalogue import catalogue
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import atoms_read
from staleline.policy.policy import Policy
from staleline.policy.smt import equivalent
from staleline.vocabulary import ReportOrder, Site
from tests.kernel.eras import boot_cpu_has_sme, cache_state_incoherent, sme_active, sme_in_cpuid
from tests.kernel.tables import Rule, can_exist, combinations, named_as_in_the_kernel, table

BEFORE, AFTER = ReportOrder.BEFORE_FLUSH, ReportOrder.AFTER_FLUSH
NEITHER = ("seamcalled", "snp_host")


def by_the_source(formula) -> Rule:
    """A formula of `tests.kernel.eras` as a rule."""
    return lambda facts: formula(named_as_in_the_kernel(facts))


def never(facts) -> bool:
    return False


def always(facts) -> bool:
    return True


def sme_unchecked(facts: RawFacts) -> bool:
    """cpuid_eax(0x8000001f) & BIT(0): commit 08f253ec3767, in 5.18 to 6.4."""
    return facts.sme


def flag_or_seamcall(facts) -> bool:
    """The flag is set by __seamcall_dirty_cache() too: 7.3.4 seamcall_internal.h:40."""
    return by_the_source(cache_state_incoherent)(facts) or facts.seamcalled


SME_ACTIVE = by_the_source(sme_active)
IN_CPUID = by_the_source(sme_in_cpuid)
FLAG = by_the_source(cache_state_incoherent)


@dataclass(frozen=True)
class Image:
    """What an image does, and which code it has."""

    stop_this_cpu: Rule
    relocate_kernel: Rule
    reported: ReportOrder = AFTER
    lacks: tuple[str, ...] = ()
    encrypts: Rule = SME_ACTIVE

    def policy(self, release: str | None = None) -> ImagePolicy:
        optional = [
            fact
            for fact, atom in (("tdx_keyids", 0), ("seamcalled", 0), ("snp_host", 1))
            if NEITHER[atom] not in self.lacks
        ]
        found = table(
            self.stop_this_cpu,
            self.relocate_kernel,
            never if "snp_host" in self.lacks else lambda facts: facts.snp_host,
            encrypts=self.encrypts,
            reported=self.reported,
            rows=combinations(*optional),
        )
        return image_policy(found, lacks=self.lacks, release=release)


# Formulas: tests/kernel/eras.py, with file and line. 4.14: commit bba4ed011a52. crash_nmi_callback:
# kdump_sev_callback(), linux 6.12.117 arch/x86/kernel/reboot.c, since 6.9 (commit 8ef979584ea8).
IMAGES: Mapping[str, tuple[Image, tuple[str, ...]]] = {
    "4.14": (Image(always, SME_ACTIVE, BEFORE, NEITHER), ("linux-4.14",)),
    "5.10": (
        Image(by_the_source(boot_cpu_has_sme), SME_ACTIVE, BEFORE, NEITHER),
        ("linux-4.15",),
    ),
    "5.19": (Image(sme_unchecked, SME_ACTIVE, BEFORE, NEITHER), ("linux-5.18",)),
    "6.1": (Image(IN_CPUID, SME_ACTIVE, AFTER, NEITHER), ("linux-6.5",)),
    "6.12": (Image(IN_CPUID, SME_ACTIVE, AFTER, ("seamcalled",)), ("linux-6.5",)),
    "6.12-tdx": (Image(IN_CPUID, SME_ACTIVE), ("linux-6.5",)),
    "6.18": (Image(FLAG, FLAG, AFTER, ("seamcalled",)), ("linux-6.18", "linux-7.2")),
    "6.18-tdx": (Image(flag_or_seamcall, flag_or_seamcall), ("linux-6.18", "linux-7.2")),
    "7.3": (Image(FLAG, FLAG, AFTER, NEITHER), ("linux-7.2", "linux-6.18")),
    "7.3-tdx": (Image(flag_or_seamcall, flag_or_seamcall), ("linux-7.2", "linux-6.18")),
}


@pytest.mark.parametrize("release", IMAGES)
def test_every_era_is_recognised(release: str) -> None:
    image, names = IMAGES[release]
    found = image.policy(release)
    assert found.equals == names
    assert found.reported is image.reported
    assert found.unknown == ()


def test_the_release_orders_and_decides_nothing() -> None:
    image, names = IMAGES["6.18"]
    assert image.policy("5.10.0-46-amd64").equals == names
    assert image.policy(None).equals == names
    assert image.policy("7.3.4+deb13-amd64").equals == tuple(reversed(names))


def test_a_kernel_with_tdx_host_code_that_does_not_count_seamcalls_is_not_linux_6_18() -> None:
    assert Image(FLAG, FLAG).policy("6.18").equals == ()


def test_a_backport_of_one_site_is_told_site_by_site() -> None:
    found = Image(FLAG, SME_ACTIVE, lacks=NEITHER).policy("6.12")
    assert found.equals == ()
    assert found.rules[Site.STOP_THIS_CPU].equals == ("linux-6.18", "linux-7.2")
    assert found.rules[Site.RELOCATE_KERNEL].equals[0] == "linux-6.5"


def test_the_order_of_the_stop_protocol_is_part_of_a_policy() -> None:
    found = Image(IN_CPUID, SME_ACTIVE, BEFORE, NEITHER).policy("6.1")
    assert found.equals == ()
    assert found.rules[Site.STOP_THIS_CPU].equals == ("linux-6.5",)


def test_without_memory_encryption_no_flush_in_relocate_kernel_is_the_same_rule() -> None:
    found = Image(IN_CPUID, never, AFTER, NEITHER, encrypts=never).policy("6.12")
    assert str(found.encrypts.condition) == "false"
    assert found.equals == ("linux-6.5",)
    encrypting = Image(IN_CPUID, never, AFTER, NEITHER).policy("6.12")
    assert encrypting.equals == ()


def test_where_encryption_is_unknown_no_rule_about_it_is_recognised() -> None:
    found = Image(IN_CPUID, SME_ACTIVE, AFTER, NEITHER, encrypts=lambda facts: None).policy("6.12")
    assert found.equals == ()
    assert found.rules[Site.STOP_THIS_CPU].equals == ("linux-6.5",)
    condition = str(found.rules[Site.RELOCATE_KERNEL].condition)
    assert condition == "not hypervisor and sme_enabled and mem_encrypt"
    assert found.unknown == ("encryption: on every machine: sme_me_mask was not derived",)


def test_a_site_that_was_not_read_is_left_out_and_named() -> None:
    rows = combinations()
    found = image_policy(table(IN_CPUID, SME_ACTIVE, None, rows=rows), lacks=NEITHER)
    assert found.equals == ("linux-6.5",)
    assert found.unread == (Site.CRASH_NMI_CALLBACK,)
    assert found.unknown == ("crash_nmi_callback: not read",)


def test_without_the_secondaries_site_there_is_nothing_to_recognise() -> None:
    found = table(IN_CPUID, SME_ACTIVE, rows=combinations())
    rows = tuple(
        replace(row, sites={Site.RELOCATE_KERNEL: row.sites[Site.RELOCATE_KERNEL]})
        for row in found.rows
    )
    policy = image_policy(TruthTable(rows, found.runs), lacks=NEITHER)
    assert "linux-6.5" in policy.rules[Site.RELOCATE_KERNEL].equals
    assert policy.equals == ()


def test_a_site_that_is_unknown_somewhere_equals_nothing() -> None:
    def open_on_hygon(facts):
        return None if facts.vendor == "HygonGenuine" else IN_CPUID(facts)

    found = Image(open_on_hygon, SME_ACTIVE, AFTER, NEITHER).policy("6.12")
    assert found.equals == ()
    assert found.rules[Site.STOP_THIS_CPU].equals == ()


def test_an_order_that_was_not_established_is_unknown() -> None:
    found = image_policy(
        table(IN_CPUID, SME_ACTIVE, reported=None, rows=combinations()), lacks=NEITHER
    )
    assert found.reported is None
    assert found.equals == ()
    assert found.unknown == ("stop_this_cpu: the order of report and flush was not established",)


def test_an_order_that_differs_between_machines_is_unknown() -> None:
    found = table(IN_CPUID, SME_ACTIVE, rows=combinations())
    rows = tuple(
        replace(row, reported=BEFORE if row.facts.sev and row.reported else row.reported)
        for row in found.rows
    )
    policy = image_policy(TruthTable(rows, found.runs), lacks=NEITHER)
    assert policy.reported is None
    assert policy.equals == ()
    assert "not the same on every machine" in policy.unknown[0]


def test_no_flush_has_no_order() -> None:
    found = Image(never, never, AFTER, NEITHER).policy()
    assert found.reported is None
    assert found.unknown == ()


# The whole catalogue


def said_of_rows(policy: Policy) -> bool:
    """TDX guests are in no row."""
    return all("tdx_guest" not in atoms_read(policy.condition(site)) for site in Site)


def rule_of(policy: Policy, site: Site) -> Rule:
    condition = policy.condition(site)
    return lambda facts: evaluate(condition, facts.atoms())


def image_of(policy: Policy) -> ImagePolicy:
    rules = [rule_of(policy, site) for site in Site]
    rows = tuple(filter(can_exist, combinations("tdx_keyids", "seamcalled", "snp_host")))
    return image_policy(table(*rules, reported=policy.reported, rows=rows))


CATALOGUE = {name: policy for name, policy in catalogue().items() if said_of_rows(policy)}


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_policy_recognises_itself_and_only_its_equals(name: str) -> None:
    policy = catalogue()[name]
    found = image_of(policy)
    assert name in found.equals
    for other in found.equals:
        for site in Site:
            assert equivalent(policy.condition(site), catalogue()[other].condition(site))


def test_only_one_policy_speaks_of_tdx_guests() -> None:
    assert set(catalogue()) - set(CATALOGUE) == {"not-encrypted-guest"}


def test_proposals_come_last() -> None:
    found = Image(IN_CPUID, SME_ACTIVE, AFTER, NEITHER).policy("6.12")
    names = found.rules[Site.CRASH_NMI_CALLBACK].equals
    proposed = [catalogue()[name].proposed is not None for name in names]
    assert proposed == sorted(proposed)
    assert names[0] == "linux-6.5"
