# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts that the kernel log tells, as people paste it, and how they stand beside registers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.errors import EvidenceError
from staleline.evidence.consistency import require_consistent
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.hosts.merge import merged
from staleline.evidence.log import kernel_log
from staleline.evidence.log.wordings import Wording, wordings
from staleline.evidence.snapshot import CpuinfoEvidence, KernelEvidence, LogEvidence, Snapshot
from staleline.facts import MachineFacts, Value, from_snapshot

CPU_LINE = (
    "[    0.571241] smpboot: CPU0: AMD EPYC 7742 64-Core Processor"
    " (family: 0x17, model: 0x31, stepping: 0x0)\n"
)
TDX_HOST = (
    "[    4.100000] virt/tdx: BIOS enabled: private KeyID range [64, 128)\n"
    "[    4.100200] virt/tdx: Disable ACPI S3. Turn off TDX in the BIOS to use ACPI S3.\n"
)
TDX_INITIALIZED = (
    "[    4.100000] virt/tdx: BIOS enabled: private KeyID range [32, 64)\n"
    "[   31.900000] virt/tdx: module initialized\n"
)
SNP_HOST = (
    "[    0.000000] SEV-SNP: RMP table physical range [0x0000000088000000 - 0x00000000a87fffff]\n"
    "[    5.700000] ccp 0000:22:00.1: SEV-SNP API:1.55 build:31\n"
    "[    5.800000] kvm_amd: SEV enabled (ASIDs 100 - 509)\n"
)
SEV_ES_GUEST = "[    0.166000] Memory Encryption Features active: AMD SEV SEV-ES\n"
SME_5_4 = (
    "[    0.000000] Linux version 5.4.0-42-generic (build@host) (gcc version 9.3.0) #46 SMP\n"
    "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro mem_encrypt=on\n"
    "[    0.302112] AMD Secure Memory Encryption (SME) active\n"
    f"{CPU_LINE}"
    "[    2.113230] Freeing unused kernel image memory: 2712K\n"
    "[    2.117543] Run /init as init process\n"
)
CALLER_PREFIX = (
    "[    0.000000] [      T0] Linux version 6.16.1-1-default (build@host) (gcc 15.1.1) #1 SMP\n"
    "[    0.000000] [      T0] Command line: root=/dev/sda1 mem_encrypt=on\n"
    "[    0.414215] [      T0] Memory Encryption Features active: AMD SME\n"
    "[    2.113230][    T1] Freeing unused kernel image (initmem) memory: 2796K\n"
)
FILTERED = (
    "[    0.000000] Linux version 6.12.117+deb13-amd64 (build@host) (gcc-14) #1 SMP\n"
    "[    0.000000] Kernel command line: root=/dev/sda1 ro mem_encrypt=on\n"
    "[    1.900000] Freeing unused kernel image (initmem) memory: 4096K\n"
    "[    1.950000] Run /init as init process\n"
)


def facts(text: str) -> MachineFacts:
    return from_snapshot(parse_snapshot(text, "file"))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (CPU_LINE, {"vendor": "AuthenticAMD", "family": 23, "model": 49, "sme": None}),
        (TDX_HOST, {"vendor": "GenuineIntel", "tdx_keyids": 64, "tdx_module": None, "sme": False}),
        (TDX_INITIALIZED, {"tdx_keyids": 32, "tdx_module": "initialized"}),
        (
            SNP_HOST,
            {
                "vendor": "AuthenticAMD",
                # Trees with SNP from before 6.9 print the table below Hyper-V as well.
                "hypervisor": None,
                "sev": True,
                "sev_snp": True,
                "sme": None,
                "sme_enabled": True,
                "snp_enabled": True,
                "sev_guests_run": None,
                "sme_active": None,
            },
        ),
        (
            SEV_ES_GUEST,
            {
                "sev_guest": True,
                "sev_es_guest": True,
                "snp_guest": None,
                "hypervisor": True,
                "sme_active": False,
            },
        ),
        (SME_5_4, {"sme_active": True, "sme": True, "sme_enabled": True, "mem_encrypt": "on"}),
        (
            CALLER_PREFIX,
            {"release": "6.16.1-1-default", "mem_encrypt": "on", "sme_active": True},
        ),
        (FILTERED, {"sme_active": None, "tdx_module": None, "sme": None, "vendor": None}),
    ],
)
def test_a_pasted_log_tells(text: str, values: dict[str, Value]) -> None:
    told = facts(text)
    assert {name: told[name].value for name in values} == values


