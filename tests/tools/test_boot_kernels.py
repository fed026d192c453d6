# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tools.boot_machine import Answers, BootError, Flushes, Layout, flushes
from tools.boot_questions import CPUID, RDMSR, Question
from tools.gdb_stub import Cpu, GdbStub, StubError

from staleline.kernel.boot.decision import Decision, SiteDecision
from tools import boot_kernels

OLD = Layout("6.12.117", frozenset({0xFFFF_FFFF_8107_0000}), frozenset({0x0E0}), 0, b"", {})
NEW = Layout("6.12.117-new", frozenset({0xFFFF_FFFF_8108_0000}), frozenset({0x0E4}), 0, b"", {})
LAYOUTS = {layout.release: layout for layout in (OLD, NEW)}

# As QEMU says it: the firmware's and the starting CPUs' WBINVDs around those that count.
JUMP = """\
WBINVD cpu=0 address=0xead3e
== up 6.12.117 online 0-3
== jump 6.12.117
noise without an end WBINVD cpu=2 address=0xffffffff81070000
WBINVD cpu=1 address=0xffffffff81070000
WBINVD cpu=3 address=0xffffffff81070000
WBINVD cpu=0 address=0x6f0710e0
WBINVD cpu=1 address=0x990e0
WBINVD cpu=0 address=0xffffffff810b80e0
== up 6.12.117-new online 0-3
== done 6.12.117-new
"""


class TestFlushes:
    def test_counts_what_the_kernel_that_was_left_executed(self) -> None:
        assert flushes(JUMP, LAYOUTS) == [
            Flushes("6.12.117", False, (1, 1, 1, 1), "6.12.117-new", "0-3")
        ]

    def test_does_not_count_the_other_kernels_addresses(self) -> None:
        output = JUMP.replace("ffffffff81070000", "ffffffff81080000").replace("10e0", "10e4")
        assert flushes(output, LAYOUTS)[0].executed == (0, 0, 0, 0)

    def test_counts_an_instruction_as_often_as_it_is_executed(self) -> None:
        again = "WBINVD cpu=3 address=0xffffffff81070000\n"
        assert flushes(JUMP.replace(again, again * 2), LAYOUTS)[0].executed == (1, 1, 1, 2)

    def test_tells_a_crash(self) -> None:
        output = (
            "== up 6.12.117 online 0-3\n== crash 6.12.117\n"
            "WBINVD cpu=1 address=0x6f0710e0\n== crash kernel 6.12.117\n"
        )
        assert flushes(output, LAYOUTS) == [Flushes("6.12.117", True, (0, 1, 0, 0), "6.12.117", "")]

    def test_a_jump_that_does_not_arrive_is_an_error(self) -> None:
        output = JUMP.split("== up 6.12.117-new", maxsplit=1)[0]
        with pytest.raises(BootError, match="the machine stopped after 0 jumps"):
            flushes(output, LAYOUTS)

    def test_an_image_that_is_not_loaded_is_an_error(self) -> None:
        with pytest.raises(BootError, match="could not load"):
            flushes("== up 6.12.117 online 0-3\n== cannot load\n", LAYOUTS)


class TestAnswers:
    ANSWERS = Answers({0x8000_001F: (1, 47, 0, 0)}, {0x87: 0x20_0000_001F})

    def cpu(self, **registers: int) -> Cpu:
        return Cpu("1", 0x1000, registers)

    def test_answers_a_leaf(self) -> None:
        after = self.ANSWERS(self.cpu(rax=0x8000_001F), CPUID)
        assert after == {"rip": 0x1002, "rax": 1, "rbx": 47, "rcx": 0, "rdx": 0}

    def test_answers_an_msr_in_two_halves(self) -> None:
        after = self.ANSWERS(self.cpu(rcx=0x87), RDMSR)
        assert after == {"rip": 0x1002, "rax": 0x1F, "rdx": 0x20}

    @pytest.mark.parametrize(("registers", "opcode"), [({"rax": 0}, CPUID), ({"rcx": 0}, RDMSR)])
    def test_leaves_the_rest_to_qemu(self, registers: dict[str, int], opcode: bytes) -> None:
        assert self.ANSWERS(self.cpu(**registers), opcode) is None

    def test_does_not_answer_what_another_kernel_has_at_the_address(self) -> None:
        assert self.ANSWERS(self.cpu(rax=0x8000_001F, rcx=0x87), b"\x89\xd0") is None

    def test_stops_at_what_can_ask_for_something_answered(self) -> None:
        questions = {
            0x1000: Question(CPUID),
            0x2000: Question(CPUID, 0x8000_001F, 0xFFFF_FFFF),
            0x3000: Question(CPUID, 1, 0xFFFF_FFFF),
            0x4000: Question(RDMSR, 0x87, 0xFFFF_FFFF),
            0x5000: Question(RDMSR, 0x1B, 0xFFFF_FFFF),
        }
        layout = replace(OLD, questions=questions)
        assert self.ANSWERS.needed(layout) == {0x1000, 0x2000, 0x4000}
        assert Answers({}, self.ANSWERS.msr).needed(layout) == {0x4000}


