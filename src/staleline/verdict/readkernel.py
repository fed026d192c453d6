# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel by the rule that was read from its image, where a policy's kernel is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from staleline.errors import KernelImageError
from staleline.kernel.imagedocument import ImageDocument
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import Expression, parse
from staleline.policy.policy import Policy
from staleline.verdict.kernels import Behaviour, PolicyKernel
from staleline.verdict.machine import Machine
from staleline.vocabulary import ReportOrder, Site

__all__ = ["ReadKernel", "read_kernel"]


@dataclass(frozen=True, slots=True)
class ReadKernel:
    """What an image was read to do.

    Attributes:
        policy: Its rule.
        encrypts: When it encrypts its own memory as a host.
        lacks: Atoms that cannot come about under it, because it has no code for them.
    """

    policy: Policy
    encrypts: Expression
    lacks: frozenset[str]
    evidence: str = "read by running the image's own code"

    @property
    def name(self) -> str:
        """The image's release."""
        return self.policy.name

    def behaviour(self, machine: Machine) -> Behaviour:
        """As of a kernel with this policy, but for what it has no code for."""
        behaviour = PolicyKernel(self.policy, self.evidence).behaviour(machine)
        encrypts = evaluate(self.encrypts, machine.atoms(seamcalled=False))
        return replace(behaviour, sme_active=encrypts, seamcalls="seamcalled" not in self.lacks)


def read_kernel(document: ImageDocument, image: str) -> ReadKernel:
    """The kernel of a reading.

    Raises:
        KernelImageError: A part of its rule is unknown, so that it cannot be compared.
    """
    conditions = {site: _condition(document, site, image) for site in Site}
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
    encrypts = document["encrypts"]["condition"]
    if encrypts is None:
        raise _unknown(image, "when it encrypts its memory")
    return ReadKernel(policy, parse(encrypts), frozenset(document["lacks"]))


def _condition(document: ImageDocument, site: Site, image: str) -> Expression:
    rule = document["sites"].get(site)
    if rule is None or rule["condition"] is None:
        raise _unknown(image, f"its rule at {site}")
    return parse(rule["condition"])


def _reported(document: ImageDocument) -> ReportOrder:
    """Of a kernel that never flushes there, the order does not matter."""
    order = document["reported_stopped"]
    return ReportOrder.AFTER_FLUSH if order is None else ReportOrder(order)


def _unknown(image: str, what: str) -> KernelImageError:
    return KernelImageError(
        f"{what} is unknown", where=image, do="see why with `staleline kernel` and the image"
    )
