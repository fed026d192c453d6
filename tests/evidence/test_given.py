# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user gives is read as it is meant, or refused; it never hides what was observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.errors import UsageError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import STATES, Given, with_given
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Snapshot,
    StateEvidence,
    Statement,
    given_by_user,
)
from staleline.evidence.statements import said_by_user
from staleline.facts import from_snapshot
from staleline.facts.told.commandline import mem_encrypt

CPUID = Path(__file__).parents[1] / "data" / "cpuid" / "libcpuid"
ROME = read_snapshot(CPUID / "amd-epyc-7742-64-core-processor-dual.test")
SYSCFG = 0xC0010010


def observed(
    *, msr: Mapping[int, int] | None = None, faults: frozenset[int] = frozenset(), **more: Any
) -> Snapshot:
    """A Rome server of which more was seen."""
    cpu = replace(ROME.cpus[0], msr=msr or {}, msr_faults=faults)
    return replace(ROME, cpus=(cpu, cpu), **more)


def refused(**options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        with_given(ROME, **options)
    return str(caught.value)


def contradicted(snapshot: Snapshot, **options: Any) -> ContradictionError:
    with pytest.raises(ContradictionError) as caught:
        with_given(snapshot, **options)
    return caught.value


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.booleans())
def test_hexadecimal_with_0x_is_read_in_either_case(number: int, value: int, upper: bool) -> None:
    text = f"{number:#x}={value:#x}"
    # Without CPUID, which some values of some MSRs contradict.
    snapshot = with_given(Snapshot(cpus=()), msr=[text.upper() if upper else text])
    assert snapshot.cpus[0].msr[number] == value


@given(st.integers(10, 2**32 - 1), st.integers(10, 2**64 - 1), st.sampled_from("nvb"))
def test_digits_without_0x_are_refused_with_the_right_spelling(
    number: int, value: int, bare: str
) -> None:
    """`rdmsr` prints hexadecimal without 0x (msr-tools 1.3 rdmsr.c), which is not decimal."""
    right = f"{number:#x}={value:#x}"
    wrong = f"{number:{'x' if bare in 'nb' else '#x'}}={value:{'x' if bare in 'vb' else '#x'}}"
    if "none" not in wrong:
        assert f"write --msr {right}" in refused(msr=[wrong])


def test_digits_that_may_be_decimal_are_spelt_both_ways() -> None:
    """As rdmsr -d prints them: 0x8388608 has not the bit that 8388608 has."""
    assert refused(msr=["0xc0010010=8388608"]).endswith(
        "write --msr 0xc0010010=0x8388608, or 0x800000 for the value if it is decimal"
    )
    assert "if it is decimal" not in refused(msr=["3221291024=0x800000"])


def test_one_digit_is_the_same_number_in_any_notation() -> None:
    assert with_given(ROME, msr=["0xc0000080=1"]).cpus[0].msr[0xC0000080] == 1


_NO_NUMBERS = (
    *("0xc0010010", "0xc0010010=", "0xc0010010=0o17", "=", "0x1=1_0", "SYSCFG=0x800000"),
    *("0xc0010010=0b1000", "0xc0010010=800000=0", "0xc0010010=f40000h"),
)


@pytest.mark.parametrize("wrong", _NO_NUMBERS)
def test_what_is_no_number_is_refused_with_an_example_that_is_called_one(wrong: str) -> None:
    """A hint that can be pasted and holds another value than was meant leads to a wrong verdict."""
    assert "write e.g. --msr 0xc0010010=0x800000" in refused(msr=[wrong])


def test_what_rdmsr_prints_for_each_cpu_is_one_value() -> None:
    snapshot = with_given(ROME, msr=["0xc0010010=0x800000\n0x800000\n"])
    assert snapshot.cpus[0].msr[SYSCFG] == 0x800000
    assert "differs between CPUs" in refused(msr=["0xc0010010=0x800000\n0x0"])


def test_an_msr_that_rdmsr_cannot_read_is_given_as_none() -> None:
    # rdmsr: "CPU 0 cannot read MSR 0x00000087" where RDMSR faults (msr-tools 1.3 rdmsr.c).
    (cpu,) = with_given(ROME, msr=["0x87=none"]).cpus
    assert (cpu.msr_faults, 0x87 in cpu.msr) == (frozenset({0x87}), False)