def test_a_source_is_the_message() -> None:
    message = 'kernel log, "virt/tdx: BIOS enabled: private KeyID range [64, 128)"'
    assert facts(TDX_HOST)["tdx_keyids"].source == message


def test_registers_are_told_before_the_log() -> None:
    machine = Snapshot(
        (),
        cpuinfo=CpuinfoEvidence("AuthenticAMD", 23, 49, 0),
        log=LogEvidence((CPU_LINE.partition("] ")[2].strip(),), complete=False),
    )
    assert from_snapshot(machine)["vendor"].source == "/proc/cpuinfo"


def test_a_crash_kernel_was_started_by_kexec() -> None:
    text = "[    0.000000] Command line: irqpoll elfcorehdr=0x5b000000 ro\n"
    assert facts(text)["booted_by"].value == "kexec"
    # EFI's tables are handed on by a kexec, so they do not tell how it was started.
    efi = facts("[    0.000000] efi: EFI v2.7 by American Megatrends\n")
    assert (efi["booted_by"].value, efi["efi"].value) == (None, True)


@pytest.mark.parametrize(
    ("line", "by"),
    [
        ("Hypervisor detected: Xen PV", "xen"),
        ("xen_acpi_processor: Uploading Xen processor PM info", "xen"),
        ("Hyper-V: running as root partition", "hyper-v"),
        ("Hypervisor detected: Jailhouse", "jailhouse"),
        ("Hypervisor detected: KVM", "kernel"),
        ("Hypervisor detected: Xen HVM", None),
        # Printed without paravirtualisation on any machine, nopv guests among them.
        ("Booting paravirtualized kernel on bare hardware", None),
    ],
)
def test_who_jumps(line: str, by: str | None) -> None:
    assert facts(f"[    0.000000] {line}\n")["jumped_by"].value == by


def definite(text: str) -> dict[str, Value] | None:
    try:
        return {fact.name: fact.value for fact in facts(text) if fact.value is not None}
    except ContradictionError:  # a definite answer of its own
        return None
    except EvidenceError:  # nothing is left
        return {}


PREFIXES = ["", "[    0.000000] ", "Nov 23 10:00:00 node17 kernel: ", "kern  :info  : [    1.0] "]
#: Of AMD's host, SEV's guest and Intel's host: messages that one boot can hold.
ONE_BOOT = [
    [row for row in wordings() if row.id in ids]
    for ids in (
        {"linux-version", "command-line", "kernel-command-line", "features-sme", "cpu-line"}
        | {"kvm-sev", "kvm-sev-es", "rmp-table", "snp-initialized", "present-cpus", "brought-up"}
        | {"efi", "livepatch", "psp-tsme-and-sme", "kvm-snp-enabled"},
        {"linux-version", "command-line", "sev-status-snp", "hypervisor-kvm", "features-sev-snp"}
        | {"cpu-line", "present-cpus", "brought-up"},
        {"linux-version", "kernel-command-line", "tdx-keyids", "tdx-initialized", "tme-enabled"}
        | {"mktme-keyids", "possible-cpus", "microcode-intel", "kexec-handover"},
    )
]


class TestFewerLines:
    @given(st.sampled_from(ONE_BOOT), st.sampled_from(PREFIXES), st.data())
    def test_never_turn_a_fact_into_another_nor_unknown_into_one(
        self, boot: list[Wording], prefix: str, data: st.DataObject
    ) -> None:
        lines = [prefix + row.example + "\n" for row in boot]
        lines += [prefix + "Run /init as init process\n"]
        kept = data.draw(st.lists(st.sampled_from(range(len(lines))), unique=True).map(sorted))
        whole = definite("".join(lines))
        assert whole is not None
        fewer = definite("".join(lines[i] for i in kept))
        assert fewer is not None
        assert fewer.items() <= whole.items()

    @given(
        st.lists(st.sampled_from(ONE_BOOT), min_size=2, max_size=3),
        st.sampled_from([True, False]),
        st.data(),
    )
    def test_of_several_boots_likewise_one_at_a_time(
        self, boots: list[list[Wording]], timed: bool, data: st.DataObject
    ) -> None:
        lines = []
        for number, boot in enumerate(boots):
            for seconds, row in enumerate(boot):
                time = f"[{seconds * 2:5}.000000] " if timed else ""
                example = row.example.replace("6.12.117", f"6.{number}.117")
                lines.append(f"Nov 23 10:00:00 node17 kernel: {time}{example}\n")
        gone = data.draw(st.sampled_from(range(len(lines))))
        whole = definite("".join(lines))
        assert whole is not None
        fewer = definite("".join(lines[:gone] + lines[gone + 1 :]))
        assert fewer is None or fewer.items() <= whole.items()


