# SPDX-License-Identifier: GPL-2.0-or-later
"""Which inputs flow into a condition, and which of their bits.

Instruction effects follow the Intel SDM, volumes 1 and 2.
"""

from __future__ import annotations

import pytest

from staleline.kernel.emulator.traps import RANDOM, TIME
from staleline.kernel.influence.guardinputs import FollowedTraces
from staleline.kernel.influence.inflow import Flow, FollowedFlow, Loaded, inflows
from staleline.kernel.rerun.inputs import Register
from staleline.kernel.rerun.instructionform import form_of
from staleline.kernel.rerun.trace import ExecutedInstruction
from tests.kernel.guards.test_dataflow import SLOT, steps

EAX_OF_LEAF, EBX_OF_LEAF = Register(7, 0, 0), Register(7, 0, 1)
SLOT_OF_4 = Loaded(SLOT, bytes(4))
OF_SHIFT_BY_CL = {
    **dict.fromkeys((EAX_OF_LEAF, EBX_OF_LEAF), 0xFFFF_FFFF),
    Register(7, 0, 2): 0xFF,
}
VERR_OF_BX = {EBX_OF_LEAF: 0xFFFF, "a segment descriptor (VERR)": (1 << 64) - 1}
VERW_OF_BX = {EBX_OF_LEAF: 0xFFFF, "a segment descriptor (VERW)": (1 << 64) - 1}


