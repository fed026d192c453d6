# SPDX-License-Identifier: GPL-2.0-or-later
"""No text of somebody else is obeyed by a terminal or a page, whichever command shows it how."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from staleline.cli.main import main
from staleline.evidence.detect import read_snapshot
from staleline.evidence.hosts.snapshot_json import to_json
from staleline.kernel.image.assembly import load_image
from tests.cli.console.test_once import commands
from tests.conftest import RealKernel
from tests.evidence.writers import as_tar
from tests.fuzz.seeds import SEEDS
from tests.hostile import (
    EVIL,
    EVIL_WORD,
    FORMATS,
    elements_of,
    obeyed,
    replaced_texts,
    taken,
)
from tests.kernel.packagewriter import File, write_deb, write_rpm
from tests.kernel.patchedfile import patched_file

_DUMPS = Path(__file__).parents[1] / "data" / "cpuid"
ROME = _DUMPS / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
HYGON = (
    *("audit", "--snapshot", _DUMPS / "registers/hygon-c86-3250.cpuid", "--path", "kexec"),
    *("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on", "--kernel", "linux-6.18"),
)
STATUSES = {0, 1, 2, 3}

Said = Callable[..., str]


@pytest.fixture
def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Said:
    """Runs a command: nothing in what it says is obeyed; returns what it wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "4000")  # so that nothing is wrapped that is looked for

    def run(*arguments: object, form: str = "text") -> str:
        words = [str(argument) for argument in arguments]
        status = main([*words, "--format", form] if form != "text" else words)
        written = capsys.readouterr()
        assert status in STATUSES
        assert (status == 1) is bool(written.err), written.err
        assert not obeyed(written.out + written.err)
        assert not taken("text", written.err)
        assert all(line.startswith("staleline: ") for line in written.err.splitlines())
        if written.out:
            assert not taken(form, written.out)
        return written.out + written.err

    return run


# --- Arguments -------------------------------------------------------------------------------

#: What each command is asked beside the one hostile value; ``@`` is a file of the test's own.
_SOUND: dict[str, tuple[str, ...]] = {
    "audit": ("--snapshot", str(ROME), "--kernel", "linux-6.5"),
    "preflight": ("--next", "@image", "--snapshot", str(ROME), "--kernel", "linux-6.5"),
    "facts": (str(ROME),),
    "kernel": ("@image", "--no-cache"),
    "check": ("linux-6.5",),
    "prove": ("linux-6.5", "--platform", "guest-snp"),
    "diff": ("linux-6.5", "linux-6.18"),
    "claims": ("c",),
    "replay": ("@trace",),
    "report": ("-o", "report", "--policy", "linux-6.18", "--platform", "guest-snp"),
    "serve": ("@missing",),
    "export": ("kexec:on-off", "--to", "murphi"),
    "policies": ("linux-6.5",),
    "explain": ("flush-faults",),
    "collect": (),
    "schema": ("audit",),
    "run": ("--kernel", "@missing"),
    "litmus": ("--read", "@missing"),
    "fleet add": ("@missing", "--into", "@fleet"),
    "fleet audit": ("@missing",),
    "fleet missing": ("@missing",),
    "fleet diff": ("@missing", "@missing"),
    "fleet pairs": ("@missing", "--next", "on"),
    "fleet page": ("@missing", "-o", "@page.html"),
    "fleet sql": ("@missing",),
}


def _valued() -> Iterator[tuple[str, click.Parameter]]:
    """Every parameter of every command that takes a value."""
    for name, command in commands():
        for parameter in command.params:
            if not (isinstance(parameter, click.Option) and parameter.is_flag):
                yield name, parameter


def test_every_command_is_asked() -> None:
    assert set(_SOUND) == {name for name, _ in commands()}


@pytest.mark.parametrize(
    ("name", "parameter"), list(_valued()), ids=lambda value: getattr(value, "name", value)
)
def test_an_argument_is_not_obeyed(
    name: str, parameter: click.Parameter, said: Said, tmp_path: Path
) -> None:
    (tmp_path / "image").write_bytes(dict(SEEDS["loader"]())["bzimage-gzip"])
    (tmp_path / "trace").write_text("{}")
    sound = [word.replace("@", f"{tmp_path}/") for word in _SOUND[name]]
    for evil in (EVIL, f"{EVIL}={EVIL}"):
        if isinstance(parameter, click.Option):
            option = parameter.opts[0]
            at = next((sound.index(word) for word in parameter.opts if word in sound), None)
            words = sound if at is None else sound[:at] + sound[at + 2 :]
            said(*name.split(), *words, option, evil)
        else:
            values = [word for word in sound if not word.startswith("-")]
            first = values[0] if values else ""
            said(*name.split(), *(evil if word == first else word for word in sound))