def test_two_values_for_one_name_are_refused() -> None:
    assert "0xC0010010 two values" in refused(msr=["0xc0010010=0x0", "0xC0010010=0x800000"])
    assert "tsme two values" in refused(state=["tsme=yes", "tsme=no"])
    assert with_given(ROME, msr=["0x87=0x0", "0x87=0"]).cpus[0].msr == {0x87: 0}


def test_options_that_make_no_sense_are_refused_before_anything_is_read() -> None:
    with pytest.raises(UsageError):
        Given(msr=("0x10=banana",))
    with pytest.raises(UsageError):
        Given(state=("sme_active=maybe",))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sme_active=no", False),
        ("sev_guests_run=yes", True),
        ("tdx_module=not-initialized", "not-initialized"),
        ("seamcalled_cpus=0-3,8", (0, 1, 2, 3, 8)),
        ("reboot_force=0", False),
        ("tsme=1", True),
        ("offline_cpus=none", ()),
        ("kexec_loaded=1", 1),
        ("kexec_crash_loaded=no", 0),
    ],
)
def test_state_is_given_in_words_or_as_sysfs_prints_it(text: str, value: object) -> None:
    name = text.partition("=")[0]
    snapshot = with_given(ROME, state=[text])
    assert getattr(snapshot.state, name) == value
    assert given_by_user(snapshot) == (f"state.{name}",)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("cpus=1", {"several_cpus": False}),
        ("cpus=2", {"several_cpus": True}),
        # As /sys/devices/system/cpu/present has it, in which CPU 0 always is.
        ("cpus=0-127,256", {"several_cpus": True}),
        ("hypervisor=none", {"hypervisor": False}),
        ("hypervisor=KVM", {"hypervisor": True, "hypervisor_name": "KVM"}),
        ("hypervisor=hyper-v", {"hypervisor": True, "hypervisor_name": "Hyper-V"}),
    ],
)
def test_what_no_field_holds_is_given_as_facts(text: str, facts: Mapping[str, object]) -> None:
    machine = with_given(Snapshot(cpus=()), state=[text])
    assert {one.name: one.value for one in machine.statements} == facts
    assert {one.source.casefold().split("=")[0] for one in machine.statements} == {
        f"--state {text.partition('=')[0]}"
    }
    assert given_by_user(machine) == (f"state.{text.partition('=')[0]}",)
    for name, value in facts.items():
        assert from_snapshot(machine)[name].value == value


@pytest.mark.parametrize("text", ["cpus=1-3", "cpus=-1", "cpus=1234567", "cpus=0x2", "cpus=two"])
def test_what_counts_no_cpus_is_refused(text: str) -> None:
    assert "write cpus=a number" in refused(state=[text])


def test_what_was_said_before_of_a_fact_may_be_replaced() -> None:
    first = with_given(Snapshot(cpus=()), state=["hypervisor=kvm"])
    (again,) = with_given(first, state=["hypervisor=none"]).statements
    assert (again.name, again.value) == ("hypervisor", False)


ONE_CPU = replace(ROME, cpus=(replace(ROME.cpus[0], cpuid=CpuidTable({})),))
UNDER_KVM = Statement("hypervisor_name", "KVM", "lscpu")


@pytest.mark.parametrize(
    ("snapshot", "state", "field"),
    [
        (replace(ONE_CPU, cpus=ONE_CPU.cpus * 2), "cpus=1", "cpus"),
        (replace(ONE_CPU, state=StateEvidence(online_cpus=4)), "cpus=3", "state.online_cpus"),
        (replace(ONE_CPU, state=StateEvidence(offline_cpus=(1,))), "cpus=1", "state.offline_cpus"),
        (
            replace(ONE_CPU, log=LogEvidence(("smp: Brought up 1 node, 8 CPUs",), complete=False)),
            "cpus=4",
            "log",
        ),
        # CPUID counts 128 logical CPUs in a socket: a maximum, but more than one.
        (ROME, "cpus=1", "cpus[0].cpuid"),
        (ROME, "hypervisor=kvm", "cpus[0].cpuid.0x00000001:0 ECX[31]"),
        (
            replace(ONE_CPU, statements=(UNDER_KVM,)),
            "hypervisor=none",
            "statements.hypervisor_name",
        ),
        (replace(ONE_CPU, statements=(UNDER_KVM,)), "hypervisor=xen", "statements.hypervisor_name"),
        (
            replace(ONE_CPU, cpuinfo=CpuinfoEvidence(flags=frozenset({"hypervisor"}))),
            "hypervisor=none",
            "cpuinfo.flags",
        ),
        (
            replace(ONE_CPU, log=LogEvidence(("Hypervisor detected: KVM",), complete=False)),
            "hypervisor=none",
            "log",
        ),
    ],
)
def test_facts_that_are_given_never_replace_what_was_observed(
    snapshot: Snapshot, state: str, field: str
) -> None:
    error = contradicted(snapshot, state=[state])
    assert error.ids == ("given-against-observed",)
    assert error.contradictions[0].fields == (field,)


