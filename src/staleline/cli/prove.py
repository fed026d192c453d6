# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline prove``: a policy, proved for every number of CPUs or refuted."""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import click

from staleline.cli.console import streams
from staleline.cli.console.once import Once
from staleline.cli.console.output import FINDING_FORMATS, Output, output_options
from staleline.cli.console.selecting import Wanted, selection_options
from staleline.outputfile import writing

if TYPE_CHECKING:
    from staleline.verdict.handover.readkernel import NamedRule
    from staleline.verdict.policies.proof import PolicyProof

__all__ = ["command"]

_REFUSED = dict.fromkeys(
    FINDING_FORMATS, "its answers are those of `staleline check`, which has this format"
)
_STATUS = {"proved": 0, "counterexample": 2, "verified-up-to-N": 3}

#: Certificates of all handovers of a policy are below a megabyte.
_MAX_BYTES = 64 << 20


@click.command("prove", cls=Once)
@click.argument("name", metavar="RULE")
@selection_options(roles=False)
@click.option("--certificate", metavar="FILE", help="Write the proofs there.")
@click.option("--check", "checked", metavar="FILE", help="Have z3 check such a file instead.")
@click.option("--traces", metavar="DIR", help="Write counterexamples there as ITF (.itf.json).")
@click.option(
    "--readable", is_flag=True, help="Check the readable invariant of each kexec too (slower)."
)
@click.option("--no-cache", is_flag=True, help="Read an image anew, and keep nothing.")
@output_options(_REFUSED)
def command(  # noqa: PLR0913 - one parameter per option
    *,
    name: str,
    wanted: Wanted,
    certificate: str | None,
    checked: str | None,
    traces: str | None,
    readable: bool,
    no_cache: bool,
    output: Output,
) -> int:
    """Prove a rule for any number of CPUs, or refute it.

    RULE is a policy of the catalogue, a policy file (.toml), or a kernel image.

    Every proof is confirmed by z3, which reads the model on its own.

    Exit status: 0 proved everywhere, 1 error or a certificate that is no proof, 2 a
    counterexample somewhere, 3 neither proved nor refuted somewhere.
    """
    from staleline.cli.console.tracking import with_progress
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.verdict.handover.namedrules import named_rules

    options = ReadingOptions(use_cache=not no_cache, tracked=with_progress)
    (rule,), selection = named_rules((name,), options), wanted.selection
    if checked is not None:
        return _check(rule, wanted, FilePath(checked), output=output)
    from staleline.verdict.policies.proof import prove

    proof = prove(rule.required(), selection, readable=readable)
    if certificate is not None and not proof.certificate.cases:
        streams.complain(f"nothing is proved, so {certificate} is not written")
        certificate = None
    if certificate is not None:
        _write_certificate(proof, FilePath(certificate))
    written = _write_traces(proof, FilePath(traces)) if traces is not None else {}
    _print(rule, proof, certificate, written, output=output)
    return _STATUS[proof.answer]


def _print(
    rule: NamedRule,
    proof: PolicyProof,
    certificate: str | None,
    written: dict[str, str],
    *,
    output: Output,
) -> None:
    from staleline.report.policies.prove import print_proof, proof_document

    output.show(
        lambda: proof_document(rule, proof, certificate=certificate, traces=written),
        lambda console: print_proof(console, rule, proof),
    )


def _check(rule: NamedRule, wanted: Wanted, file: FilePath, *, output: Output) -> int:
    """Have z3 check a certificate, and see what it covers of the rule."""
    from staleline.check.proof.certificate import recheck
    from staleline.check.proof.certificate_json import certificate_from
    from staleline.errors import ModelError
    from staleline.report.policies.prove import certified_document, print_certified
    from staleline.verdict.policies.proof import questions, uncertified

    asked, accepted = questions(rule.required(), wanted.selection), wanted.accepted
    certificate = certificate_from(_read(file), where=str(file))
    rechecked = recheck(certificate)
    if not rechecked.accepted:
        first = rechecked.failures[0]
        answer = "" if first.reply is None else f" (z3: {first.reply})"
        raise ModelError(
            f"not a proof: {first.obligation}{answer}",
            where=f"{file}, {first.line}",
            do="make it again with `staleline prove --certificate`",
        )
    missing = uncertified(asked, certificate)
    output.show(
        lambda: certified_document(rule, str(file), rechecked, missing, accepted),
        lambda console: print_certified(
            console, str(file), rechecked, asked=len(asked), missing=missing, accepted=accepted
        ),
    )
    return 3 if missing else 0


def _read(file: FilePath) -> Any:
    from staleline.errors import UsageError
    from staleline.inputfile import read_input

    try:
        return json.loads(read_input(file, UsageError, limit=_MAX_BYTES, do="give a certificate"))
    except (ValueError, RecursionError):
        do = "give a file that `staleline prove --certificate` wrote"
        raise UsageError("not JSON", where=file, do=do) from None


def _write_certificate(proof: PolicyProof, file: FilePath) -> None:
    from staleline.check.proof.certificate_json import certificate_document

    with writing(file):
        file.write_text(json.dumps(certificate_document(proof.certificate), indent=1), "utf-8")


def _write_traces(proof: PolicyProof, directory: FilePath) -> dict[str, str]:
    """Write every counterexample; returns file name -> path."""
    from staleline.cli.console.traces import write_traces
    from staleline.report.policies.prove import proof_trace_name

    named = ((proof_trace_name(row), row.answer.counterexample) for row in proof.handovers)
    return write_traces(directory, ((name, run) for name, run in named if run is not None))