@pytest.mark.parametrize("words", [(EVIL,), (f"--{EVIL}",), ("audit", f"--{EVIL}"), ("facts",)])
def test_what_is_no_command_is_not_obeyed(words: tuple[str, ...], said: Said) -> None:
    said(*words)


# --- Evidence --------------------------------------------------------------------------------


def _snapshot() -> dict[str, Any]:
    """Rome with something in every field of the schema that holds text."""
    document = to_json(read_snapshot(ROME))
    document["cpus"] = [{**document["cpus"][0], "msr": {"0xc0010010": "0x800000"}}]
    document |= {
        "host": "rome",
        "collected": "2026-11-01T00:00:00Z",
        "cpuinfo": {"vendor": "AuthenticAMD", "flags": ["sme"], "bugs": ["tsa"]},
        "caches": [{"level": 3, "type": "Unified", "bytes": 1 << 24, "cpus": ["0-3"]}],
        "modules": {"kvm_amd": {"sev": "Y"}},
        "log": {"complete": False, "lines": ["Memory Encryption Features active: AMD SME"]},
        "notes": [{"what": "msr 0xc0010131", "why": "no such register"}],
        "statements": [{"name": "sme_active", "value": "yes", "source": "sevctl: yes"}],
        "unread": [{"where": "rome.txt:9", "message": "Memory Encryption Features active: SME"}],
    }
    document["kernel"] = {
        "release": "6.12.107",
        "cmdline": "mem_encrypt=on",
        "config": {"CONFIG_AMD_MEM_ENCRYPT": "y"},
        "build_id": "ab" * 20,
        "loader_cmdline": "mem_encrypt=on",
        "bootconfig": ["kernel.quiet"],
        "booted_by": "efi",
    }
    document["state"] |= {
        "tdx_module": "absent",
        "guest_ids_peak": {"sev": 0},
        "livepatches": {"patch": ["vmlinux:stop_this_cpu"]},
        "kprobes": ["stop_this_cpu+0x0"],
        "tainting_modules": ["zfs:PO"],
    }
    return document


_CHANGED = dict(replaced_texts(_snapshot(), EVIL))


def test_every_field_of_text_is_changed() -> None:
    schema = json.loads(
        (Path(__file__).parents[2] / "src/staleline/schemas/snapshot-1.json").read_text()
    )
    changed = {place.split(".")[1].split("[")[0] for place in _CHANGED if place != ".KEY"}
    assert changed >= set(schema["properties"]) - {"KEY"}


@pytest.mark.parametrize("place", _CHANGED)
def test_a_field_of_a_snapshot_is_not_obeyed(place: str, said: Said, tmp_path: Path) -> None:
    path = tmp_path / f"snapshot{EVIL}"
    path.write_text(json.dumps(_CHANGED[place]))
    said("facts", path)
    said("facts", path, "--json")
    for form in ("text", "markdown", "sarif"):
        said("audit", "--snapshot", path, "--kernel", "linux-6.18", form=form)
    said("audit", "--snapshot", path)


def _evil_snapshot(directory: Path) -> Path:
    """Hostile wherever it still gets as far as a verdict."""
    document = _snapshot()
    document |= {"host": EVIL, "collected": EVIL, "statements": [], "modules": None, "unread": []}
    document["notes"] = [{"what": "msr 0xc0010131", "why": EVIL}, {"what": EVIL, "why": EVIL}]
    document["kernel"] = {"release": f"6.12{EVIL}", "cmdline": f"mem_encrypt=on {EVIL}"}
    document["state"]["livepatches"] = None
    document["state"]["tainting_modules"] = [EVIL]
    document["state"]["kprobes"] = [f"stop_this_cpu{EVIL}"]
    path = directory / f"evil{EVIL}"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_a_snapshot_of_which_everything_is_hostile_is_not_obeyed(
    form: str, said: Said, tmp_path: Path, real_kernels: dict[str, RealKernel]
) -> None:
    path = _evil_snapshot(tmp_path)
    asked = ("--snapshot", path, "--kernel", "linux-6.18")
    assert "HOSTILE" in said("audit", *asked, form=form)
    said("audit", *asked, "--kernel", EVIL, "--snapshot", EVIL, form=form)
    image = tmp_path / f"vmlinuz{EVIL}"
    image.symlink_to(real_kernels["6.12"].path)
    loaded = ("--next", image, "--explain")
    assert "HOSTILE" in said("preflight", *asked, *loaded, form=form)
    said("preflight", *asked, *loaded, "--append", EVIL, "--crash", form=form)


