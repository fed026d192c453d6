# SPDX-License-Identifier: GPL-2.0-or-later
"""Proofs for every number of CPUs as files, and their independent re-check.

A certificate names handovers and, for each line role, a set of views (`check.search.views`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from staleline.check.meaning.closures import Values
from staleline.check.meaning.fingerprint import fingerprint
from staleline.check.meaning.interpreter import reachable
from staleline.check.proof.progress import ranks
from staleline.check.proof.proof_script import ViewSet, queries, smtlib
from staleline.check.proof.solver import TIME_LIMIT, Reply, ask
from staleline.check.search.compiled import CompiledModel
from staleline.check.search.views import closure, views
from staleline.errors import ModelError
from staleline.model.form import Model, Variable
from staleline.model.properties import P4
from staleline.model.scenario import Scenario
from staleline.model.world import world

__all__ = [
    "Certificate",
    "CertifiedHandover",
    "ProofFailure",
    "Recheck",
    "certify",
    "closed_views",
    "recheck",
    "smtlib_proof",
]


@dataclass(frozen=True, slots=True)
class CertifiedHandover:
    """One handover of a certificate.

    Attributes:
        scenario: The handover; its number of secondaries means nothing here.
        lines: Line role -> fingerprint of its model.
    """

    scenario: Scenario
    lines: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Certificate:
    """Proofs of handovers.

    Attributes:
        cases: The handovers.
        views: Fingerprint of a model -> its views; models of several cases are shared.
    """

    cases: tuple[CertifiedHandover, ...]
    views: Mapping[str, ViewSet]


@dataclass(frozen=True, slots=True)
class ProofFailure:
    """Something that keeps a certificate from being a proof.

    Attributes:
        line: Line role.
        obligation: What does not hold, e.g. ``"initial state"``.
        reply: z3's answer; None where z3 was not asked.
    """

    line: str
    obligation: str
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class Recheck:
    """What the re-check of a certificate found.

    Attributes:
        models: Number of models looked at, equal ones once.
        obligations: Number of queries that z3 answered.
        failures: What does not hold; empty if the certificate is a proof of P1 to P3.
        unmeasured: Where the measure does not prove P4 as well.
    """

    models: int
    obligations: int
    failures: tuple[ProofFailure, ...]
    unmeasured: tuple[ProofFailure, ...]

    @property
    def accepted(self) -> bool:
        """P1 to P3 are proved for every handover and every number of CPUs."""
        return not self.failures

    @property
    def never_hangs(self) -> bool:
        """P4 is proved too."""
        return self.accepted and not self.unmeasured


def certify(scenarios: Iterable[Scenario]) -> Certificate:
    """The views of every line role of some handovers.

    Raises:
        ModelError: A handover is not proved by views.
    """
    cases: dict[Scenario, CertifiedHandover] = {}
    proofs: dict[str, ViewSet] = {}
    for scenario in scenarios:
        lines: dict[str, str] = {}
        for line, model in world(scenario):
            lines[str(line.role)] = name = fingerprint(model)
            # Equal models share their views: the fingerprint leaves out the texts, in which
            # handovers differ.
            if name not in proofs:
                proofs[name] = _proof(model)
        cases[scenario] = CertifiedHandover(scenario, lines)
    return Certificate(tuple(cases.values()), proofs)


def _proof(model: Model) -> ViewSet:
    suspect = views(model).suspect
    # `closed_views` does not look for violations: refuse here what z3 would refuse later.
    if suspect is not None:
        raise ModelError(
            f"{suspect} is not proved for every number of CPUs",
            where=model.title,
            do="see `staleline prove` for its counterexample, or for how far it was searched",
        )
    return closed_views(model)


def closed_views(model: Model) -> ViewSet:
    """The views of a model, whether or not they prove it."""
    compiled = CompiledModel(model)
    closed = closure(compiled)
    views: dict[Values, set[Values]] = {}
    for shared, locals_ in closed.items():
        for local in locals_:
            values, (own,) = compiled.state((shared, local))
            views.setdefault(values, set()).add(own)
    measure = ranks(model, compiled, closed)
    return ViewSet(
        # Without secondaries there is no view: `All` holds, `Any` does not, and no view says
        # either.
        alone=frozenset(shared for shared, _ in reachable(model, 0)),
        views={shared: frozenset(locals_) for shared, locals_ in views.items()},
        ranks=measure.shared,
        waits=measure.views,
    )


def smtlib_proof(model: Model) -> str:
    """The proof of a model for every number of secondaries, as an SMT-LIB 2 script.

    A solver that answers ``unsat`` to every query has confirmed it. Where the answer to a
    query named ``... is not violated`` is ``sat``, views do not prove that property.
    """
    return smtlib(model, closed_views(model))


def recheck(certificate: Certificate, *, time_limit: float = TIME_LIMIT) -> Recheck:
    """Decide by z3 whether a certificate is a proof.

    Args:
        certificate: The certificate, whoever made it.
        time_limit: Seconds for all of it.

    Raises:
        ModelError: z3 refused a script.
    """
    # Of no handover everything holds, and nothing is proved.
    failures = [] if certificate.cases else [ProofFailure("no line", "it has no handover", None)]
    scripts: dict[str, tuple[str, str, Model]] = {}
    for case in certificate.cases:
        # Built anew, and compared by their hashes: of a model the certificate says nothing that is
        # believed.
        models = {str(line.role): model for line, model in world(case.scenario)}
        # Both ways: a certificate that leaves out a line role proves nothing about it.
        for line in {**models, **case.lines}:
            problem = _mismatch(certificate, case, line, models.get(line))
            if problem is not None:
                failures.append(ProofFailure(line, problem, None))
            else:
                model = models[line]
                name = case.lines[line]  # which is this model's, but for the words in it
                if name not in scripts:
                    scripts[name] = (smtlib(model, certificate.views[name]), line, model)
    # It does not matter where the views came from: a set of which z3 confirms that it is an
    # inductive invariant, and excludes every violation, is a proof.
    replies = ask([text for text, _, _ in scripts.values()], time_limit=time_limit)
    for (_, line, model), answers in zip(scripts.values(), replies, strict=True):
        failures += _unsettled(line, model, answers)
    # A measure may only be too weak, as with a shared cache (docs/proof.md): P1 to P3 stand without
    # it.
    hangs = tuple(one for one in failures if one.obligation.startswith(f"{P4}: "))
    broken = tuple(one for one in failures if one not in hangs)
    return Recheck(len(scripts), sum(map(len, replies)), broken, hangs)


def _mismatch(
    certificate: Certificate, case: CertifiedHandover, line: str, model: Model | None
) -> str | None:
    """Why a line of a case cannot be what the certificate says, before z3 is asked."""
    named = case.lines.get(line)
    if model is None:
        return "the handover has no such line role"
    if named is None:
        return "the certificate lacks this line role"
    if named != fingerprint(model):
        return "the model has another hash"
    view = certificate.views.get(named)
    if view is None:
        return "the certificate has no views for this model"
    return None if _fits(model, view) else "a view has values that the model does not know"


def _fits(model: Model, views: ViewSet) -> bool:
    # Outside of a domain a value has no name in the script: z3 would refuse all of it, and not say
    # why.
    shared = {*views.alone, *views.views, *views.ranks, *(one for one, _ in views.waits)}
    own = {one for locals_ in views.views.values() for one in locals_}
    own |= {one for _, one in views.waits}
    return all(_in_domain(model.globals, one) for one in shared) and all(
        _in_domain(model.locals, one) for one in own
    )


def _in_domain(variables: tuple[Variable, ...], row: Values) -> bool:
    return len(variables) == len(row) and all(
        held in one.domain for one, held in zip(variables, row, strict=True)
    )


def _unsettled(line: str, model: Model, replies: tuple[Reply, ...]) -> Iterator[ProofFailure]:
    for query, reply in zip(queries(model), replies, strict=True):
        if reply is not Reply.UNSAT:
            yield ProofFailure(line, query.name, reply)
