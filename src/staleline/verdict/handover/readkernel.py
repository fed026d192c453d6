# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel by the rule that was read from its image, where a policy's kernel is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from staleline.errors import KernelImageError
from staleline.kernel.boot.decision import Fate, Store
from staleline.kernel.reading.document import ImageDocument, RuleDocument
from staleline.kernel.reading.many import ReadingOptions, read_images
from staleline.kernel.reading.storedocument import store_of
from staleline.policy.catalogue import catalogue, find
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import Expression, parse
from staleline.policy.policy import Policy
from staleline.verdict.handover.kernels import Behaviour, PolicyKernel
from staleline.verdict.machines.machine import Machine
from staleline.vocabulary import ReportOrder, Site

__all__ = ["ReadKernel", "read_kernel", "ruled_kernels"]


@dataclass(frozen=True, slots=True)
class ReadKernel:
    """What an image was read to do.

    Attributes:
        policy: Its rule.
        in_a_crash: The same policy with what the jumping CPU does in a crash.
        encrypts: When it encrypts its own memory as a host.
        lacks: Atoms that cannot come about under it, because it has no code for them.
        leaves_behind: Per site that leaves lines dirty after its flush, when, and which.
    """

    policy: Policy
    in_a_crash: Policy
    encrypts: Expression
    lacks: frozenset[str]
    leaves_behind: Mapping[Site, tuple[Expression, tuple[Store, ...]]] = field(default_factory=dict)
    evidence: str = "read by running the image's own code"

    @property
    def name(self) -> str:
        """The image's release."""
        return self.policy.name

    def behaviour(self, machine: Machine) -> Behaviour:
        """As of a kernel with this policy, but for what it has no code for."""
        kexec, crash = (
            PolicyKernel(policy, self.evidence).behaviour(machine)
            for policy in (self.policy, self.in_a_crash)
        )
        return replace(
            kexec,
            crash_flushes=crash.flushes,
            sme_active=evaluate(self.encrypts, machine.atoms(seamcalled=False)),
            seamcalls="seamcalled" not in self.lacks,
            left_behind={site: self._left(site, machine) for site in self.leaves_behind},
            # What is left behind in a kexec lies outside the reservation of a crash.
            crash_left_behind={Site.RELOCATE_KERNEL: ()},
        )

    def _left(self, site: Site, machine: Machine) -> tuple[Store, ...]:
        condition, stores = self.leaves_behind[site]
        worlds = {False, machine.tdx_used}
        left = any(evaluate(condition, machine.atoms(seamcalled=called)) for called in worlds)
        return stores if left else ()


def read_kernel(document: ImageDocument, image: str) -> ReadKernel:
    """The kernel of a reading.

    Raises:
        KernelImageError: A part of its rule is unknown, so that it cannot be compared.
    """
    conditions = {site: _condition(document["sites"].get(site), site, image) for site in Site}
    policy = Policy(
        name=document["release"] or image,
        title=document["title"] or "in no catalogue",
        sources=(image,),
        proposed=None,
        releases=(),
        bugs=tuple(document["bugs"]),
        attributes={},
        predicates=conditions,
        reported=_reported(document),
    )
    crash = document["crash_relocate_kernel"] or document["sites"][Site.RELOCATE_KERNEL]
    jumping = {Site.RELOCATE_KERNEL: _condition(crash, "relocate_kernel in a crash", image)}
    return ReadKernel(
        policy=policy,
        in_a_crash=replace(policy, predicates={**conditions, **jumping}),
        encrypts=_condition(document["encrypts"], "encryption of its memory", image),
        lacks=frozenset(document["lacks"]),
        leaves_behind=dict(_leaves_behind(document)),
    )


def _leaves_behind(
    document: ImageDocument,
) -> Iterator[tuple[Site, tuple[Expression, tuple[Store, ...]]]]:
    """A site of which the condition is unknown has no rule either."""
    for site, after_flush in document["after_flush"].items():
        stores = map(store_of, after_flush["stores"])
        left = tuple(store for store in stores if store.fate is Fate.LEFT_BEHIND)
        if left and after_flush["leaves_behind"] is not None:
            yield Site(site), (parse(after_flush["leaves_behind"]), left)


def _condition(rule: RuleDocument | None, what: str, image: str) -> Expression:
    if rule is None or rule["condition"] is None:
        raise KernelImageError(
            f"its rule for {what} is unknown",
            where=image,
            do="see why with `staleline kernel` and the image",
        )
    return parse(rule["condition"])


def _reported(document: ImageDocument) -> ReportOrder:
    """Of a kernel that never flushes there, the order does not matter."""
    order = document["reported_stopped"]
    return ReportOrder.AFTER_FLUSH if order is None else ReportOrder(order)


def ruled_kernels(names: Sequence[str], options: ReadingOptions) -> list[ReadKernel | PolicyKernel]:
    """Kernels by policy name, policy file or image.

    Raises:
        PolicyError: No policy and no file has this name, or the policy is not well formed.
        KernelImageError: An image cannot be read, or a part of its rule is unknown.
    """
    images = [name for name in names if _is_image(name)]
    read = {report.image: report for report in read_images(images, options)}
    return [
        read_kernel(read[name].required(), name)
        if name in read
        else PolicyKernel(find(name), "the policy")
        for name in names
    ]


def _is_image(name: str) -> bool:
    return name not in catalogue() and not name.endswith(".toml") and os.path.exists(name)