@pytest.mark.parametrize("contradictory", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_a_log_is_not_obeyed(form: str, said: Said, tmp_path: Path, *, contradictory: bool) -> None:
    path = tmp_path / f"log{EVIL}"
    active = f"Memory Encryption Features active: AMD SME {EVIL_WORD}"
    lines = [f"Linux version 6.12.107 ({EVIL_WORD})", f"Command line: {EVIL_WORD}", active]
    lines += [f"SEV: {EVIL_WORD}", f"DMI: {EVIL_WORD}", f"virt/tdx: {EVIL_WORD}"]
    lines += ["Memory Encryption Features active: Intel TDX"] * contradictory
    path.write_text("".join(f"[    0.{n:06}] {line}\n" for n, line in enumerate(lines)))
    said("audit", "--snapshot", path, "--kernel", "linux-6.18", form=form)
    if form in ("text", "json"):
        said("facts", path, *(["--json"] if form == "json" else []))


_CPUINFO = (
    f"processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 49\n"
    f"model name\t: {EVIL_WORD}\nstepping\t: 0\nflags\t\t: fpu sme sev {EVIL_WORD}\n"
    f"bugs\t\t: {EVIL_WORD}\n{EVIL_WORD}\t: {EVIL_WORD}\n\n"
)
_OTHER_EVIDENCE: dict[str, bytes] = {
    "cpuinfo": _CPUINFO.encode(),
    "lscpu": (
        f"Architecture: x86_64\nVendor ID: AuthenticAMD{EVIL_WORD}\nCPU family: 23\n"
        f"Model name: {EVIL_WORD}\nHypervisor vendor: {EVIL_WORD}\nFlags: fpu sme {EVIL_WORD}\n"
    ).encode(),
    "junk": EVIL.encode(),
    "broken JSON": f"{{{EVIL}".encode(),
    "another schema": json.dumps({"schema": EVIL, "cpus": []}).encode(),
    "a field twice": f'{{"{EVIL_WORD[8:9]}x": 1, "{EVIL_WORD[8:9]}x": 2}}'.encode(),
    "a tree in an archive": as_tar(
        {f"top{EVIL}/proc/cpuinfo": _CPUINFO.encode(), f"top{EVIL}/proc/cmdline": EVIL.encode()}
    ),
    "a dump in an archive": as_tar({f"dump{EVIL}": ROME.read_bytes()}),
    "junk in an archive": as_tar({f"junk{EVIL}": b"x"}),
    "two dumps in an archive": as_tar({EVIL: ROME.read_bytes(), "cpuinfo": _CPUINFO.encode()}),
}


@pytest.mark.parametrize("kind", _OTHER_EVIDENCE)
def test_other_evidence_is_not_obeyed(kind: str, said: Said, tmp_path: Path) -> None:
    path = tmp_path / f"evidence{EVIL}"
    path.write_bytes(_OTHER_EVIDENCE[kind])
    said("facts", path)
    said("facts", path, "--json")
    for form in ("text", "markdown"):
        said("audit", "--snapshot", path, "--kernel", "linux-6.18", form=form)
    said("audit", "--snapshot", path, "--snapshot", ROME, "--kernel", "linux-6.18")


# --- Policies --------------------------------------------------------------------------------


def _policy(directory: Path, text: str = EVIL) -> Path:
    path = directory / f"rule{EVIL}.toml"
    # TOML has no surrogates.
    quoted = json.dumps(text).replace(json.dumps("\U000e0041")[1:-1], "\\U000e0041")
    path.write_text(
        f"name = {quoted}\ntitle = {quoted}\nsource = [{quoted}]\nbugs = [{quoted}]\n[sites]\n"
        'stop_this_cpu = "sme_active"\nrelocate_kernel = "sme_active"\n'
    )
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_a_policy_is_not_obeyed(form: str, said: Said, tmp_path: Path) -> None:
    policy = _policy(tmp_path)
    assert "HOSTILE" in said("check", policy, form=form)
    assert "HOSTILE" in said("audit", "--snapshot", ROME, "--kernel", policy, form=form)
    if form != "prometheus":
        assert "HOSTILE" in said("diff", "linux-6.5", policy, form=form)
        assert "HOSTILE" in said("diff", policy, "linux-6.5", form=form)
    if form in ("text", "json"):
        assert "HOSTILE" in said("policies", policy, *(["--json"] if form == "json" else []))


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_policy_that_is_proved_is_not_obeyed(form: str, said: Said, tmp_path: Path) -> None:
    policy, certificate = _policy(tmp_path), tmp_path / f"certificate{EVIL}"
    asked = ("prove", policy, "--platform", "amd-sme-incoherent")
    traces = ("--traces", tmp_path / f"traces{EVIL}")
    assert "HOSTILE" in said(*asked, "--certificate", certificate, *traces, form=form)
    assert "HOSTILE" in said(*asked, "--check", certificate, form=form)


@pytest.mark.parametrize(
    "text",
    [
        f"name = 1\n{EVIL}",
        f'name="x"\ntitle="y"\n[sites]\n{json.dumps("a" + chr(0x202E))} = "a"',
        f'name="x"\ntitle="y"\n[sites]\nstop_this_cpu = "{chr(0x202E)} == <b>"',
        f'name="x"\ntitle="y"\n"{chr(0x202E)}[red]"=1\n[sites]\nstop_this_cpu="sme_active"\n',
    ],
)
def test_a_policy_that_is_none_is_not_obeyed(text: str, said: Said, tmp_path: Path) -> None:
    policy = tmp_path / f"rule{EVIL}.toml"
    policy.write_text(text)
    assert said("check", policy).startswith("staleline: ")
    assert said("diff", "linux-6.5", policy).startswith("staleline: ")


# --- Counterexamples -------------------------------------------------------------------------


def test_a_trace_is_not_obeyed(said: Said, tmp_path: Path) -> None:
    said(*HYGON, "--traces", tmp_path / f"traces{EVIL}")
    trace, *_ = (tmp_path / f"traces{EVIL}").iterdir()
    replayed = 0
    for _, document in replaced_texts(json.loads(trace.read_text()), EVIL):
        changed = tmp_path / f"{EVIL}.json"
        changed.write_text(json.dumps(document))
        replayed += said("replay", changed).startswith("P1 broken")
        said("replay", changed, "--json")
        for other in ("murphi", "promela", "smt2"):
            said("export", changed, "--to", other)
    assert replayed  # what the file tells in words is not what is told


# --- Images ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_the_version_of_an_image_is_not_obeyed(
    form: str,
    said: Said,
    evil_image: Path,
    tmp_path: Path,
) -> None:
    on_rome = ("--snapshot", ROME, "--cmdline", "mem_encrypt=on", "--msr", "0xc0010010=0x800000")
    assert "HOSTILE" in said("audit", *on_rome, "--kernel", evil_image, form=form)
    asked = ("--next", evil_image, "--kernel", "linux-6.5", "--explain")
    assert "HOSTILE" in said("preflight", *on_rome, *asked, form=form)
    if form in ("text", "json"):
        assert "HOSTILE" in said("kernel", evil_image, form=form)
        assert "HOSTILE" in said("kernel", evil_image, "--since", evil_image, form=form)


