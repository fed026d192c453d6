# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples for Nagios, Prometheus and ansible; `make operators-test` runs them by these."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from staleline.cli.main import main
from tests.findings import ROOT

EXAMPLES = ROOT / "docs/examples"
ROLE = EXAMPLES / "ansible/roles/staleline"
ROME = ROOT / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
HYGON = ROOT / "tests/data/cpuid/registers/hygon-c86-3250.cpuid"
SME_ON = "--msr 0xc0010010=0x800000 --cmdline mem_encrypt=on --state offline_cpus=none"
ASKED = "--kernel linux-6.18 --path kexec"


@pytest.fixture
def plugin(tmp_path):
    """The plugin, with the real command: its status, and its first line."""
    command = tmp_path / "staleline"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m staleline "$@"\n')
    command.chmod(0o755)

    def run(arguments, command=command):
        done = subprocess.run(
            [EXAMPLES / "check_staleline", *shlex.split(arguments)],
            env=os.environ | {"STALELINE": str(command)},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        assert "|" not in done.stdout
        return done.returncode, done.stdout.splitlines()[0]

    return run


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (f"audit --snapshot {ROME} {SME_ON} {ASKED}", 0, "KEXEC OK - SAFE on kexec: "),
        (f"audit --snapshot {HYGON} {SME_ON} {ASKED}", 2, "KEXEC CRITICAL - AT-RISK on kexec: "),
        (f"audit --snapshot {ROME} {ASKED}", 3, "KEXEC UNKNOWN - UNKNOWN on kexec: "),
        ("audit --snapshot '/no/such|file'", 3, "KEXEC UNKNOWN - staleline: /no/such/file"),
        ("preflight", 3, "KEXEC UNKNOWN - "),
        ("audit --help", 3, "KEXEC UNKNOWN - Usage: "),
        (f"audit --snapshot {ROME} {SME_ON} {ASKED} --fail-on risk", 3, "KEXEC UNKNOWN - "),
        (f"audit --snapshot {ROME} {SME_ON} {ASKED} --json", 3, "KEXEC UNKNOWN - {"),
    ],
)
def test_a_verdict_in_the_words_of_nagios(plugin, arguments, status, said):
    told, line = plugin(arguments)
    assert (told, line[: len(said)]) == (status, said)


@pytest.mark.parametrize("script", ["exit 0", "exit 137", "echo SAFEST; exit 0", "exit 130"])
def test_what_says_nothing_of_safety_is_not_ok(plugin, tmp_path, script):
    command = tmp_path / "odd"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    assert plugin("audit", command)[0] == 3
    assert plugin("audit", tmp_path / "absent")[0] == 3


def test_alerts_ask_for_what_an_audit_s_metrics_have(capsys):
    assert main(
        ["audit", "--snapshot", str(ROME), "--kernel", "linux-6.18", "--format", "prometheus"]
    )
    metrics = {one.name: one for one in text_string_to_metric_families(capsys.readouterr().out)}
    labels = {name: set(one.samples[0].labels) for name, one in metrics.items()}
    (group,) = yaml.safe_load((EXAMPLES / "host-alerts.yaml").read_text())["groups"]
    assert len(group["rules"]) > 3
    for rule in group["rules"]:
        ((name, inside),) = re.findall(r"(staleline_\w+)(?:\{([^}]*)\})?", rule["expr"])
        wanted = set(re.findall(r"(\w+)=", inside))
        wanted |= set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert wanted <= labels[name], rule["alert"]


def test_every_variable_of_the_role_has_a_default_or_is_of_a_task():
    tasks = "".join(path.read_text() for path in (ROLE / "tasks").glob("*.yml"))
    registered = set(re.findall(r"register: (\w+)", tasks))
    defaults = set(yaml.safe_load((ROLE / "defaults/main.yml").read_text()))
    assert set(re.findall(r"\bstaleline_\w+", tasks)) == defaults | registered


@pytest.mark.parametrize("rules", ["host-alerts.yaml", "fleet-alerts.yaml"])
def test_there_is_an_alert_for_each_verdict_that_is_not_safe(rules):
    (group,) = yaml.safe_load((EXAMPLES / rules).read_text())["groups"]
    asked = {one for rule in group["rules"] for one in re.findall(r'verdict="(.*?)"', rule["expr"])}
    assert asked == {"at-risk", "unknown"}


@pytest.mark.parametrize("rules", ["host-alerts.yaml", "fleet-alerts.yaml"])
def test_metrics_that_are_not_there_are_an_alert_too(rules):
    """No rule on samples fires without any, and silence would be taken for safe."""
    (group,) = yaml.safe_load((EXAMPLES / rules).read_text())["groups"]
    absent = [re.fullmatch(r"absent\((staleline_\w+)\)", rule["expr"]) for rule in group["rules"]]
    (gone,) = filter(None, absent)
    assert gone[1].endswith("last_run_timestamp_seconds")


def _panels():
    return json.loads((EXAMPLES / "fleet-dashboard.json").read_text())["panels"]


def test_no_panel_adds_hosts_that_were_asked_about_two_next_kernels():
    """Metrics have a sample for each `next` of each host."""
    for panel in _panels():
        for target in panel["targets"]:
            assert 'what_if="$what_if", next="$next"' in target["expr"], panel["title"]


def test_the_dashboard_begins_with_what_is_and_not_with_a_what_if():
    """Prometheus holds an empty label for none, so that a list of values never has it."""
    dashboard = json.loads((EXAMPLES / "fleet-dashboard.json").read_text())
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert variables["what_if"]["type"] == "textbox"
    assert variables["what_if"]["query"] == variables["what_if"]["current"]["value"] == ""
    assert variables["next"]["query"].endswith(", next)")


def test_only_what_is_safe_is_green():
    """Grafana colours a figure green up to 80, and the first line of a diagram, if not told."""
    colours = {}
    for panel in _panels():
        config = panel["fieldConfig"]
        if panel["type"] == "stat":
            colours[panel["title"]] = [
                one["color"] for one in config["defaults"]["thresholds"]["steps"]
            ]
        if "by (verdict)" in panel["targets"][0]["expr"]:
            of_lines = {
                one["matcher"]["options"]: one["properties"][0]["value"]["fixedColor"]
                for one in config["overrides"]
            }
    assert of_lines == {"at-risk": "red", "unknown": "orange", "safe": "green"}
    assert {title for title, steps in colours.items() if "green" in steps} == {"Safe"}
    assert colours["At risk"] == ["text", "red"]
    assert "Asked ago" in colours
