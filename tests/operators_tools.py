# SPDX-License-Identifier: GPL-2.0-or-later
"""`make operators-test`: the examples run by ansible, by promtool and by NRPE on the loopback.

ansible-core is from the package index, the others are Debian's (prometheus, nagios-nrpe-server,
nagios-nrpe-plugin), installed where they are absent, which needs root.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tools.debian_package import installed
from tools.packages.single_file import build

from staleline.evidence.detect import read_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from tests.conftest import RealKernel
from tests.findings import ROOT

EXAMPLES = ROOT / "docs/examples"
ROME = ROOT / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
HYGON = ROOT / "tests/data/cpuid/registers/hygon-c86-3250.cpuid"
SME_ON = "--msr 0xc0010010=0x800000 --cmdline mem_encrypt=on --state offline_cpus=none"
LOOPBACK = "127.0.0.1"


def run(*command, **more):
    words = list(map(str, command))
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=300, **more)


@pytest.fixture
def staleline(tmp_path):
    """The command, as a host has it."""
    command = tmp_path / "staleline"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m staleline "$@"\n')
    command.chmod(0o755)
    return command


# --- ansible ---------------------------------------------------------------------------------


@pytest.fixture
def play(tmp_path, staleline):
    """The playbook over two hosts that are this one; its output, and how kexec was called."""
    kexec, log = tmp_path / "kexec", tmp_path / "kexec.log"
    kexec.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    kexec.chmod(0o755)

    def run_it(*more, **variables):
        log.unlink(missing_ok=True)
        told = {
            "staleline_snapshots": str(tmp_path / "snapshots"),
            "staleline_here": str(staleline),
            "staleline_command": str(staleline),
            "staleline_kexec": str(kexec),
            "staleline_become": False,
            **variables,
        }
        inventory = (
            *("web1", "web2", "[all:vars]", "ansible_connection=local"),
            f"ansible_python_interpreter={sys.executable}",
        )
        (tmp_path / "inventory").write_text("\n".join(inventory))
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ansible = shutil.which("ansible-playbook", path=beside)
        assert ansible
        words = ["-i", tmp_path / "inventory", "-e", json.dumps(told), *more]
        home = {"ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1"}
        done = run(ansible, *words, EXAMPLES / "ansible/staleline.yml", env=os.environ | home)
        return done, log.read_text().splitlines() if log.exists() else []

    return run_it


def test_the_role_collects_a_small_snapshot_of_each_host(play, staleline, tmp_path):
    done, loaded = play()
    assert (done.returncode, loaded) == (0, []), done.stdout + done.stderr
    snapshots = sorted((tmp_path / "snapshots").iterdir())
    assert [path.name for path in snapshots] == ["web1.json", "web2.json"]
    assert all(path.stat().st_size < 8000 for path in snapshots)
    added = run(staleline, "fleet", "add", tmp_path / "snapshots", "--into", tmp_path / "fleet")
    assert added.returncode == 0, added.stderr


def test_the_role_loads_what_is_safe_and_nothing_else(
    play, tmp_path, real_kernels: dict[str, RealKernel]
):
    image = str(real_kernels["6.12"].path)

    def load(dump, *more, allow=(), crash=False, kernel=image):
        return play(
            staleline_snapshots="",
            staleline_next=image,
            staleline_append="quiet mem_encrypt=on",
            staleline_initrd="/i",
            staleline_crash=crash,
            staleline_allow=list(allow),
            staleline_preflight_options=[
                *("--snapshot", str(dump), "--kernel", kernel, *shlex.split(SME_ON), *more)
            ],
        )

    safe, loaded = load(ROME, "--state", "sev_guests_run=no")
    assert safe.returncode == 0, safe.stdout
    assert "safe: kexec on→on" in safe.stdout
    assert loaded == [f"--load {image} --append=quiet mem_encrypt=on --initrd=/i"] * 2
    at_risk, loaded = load(HYGON, kernel=str(real_kernels["7"].path))
    assert (at_risk.returncode, loaded) == (2, [])
    assert "at risk: " in at_risk.stdout
    _, loaded = load(HYGON, kernel=str(real_kernels["7"].path), allow=[2])
    assert len(loaded) == 2
    wrong, loaded = load("/no/such", allow=[1, 2, 3])
    assert (wrong.returncode, loaded) == (2, [])


@pytest.mark.parametrize(
    "option", [["--help"], ["--crash"], ["--reuse-cmdline"], ["--append=root=/x"], ["--json"]]
)
def test_the_role_loads_nothing_but_what_was_answered_for(
    play, option, real_kernels: dict[str, RealKernel]
):
    """`--help` ends with 0, and `--crash` asks about another load than is made."""
    image = str(real_kernels["6.12"].path)
    asked = ["--snapshot", str(ROME), "--kernel", image, *shlex.split(SME_ON)]
    done, loaded = play(
        staleline_snapshots="",
        staleline_next=image,
        staleline_append="quiet mem_encrypt=on",
        staleline_allow=[2, 3],
        staleline_preflight_options=[*asked, "--state", "sev_guests_run=no", *option],
    )
    assert (done.returncode, loaded) == (2, []), done.stdout


def test_a_dry_run_of_the_role_asks_and_loads_nothing(play, real_kernels: dict[str, RealKernel]):
    image = str(real_kernels["6.12"].path)
    options = ["--snapshot", str(ROME), "--kernel", image, *shlex.split(SME_ON)]
    done, loaded = play(
        "--check", staleline_next=image, staleline_preflight_options=options, staleline_crash=False
    )
    assert (done.returncode, loaded) == (0, []), done.stdout
    assert "safe: kexec" in done.stdout


# --- Prometheus ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promtool():
    return installed("promtool", "prometheus")


@pytest.mark.parametrize("rules", ["host-alerts.yaml", "fleet-alerts.yaml"])
def test_promtool_accepts_the_rules(promtool, rules):
    done = run(promtool, "check", "rules", EXAMPLES / rules)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_names_the_host(promtool, staleline, tmp_path):
    """What an audit of a host at risk prints, alerted on by Prometheus' own engine."""
    snapshot = tmp_path / "somewhere.json"
    snapshot.write_text(snapshot_text(replace(read_snapshot(HYGON), host="web1")))
    written = run(
        *(staleline, "audit", "--snapshot", snapshot, "--kernel", "linux-6.18"),
        *(*shlex.split(SME_ON), "--path", "kexec", "--format", "prometheus"),
    )
    checked = run(promtool, "check", "metrics", input=written.stdout)
    assert checked.returncode == 0, checked.stderr
    series = [
        {
            "series": sample.name + "{" + ",".join(map(_label, sample.labels.items())) + "}",
            "values": "0+0x100" if "timestamp" in sample.name else f"{sample.value:.0f}+0x100",
        }
        for family in text_string_to_metric_families(written.stdout)
        for sample in family.samples
    ]
    about = {"subject": "web1", "kernel": "linux-6.18", "asked_path": "kexec"}
    of_kexec = about | {"path": "kexec"}
    alerts = {
        "KexecAtRisk": (
            of_kexec | {"verdict": "at-risk", "severity": "critical"},
            "web1: a kexec from linux-6.18 can corrupt the next kernel's memory",
        ),
        "KexecNotAsked": (about | {"severity": "warning"}, "web1 has not been asked for two days"),
        "KexecUnknown": None,
    }
    rules = yaml.safe_load((EXAMPLES / "host-alerts.yaml").read_text())["groups"][0]["rules"]
    described = {rule["alert"]: rule["annotations"].get("description") for rule in rules}
    tests = [
        {
            "eval_time": "72h",
            "alertname": name,
            "exp_alerts": [
                {
                    "exp_labels": expected[0],
                    "exp_annotations": {"summary": expected[1]}
                    | ({"description": described[name]} if described[name] else {}),
                }
            ]
            if expected
            else [],
        }
        for name, expected in alerts.items()
    ]
    file = tmp_path / "tests.yaml"
    cases = [{"interval": "1h", "input_series": series, "alert_rule_test": tests}]
    rule_file = str(EXAMPLES / "host-alerts.yaml")
    file.write_text(json.dumps({"rule_files": [rule_file], "tests": cases}))
    done = run(promtool, "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def _label(pair):
    return f"{pair[0]}={json.dumps(pair[1])}"


# --- NRPE ------------------------------------------------------------------------------------


@pytest.fixture
def nrpe():
    """Asks NRPE's own server on the loopback by its own client: the status, and what it says.

    The server is its own user, as which no checkout may be readable: it gets the single file.
    """
    server = installed("/usr/sbin/nrpe", "nagios-nrpe-server")
    client = installed("/usr/lib/nagios/plugins/check_nrpe", "nagios-nrpe-plugin")
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        build(folder / "staleline")
        for file in (EXAMPLES / "check_staleline", ROME, HYGON):
            shutil.copy(file, folder)
        asks = {
            name: f"/usr/bin/env STALELINE={folder}/staleline {folder}/check_staleline audit"
            f" --snapshot {folder}/{dump} {SME_ON} --kernel linux-6.18 --path kexec"
            for name, dump in {"rome": ROME.name, "hygon": HYGON.name, "lost": "lost"}.items()
        }
        configuration = folder / "nrpe.cfg"
        lines = [
            *(f"server_port={port}", f"server_address={LOOPBACK}", f"allowed_hosts={LOOPBACK}"),
            *("nrpe_user=nagios", "nrpe_group=nagios", "command_timeout=120", "dont_blame_nrpe=0"),
            *(f"pid_file={folder}/nrpe.pid", f"log_file={folder}/nrpe.log"),
            *(f"command[{name}]={command}" for name, command in asks.items()),
        ]
        configuration.write_text("\n".join(lines) + "\n")
        daemon = subprocess.Popen([server, "-c", configuration, "-f", "-n"])

        def ask(name):
            done = run(client, "-H", LOOPBACK, "-p", port, "-n", "-t", 120, "-c", name)
            return done.returncode, done.stdout

        try:
            for _ in range(100):
                with socket.socket() as tried:
                    if tried.connect_ex((LOOPBACK, port)) == 0:
                        break
                time.sleep(0.1)
            yield ask
        finally:
            daemon.terminate()
            daemon.wait(10)


def test_a_monitor_gets_the_verdict_through_nrpe(nrpe):
    safe, risk, lost = map(nrpe, ("rome", "hygon", "lost"))
    assert (safe[0], safe[1][:29]) == (0, "KEXEC OK - SAFE on kexec: no ")
    assert (risk[0], risk[1][:35]) == (2, "KEXEC CRITICAL - AT-RISK on kexec: ")
    assert (lost[0], lost[1][:27]) == (3, "KEXEC UNKNOWN - staleline: ")
