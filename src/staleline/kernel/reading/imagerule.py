# SPDX-License-Identifier: GPL-2.0-or-later
"""The rule of a reading as a policy, and as the text of a policy file."""

from __future__ import annotations

import json
from collections.abc import Iterator

from staleline.errors import KernelImageError
from staleline.kernel.reading.document import ImageDocument, RuleDocument
from staleline.policy.expression import Expression, parse
from staleline.policy.policy import Policy, parse_policy
from staleline.vocabulary import ReportOrder, Site

__all__ = ["image_rule", "policy_file"]


def image_rule(
    document: ImageDocument, image: str, *, otherwise: Expression | None = None
) -> Policy:
    """The rule as a policy.

    Args:
        document: The reading.
        image: The file.
        otherwise: What stands for a condition that is unknown; None to refuse it.

    Raises:
        KernelImageError: A part of the rule is unknown.
    """

    def condition(rule: RuleDocument | None, what: str) -> Expression:
        if rule is not None and rule["condition"] is not None:
            return parse(rule["condition"])
        if otherwise is not None:
            return otherwise
        raise KernelImageError(
            f"its rule for {what} is unknown",
            where=image,
            do="see why with `staleline kernel` and the image",
        )

    crash = document["crash_relocate_kernel"]
    order = document["reported_stopped"]
    return Policy(
        name=document["release"] or image,
        title=document["title"] or "in no catalogue",
        sources=(image,),
        proposed=None,
        releases=(),
        bugs=tuple(document["bugs"]),
        attributes={},
        predicates={site: condition(document["sites"].get(site), site) for site in Site},
        # Of a kernel that never flushes there, the order does not matter.
        reported=ReportOrder.AFTER_FLUSH if order is None else ReportOrder(order),
        in_a_crash={}
        if crash is None
        else {Site.RELOCATE_KERNEL: condition(crash, "relocate_kernel in a crash")},
        encrypts=condition(document["encrypts"], "encryption of its memory"),
        lacks=tuple(document["lacks"]),
    )


def policy_file(document: ImageDocument, image: str) -> str:
    """The rule as TOML, which `staleline.policy.policy.load_policy` reads back as the same rule.

    Raises:
        KernelImageError: A part of the rule is unknown, or no policy file can say it.
    """
    policy = image_rule(document, image)
    stop = document["sites"][Site.STOP_THIS_CPU]
    if stop["unknown"]:
        raise KernelImageError(
            f"its rule is unknown: {stop['unknown'][0]}", where=image, do="see `staleline kernel`"
        )
    left = [
        site for site, one in document["after_flush"].items() if one["leaves_behind"] != "false"
    ]
    if left:
        raise KernelImageError(
            f"leaves lines behind dirty after the WBINVD of {left[0]}, which no policy file says",
            where=image,
            do="give the image itself to the commands that take a policy",
        )
    text = "".join(f"{line}\n" for line in _lines(policy, document))
    # Read back: what TOML could not say would be another rule, and a defect.
    assert _same(parse_policy(text, where=image), policy)
    return text


def _same(written: Policy, policy: Policy) -> bool:
    """Is the rule the same? Names and sources are told in more words."""
    return (
        {site: written.condition(site) for site in Site},
        written.reported,
        dict(written.in_a_crash),
        written.encrypts,
        written.lacks,
    ) == (
        {site: policy.condition(site) for site in Site},
        policy.reported,
        dict(policy.in_a_crash),
        policy.encrypts,
        policy.lacks,
    )


def _lines(policy: Policy, document: ImageDocument) -> Iterator[str]:
    yield f"name = {_quoted(policy.name)}"
    yield f"title = {_quoted(_title(document))}"
    yield "source = ["
    yield from (f"    {_quoted(source)}," for source in _sources(document))
    yield "]"
    if policy.bugs:
        yield "bugs = ["
        yield from (f"    {_quoted(bug)}," for bug in policy.bugs)
        yield "]"
    yield from ("", "[sites]")
    yield from (f"{site} = {_quoted(str(policy.predicates[site]))}" for site in Site)
    if policy.in_a_crash:
        yield from ("", "[crash]")
        yield from (f"{site} = {_quoted(str(one))}" for site, one in policy.in_a_crash.items())
    yield from ("", "[kernel]")
    yield f"encrypts = {_quoted(str(policy.encrypts))}"
    yield f"lacks = [{', '.join(map(_quoted, policy.lacks))}]"
    yield from ("", "[protocol]")
    yield f"reported_stopped = {_quoted(policy.reported)}"


def _title(document: ImageDocument) -> str:
    name = document["policy"]
    rule = f"as {name}: {document['title']}" if name is not None else "in no catalogue"
    return f"read from an image, {rule}"


def _sources(document: ImageDocument) -> Iterator[str]:
    yield f"sha256 {document['sha256']}"
    if document["build_id"] is not None:
        yield f"build ID {document['build_id']}"
    if document["banner"] is not None:
        yield document["banner"]


def _quoted(text: str) -> str:
    """A basic string of TOML, of which JSON's without escapes above ASCII is one."""
    # JSON leaves DEL as it is, which TOML does not allow (1.0.0, "String").
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