def decides(*codes: str, constant: bool = False) -> dict[object, int]:
    """What flows into the last instruction, each with its bits."""
    trace = steps(*codes)
    trace[0].begins = True
    for step in trace:
        step.asked = 7, 0
    masks: dict[object, int] = {}
    for inflow in inflows(trace, lambda _: constant)[-1]:
        masks[inflow.origin] = masks.get(inflow.origin, 0) | inflow.mask
    return masks


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        # cpuid; test eax, 1 << 3; jne
        (["0fa2", "a908000000", "7502"], {EAX_OF_LEAF: 1 << 3}),
        # cpuid; test eax, 1 << 8; jne; test eax, 1 << 9; jne: TEST writes nothing but flags
        (["0fa2", "a900010000", "7502", "a900020000", "7502"], {EAX_OF_LEAF: 1 << 9}),
        # cpuid; xor ecx, ecx; test [slot], eax; jne
        (
            ["0fa2", "31c9", "850500000000 <4", "7502"],
            {EAX_OF_LEAF: (1 << 32) - 1, SLOT_OF_4: (1 << 32) - 1},
        ),
        # cpuid; xor ecx, ecx; verw bx; je
        (["0fa2", "31c9", "0f00eb", "7402"], VERW_OF_BX),
        # cpuid; xor ecx, ecx; cmpxchg bl, dl; je: what is in al is compared
        (
            ["0fa2", "31c9", "0fb0d3", "7402"],
            dict.fromkeys((EAX_OF_LEAF, EBX_OF_LEAF, Register(7, 0, 3)), 0xFF),
        ),
        # cpuid; shr eax, 4; jc: the last bit that is shifted out, beside those that stay
        (["0fa2", "c1e804", "7202"], {EAX_OF_LEAF: 0xFFFF_FFF8}),
        # cpuid; shr eax, 1; sbb ecx, ecx; test ecx, ecx; je
        (["0fa2", "d1e8", "19c9", "85c9", "7402"], {EAX_OF_LEAF: 0xFFFF_FFFF}),
        # cpuid; shl rax, 33; jae: bit 31, beside those that stay
        (["0fa2", "48c1e021", "7302"], {EAX_OF_LEAF: 0xFFFF_FFFF}),
        # cpuid; shl rax, 33; je
        (["0fa2", "48c1e021", "7402"], {EAX_OF_LEAF: 0x7FFF_FFFF}),
        # cpuid; shr eax, 4; je: nothing of what is shifted out
        (["0fa2", "c1e804", "7402"], {EAX_OF_LEAF: 0xFFFF_FFF0}),
        # cpuid; shr eax, 4; test ebx, ebx; jbe: nor if CF is written again
        (["0fa2", "c1e804", "85db", "7602"], {EBX_OF_LEAF: 0xFFFF_FFFF}),
        # cpuid; cmp eax, 5; inc ebx; jc: INC leaves CF; and BT, STC and ROL leave ZF
        (["0fa2", "83f805", "ffc3", "7202"], {EAX_OF_LEAF: 0xFFFF_FFFF}),
        (["0fa2", "85c0", "0fbae311", "7402"], {EAX_OF_LEAF: 0xFFFF_FFFF}),
        (["0fa2", "85c0", "f9", "7402"], {EAX_OF_LEAF: 0xFFFF_FFFF}),
        (
            ["0fa2", "85c0", "c1c303", "7402"],
            dict.fromkeys((EAX_OF_LEAF, EBX_OF_LEAF), 0xFFFF_FFFF),
        ),
        # cpuid; test eax, eax; shl ebx, cl; je: a count of 0 leaves all flags; and shl ebx, 32
        (["0fa2", "85c0", "d3e3", "7402"], OF_SHIFT_BY_CL),
        (["0fa2", "83f805", "d3e3", "7202"], OF_SHIFT_BY_CL),
        (
            ["0fa2", "85c0", "c1e320", "7402"],
            dict.fromkeys((EAX_OF_LEAF, EBX_OF_LEAF), 0xFFFF_FFFF),
        ),
        # cpuid; test eax, eax; shl rbx, 32; je: of 64 bits that is a count
        (["0fa2", "85c0", "48c1e320", "7402"], {EBX_OF_LEAF: 0xFFFF_FFFF}),
        # cpuid; test eax, eax; verr bx; js: VERR writes ZF alone
        (["0fa2", "85c0", "0f00e3", "7802"], VERR_OF_BX | {EAX_OF_LEAF: 0xFFFF_FFFF}),
        # cpuid; cmp eax, 5; bt ebx, 17; jbe: both are asked
        (["0fa2", "83f805", "0fbae311", "7602"], {EAX_OF_LEAF: 0xFFFF_FFFF, EBX_OF_LEAF: 1 << 17}),
        # cpuid; test eax, eax; cli; cld; js
        (["0fa2", "85c0", "fa", "fc", "7802"], {EAX_OF_LEAF: (1 << 32) - 1}),
        # cpuid; pushfq; test eax, eax; je
        (["0fa2", "9c >8", "85c0", "7402"], {EAX_OF_LEAF: (1 << 32) - 1}),
        # cpuid; test bh, 2; jne: bit 9
        (["0fa2", "f6c702", "7502"], {EBX_OF_LEAF: 1 << 9}),
        # cpuid; bt ebx, 17; jc
        (["0fa2", "0fbae311", "7202"], {EBX_OF_LEAF: 1 << 17}),
        # cpuid; shr ebx, 23; and ebx, 1; je
        (["0fa2", "c1eb17", "83e301", "7402"], {EBX_OF_LEAF: 1 << 23}),
        # cpuid; cmp ebx, 5; jl
        (["0fa2", "83fb05", "7c02"], {EBX_OF_LEAF: (1 << 32) - 1}),
        # cpuid; mov eax, ebx; cmp eax, 5; jl: what was in eax has no part
        (["0fa2", "89d8", "83f805", "7c02"], {EBX_OF_LEAF: (1 << 32) - 1}),
        # cpuid; xor ebx, ebx; test ebx, ebx; je
        (["0fa2", "31db", "85db", "7402"], {}),
        # mov eax, [slot]; test al, 2; setne al; movzx eax, al; test eax, eax; je
        (
            ["8b05 <+4", "a802", "0f95c0", "0fb6c0", "85c0", "7402"],
            {SLOT_OF_4: 2},
        ),
        # mov [slot], 1; mov eax, [slot]; test eax, eax; je: nothing but what was stored
        (["c70501000000 >+4", "8b05 <+4", "85c0", "7402"], {}),
        # rdtsc; test eax, eax; js
        (["0f31", "85c0", "7802"], {Register(TIME, None): (1 << 64) - 1}),
        # rdrand eax; test al, 1; jne
        (["0fc7f0", "a801", "7502"], {Register(RANDOM, None): (1 << 64) - 1}),
        # mov rax, cr0; test al, 8; jne
        (["0f20c0", "a808", "7502"], {"CR0": 8}),
        # rdpkru; test eax, eax; jne
        (["0f01ee", "85c0", "7502"], {"RDPKRU": (1 << 64) - 1}),
        # mov eax, ds; test eax, eax; jne
        (["8cd8", "85c0", "7502"], {"DS": (1 << 32) - 1}),
        # test ebx, 1; jne, of what the interrupted code left there
        (["f7c301000000", "7502"], {"RBX at the start": 1}),
        # cpuid; mov ecx, ebx; jrcxz
        (["0fa2", "89d9", "e302"], {EBX_OF_LEAF: (1 << 32) - 1}),
        # cpuid; mov ecx, ebx; rep stosb
        (["0fa2", "89d9", "f3aa >+1"], {EBX_OF_LEAF: (1 << 32) - 1}),
    ],
)
def test_what_decides(codes: list[str], expected: dict[object, int]) -> None:
    written_out = [code.replace("8b05 ", "8b0500000000 ") for code in codes]
    written_out = [code.replace("c70501000000 ", "c7050000000001000000 ") for code in written_out]
    assert decides(*written_out) == expected


