# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed between two images: where a WBINVD came or went, and what cannot be told."""

from __future__ import annotations

from staleline.kernel.rule.imagepolicy import image_policy
from staleline.kernel.rule.policychanges import policy_changes, set_change
from staleline.policy.expression import parse
from staleline.policy.smt import equivalent
from staleline.vocabulary import ReportOrder, Site
from tests.kernel.tables import combinations, machines, table


def supported(facts):
    return facts.leaf and facts.sme


def flag(facts):
    return (facts.vendor == "AuthenticAMD" and supported(facts)) or facts.seamcalled


def encrypting(facts):
    return facts.encrypts


def never(facts):
    return False


OLD = image_policy(table(supported, encrypting), release="6.12")
NEW = image_policy(table(flag, flag), release="6.18")


def test_nothing_changed() -> None:
    changes = policy_changes(OLD, OLD)
    assert not changes
    assert not any(changes.sites.values())


def test_where_a_flush_came_and_where_it_went() -> None:
    """Hygon is lost: only arch/x86/kernel/cpu/amd.c:572 (7.3.4) sets the flag."""
    changes = policy_changes(OLD, NEW)
    stop = changes.sites[Site.STOP_THIS_CPU]
    assert str(stop.added) == "seamcalled"
    assert stop.dropped is not None
    assert equivalent(stop.dropped, parse('vendor == "HygonGenuine" and sme_supported'))
    assert not changes.sites[Site.CRASH_NMI_CALLBACK]
    assert changes.equals == (("linux-6.5",), ("linux-6.18", "linux-7.2"))
    assert changes


def test_the_order_of_the_stop_protocol() -> None:
    before = image_policy(table(supported, encrypting, reported=ReportOrder.BEFORE_FLUSH))
    changes = policy_changes(before, OLD)
    assert changes.reported == (ReportOrder.BEFORE_FLUSH, ReportOrder.AFTER_FLUSH)
    assert changes
    assert not any(changes.sites.values())


def test_encryption_that_went_away() -> None:
    changes = policy_changes(OLD, image_policy(table(supported, never, encrypts=never)))
    assert changes.encrypts.added is None
    assert str(changes.encrypts.dropped) == "not hypervisor and sme_enabled and mem_encrypt"
    dropped = changes.sites[Site.RELOCATE_KERNEL].dropped
    assert dropped is not None
    assert equivalent(dropped, parse("not hypervisor and sme_enabled and mem_encrypt"))


def test_what_is_unknown_on_one_side_is_not_compared() -> None:
    without_hygon = [facts for facts in machines() if facts.vendor != "HygonGenuine"]
    partly_read = image_policy(table(supported, encrypting, None, rows=without_hygon))
    for before, after, when in ((OLD, partly_read, "now"), (partly_read, OLD, "before")):
        changes = policy_changes(before, after)
        stop = changes.sites[Site.STOP_THIS_CPU]
        assert stop.added is stop.dropped is None
        assert stop.unknown[0].startswith(f"{when}: on ")
        assert 'where vendor == "HygonGenuine": no run' in stop.unknown[0]
        assert changes.sites[Site.CRASH_NMI_CALLBACK].unknown == (f"{when}: not read",)
        assert changes


def test_names_that_came_and_went() -> None:
    change = set_change("callers of WBINVD", ["b", "a", "c"], ["c", "d", "b"])
    assert (change.added, change.removed) == (("d",), ("a",))
    assert change
    assert policy_changes(OLD, OLD, [change]).sets == (change,)
    assert policy_changes(OLD, OLD, [change])
    assert not policy_changes(OLD, OLD, [set_change("callers", ["a"], ["a"])])


def test_a_kernel_without_tdx_host_code_compares_with_one_that_has_it() -> None:
    without = image_policy(table(flag, flag, rows=combinations("snp_host")), lacks=("seamcalled",))
    stop = policy_changes(without, NEW).sites[Site.STOP_THIS_CPU]
    assert (str(stop.added), stop.dropped) == ("seamcalled", None)
