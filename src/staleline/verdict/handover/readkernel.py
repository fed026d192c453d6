# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel by the rule that was read from its image, where a policy's kernel is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from staleline.errors import KernelImageError
from staleline.kernel.boot.decision import Fate, Store
from staleline.kernel.reading.document import ImageDocument, RuleDocument
from staleline.kernel.reading.imagerule import image_rule
from staleline.kernel.reading.storedocument import store_of
from staleline.model.scenario import Flush
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import Expression, TruthValue, parse
from staleline.policy.policy import Policy
from staleline.verdict.handover.kernels import Behaviour, PolicyKernel
from staleline.verdict.machines.machine import Machine
from staleline.vocabulary import Path, Site

__all__ = ["NamedRule", "PartlyReadKernel", "ReadKernel", "image_rule_of", "read_kernel"]

_BY_CODE = "read by running the image's own code"


@dataclass(frozen=True, slots=True)
class ReadKernel:
    """What an image was read to do.

    Attributes:
        policy: Its rule.
        leaves_behind: Per site that leaves lines dirty after its flush, when, and which.
    """

    policy: Policy
    leaves_behind: Mapping[Site, tuple[Expression, tuple[Store, ...]]] = field(default_factory=dict)
    evidence: str = _BY_CODE

    @property
    def name(self) -> str:
        """The image's release."""
        return self.policy.name

    def behaviour(self, machine: Machine) -> Behaviour:
        """As of a kernel with this policy, and with what it leaves behind."""
        return replace(
            PolicyKernel(self.policy, self.evidence).behaviour(machine),
            left_behind={site: self._left(site, machine) for site in self.leaves_behind},
            # What is left behind in a kexec lies outside the reservation of a crash.
            crash_left_behind={Site.RELOCATE_KERNEL: ()},
        )

    def _left(self, site: Site, machine: Machine) -> tuple[Store, ...]:
        condition, stores = self.leaves_behind[site]
        worlds = {False, machine.tdx_used}
        left = any(evaluate(condition, machine.atoms(seamcalled=called)) for called in worlds)
        return stores if left else ()


