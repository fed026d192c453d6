# SPDX-License-Identifier: GPL-2.0-or-later
"""What flushes cost: bounds by hand for machines whose caches and memory are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.snapshot import CacheEvidence, Snapshot, StateEvidence
from staleline.facts import MachineFacts, from_snapshot
from staleline.facts.capacity import cache_capacity
from staleline.facts.fact import Layer
from staleline.policy.catalogue import catalogue
from staleline.report.machines.cost import cost_lines
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.cost import Cost, bandwidth_of, cost
from staleline.verdict.audit.measured import Measured, read_measured
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.vocabulary import Path

LIBCPUID = FilePath(__file__).parents[2] / "data" / "cpuid" / "libcpuid"
ROME = LIBCPUID / "amd-epyc-7742-64-core-processor-dual.test"
MILAN = LIBCPUID / "amd-epyc-7763-64-core-processor-dual.test"
NEHALEM = LIBCPUID / "intel-xeon-cpu-e5520.test"
HYGON = LIBCPUID.parent / "registers/hygon-c86-3250.cpuid"
MEGA = 1 << 20


def on(dump: FilePath) -> Snapshot:
    return with_given(
        read_snapshot(dump),
        msr=["0xc0010010=0x800000"],
        cmdline="mem_encrypt=on",
        state=["sev_guests_run=no", "tdx_module=absent"],
    )


def priced(
    snapshot: Snapshot, measured: Measured | None = None, policy: str = "linux-6.18"
) -> Cost:
    facts = from_snapshot(snapshot)
    kernel = PolicyKernel(catalogue()[policy], "for this test")
    found = audit(facts, (kernel,), following=Next.ANY, paths=(Path.KEXEC,))
    return cost(found, cache_capacity(snapshot), bandwidth_of(facts), measured)


@pytest.mark.parametrize(
    ("dump", "socket", "one_cpu"),
    [
        # Cores x L2 + L3, as sold: 32 x 0.5 + 64, 64 x 0.5 + 256, 64 x 0.5 + 256, 96 + 384,
        # 192 + 384, 28 x 2 + 52.5; and one L2 + its L3.
        ("amd-epyc-7551p-32-core-processor", 80, 8.5),
        ("amd-epyc-7742-64-core-processor-dual", 288, 16.5),
        ("amd-epyc-7763-64-core-processor-dual", 288, 32.5),
        ("amd-epyc-9654-96-core-processor-dual", 480, 33),
        ("amd-epyc-9965-192-core-processor-dual", 576, 33),
        ("intel-xeon-gold-5520+", 108.5, 54.5),
    ],
)
def test_what_can_be_dirty_is_what_the_caches_hold(
    dump: str, socket: float, one_cpu: float
) -> None:
    capacity = cache_capacity(read_snapshot(LIBCPUID / f"{dump}.test"))
    assert capacity is not None
    assert (capacity.socket, capacity.jumping_cpu) == (socket * MEGA, one_cpu * MEGA)


def test_what_the_kernel_lists_counts_before_cpuid() -> None:
    # Two sockets of 64 cores and 128 threads; of each, 48 cores in 12 complexes are online.
    cores = [core for core in range(128) if core % 64 < 48]
    listed = (
        CacheEvidence(2, "Unified", 512 << 10, tuple(f"{core},{core + 128}" for core in cores)),
        CacheEvidence(3, "Unified", 16 * MEGA, tuple(f"{c}-{c + 3}" for c in cores[::4])),
    )
    offline = tuple(cpu for cpu in range(256) if cpu % 64 >= 48)
    machine = replace(read_snapshot(ROME), caches=listed, state=StateEvidence(offline_cpus=offline))
    capacity = cache_capacity(machine)
    assert capacity is not None
    assert capacity.socket == 48 * (512 << 10) + 12 * (16 * MEGA)
    assert capacity.source.startswith("/sys/devices/system/cpu")


@pytest.mark.parametrize("cpus", [(), ("zzz",), ("",)])
def test_a_list_of_caches_that_tells_nothing_leaves_cpuid(cpus: tuple[str, ...]) -> None:
    listed = tuple(CacheEvidence(level, "Unified", 0, cpus) for level in (2, 3))
    capacity = cache_capacity(replace(read_snapshot(ROME), caches=listed))
    assert capacity is not None
    assert (capacity.socket, capacity.source) == (288 * MEGA, "CPUID of the first CPU")


def test_the_bounds_of_rome() -> None:
    # 288 MB at 8 x 8 bytes x 3200 MT/s; 0.6 of that is likely. One L3 of 16 MB with one L2 of
    # 0.5 MB at 28.8 GB/s, what a die has to memory.
    (path,) = priced(on(ROME)).paths
    everybody, alone = path.secondaries, path.jumping_cpu
    assert everybody.executed
    assert alone.executed
    assert not everybody.unneeded
    assert not alone.unneeded
    assert everybody.at_least == pytest.approx(288 * MEGA / 204.8e9)
    assert everybody.likely == pytest.approx(288 * MEGA / (0.6 * 204.8e9))
    assert alone.at_least == pytest.approx(16.5 * MEGA / 204.8e9)
    assert alone.likely == pytest.approx(16.5 * MEGA / 28.8e9)


def test_a_flush_that_coherency_makes_unneeded_is_said_to_be() -> None:
    result = priced(on(MILAN))
    (path,) = result.paths
    assert path.secondaries.unneeded
    assert path.jumping_cpu.unneeded
    assert all("unneeded" in line for line in cost_lines(result)[:1])


def test_tsme_is_named_where_no_kernel_uses_the_c_bit() -> None:
    snapshot = with_given(on(ROME), cmdline="mem_encrypt=off")
    encrypted = replace(snapshot, state=replace(snapshot.state, tsme=True))
    kernel = PolicyKernel(catalogue()["linux-6.18"], "for this test")
    reasons = {}
    for machine in (snapshot, encrypted):
        found = audit(from_snapshot(machine), (kernel,), following=Next.ANY, paths=(Path.KEXEC,))
        for row in found.handovers:
            reasons[machine is encrypted, row.transition] = {
                one.id for one in row.unneeded.values()
            }
    assert reasons[False, "off→off"] == {"unneeded-off-to-off"}
    assert reasons[True, "off→off"] == {"unneeded-tsme"}
    # A next kernel that uses the C-bit makes aliases with TSME as without.
    assert reasons[True, "off→on"] == reasons[False, "off→on"]


def test_a_cpu_in_no_table_gets_an_assumption_and_says_so() -> None:
    bandwidth = bandwidth_of(from_snapshot(read_snapshot(NEHALEM)))
    assert bandwidth.assumed
    assert bandwidth.bytes_per_second == 2 * 8 * 3200e6
    assert "2 channels at 3200 MT/s assumed" in bandwidth.source
    given = bandwidth_of(from_snapshot(read_snapshot(NEHALEM)), 25e9)
    assert (given.assumed, given.bytes_per_second) == (False, 25e9)


def test_an_assumption_bounds_nothing() -> None:
    (path,) = priced(on(HYGON), policy="linux-6.5").paths
    assert path.secondaries.at_least is None
    assert path.secondaries.likely == pytest.approx(20 * MEGA / (0.6 * 51.2e9))


def test_where_nothing_is_flushed_there_is_no_cost() -> None:
    assert cost_lines(priced(read_snapshot(NEHALEM), policy="linux-6.5")) == []


def test_a_guest_is_told_that_its_hypervisor_decides() -> None:
    (cpu,) = on(ROME).cpus
    eax, ebx, ecx, edx = cpu.cpuid.leaves[1, 0]
    leaves = {**cpu.cpuid.leaves, (1, 0): (eax, ebx, ecx | 1 << 31, edx)}
    guest = replace(on(ROME), cpus=(replace(cpu, cpuid=replace(cpu.cpuid, leaves=leaves)),))
    result = priced(guest)
    assert result.paths[0].secondaries.at_least is None
    assert result.unbounded == "in a guest WBINVD costs what the hypervisor makes of it"


def without(facts: MachineFacts, *names: str) -> MachineFacts:
    """Nothing tells these."""
    return MachineFacts.of(
        replace(fact, value=None, source=None, missing="not told") if fact.name in names else fact
        for layer in Layer
        for fact in facts.layer(layer)
    )


@pytest.mark.parametrize("name", ["vendor", "family", "model"])
def test_a_cpu_of_which_less_is_known_is_in_no_table(name: str) -> None:
    """Milan has the models from 0 on, which is no reason to take an unknown one for it."""
    for dump in (ROME, MILAN):
        facts = from_snapshot(read_snapshot(dump))
        assert not bandwidth_of(facts).assumed
        assert bandwidth_of(without(facts, name)).assumed


def test_where_it_may_be_a_guest_nothing_is_bounded() -> None:
    facts = without(from_snapshot(on(ROME)), "hypervisor")
    kernel = PolicyKernel(catalogue()["linux-6.18"], "for this test")
    found = audit(facts, (kernel,), following=Next.ANY, paths=(Path.KEXEC,))
    result = cost(found, cache_capacity(on(ROME)), bandwidth_of(facts))
    assert result.paths[0].secondaries.at_least is None
    assert "whether this is one is not known" in str(result.unbounded)


def test_a_flush_that_may_be_executed_where_it_is_needed_is_not_unneeded() -> None:
    facts = from_snapshot(on(MILAN))
    kernel = PolicyKernel(catalogue()["linux-6.18"], "for this test")
    found = audit(facts, (kernel,), following=Next.ANY, paths=(Path.KEXEC,))
    first, *others = found.handovers
    unknown = replace(first, flushes=dict.fromkeys(first.flushes), unneeded={})
    capacity, bandwidth = cache_capacity(on(MILAN)), bandwidth_of(facts)
    assert cost(found, capacity, bandwidth).paths[0].secondaries.unneeded
    found = replace(found, handovers=(unknown, *others))
    assert not cost(found, capacity, bandwidth).paths[0].secondaries.unneeded


def test_measured_times_stand_beside_the_bounds() -> None:
    (path,) = priced(on(ROME), Measured(one_cpu=0.001, all_cpus=0.003, events=4)).paths
    assert (path.secondaries.measured, path.jumping_cpu.measured) == (0.003, 0.001)


def test_a_trace_is_read_as_medians(tmp_path: FilePath) -> None:
    file = tmp_path / "trace"
    lines = ("Attaching 5 probes...", *(f"wbinvd cpu {n} ns {n}000" for n in (1, 2, 9)), "^C")
    file.write_text("\n".join((*lines, "all_cpus ns 12000", "wbinvd cpu x ns 1")))
    measured = read_measured(file)
    assert measured.one_cpu == pytest.approx(2e-6)
    assert measured.all_cpus == pytest.approx(12e-6)
    assert measured.events == 4


@pytest.mark.parametrize("content", [b"", b"\xff\x00\n", b"wbinvd cpu 1 ns -5\n"])
def test_a_file_that_is_no_trace_is_refused(tmp_path: FilePath, content: bytes) -> None:
    file = tmp_path / "trace"
    file.write_bytes(content)
    with pytest.raises(EvidenceError, match="no line says how long a WBINVD took"):
        read_measured(file)
    with pytest.raises(EvidenceError, match="No such file"):
        read_measured(tmp_path / "nothing")