@pytest.mark.parametrize(
    ("name", "vendor"),
    [
        ("AMD EPYC 7742 64-Core Processor", "AuthenticAMD"),
        ("Hygon C86 7185 32-core Processor", "HygonGenuine"),
        ("Intel(R) Xeon(R) w9-3475X", "GenuineIntel"),
        ("Centaur VIA Eden X4 C4250@1.2+GHz", "CentaurHauls"),
        ("zhaoxin ZHAOXIN KaiXian KX-6640MA@2.2+GHz", "  Shanghai  "),
        # A guest's CPU may be called anything; Linux puts its vendor before that.
        ("AMD Intel Xeon Processor (Skylake)", None),
        ("QEMU Virtual CPU version 2.5+", None),
    ],
)
def test_the_line_of_the_first_cpu_names_its_vendor(name: str, vendor: str | None) -> None:
    """linux 7.3.4 arch/x86/kernel/cpu/common.c:2206, c_vendor of cpu/{centaur,zhaoxin}.c."""
    line = f"smpboot: CPU0: {name} (family: 0x7, model: 0x3b, stepping: 0x0)"
    facts = from_snapshot(parse_snapshot(f"[    0.1] {line}\n", "log"))
    assert facts["vendor"].value == vendor


def test_a_failed_seamcall_keeps_silence_from_telling_of_the_module() -> None:
    line = "virt/tdx: SEAMCALL (0x0000000000000021) failed: 0xc000050600000000"
    kernel = KernelEvidence(release="6.12.117")
    for lines, told in (((), "not-initialized"), ((line,), None)):
        machine = Snapshot(cpus=(), kernel=kernel, log=LogEvidence(lines, complete=True))
        assert kernel_log.with_state(machine).state.tdx_module == told


_SEV_GUEST = Path(__file__).parents[2] / "data" / "posted" / "rome-sev-guest.txt"
_TDX_GUEST = "[    0.000000] tdx: Guest detected\n"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("AMD Memory Encryption Features active: SEV", 0),
        ("SEV: Status: SEV SEV-ES SEV-SNP ", 1),
        ("SEV: SNP running at VMPL0.", 3),
        ("Memory Encryption Features active: AMD SEV SEV-ES", 1),
        ("AMD Memory Encryption Features active: SME", 1),
    ],
)
def test_a_guest_of_which_log_and_register_tell_two_kinds_is_a_contradiction(
    line: str, status: int
) -> None:
    machine = merged([read_snapshot(_SEV_GUEST), parse_snapshot(f"[    0.1] {line}\n", "log")], "")
    with pytest.raises(ContradictionError, match="log-against-registers"):
        with_given(machine, msr=[f"0xc0010131={status:#x}"])


def test_a_guest_from_which_hyper_v_hides_the_register_is_none_of_the_two() -> None:
    # linux 7.3.4 arch/x86/hyperv/ivm.c hv_vtom_init(): a vTOM guest calls itself a SEV guest.
    log = parse_snapshot("[    0.1] Memory Encryption Features active: AMD SEV\n", "log")
    machine = with_given(merged([read_snapshot(_SEV_GUEST), log], ""), msr=["0xc0010131=0"])
    assert from_snapshot(machine)["sev_guest"].value is True


def test_a_tdx_guest_by_its_log_alone_is_a_contradiction_where_cpuid_denies_it() -> None:
    # linux 7.3.4 arch/x86/coco/tdx/tdx.c tdx_early_init() asks CPUID leaf 0x21 first.
    dump = (
        "CPU 0:\n"
        "   0x00000000 0x00: eax=0x0000001f ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
        "   0x00000001 0x00: eax=0x000806f8 ebx=0x00020800 ecx=0xfeda3203 edx=0x1f8bfbff\n"
    )
    with pytest.raises(ContradictionError, match="tdx_guest"):
        require_consistent(
            merged([parse_snapshot(dump, "dump"), parse_snapshot(_TDX_GUEST, "log")], ""), ""
        )