@dataclass(frozen=True, slots=True)
class PartlyReadKernel:
    """An image of which a part of the rule could not be read.

    Attributes:
        known: A kernel with what was read; what it does where that is unknown means nothing.
        unknown: Each part that was not read, and why.
        in_a_crash: Of these, what the jumping CPU does in a crash, if only that is unknown.
        encrypts: It is unknown when it encrypts its own memory.
        order: So is when a CPU reports itself stopped.
    """

    known: ReadKernel
    unknown: Mapping[Site, tuple[str, ...]]
    in_a_crash: tuple[str, ...] = ()
    encrypts: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    evidence: str = f"{_BY_CODE}, not all of it"

    @property
    def name(self) -> str:
        """The image's release."""
        return self.known.name

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, each once."""
        several = (*self.unknown.values(), self.in_a_crash, self.encrypts, self.order)
        return tuple(dict.fromkeys(reason for reasons in several for reason in reasons))

    def behaviour(self, machine: Machine) -> Behaviour:
        """What was read, with nothing where it was not; which paths that leaves open."""
        known = self.known.behaviour(machine)
        in_a_crash: dict[Site, Flush | None] = dict(known.crash_flushes)
        # What was not read of a site was not read of it in a crash either.
        in_a_crash.update(dict.fromkeys(self.unknown))
        if self.in_a_crash:
            in_a_crash[Site.RELOCATE_KERNEL] = None
        return replace(
            known,
            flushes={**known.flushes, **dict.fromkeys(self.unknown)},
            crash_flushes=in_a_crash,
            report=None if self.order else known.report,
            unknown=self.reasons,
            open={path: reasons for path in Path if (reasons := self._open(path))},
        )

    def _open(self, path: Path) -> tuple[str, ...]:
        sites = (path.secondaries_site, Site.RELOCATE_KERNEL)
        reasons = [*self.encrypts, *(why for site in sites for why in self.unknown.get(site, ()))]
        reasons += self.in_a_crash if path is Path.CRASH else self.order
        return tuple(dict.fromkeys(reasons))


@dataclass(frozen=True, slots=True)
class NamedRule:
    """What a user named where a rule is asked for: a policy, a policy file, or an image.

    Attributes:
        given: As it was named.
        kernel: A kernel that carries it.
        document: What was read of the image; None for a policy.
    """

    given: str
    kernel: PolicyKernel | ReadKernel | PartlyReadKernel
    document: ImageDocument | None = None

    @property
    def policy(self) -> Policy:
        """Its rule, as far as it is known; see `required`."""
        kernel = self.kernel
        return kernel.known.policy if isinstance(kernel, PartlyReadKernel) else kernel.policy

    @property
    def name(self) -> str:
        """The policy's name, or the image's release."""
        return self.policy.name

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return self.policy.title

    @property
    def unknown(self) -> tuple[str, ...]:
        """What of it is not known."""
        return self.kernel.reasons if isinstance(self.kernel, PartlyReadKernel) else ()

    def required(self) -> PolicyKernel | ReadKernel:
        """The kernel, where the whole rule is needed.

        Raises:
            KernelImageError: A part of it is unknown.
        """
        if isinstance(self.kernel, PartlyReadKernel):
            raise KernelImageError(
                f"a part of its rule is unknown: {self.unknown[0]}",
                where=self.given,
                do="see all of it with `staleline kernel` and the image",
            )
        return self.kernel


def read_kernel(document: ImageDocument, image: str) -> ReadKernel:
    """The kernel of a reading.

    Raises:
        KernelImageError: A part of its rule is unknown, so that it cannot be compared.
    """
    kernel = image_rule_of(document, image).required()
    assert isinstance(kernel, ReadKernel)
    return kernel


def image_rule_of(document: ImageDocument, image: str) -> NamedRule:
    """The rule of a reading, as far as it is known."""
    return NamedRule(image, _kernel_of(document, image), document)


def _kernel_of(document: ImageDocument, image: str) -> ReadKernel | PartlyReadKernel:
    rules = document["sites"]
    unread = {site: why for site in Site if (why := _why_unknown(rules.get(site), site))}
    crash = document["crash_relocate_kernel"]
    in_a_crash = () if crash is None else _why_unknown(crash, "relocate_kernel in a crash")
    encrypts = _why_unknown(document["encrypts"], "encryption of its memory")
    stop = rules.get(Site.STOP_THIS_CPU)
    # A rule with a condition and still a reason: the order could not be established.
    order = () if stop is None or stop["condition"] is None else tuple(stop["unknown"])
    # What stands for the unknown means nothing, as `PartlyReadKernel` puts None in its place.
    policy = image_rule(document, image, otherwise=TruthValue(False))
    if encrypts:  # each handover is then told by what the kernel is told to do
        policy = replace(policy, encrypts=None)
    kernel = ReadKernel(policy, dict(_leaves_behind(document)))
    if not (unread or in_a_crash or encrypts or order):
        return kernel
    return PartlyReadKernel(kernel, unread, in_a_crash, encrypts, order)


def _why_unknown(rule: RuleDocument | None, what: str) -> tuple[str, ...]:
    if rule is None:
        return (f"{what}: not read from this image",)
    if rule["condition"] is not None:
        return ()
    return tuple(f"{what}: {reason}" for reason in rule["unknown"] or ["not established"])


def _leaves_behind(
    document: ImageDocument,
) -> Iterator[tuple[Site, tuple[Expression, tuple[Store, ...]]]]:
    """A site of which the condition is unknown has no rule either."""
    for site, after_flush in document["after_flush"].items():
        stores = map(store_of, after_flush["stores"])
        left = tuple(store for store in stores if store.fate is Fate.LEFT_BEHIND)
        if left and after_flush["leaves_behind"] is not None:
            yield Site(site), (parse(after_flush["leaves_behind"]), left)