def test_a_clear_bit_shows_no_machine_without_xen() -> None:
    """In a PV domain CPUID is the machine's own, so that only its user can tell."""
    facts = from_snapshot(with_given(ROME, state=["hypervisor=xen"]))
    assert (facts["hypervisor"].value, facts["jumped_by"].value) == (True, None)


@pytest.mark.parametrize(
    "state",
    [
        ["cpus=1", "offline_cpus=3"],
        ["cpus=2", "offline_cpus=1-5"],
        ["cpus=0-255", "offline_cpus=300"],
        ["cpus=0-3,8", "offline_cpus=5"],
        ["seamcalled_cpus=9", "cpus=0-7"],
    ],
)
def test_two_that_are_given_can_exclude_each_other(state: list[str]) -> None:
    for order in (state, state[::-1]):
        error = contradicted(ONE_CPU, state=order)
        assert error.ids == ("told-otherwise",)


def test_a_number_of_cpus_says_nothing_of_their_numbers() -> None:
    # Where sockets were taken out, those that are left keep theirs
    # (linux Documentation/admin-guide/cputopology.rst: present "0-4,8,15").
    machine = with_given(ONE_CPU, state=["cpus=256", "offline_cpus=300"])
    assert machine.state.offline_cpus == (300,)


def test_a_list_of_cpus_is_held_against_those_that_were_read() -> None:
    numbered = replace(ONE_CPU, cpus=(replace(ONE_CPU.cpus[0], number=9),))
    assert contradicted(numbered, state=["cpus=0-7"]).ids == ("given-against-observed",)


def test_what_is_the_machines_is_told_apart_from_what_its_kernel_did() -> None:
    whole = Given(
        msr=("0x87=0x0",),
        cmdline="quiet",
        state=("cpus=1", "sme_active=no", "hypervisor=none", "tsme=no", "kexec_loaded=1"),
    )
    assert whole.of_machine == Given(
        msr=("0x87=0x0",), state=("cpus=1", "hypervisor=none", "tsme=no")
    )


def test_every_state_is_a_field_of_the_snapshot_or_a_fact_and_says_how_it_is_written() -> None:
    for name, (form, read) in STATES.items():
        example = read(form.split("|")[0].split()[-1])
        assert hasattr(StateEvidence(), name) or list(said_by_user(name, example))
        assert refused(state=[f"{name}=?"]).endswith(f"write {name}={form}")


SEEN = observed(
    msr={SYSCFG: 0x740000},
    faults=frozenset({0x87}),
    kernel=KernelEvidence(cmdline="quiet"),
    state=StateEvidence(sev_guests_run=False, reboot_force=False, offline_cpus=(1,)),
)


@pytest.mark.parametrize(
    ("options", "given_word", "field", "seen"),
    [
        ({"msr": ["0xc0010010=0xf40000"]}, "0xf40000", "cpus[0].msr.0xc0010010", "0x740000"),
        ({"msr": ["0xc0010010=none"]}, "none", "cpus[0].msr.0xc0010010", "0x740000"),
        ({"msr": ["0x87=0x0"]}, "0x0", "cpus[0].msr.0x87", "none"),
        ({"cmdline": "quiet mem_encrypt=on"}, "mem_encrypt=on", "kernel.cmdline", "'quiet'"),
        ({"state": ["sev_guests_run=yes"]}, "yes", "state.sev_guests_run", "no"),
        ({"state": ["reboot_force=yes"]}, "yes", "state.reboot_force", "no"),
        ({"state": ["offline_cpus=none"]}, "none", "state.offline_cpus", "1"),
    ],
)
def test_what_is_given_never_replaces_what_was_observed(
    options: dict[str, Any], given_word: str, field: str, seen: str
) -> None:
    error = contradicted(SEEN, **options)
    assert error.ids == ("given-against-observed",)
    assert error.contradictions[0].fields == (field,)
    assert given_word in error.what
    assert f"{field} was observed as {seen}" in error.what