@pytest.fixture(scope="module")
def evil_image(
    real_kernels: dict[str, RealKernel], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Debian's 5.10 with other words in linux_banner, read once for all formats."""
    kernel = real_kernels["5.10"].path
    banner = load_image(kernel).symbols.only_address("linux_banner")
    assert banner is not None
    directory = tmp_path_factory.mktemp("hostile")
    image = directory / f"vmlinux{EVIL}"
    release = f"5.10{EVIL_WORD}".encode()
    image.write_bytes(
        patched_file(kernel, {banner: b"Linux version " + release + b" (a@b) #1\n\0"})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(directory))
        yield image


@pytest.mark.parametrize("write", [write_deb, write_rpm])
@pytest.mark.parametrize("kernels", [0, 1, 2])
def test_a_member_of_a_package_is_not_obeyed(
    write: Callable[[list[File]], bytes], kernels: int, said: Said, tmp_path: Path
) -> None:
    members = [File(f"boot/vmlinuz-{number}{EVIL_WORD}", b"junk") for number in range(kernels)]
    package = tmp_path / f"package{EVIL}"
    package.write_bytes(write([*members, File(f"usr/{EVIL_WORD}", b"x")]))
    for form in FORMATS:
        said("kernel", "--no-cache", package, form=form)
    assert said("preflight", "--snapshot", ROME, "--kernel", "linux-6.5", "--next", package)


# --- Pages -----------------------------------------------------------------------------------


def test_nothing_of_a_page_is_somebody_elses_markup(said: Said, tmp_path: Path) -> None:
    pages = []
    sound = tmp_path / "sound.toml"
    sound.write_text(_policy(tmp_path).read_text().replace("HOSTILE", "x").split("\n[sites]")[1])
    sound.write_text(f'name = "mine"\ntitle = "mine"\n[sites]\n{sound.read_text()}')
    snapshot = tmp_path / "snapshot"
    snapshot.write_text(json.dumps(json.loads(_evil_snapshot(tmp_path).read_text()) | {"host": ""}))
    for machine, policy in ((snapshot, sound), (_evil_snapshot(tmp_path), _policy(tmp_path))):
        directory = tmp_path / f"report of {policy.name}"
        said("report", "-o", directory, "--snapshot", machine, "--kernel", policy)
        pages.append(elements_of((directory / "index.html").read_text()))
    (elements, _), (hostile, text) = pages
    assert hostile == elements
    assert "HOSTILE" in text
    assert not obeyed(text)
