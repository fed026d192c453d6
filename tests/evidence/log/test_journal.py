# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel logs with named fields, as dmesg (util-linux 2.38) and journalctl (systemd 252) print."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.snapshot import Snapshot
from staleline.facts import from_snapshot

BOOT = (
    "Linux version 6.12.107+deb13-amd64 (debian-kernel@lists.debian.org) #1 SMP",
    "Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on",
    "Memory Encryption Features active: AMD SME",
    "kexec: loaded",
)
BEFORE = ("Linux version 6.1.9 (x) #1", "Memory Encryption Features active: AMD SEV")
A, B = "a" * 32, "b" * 32

Entry = dict[str, str]


def entry(message: str, seconds: int, boot: str = B, **other: str) -> Entry:
    return {
        "__CURSOR": f"s=f63b5c8d038a432e9405dfd9c01c4caf;i=1;b={boot};m=5;t=6443fa4df7400;x=f9",
        "__REALTIME_TIMESTAMP": str(1763890000000000 + seconds * 1000000),
        "__MONOTONIC_TIMESTAMP": str(seconds * 1000000 + 5),
        "_BOOT_ID": boot,
        "_TRANSPORT": "kernel",
        "PRIORITY": "6",
        "SYSLOG_FACILITY": "0",
        "SYSLOG_IDENTIFIER": "kernel",
        "_HOSTNAME": "node17",
        "MESSAGE": message,
        **other,
    }


def entries(boot: str, *messages: str) -> list[Entry]:
    return [entry(message, seconds, boot) for seconds, message in enumerate(messages)]


def as_json(log: list[Entry]) -> str:
    return "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in log)


def as_json_pretty(log: list[Entry]) -> str:
    return "".join(json.dumps(one, indent="\t", separators=(",", " : ")) + "\n" for one in log)


def as_json_sse(log: list[Entry]) -> str:
    return "".join(f"data: {json.dumps(one)}\n\n" for one in log)


def as_json_seq(log: list[Entry]) -> str:
    return "".join(f"\x1e{json.dumps(one)}\n" for one in log)


def as_export(log: list[Entry]) -> str:
    return "".join("".join(f"{k}={v}\n" for k, v in one.items()) + "\n" for one in log)


def as_verbose(log: list[Entry]) -> str:
    text = ""
    for one in log:
        time = int(one["__MONOTONIC_TIMESTAMP"])
        text += (
            "Sun 2025-11-23 09:26:40.000000 UTC "
            f"[s=f63b5c8d038a432e9405dfd9c01c4caf;i=1;b={one['_BOOT_ID']};m={time:x};t=64;x=f9]\n"
        )
        text += "".join(f"    {k}={v}\n" for k, v in one.items() if not k.startswith("__"))
    return text


FORMS = (as_json, as_json_pretty, as_json_sse, as_json_seq, as_export, as_verbose)
Write = Callable[[list[Entry]], str]


def as_dmesg_json(*messages: str, decoded: bool = False) -> str:
    """``dmesg -J``, and -x with it."""
    level = '"fac": "kern",\n         "pri": "info"' if decoded else '"pri": 6'
    rows = "},{".join(
        f'\n         {level},\n         "time": {seconds:12.6f},\n'
        f'         "msg": {json.dumps(message)}\n      '
        for seconds, message in enumerate(messages)
    )
    return '{\n   "dmesg": [\n      {' + rows + "}\n   ]\n}\n"


def read(text: str) -> Snapshot:
    return parse_snapshot(text, "file")


def told(machine: Snapshot) -> tuple[object, ...]:
    log = machine.log
    assert log is not None
    assert not log.complete
    return machine.kernel.release, machine.kernel.cmdline, machine.state.sme_active, log.lines


WHOLE = ("6.12.107+deb13-amd64", "BOOT_IMAGE=/vmlinuz mem_encrypt=on", True, BOOT[2:])


@pytest.mark.parametrize("write", FORMS)
def test_the_last_boot_of_a_journal(write: Write) -> None:
    assert told(read(write([*entries(A, *BEFORE), *entries(B, *BOOT)]))) == WHOLE