def test_what_chooses_from_a_table_flows_on() -> None:
    """cpuid; movzx eax, byte [rcx + rbx]; test eax, eax; je."""
    codes = ("0fa2", "0fb60419 <+1", "85c0", "7402")
    assert set(decides(*codes, constant=True)) == {EBX_OF_LEAF, Register(7, 0, 2)}
    assert set(decides("0fa2", "ff24d8 <+8", constant=True)) == {EBX_OF_LEAF, EAX_OF_LEAF}


@pytest.mark.parametrize(
    "codes",
    [
        # rmpadjust, which the decoder does not know; test eax, eax; je
        ["f30f01fe", "85c0", "7402"],
        # what it leaves in flags is not known either, nor what in memory: mov eax, [slot]
        ["f30f01fe", "7402"],
        ["f30f01fe >+8", "8b0500000000 <+4", "85c0", "7402"],
    ],
)
def test_what_an_instruction_of_unknown_form_does_flows_on(codes: list[str]) -> None:
    assert form_of(bytes.fromhex(codes[0].split()[0])) is None
    assert "an instruction of unknown form (bytes f30f01fe)" in decides(*codes)


def test_what_is_overwritten_behind_it_is_known_again() -> None:
    """mov ebx, 0; test ebx, ebx; je."""
    assert decides("f30f01fe", "bb00000000", "85db", "7402") == {}


def test_another_run_begins_with_registers_of_its_own() -> None:
    trace = steps("0fa2", "85db", "7402")
    trace[0].begins = trace[1].begins = True
    (inflow,) = inflows(trace, lambda _: False)[-1]
    assert inflow.origin == "RBX at the start"


def test_what_flows_is_not_taken_from_another_trace_of_the_same_instructions() -> None:
    """mov eax, [rdi]; test eax, eax; je, once with the address of another variable."""
    traces = [steps(f"8b07 <{offset}+4", "85c0", "7402") for offset in (0, 8)]
    followed = FollowedTraces(lambda _: False)
    origins = [one.origin for trace in traces for one in followed.flows(trace)[-1]]
    assert origins == [Loaded(SLOT, bytes(4)), Loaded(SLOT + 8, bytes(4))]


def test_what_two_traces_take_alike_from_the_start_is_followed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[str] = []
    take = FollowedFlow.take

    def counted(self: FollowedFlow, step: ExecutedInstruction) -> Flow:
        taken.append(step.code.hex())
        return take(self, step)

    monkeypatch.setattr(FollowedFlow, "take", counted)
    followed = FollowedTraces(lambda _: False)
    # mov eax, [slot]; 32 times nop; test eax, eax or ebx, ebx; je
    alike = ["8b07 <4", *(["90"] * 32)]
    eax, ebx = ([*alike, test, "7402"] for test in ("85c0", "85db"))
    flows = [followed.flows(steps(*trace))[-1] for trace in (eax, ebx, eax)]
    assert [[one.origin for one in flow] for flow in flows] == [
        [SLOT_OF_4],
        ["RBX at the start"],
        [SLOT_OF_4],
    ]
    assert taken.count("8b07") == 1
    assert taken.count("7402") == 2


def test_what_reaches_over_the_end_of_what_is_constant_is_an_input():
    """The last byte of the kernel's read-only data, and three of what lies behind it."""
    trace = steps("8b0500000000 <4", "85c0", "7402")  # mov eax, [slot]; test eax, eax; je
    flow = inflows(trace, lambda address: address == SLOT)[-1]
    assert {inflow.origin for inflow in flow} == {SLOT_OF_4}