@contextmanager
def machine(conversation: list[tuple[str, str]]) -> Iterator[socket.socket]:
    """The other side of a stub: what it expects to be asked, and its answers; then it is gone."""
    ours, theirs = socket.socketpair()
    heard: list[str] = []

    def answer() -> None:
        received = b""
        for _, reply in conversation:
            while received.count(b"#") < 1 or len(received.partition(b"#")[2]) < 2:
                received += theirs.recv(4096)
            packet, _, rest = received.partition(b"#")
            heard.append(packet.decode().lstrip("+").removeprefix("$"))
            received = rest[2:]
            theirs.sendall(f"+${reply}#{sum(reply.encode()) % 256:02x}".encode())
        theirs.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with ours:
        yield ours
        thread.join(timeout=10)
    assert heard == [question for question, _ in conversation]


def registers(rip: int, rax: int) -> str:
    """An answer to "g": RAX, 15 more general registers, RIP, and others."""
    values = [rax, *[0] * 15, rip, 0]
    return "".join(value.to_bytes(8, "little").hex() for value in values)


CONNECT = [("?", "T05thread:01;"), ("qXfer:features:read:target.xml:0,ffb", "l<target/>")]


class TestGdbStub:
    STOP = "T05thread:02;"

    def test_sets_the_registers_of_the_cpu_that_stopped_and_goes_on(self) -> None:
        conversation = [
            *CONNECT,
            ("Z0,ffffffff81000000,1", "OK"),
            ("vCont;c", self.STOP),
            ("Hg02", "OK"),
            ("g", registers(0xFFFF_FFFF_8100_0000, 0x8000_001F)),
            ("P10=02000081ffffffff", "OK"),
            ("P0=0100000000000000", "OK"),
            ("vCont;c", "W00"),
        ]
        with machine(conversation) as connection:
            stub = GdbStub(connection)
            stub.break_at([0xFFFF_FFFF_8100_0000])
            stub.run(lambda cpu: {"rip": cpu.rip + 2, "rax": cpu.registers["rax"] & 1})

    def test_steps_over_what_is_not_answered(self) -> None:
        conversation = [
            *CONNECT,
            ("vCont;c", self.STOP),
            ("Hg02", "OK"),
            ("g", registers(0x1000, 0)),
            ("vCont;s:02", self.STOP),
            ("vCont;c", "W00"),
        ]
        with machine(conversation) as connection:
            GdbStub(connection).run(lambda cpu: None)

    def test_says_so_if_there_can_be_no_breakpoint(self) -> None:
        with (
            machine([*CONNECT, ("Z0,1000,1", "E22")]) as connection,
            pytest.raises(StubError, match="no breakpoint at 0x1000"),
        ):
            GdbStub(connection).break_at([0x1000])


def decision(stop: bool | None, relocate: bool | None) -> Decision:
    site, jump = SiteDecision(stop), SiteDecision(relocate)
    return Decision(site, jump, site, jump, None, None)


class TestPredicted:
    def test_the_boot_cpu_jumps(self) -> None:
        assert boot_kernels.predicted(decision(True, False), crash=False) == (0, 1, 1, 1)

    def test_another_cpu_crashes(self) -> None:
        assert boot_kernels.predicted(decision(False, True), crash=True) == (0, 1, 0, 0)

    def test_unknown_is_no_number(self) -> None:
        assert boot_kernels.predicted(decision(None, True), crash=False) is None


def test_every_machine_presents_the_facts_that_staleline_is_asked_about() -> None:
    for scenario in boot_kernels.scenarios():
        facts = scenario.facts
        leaf = scenario.answers.cpuid.get(0x8000_001F, (0, 0, 0, 0))
        assert facts.sme == bool(leaf[0] & 1)
        assert facts.sme_enabled == bool(scenario.answers.msr.get(0xC001_0010, 0) & 1 << 23)
        assert facts.leaf == ("xlevel=0x8000001f" in scenario.cpu)
        assert facts.hypervisor == ("-hypervisor" not in scenario.cpu)
        assert facts.tdx_keyids == (scenario.answers.msr.get(0x87, 0) >> 32 >= 2)