@pytest.mark.parametrize("write", FORMS)
def test_what_programs_wrote_is_no_message_of_the_kernel(write: Write) -> None:
    log = entries(B, BOOT[0])
    for other in (
        {"_TRANSPORT": "syslog"},
        {"_TRANSPORT": "stdout"},
        {"SYSLOG_FACILITY": "3"},
        {"SYSLOG_IDENTIFIER": "systemd"},
    ):
        machine = read(write([*log, entry(BOOT[2], 1, **other)]))
        assert machine.state.sme_active is None, other


@pytest.mark.parametrize("write", FORMS)
def test_an_entry_that_does_not_say_who_wrote_it_is_nobodys(write: Write) -> None:
    """As of --output-fields=MESSAGE: a guest's console may stand in the host's journal."""
    guests = entry("Hypervisor detected: KVM", 1)
    alone = {name: guests[name] for name in guests if name.startswith("__") or name == "_BOOT_ID"}
    machine = read(write([*entries(B, BOOT[0]), {**alone, "MESSAGE": guests["MESSAGE"]}]))
    assert [unread.message for unread in machine.unread] == [guests["MESSAGE"]]
    assert machine.log is not None
    assert machine.log.lines == ()
    assert from_snapshot(machine)["unread_messages"].value
    with pytest.raises(EvidenceError, match="holds a message of a kernel in a form"):
        read(write([{**alone, "MESSAGE": guests["MESSAGE"]}]))


@pytest.mark.parametrize("write", FORMS)
def test_a_journal_cut_anywhere_tells_less(write: Write) -> None:
    text = write(entries(B, *BOOT))
    for end in range(len(text)):
        try:
            release, cmdline, active, lines = told(read(text[:end]))
        except EvidenceError:
            continue
        assert release in (None, WHOLE[0]), end
        assert cmdline in (None, WHOLE[1]), end
        assert active in (None, True), end
        assert set(lines) <= set(BOOT), end  # type: ignore[call-overload]


@pytest.mark.parametrize("decoded", [False, True])
def test_dmesg_json(decoded: bool) -> None:
    text = as_dmesg_json(*BOOT, decoded=decoded)
    assert told(read(text)) == WHOLE
    assert told(read(f"root@node17:~# dmesg -J\n{text}root@node17:~# \n")) == WHOLE
    for end in range(0, len(text), 3):
        try:
            cut = told(read(text[:end]))
        except EvidenceError:
            continue
        assert all(one in (None, whole) for one, whole in zip(cut[:3], WHOLE, strict=False)), end


def test_dmesg_json_of_programs() -> None:
    text = as_dmesg_json(BOOT[0], BOOT[2])
    assert read(text).state.sme_active is True
    with pytest.raises(EvidenceError, match="holds no kernel message"):
        read(text.replace('"pri": 6', '"pri": 14'))


def test_messages_that_are_no_text() -> None:
    as_bytes = json.dumps(entry(BOOT[0], 0) | {"MESSAGE": list(BOOT[2].encode())})
    assert read(as_bytes + "\n").state.sme_active is True
    null = json.dumps(entry(BOOT[0], 0) | {"MESSAGE": None})
    assert told(read(null + "\n" + as_json(entries(B, BOOT[2]))))[:3] == (None, None, True)


@pytest.mark.parametrize("write", FORMS)
def test_a_journal_of_several_machines_is_refused(write: Write) -> None:
    """journalctl -m; what the last of them said was taken for one machine's."""

    def of(number: int, host: str, **more: str) -> list[Entry]:
        log = entries(f"{number:032x}", *BOOT)
        return [{**one, "_HOSTNAME": host, **more} for one in log]

    machines = [of(number, "a", _MACHINE_ID=f"{number:032x}") for number in (1, 2)]
    with pytest.raises(EvidenceError, match="of the kernels of several machines"):
        read(write([*machines[0], *machines[1]]))
    with pytest.raises(EvidenceError, match="of the kernels of several machines"):
        read(write([*of(1, "a"), *of(2, "b")]))
    renamed = [of(number, host, _MACHINE_ID="1" * 32) for number, host in ((1, "a"), (2, "b"))]
    assert told(read(write([*renamed[0], *renamed[1]]))) == WHOLE
