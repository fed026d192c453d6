# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline prove``: a policy, proved for every number of CPUs or refuted."""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import click

from staleline.cli.console.once import Once
from staleline.cli.console.output import FINDING_FORMATS, Output, output_options
from staleline.outputfile import writing

if TYPE_CHECKING:
    from staleline.policy.policy import Policy
    from staleline.verdict.policies.platforms import Selection
    from staleline.verdict.policies.proof import PolicyProof

__all__ = ["command"]

_REFUSED = dict.fromkeys(
    FINDING_FORMATS, "its answers are those of `staleline check`, which has this format"
)
_STATUS = {"proved": 0, "counterexample": 2, "verified-up-to-N": 3}

#: Certificates of all handovers of a policy are below a megabyte.
_MAX_BYTES = 64 << 20


@click.command("prove", cls=Once)
@click.argument("policy_name", metavar="POLICY")
@click.option(
    "--platform",
    "platform_names",
    multiple=True,
    metavar="CLASS",
    help="Only this platform class, e.g. intel-tdx; may be repeated.",
)
@click.option("--certificate", metavar="FILE", help="Write the proofs there.")
@click.option("--check", "checked", metavar="FILE", help="Have z3 check such a file instead.")
@click.option("--traces", metavar="DIR", help="Write counterexamples there as ITF (.itf.json).")
@click.option(
    "--readable", is_flag=True, help="Check the readable invariant of each kexec too (slower)."
)
@output_options(_REFUSED)
def command(  # noqa: PLR0913 - one parameter per option
    *,
    policy_name: str,
    platform_names: tuple[str, ...],
    certificate: str | None,
    checked: str | None,
    traces: str | None,
    readable: bool,
    output: Output,
) -> int:
    """Prove a policy (catalogue name or .toml file) for any number of CPUs, or refute it.

    Every proof is confirmed by z3, which reads the model on its own.

    Exit status: 0 proved everywhere, 1 error or a certificate that is no proof, 2 a
    counterexample somewhere, 3 neither proved nor refuted somewhere.
    """
    from staleline.policy.catalogue import find

    policy, selection = find(policy_name), _selection(platform_names)
    if checked is not None:
        return _check(policy, selection, FilePath(checked), output=output)
    from staleline.verdict.policies.proof import prove

    proof = prove(policy, selection, readable=readable)
    if certificate is not None:
        _write_certificate(proof, FilePath(certificate))
    written = _write_traces(proof, FilePath(traces)) if traces is not None else {}
    _print(policy, proof, certificate, written, output=output)
    return _STATUS[proof.answer]


def _selection(names: tuple[str, ...]) -> Selection:
    from staleline.errors import UsageError
    from staleline.verdict.policies.platforms import Selection, platforms

    for name in names:
        if name not in platforms():
            do = f"give one of {', '.join(platforms())}"
            raise UsageError(f"no platform class {name!a}", where="--platform", do=do)
    return Selection(platforms=frozenset(names) if names else None)


def _print(
    policy: Policy,
    proof: PolicyProof,
    certificate: str | None,
    written: dict[str, str],
    *,
    output: Output,
) -> None:
    from staleline.report.policies.prove import print_proof, proof_document

    if output.format == "json":
        output.write_json(proof_document(policy, proof, certificate=certificate, traces=written))
    else:
        with output.console() as console:
            print_proof(console, policy, proof)


def _check(policy: Policy, selection: Selection, file: FilePath, *, output: Output) -> int:
    """Have z3 check a certificate, and see what it covers of the policy."""
    from staleline.check.proof.certificate import recheck
    from staleline.check.proof.certificate_json import certificate_from
    from staleline.errors import ModelError
    from staleline.report.policies.prove import certified_document, print_certified
    from staleline.verdict.policies.proof import questions, uncertified

    asked = questions(policy, selection)
    certificate = certificate_from(_read(file), where=str(file))
    found = recheck(certificate)
    if not found.accepted:
        first = found.failures[0]
        answer = "" if first.reply is None else f" (z3: {first.reply})"
        raise ModelError(
            f"not a proof: {first.obligation}{answer}",
            where=f"{file}, {first.line}",
            do="make it again with `staleline prove --certificate`",
        )
    missing = uncertified(asked, certificate)
    if output.format == "json":
        output.write_json(certified_document(policy, str(file), found, missing))
    else:
        with output.console() as console:
            print_certified(console, str(file), found, missing)
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