def test_a_command_line_has_the_words_of_a_bootconfig_that_was_observed() -> None:
    """Linux 7.3.4 init/main.c:614 setup_command_line() puts them in front."""
    keys = ("kernel.reboot", "init.quiet")
    shown = replace(SEEN, kernel=KernelEvidence(bootconfig=keys))
    error = contradicted(shown, cmdline="quiet mem_encrypt=on -- reboot=force")
    assert error.ids == ("given-against-observed",)
    assert error.contradictions[0].fields == ("kernel.bootconfig",)
    given = with_given(shown, cmdline='reboot="force" quiet')
    assert given.kernel.bootconfig == keys
    what_if = with_given(shown, cmdline="quiet", another_kernel=True)
    assert what_if.kernel.bootconfig is None


def test_flags_that_the_running_kernel_was_told_to_set_prove_nothing_under_another() -> None:
    """Its line went with its setcpuid=, and the flags stayed (linux 7.3.4 common.c:1776)."""
    flags = CpuinfoEvidence("AuthenticAMD", 25, 1, 1, frozenset({"sme"}))
    for line, shown in (("ro setcpuid=sme", None), ("ro", True)):
        seen = Snapshot((), cpuinfo=flags, kernel=KernelEvidence(cmdline=line))
        assert from_snapshot(seen)["sme"].value is shown
        what_if = with_given(seen, cmdline="mem_encrypt=on", another_kernel=True)
        assert from_snapshot(what_if)["sme"].value is shown


def test_what_was_observed_may_be_given_again() -> None:
    again = with_given(
        SEEN, msr=["0xc0010010=0x740000"], cmdline=" quiet ", state=["sev_guests_run=no"]
    )
    assert again.state == SEEN.state


def test_a_value_that_was_given_before_may_be_replaced() -> None:
    first = with_given(ROME, cmdline="quiet")
    assert with_given(first, cmdline="mem_encrypt=on").kernel.cmdline == "mem_encrypt=on"


#: What the kernel was told, as it shows without its line: startup code went by it.
OBSERVED = [
    KernelEvidence("6.12.117", xloadflags=0xBF),
    KernelEvidence("6.12.117", loader_cmdline="mem_encrypt=on"),
    KernelEvidence("6.1.9", loader_cmdline="mem_encrypt=on"),
]


@pytest.mark.parametrize("kernel", OBSERVED, ids=["flag", "loader's line", "earlier"])
def test_a_command_line_never_takes_the_place_of_what_was_observed_of_it(
    kernel: KernelEvidence,
) -> None:
    """An archive made by tar has an empty /proc/cmdline, and the flags of boot_params beside it.

    linux 6.12.118 arch/x86/boot/compressed/misc.c:379; what was given was taken instead.
    """
    shown = replace(SEEN, kernel=kernel)
    assert mem_encrypt(with_given(shown, cmdline="ro mem_encrypt=on").kernel).value == "on"
    for line in ("ro", "ro mem_encrypt=off"):
        with pytest.raises(ContradictionError):
            with_given(shown, cmdline=line)
        what_if = with_given(shown, cmdline=line, another_kernel=True)
        assert mem_encrypt(what_if.kernel).value != "on"


def test_a_command_line_of_another_kernel_is_not_held_against_the_running_ones() -> None:
    other = with_given(SEEN, cmdline="mem_encrypt=on", another_kernel=True)
    assert other.kernel.cmdline == "mem_encrypt=on"


def test_given_values_run_through_the_checks_of_evidence_and_are_named() -> None:
    # sme_enable() (linux 6.12.118 arch/x86/mm/mem_encrypt_identity.c): no C-bit without SYSCFG[23].
    error = contradicted(ROME, msr=["0xc0010010=0x740000"], state=["sme_active=yes"])
    assert error.ids == ("sme-active-without-syscfg",)
    assert "msr 0xc0010010 and state.sme_active was given and not observed" in str(error)
    observed_msr = observed(msr={SYSCFG: 0x740000})
    assert "of which state.sme_active was given" in str(
        contradicted(observed_msr, state=["sme_active=yes"])
    )
