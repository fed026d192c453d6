# SPDX-License-Identifier: GPL-2.0-or-later
"""A rule that is known in part is never safe where the other part counts."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path as FilePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.errors import KernelImageError
from staleline.kernel.reading.document import ImageDocument
from staleline.kernel.reading.imagereport import ReadingOptions
from staleline.kernel.reading.imagerule import policy_file
from staleline.kernel.reading.many import read_images
from staleline.policy.policy import parse_policy
from staleline.verdict.handover.readkernel import PartlyReadKernel, image_rule_of, read_kernel
from staleline.verdict.policies.platforms import PlatformHandover, Selection, check_kernel
from staleline.vocabulary import Path, Site, Verdict
from tests.conftest import RealKernel

#: Part of a rule -> paths on which a handover depends on it.
PARTS = {
    "stop_this_cpu": {Path.KEXEC},
    "relocate_kernel": {Path.KEXEC, Path.CRASH},
    "crash_nmi_callback": {Path.CRASH},
    "crash_relocate_kernel": {Path.CRASH},
    "encrypts": {Path.KEXEC, Path.CRASH},
    "order": {Path.KEXEC},
}
SOME = Selection(platforms=frozenset({"amd-sme-incoherent", "intel-no-tdx", "guest-snp"}))


@cache
def reading(image: FilePath) -> ImageDocument:
    (report,) = read_images([str(image)], ReadingOptions())
    return report.required()


def without(document: ImageDocument, parts: frozenset[str]) -> ImageDocument:
    """The reading as it is where these parts could not be established."""
    found = copy.deepcopy(document)
    unknown = {"condition": None, "reads": [], "equals": [], "unknown": ["not decided"]}
    for part in parts:
        if part in set(Site):
            found["sites"][part] = unknown  # type: ignore[assignment]
        elif part == "order":
            if found["sites"]["stop_this_cpu"]["condition"] is not None:
                found["sites"]["stop_this_cpu"]["unknown"] = ["the order was not established"]
            found["reported_stopped"] = None
        else:
            found[part] = unknown  # type: ignore[literal-required]
    return found


def told(row: PlatformHandover) -> tuple[object, ...]:
    return (row.platform, row.path, row.old, row.next, row.sev_guests_run)


@settings(max_examples=20)
@given(parts=st.frozensets(st.sampled_from(sorted(PARTS)), min_size=1))
def test_a_path_is_unknown_where_a_part_of_its_rule_is_and_as_before_elsewhere(
    real_kernels: dict[str, RealKernel], parts: frozenset[str]
) -> None:
    document = reading(real_kernels["6.12"].path)
    whole = {told(row): row for row in check_kernel(read_kernel(document, "it"), SOME)}
    rule = image_rule_of(without(document, parts), "it")
    rows = list(check_kernel(rule.kernel, SOME))
    concerned = set().union(*(PARTS[part] for part in parts))
    assert {told(row) for row in rows} == whole.keys()
    for row in rows:
        if row.path in concerned:
            assert row.judgement.verdict is Verdict.UNKNOWN
            assert row.judgement.unknown
        else:
            assert row.judgement.verdict is whole[told(row)].judgement.verdict
    assert rule.unknown


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_partly_unknown_rule_is_no_policy_and_no_proof(
    real_kernels: dict[str, RealKernel], part: str
) -> None:
    document = without(reading(real_kernels["6.12"].path), frozenset({part}))
    rule = image_rule_of(document, "it")
    assert isinstance(rule.kernel, PartlyReadKernel)
    with pytest.raises(KernelImageError, match="unknown"):
        rule.required()
    with pytest.raises(KernelImageError, match="unknown"):
        policy_file(document, "it")


def test_a_rule_with_lines_left_behind_is_no_policy_file(
    real_kernels: dict[str, RealKernel],
) -> None:
    document = copy.deepcopy(reading(real_kernels["6.12"].path))
    document["after_flush"]["stop_this_cpu"]["leaves_behind"] = "true"
    with pytest.raises(KernelImageError, match="which no policy file says"):
        policy_file(document, "it")


def test_another_rule_in_a_crash_is_written_and_read_back(
    real_kernels: dict[str, RealKernel],
) -> None:
    """As a TDX host of 7.2 has it (linux 7.3.4 arch/x86/kernel/crash.c)."""
    document = copy.deepcopy(reading(real_kernels["6.18"].path))
    document["crash_relocate_kernel"] = {
        "condition": "tdx_host_enabled or sme_supported",
        "reads": [],
        "equals": [],
        "unknown": [],
    }
    policy = parse_policy(policy_file(document, "it"), where="it")
    assert str(policy.in_a_crash[Site.RELOCATE_KERNEL]) == "tdx_host_enabled or sme_supported"
    kernel = read_kernel(document, "it")
    tdx = Selection(platforms=frozenset({"intel-tdx"}))
    flushes = {
        row.path: row.judgement.flushes[Site.RELOCATE_KERNEL] for row in check_kernel(kernel, tdx)
    }
    assert flushes == {Path.KEXEC: False, Path.CRASH: True}
