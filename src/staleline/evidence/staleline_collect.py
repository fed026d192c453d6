# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: UP006, UP035, UP045, PLC0415 - the syntax of Python 3.6; imports on use
"""Write a snapshot of this host (staleline/snapshot/1) without changing anything on it.

This one file needs only the standard library of Python 3.6 or newer, so that it can run
where staleline is not installed:

    ssh host python3 -I - < staleline-collect.py > host.json
    ssh host sudo python3 -I - --redact < staleline-collect.py > host.json
    ssh host sudo python3 -I - --slim < staleline-collect.py > host.json

Without root it collects what it can; everything that is missing is noted with the reason.
"""

import errno
import json
import os
import re
import struct
import sys
import time
import zlib
from collections import deque
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Pattern,
    Set,
    Tuple,
)

__all__ = [
    "KEPT_OPTIONS",
    "MSRS",
    "HostTree",
    "Tree",
    "collect",
    "cpu_list",
    "document_text",
    "first_processor",
    "folded_lists",
    "is_relevant",
    "is_telling_module",
    "main",
    "redacted",
    "shared_entries",
    "slim",
    "unfolded_lists",
]

SCHEMA = "staleline/snapshot/1"

#: EAX, EBX, ECX, EDX.
Registers = Tuple[int, int, int, int]
#: (leaf, sub-leaf) -> registers.
ExecuteCpuid = Callable[[int, int], Registers]
#: (file descriptor, bytes, offset) -> bytes, as os.pread.
ReadAt = Callable[[int, int, int], bytes]
Document = Dict[str, Any]

# ---- what is collected -------------------------------------------------------------------

_AMD_MSRS = (
    0xC000_0080,  # EFER: INTWB, bit 18
    0xC001_0010,  # SYSCFG
    0xC001_0015,  # HWCR: INVDWBINVD, bit 4
    0xC001_0131,  # SEV_STATUS
    0xC001_0132,  # RMP_BASE
    0xC001_0133,  # RMP_END
    0xC001_0136,  # RMP_CFG
)
#: MSRs that tell what firmware enabled, by vendor.
MSRS = {
    "AuthenticAMD": _AMD_MSRS,
    "HygonGenuine": _AMD_MSRS,
    "GenuineIntel": (
        0x87,  # MKTME_KEYID_PARTITIONING
        0xFE,  # MTRRCAP: SEAMRR present, bit 15
        0x981,  # TME_CAPABILITY
        0x982,  # TME_ACTIVATE
        0x1400,  # SEAMRR_PHYS_BASE
        0x1401,  # SEAMRR_PHYS_MASK
    ),
}
#: Configuration options that decide what a kernel does on the way into the next one.
KEPT_OPTIONS = (
    "CONFIG_AMD_MEM_ENCRYPT",
    "CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT",
    "CONFIG_BOOT_CONFIG",
    "CONFIG_BOOT_CONFIG_FORCE",
    "CONFIG_CMDLINE",
    "CONFIG_CMDLINE_BOOL",
    "CONFIG_CMDLINE_OVERRIDE",
    "CONFIG_CRASH_DUMP",
    "CONFIG_HOTPLUG_CPU",
    "CONFIG_INTEL_TDX_HOST",
    "CONFIG_KEXEC",
    "CONFIG_KEXEC_CORE",
    "CONFIG_KEXEC_FILE",
    "CONFIG_KEXEC_JUMP",
    "CONFIG_KVM_AMD_SEV",
    "CONFIG_KVM_INTEL_TDX",
    "CONFIG_X86_64",
)
#: Module -> parameters that tell whether it offers encrypted guests.
_MODULE_PARAMETERS = {
    "kvm_amd": ("sev", "sev_es", "sev_snp", "ciphertext_hiding_asids"),
    "kvm_intel": ("tdx",),
}
#: Modules that tell by being loaded: Jailhouse's driver, below which it may be enabled, and live
#: patches by what their makers call them: kpatch-build and klp-build (livepatch-, kpatch-), SUSE
#: (kgraft-patch-, livepatch-), Canonical (lkp_), Oracle (ksplice_), KernelCare (kcare). The last
#: two are in neither sysfs nor taint as live patches.
_TELLING_MODULE = (
    r"^(?:jailhouse|(?:livepatch|kpatch|kgraft|klp|lkp|ksplice|kcare|kernelcare)(?:_\w*)?)$"
)
# Patterns are compiled when they are first used: importing this file is to cost little.
#: Messages of the kernel log that are kept.
_RELEVANT = (
    r"\b(?:SME|TSME|SEV|SNP|TDX|RMP|virt/tdx|KHO)\b|\b[Kk]exec|[Mm]emory [Ee]ncryption"
    r"|\bcrashkernel|^(?:tdx: |x86/(?:mk)?tme: |Hypervisor detected: "
    r"|Booting (?:paravirtualized )?kernel on (?:Xen|KVM|Hyper-V|VMware)|Xen version"
    r"|The Jailhouse is |xen_acpi_processor: Uploading|xen_mcelog: /dev/mcelog reg"
    r"|Hyper-V: (?:running as |privilege flags |features |Isolation )|Performance Events: "
    r"|smpboot: (?:CPU0|Allowing)\b|CPU topo: Allowing |smp: Brought up "
    r"|microcode: (?:[^=]{0,40}\bpatch_level|sig)=|efi: EFI v|livepatch: "
    r"|(?:(?:SVM|kvm|kvm_amd|kvm_intel|KVM): )*(?:vmx: )?(?:[Uu]sing )?"
    r"Hyper-V (?:[Ee]nlightened |Direct ))"
    r"|TAINT_LIVEPATCH$|\bTainted: (?:[A-Z ]*K[A-Z ]* |.*=LIVEPATCH)"
)
#: What the kernel lines repeat that is collected better, or is of no concern, and private.
_ELSEWHERE = r"^(?:Linux version |(?:Kernel c|C)ommand line: |DMI: )"
#: Command-line parameters that bear on the question; `redacted` keeps only their values.
_KEPT_PARAMETER = (
    r"clearcpuid|crashkernel|hibernate|idle|(?:amd_|intel_)?iommu|kexec_\w+(?:\.\w+)?"
    r"|kvm[-_](?:amd|intel)\.\w+|maxcpus|mem_encrypt|nr_cpus|possible_cpus|reboot|setcpuid|sev|tdx\w*"
)
#: Words that a host name may be and that messages of the kernel log are made of.
_MESSAGE_WORDS = (
    r"(?i)a|acrn|active|allocated|allowing|amd|and|api|are|as|asids|at|attributes|available|b"
    r"|base|bhyve|bios|booting|both|brought|build|by|ccp|complete|config|cpu|cpu0|cpuid|cpus"
    r"|crashkernel|data|detected|dev|device|devices|direct|disabled|driver|efi|enabled|enabling"
    r"|encrypted|encryption|enlightened|entries|events|ext|failed|family|features|few|flags|flush|for|found"
    r"|group|guest|handover|hibernation|high|hints|host|hotplug|hvm|hygon|hyper-v|hyperv"
    r"|hypervisor|info|initialisation|initialised|initialization|initialized|intel|is"
    r"|isolation|jailhouse|kb|kernel|kexec|keyid|keyids|kho|kvm|kvm_(?:amd|intel)|l1vh|livepatch|low"
    r"|mcelog|memory|microcode|microsoft|misc|mktme|model|module|new|nodes|not|npt|on|opening"
    r"|pamt|paravirtualized|partition|patch|patch_level|patching|performance|pf|physical"
    r"|platform|plus|pm|pmu|present|private|privilege|processor|psp|pv|range|reduced|revision"
    r"|rmp|root|running|seamcall|secure|segmented|sev|sev-es|sev-snp|sev_es|sig|sme|smp"
    r"|smpboot|snp|starting|status|stepping|support|supported|svm|table|taint_livepatch|tlb"
    r"|comm|g|k|pid|tainted|tainting|td_ctls|tdx|tdx-module|the|tme|topo|transition|tsme|unnecessary|unusable|up"
    r"|uploading|usable|using|v[0-9]|version|virt|virtualization|vmcs|vmpl[0-9]|vmware|vmx|vtom|when"
    r"|with|x86|x86_phys_bits|xen|xen_acpi_processor|xen_mcelog|zhaoxin"
)
#: The same for values of the parameters that are kept.
_VALUE_WORDS = (
    r"(?i)[a-z]|acpi|auto|bios|cold|debug|efi|force|halt|hard|high|kbd|low|nomwait|nopt|off|on|pci"
    r"|poll|pt|reboot|smp|soft|strict|triple|warm|yes|no"
)
#: UUIDs and machine IDs, addresses of Ethernet, IPv4 and IPv6. Not the addresses of PCI devices
#: (0000:22:00.1), nor versions of three parts or with leading zeros.
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[1-9][0-9]|1[0-9][0-9]|[0-9])"
_ADDRESS = (
    r"(?<![0-9a-z])[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?![0-9a-z])"
    r"|(?<![0-9a-z])[0-9a-f]{2}(?:(?::[0-9a-f]{2}){5,}|(?:-[0-9a-f]{2}){5,})(?![0-9a-z])"
    rf"|(?<![0-9])(?<![0-9]\.)(?:{_OCTET}\.){{3}}{_OCTET}(?![0-9]|\.[0-9])"
    r"|(?<![0-9a-z])[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){7,}(?![0-9a-z])"
    r"|(?<![0-9a-z])[0-9a-f:]*::[0-9a-f:]*(?![0-9a-z])"
)
_USER = r"(/(?:home|Users)/)[^/\s]+"
#: Linux init/main.c: "Kernel command line: ", and since 5.14 "Unknown kernel command line
#: parameters \"...\"".
_REPEATS_COMMAND_LINE = r'^(.*\b[Cc]ommand line(?: parameters)?:? "?)(.*)$'
_REDACTED = "REDACTED"
#: A value of /proc/bootconfig, which may hold line ends, and a key with all of its values.
_BOOTCONFIG_VALUE = r"\"[^\"]*\"|'[^']*'"
_BOOTCONFIG_ROW = rf"([\w.-]+) = ((?:{_BOOTCONFIG_VALUE})(?:, (?:{_BOOTCONFIG_VALUE}))*)\n"

_FILE_MAX = 8 << 20  # /proc/cpuinfo of 3000 CPUs
_LOG_MAX = 16 << 20
_PIECE = 1 << 16
_LOG_LINES_MAX = 400
_LOG_LINE_MAX = 1024
_RECORD_MAX = 8192  # CONSOLE_EXT_LOG_MAX; a shorter read of /dev/kmsg fails with EINVAL
_RECORDS_MAX = 1 << 20
_UNREAD = b"6,-,0,-;\n"
_PROBES_MAX = 4096
#: Address, kind and place of a probe; %pS also tells the size of the function.
_PROBE = r"^[0-9a-fA-F]+ +[a-z] +([^\s+]+\+0x[0-9a-f]+)(?:/0x[0-9a-f]+)?(?:\s|$)"
#: What is in a live patch's directory besides directories of objects.
_PATCH_FILES = ("enabled", "transition", "force", "replace", "stack_order")
_CPUS_MAX = 1 << 16
_CPU_DIRECTORY = "sys/devices/system/cpu"


# ---- where it is read from ---------------------------------------------------------------


class Tree:
    """Files of a host by their path below /; every method raises OSError where it cannot."""

    is_this_host = False

    def read(self, path: str) -> bytes:
        """The content of a file."""
        raise FileNotFoundError(errno.ENOENT, "not in this tree", path)

    def records(self, path: str) -> List[bytes]:
        """What successive reads of a file that is read record by record return."""
        return [self.read(path)]

    def names(self, path: str) -> List[str]:
        """The names in a directory."""
        raise FileNotFoundError(errno.ENOENT, "not in this tree", path)

    def open(self, path: str) -> int:
        """A descriptor of a device, to be closed by the caller."""
        raise FileNotFoundError(errno.ENOENT, "not in this tree", path)


class HostTree(Tree):
    """The files of this host, or of a directory that is laid out as one."""

    def __init__(self, root: str = "/") -> None:
        self._root = os.path.realpath(root)
        self.is_this_host = self._root == "/"

    def read(self, path: str) -> bytes:
        """The content of a file, at most 8 MiB of it."""
        file = self.open(path)
        try:
            return _whole(file)
        finally:
            os.close(file)

    def records(self, path: str) -> List[bytes]:
        """The records of /dev/kmsg up to its present end."""
        device = self.open(path)
        try:
            return _records(device)
        finally:
            os.close(device)

    def names(self, path: str) -> List[str]:
        """The names in a directory."""
        return os.listdir(self._inside(path))

    def open(self, path: str) -> int:
        """A descriptor; O_NONBLOCK, as the directory may hold a pipe without a writer."""
        return os.open(self._inside(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _inside(self, path: str) -> str:
        # A directory may be somebody else's: a link in it must not lead to this host's files.
        whole = os.path.join(self._root, path)
        real = whole if self.is_this_host else os.path.realpath(whole)
        if not self.is_this_host and not real.startswith(self._root + os.sep):
            raise OSError(errno.ELOOP, "leads out of the directory", whole)
        return real


def _whole(file: int) -> bytes:
    """Read in small pieces: /proc/sys refuses larger ones than the kernel can allocate."""
    pieces = []
    for _ in range(_FILE_MAX // _PIECE):
        pieces.append(os.read(file, _PIECE))
        if not pieces[-1]:
            break
    return b"".join(pieces)


def _records(device: int) -> List[bytes]:
    records: Deque[bytes] = deque()
    size = 0
    for _ in range(_RECORDS_MAX):
        try:
            data = os.read(device, _RECORD_MAX)
        except BrokenPipeError:  # overwritten meanwhile: the numbers will show the gap
            records.clear()
            size = 0
            continue
        except OSError as error:
            if error.errno == errno.EAGAIN:  # the end
                return list(records)
            break
        if not data:
            return list(records)
        records.append(data)
        size += len(data)
        while size > _LOG_MAX:  # without the first ones it is not the whole log either
            size -= len(records.popleft())
    # There is more: a record without a number is a gap in them.
    return [*records, _UNREAD]


# ---- CPUID -------------------------------------------------------------------------------

_HYPERVISOR_BASE = 0x4000_0000
_EXTENDED_BASE = 0x8000_0000
_SME_LEAF = 0x8000_001F
#: No range is known to reach this far; bounds what a broken answer can cost.
_LEAVES_MAX = 0x100
_SUBLEAVES_MAX = 64


def read_cpuid(execute: ExecuteCpuid) -> Dict[Tuple[int, int], Registers]:
    """The leaves of the CPU that `execute` runs CPUID on."""
    leaves: Dict[Tuple[int, int], Registers] = {}
    for leaf in _leaves(execute):
        for subleaf in range(_SUBLEAVES_MAX):
            registers = execute(leaf, subleaf)
            leaves[leaf, subleaf] = registers
            if _is_last(leaf, subleaf, registers, leaves[leaf, 0]):
                break
    return leaves


def _leaves(execute: ExecuteCpuid) -> Iterator[int]:
    highest = execute(0, 0)[0]
    yield from range(min(highest + 1, _LEAVES_MAX))
    if execute(1, 0)[2] >> 31:
        yield from _range(_HYPERVISOR_BASE, execute(_HYPERVISOR_BASE, 0)[0])
    highest_extended = execute(_EXTENDED_BASE, 0)[0]
    yield from _range(_EXTENDED_BASE, highest_extended)
    # Asked for even beyond the maximum: Linux 5.18 to 6.4 did the same (fixed by Linux commit
    # 9b040453d444), so the answer is evidence of what they saw.
    if not _SME_LEAF <= highest_extended < _EXTENDED_BASE + _LEAVES_MAX:
        yield _SME_LEAF


def _range(base: int, highest: int) -> Iterator[int]:
    yield base
    if highest < base + _LEAVES_MAX:
        yield from range(base + 1, highest + 1)


def _is_last(leaf: int, subleaf: int, registers: Registers, first: Registers) -> bool:
    """Is there no sub-leaf after this one that says anything of caches, keys or topology?"""
    if leaf in (0x04, 0x8000_001D):
        return registers[0] & 0x1F == 0
    if leaf == 0x07:
        return subleaf >= first[0]
    if leaf in (0x0B, 0x1F, 0x8000_0026):
        return registers[2] >> 8 & 0xFF == 0
    return True


#: void f(uint32_t leaf /*edi*/, uint32_t subleaf /*esi*/, uint32_t out[4] /*rdx*/)
_CODE = bytes.fromhex(
    "53"  # push rbx                  (callee-saved, CPUID writes it)
    "4989d0"  # mov r8, rdx
    "89f8"  # mov eax, edi
    "89f1"  # mov ecx, esi
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8+4], ebx
    "41894808"  # mov [r8+8], ecx
    "4189500c"  # mov [r8+12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
_SYS_ARCH_PRCTL = 158
_SYS_MEMFD_CREATE = 319  # os.memfd_create() is of Python 3.8
_ARCH_GET_CPUID = 0x1011


def user_cpuid() -> ExecuteCpuid:
    """CPUID executed by this process, on the CPU it runs on; needs no privilege.

    Raises:
        OSError: Not x86-64 Linux, CPUID faults in this process, or no memory may be made
            executable.
    """
    # What few uses of this file need is imported by them.
    import ctypes
    import platform

    if not (sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 1 << 32):
        raise OSError(errno.ENOSYS, "this is no x86-64 Linux")
    libc = ctypes.CDLL(None, use_errno=True)
    # With CPUID faulting on for this thread (arch_prctl ARCH_SET_CPUID 0) the instruction
    # would kill the process.
    if libc.syscall(_SYS_ARCH_PRCTL, _ARCH_GET_CPUID, 0) == 0:
        raise OSError(errno.EPERM, "CPUID faults in this process")
    function = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(
        _mapped_code(libc)
    )
    registers = (ctypes.c_uint32 * 4)()

    def execute(leaf: int, subleaf: int) -> Registers:
        function(leaf, subleaf, ctypes.addressof(registers))
        eax, ebx, ecx, edx = registers
        return eax, ebx, ecx, edx

    return execute


def _mapped_code(libc: Any) -> int:
    """Map `_CODE` and return its address; never writable and executable at once."""
    import ctypes
    import mmap

    file = libc.syscall(_SYS_MEMFD_CREATE, b"cpuid", 1)  # MFD_CLOEXEC
    if file < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        os.write(file, _CODE.ljust(mmap.PAGESIZE, b"\xcc"))
        libc.mmap.restype = ctypes.c_void_p
        address = libc.mmap(
            None,
            ctypes.c_size_t(mmap.PAGESIZE),
            mmap.PROT_READ | mmap.PROT_EXEC,
            mmap.MAP_PRIVATE,
            file,
            ctypes.c_long(0),
        )
    finally:
        os.close(file)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


def device_cpuid(device: int, read_at: ReadAt = os.pread) -> ExecuteCpuid:
    """CPUID by /dev/cpu/N/cpuid: 16 bytes at leaf | sub-leaf << 32 (Linux arch/x86/kernel/cpuid.c).

    The result raises OSError where the device does not answer.
    """

    def execute(leaf: int, subleaf: int) -> Registers:
        data = read_at(device, 16, leaf | subleaf << 32)
        if len(data) != 16:
            raise OSError(errno.EIO, f"gave {len(data)} of 16 bytes")
        eax, ebx, ecx, edx = struct.unpack("<4I", data)
        return eax, ebx, ecx, edx

    return execute


def read_msrs(
    device: int, numbers: Iterable[int], read_at: ReadAt = os.pread
) -> Tuple[Dict[int, int], List[int]]:
    """MSRs by /dev/cpu/N/msr: values, and numbers of those the CPU does not have.

    Raises:
        OSError: The device does not answer.
    """
    values: Dict[int, int] = {}
    faults: List[int] = []
    for number in numbers:
        try:
            data = read_at(device, 8, number)
        except OSError as error:
            # rdmsr_safe_on_cpu() turns the #GP of a missing MSR into EIO.
            if error.errno != errno.EIO:
                raise
            faults.append(number)
            continue
        if len(data) != 8:
            raise OSError(errno.EINVAL, f"gave {len(data)} of 8 bytes")
        values[number] = int.from_bytes(data, "little")
    return values, faults


def _vendor(leaves: Dict[Tuple[int, int], Registers]) -> str:
    _, ebx, ecx, edx = leaves[0, 0]
    return struct.pack("<3I", ebx, edx, ecx).decode("latin-1")


# ---- the collector -----------------------------------------------------------------------


def collect(tree: Optional[Tree] = None, read_at: ReadAt = os.pread) -> Document:
    """Return the snapshot of this host, or of `tree`, as a staleline/snapshot/1 document.

    Args:
        tree: Where to read; this host if None.
        read_at: Reads the devices below dev/cpu at an offset.
    """
    return _Collector(tree or HostTree(), read_at).document()


class _Collector:
    def __init__(self, tree: Tree, read_at: ReadAt) -> None:
        self._tree = tree
        self._read_at = read_at
        self._notes: List[Document] = []
        self._execute: Optional[ExecuteCpuid] = None

    def document(self) -> Document:
        affinity = os.sched_getaffinity(0) if self._tree.is_this_host else set()
        numbers = self._numbers(affinity)
        try:
            cpus = self._cpus(numbers)
        finally:
            if affinity:
                os.sched_setaffinity(0, affinity)
        log, whole = self._log()
        document = {
            "schema": SCHEMA,
            "host": self._line("proc/sys/kernel/hostname", "host"),
            "collected": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "cpus": shared_entries(cpus),
            "cpuinfo": self._cpuinfo(),
            "caches": self._caches(numbers),
            "kernel": self._kernel(_loader_cmdline(whole)),
            "modules": self._modules(),
            "log": log,
            "state": self._state(),
            "notes": self._notes,
        }
        statements = self._of_xen() + self._of_jailhouse()
        return dict(document, statements=statements) if statements else document

    def _of_xen(self) -> List[Document]:
        """Xen below, and whether it is run from here: to a process CPUID may deny it."""
        # Linux 7.3.4 drivers/xen/sys-hypervisor.c type_show(), xenfs/super.c capabilities_read().
        kind = self._text("sys/hypervisor/type") or ""
        capabilities = self._text("proc/xen/capabilities") or ""
        told: List[Document] = []
        if kind == "xen" or capabilities:
            source = "/sys/hypervisor/type" if kind == "xen" else "/proc/xen/capabilities"
            told.append({"name": "hypervisor", "value": True, "source": source})
            told.append({"name": "hypervisor_name", "value": "Xen", "source": source})
        if "control_d" in capabilities.split():
            told.append({"name": "jumped_by", "value": "xen", "source": "/proc/xen/capabilities"})
        return told

    def _of_jailhouse(self) -> List[Document]:
        """Whether it is enabled below; jailhouse 0.12 driver/sysfs.c enabled_show()."""
        path = "sys/devices/jailhouse/enabled"
        if self._text(path) != "1":
            return []
        return [{"name": "jumped_by", "value": "jailhouse", "source": f"/{path}"}]

    def _note(self, what: str, why: str) -> None:
        self._notes.append({"what": what, "why": why})

    def _text(self, path: str) -> Optional[str]:
        try:
            return self._tree.read(path).decode("utf-8", "replace").rstrip("\n\0")
        except OSError:
            return None

    def _line(self, path: str, what: str) -> Optional[str]:
        text = self._text(path)
        if text is None:
            self._note(what, f"/{path} is missing or may not be read")
        return text

    # CPUs

    def _cpus(self, numbers: List[int]) -> List[Document]:
        failures: Dict[Tuple[str, str], List[int]] = {}
        entries = [self._cpu(number, failures) for number in numbers]
        for (what, why), failed in failures.items():
            self._note(f"{what} of CPUs {cpu_list_text(failed)}", why)
        if not numbers:
            self._note("cpuid", f"/{_CPU_DIRECTORY}/online and /dev/cpu name no CPU")
        return [entry for entry in entries if entry is not None]

    def _numbers(self, affinity: Set[int]) -> List[int]:
        online = self._cpu_list("online")
        if online is not None:
            return online
        try:
            names = self._tree.names("dev/cpu")
        except OSError:
            names = []
        devices = {int(name) for name in names if re.match("^[0-9]{1,6}$", name)}
        return sorted(devices or affinity)

    def _cpu(self, number: int, failures: Dict[Tuple[str, str], List[int]]) -> Optional[Document]:
        # On its own CPU a device answers without waking another one.
        here = self._tree.is_this_host and _moved_to(number)
        try:
            leaves = self._cpuid(number, here)
        except OSError as error:
            why = f"{_reason(error)}; modprobe cpuid, and run as root"
            failures.setdefault(("cpuid", why), []).append(number)
            return None
        entry: Document = {
            "cpu": number,
            "cpuid": {
                "{:#010x}:{}".format(*key): [f"{value:#010x}" for value in registers]
                for key, registers in sorted(leaves.items())
            },
        }
        try:
            self._add_msrs(entry, number, MSRS.get(_vendor(leaves), ()))
        except OSError as error:
            why = f"{_reason(error)}; modprobe msr, and run as root"
            failures.setdefault(("msr", why), []).append(number)
        return entry

    def _cpuid(self, number: int, here: bool) -> Dict[Tuple[int, int], Registers]:
        try:
            device = self._tree.open(f"dev/cpu/{number}/cpuid")
            try:
                return read_cpuid(device_cpuid(device, self._read_at))
            finally:
                os.close(device)
        except OSError as error:
            if not here:
                raise
            try:
                self._execute = self._execute or user_cpuid()
            except OSError as other:
                reason = f"{_reason(error)}, and {other.strerror}"
                raise OSError(error.errno, reason) from other
            return read_cpuid(self._execute)

    def _add_msrs(self, entry: Document, number: int, numbers: Iterable[int]) -> None:
        if not numbers:
            return
        device = self._tree.open(f"dev/cpu/{number}/msr")
        try:
            values, faults = read_msrs(device, numbers, self._read_at)
        finally:
            os.close(device)
        entry["msr"] = {f"{n:#x}": f"{values[n]:#018x}" for n in sorted(values)}
        entry["msr_faults"] = [f"{n:#x}" for n in sorted(faults)]

    def _cpuinfo(self) -> Optional[Document]:
        text = self._line("proc/cpuinfo", "cpuinfo")
        fields = {} if text is None else first_processor(text + "\n")
        if text is not None and not {"vendor_id", "flags"} <= set(fields):
            self._note("cpuinfo", "/proc/cpuinfo is not that of an x86 host")
        if not {"vendor_id", "flags"} <= set(fields):
            return None
        return {
            "vendor": fields["vendor_id"],
            "family": _natural(fields.get("cpu family")),
            "model": _natural(fields.get("model")),
            "stepping": _natural(fields.get("stepping")),
            "flags": sorted(set(fields["flags"].split())),
            "bugs": sorted(set(fields.get("bugs", "").split())),
        }

    def _caches(self, numbers: List[int]) -> List[Document]:
        """Each cache once, those alike together: level, type, bytes, and who shares each."""
        alike: Dict[Tuple[int, str, int], Dict[str, None]] = {}
        seen: Set[Tuple[int, str]] = set()
        for number in numbers:
            directory = f"{_CPU_DIRECTORY}/cpu{number}/cache"
            for index in self._indices(directory):
                if (number, index) in seen:
                    continue
                cache = self._cache(f"{directory}/{index}")
                if cache is not None:
                    kind, shared = cache
                    alike.setdefault(kind, {})[shared] = None
                    seen.update((cpu, index) for cpu in cpu_list(shared))
        if not alike:
            self._note("caches", f"/{_CPU_DIRECTORY}/cpu*/cache cannot be read")
        return [
            {"level": level, "type": kind, "bytes": size, "cpus": list(shared)}
            for (level, kind, size), shared in sorted(alike.items())
        ]

    def _indices(self, directory: str) -> List[str]:
        try:
            names = self._tree.names(directory)
        except OSError:
            return []
        return sorted(name for name in names if re.match("^index[0-9]{1,2}$", name))

    def _cache(self, directory: str) -> Optional[Tuple[Tuple[int, str, int], str]]:
        level = _natural(self._text(directory + "/level"))
        size = re.match(r"^([0-9]{1,9})([KM]?)$", self._text(directory + "/size") or "")
        kind, shared = self._text(directory + "/type"), self._text(directory + "/shared_cpu_list")
        if level is None or kind is None or size is None or shared is None:
            return None
        unit = {"": 1, "K": 1 << 10, "M": 1 << 20}[size.group(2)]
        try:
            return (level, kind, int(size.group(1)) * unit), cpu_list_text(cpu_list(shared))
        except ValueError:
            return None

    # kernel

    def _kernel(self, loader_cmdline: Optional[str]) -> Document:
        release = self._line("proc/sys/kernel/osrelease", "kernel release")
        config = None if release is None else self._config(release)
        if config is None:
            self._note(
                "kernel config",
                f"neither /proc/config.gz nor /boot/config-{release} can be read; "
                "install the kernel package's config file",
            )
        return {
            "release": release,
            "build_id": self._build_id(),
            "cmdline": self._cmdline(),
            "config": config,
            "loader_cmdline": loader_cmdline,
            "bootconfig": self._bootconfig(),
            **self._boot_parameters(),
        }

    def _cmdline(self) -> Optional[str]:
        """Files of /proc have no size, so that what copies by size makes empty ones of them."""
        text = self._line("proc/cmdline", "cmdline")
        if text == "" and not self._tree.is_this_host:
            self._note("cmdline", "/proc/cmdline is empty, as copies are that go by its size")
            return None
        return text

    def _bootconfig(self) -> Optional[List[str]]:
        """The keys of /proc/bootconfig, each as often as it has values."""
        try:
            return bootconfig_keys(self._tree.read("proc/bootconfig").decode("utf-8", "replace"))
        except FileNotFoundError:
            # With CONFIG_BOOT_CONFIG it is there, used or not (Linux 6.12 fs/proc/bootconfig.c). In
            # a tree of files that somebody kept, its absence says nothing.
            return [] if self._tree.is_this_host else None
        except (OSError, ValueError):
            self._note("bootconfig", "/proc/bootconfig cannot be read")
            return None

    def _boot_parameters(self) -> Document:
        """What the zero page tells of the way of booting; Documentation/arch/x86/zero-page.rst."""
        try:
            page = self._tree.read("sys/kernel/boot_params/data")
        except OSError:
            page = b""
        if page[0x202:0x206] != b"HdrS" or len(page) < 0x238:
            self._note("way of booting", "/sys/kernel/boot_params/data cannot be read")
            return {"booted_by": None, "xloadflags": None}
        # Who hands over EFI's tables leaves a signature.
        loader, told_of_efi = page[0x210], any(page[0x1C0:0x1C4])
        # The EFI stub's entry as a program sets 0x21 (Linux 7.3
        # drivers/firmware/efi/libstub/x86-stub.c:534), kexec 0xd0
        # (arch/x86/kernel/kexec-bzimage64.c:649).
        by = "efi" if loader == 0x21 else "kexec" if loader >> 4 == 0xD else None
        return {
            "booted_by": by if by or told_of_efi else "direct",
            "xloadflags": int.from_bytes(page[0x236:0x238], "little"),
        }

    def _config(self, release: str) -> Optional[Dict[str, str]]:
        """`KEPT_OPTIONS` of the kernel that its file tells, ``n`` for those not set; else None."""
        if "/" in release:
            return None
        # The kernel's own, else the files of its package, of which none outweighs another.
        own = self._options("proc/config.gz")
        paths = (f"boot/config-{release}", f"lib/modules/{release}/config")
        files = [own] if own else [self._options(path) for path in paths]
        told = [options for options in files if options]
        names = [name for name in KEPT_OPTIONS if any(name in options for options in told)]
        values = {name: {one[name] for one in told if name in one} for name in names}
        for name in names:
            if len(values[name]) > 1:
                self._note("kernel config", f"/{paths[0]} and /{paths[1]} differ in {name}")
        known = {name: values[name].pop() for name in names if len(values[name]) == 1}
        return known if told else None

    def _options(self, path: str) -> Dict[str, str]:
        """All that a file tells of options; none where it cannot be read."""
        try:
            content = self._tree.read(path)
            if path.endswith(".gz"):
                content = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, _FILE_MAX)
        except (OSError, zlib.error):
            return {}
        return config_options(content.decode("latin-1"))

    def _build_id(self) -> Optional[str]:
        try:
            notes = self._tree.read("sys/kernel/notes")
        except OSError:
            self._note("kernel build ID", "/sys/kernel/notes is missing or may not be read")
            return None
        return _gnu_build_id(notes)

    def _modules(self) -> Optional[Dict[str, Dict[str, str]]]:
        try:
            loaded = self._tree.names("sys/module")
        except OSError:
            self._note("modules", "/sys/module cannot be read")
            return None
        return {
            module: dict(self._parameters(module))
            for module in sorted(loaded)
            if module in _MODULE_PARAMETERS or is_telling_module(module)
        }

    def _parameters(self, module: str) -> Iterator[Tuple[str, str]]:
        for name in _MODULE_PARAMETERS.get(module, ()):
            value = self._text(f"sys/module/{module}/parameters/{name}")
            if value is not None:
                yield name, value

    def _log(self) -> Tuple[Optional[Document], List[str]]:
        """What is kept of the kernel log; and all of it, if nothing of it is lost."""
        try:
            records = self._tree.records("dev/kmsg")
        except OSError:
            self._note("kernel log", "/dev/kmsg may not be read; run as root")
            return None, []
        complete, messages = _messages(b"".join(records).decode("utf-8", "replace"))
        if not complete:
            self._note(
                "kernel log",
                "records are missing: its beginning has been overwritten, or reading failed; "
                "collect sooner after boot, or boot with a larger log_buf_len=",
            )
        relevant = [message for message in messages if is_relevant(message)]
        # The kernel cuts messages at about 1000 bytes; a longer one is no wording.
        lines = [message for message in relevant if len(message) <= _LOG_LINE_MAX]
        whole = len(lines) == len(relevant) and len(lines) <= _LOG_LINES_MAX
        log = {"complete": complete and whole, "lines": lines[:_LOG_LINES_MAX]}
        return log, messages if complete else []

    # state

    def _state(self) -> Document:
        return {
            "offline_cpus": self._offline_cpus(),
            "online_cpus": self._online_cpus(),
            "kexec_loaded": self._number("kexec_loaded"),
            "kexec_crash_loaded": self._number("kexec_crash_loaded"),
            "kexec_crash_size": self._number("kexec_crash_size", digits=18),
            "reboot_force": self._reboot_force(),
            "tsme": self._tsme(),
            "guest_ids_peak": self._guest_ids_peak(),
            "livepatches": self._livepatches(),
            "kprobes": self._kprobes(),
            "tainted": _natural(self._text("proc/sys/kernel/tainted"), digits=18),
            "tainting_modules": self._tainting_modules(),
        }

    def _offline_cpus(self) -> Optional[List[int]]:
        """CPUs that are present and not online."""
        # The file ``offline`` also lists CPUs that were never there.
        present, online = self._cpu_list("present"), self._cpu_list("online")
        if present is None or online is None:
            self._note("offline CPUs", f"/{_CPU_DIRECTORY}/{{present,online}} cannot be read")
            return None
        return sorted(set(present) - set(online))

    def _online_cpus(self) -> Optional[int]:
        online = self._cpu_list("online")
        return None if online is None else len(online)

    def _cpu_list(self, name: str) -> Optional[List[int]]:
        try:
            return cpu_list(self._text(f"{_CPU_DIRECTORY}/{name}") or "-")
        except ValueError:
            return None

    def _number(self, name: str, digits: int = 9) -> Optional[int]:
        return _natural(self._line(f"sys/kernel/{name}", name), digits)

    def _reboot_force(self) -> Optional[bool]:
        """Linux kernel/reboot.c force_show(), since 5.11; before, the command line alone tells."""
        return {"0": False, "1": True}.get(self._text("sys/kernel/reboot/force") or "")

    def _tsme(self) -> Optional[bool]:
        """Linux drivers/crypto/ccp/hsti.c tsme_status, since 6.11 for all security processors."""
        directory = "sys/bus/pci/drivers/ccp"
        try:
            devices = self._tree.names(directory)
        except OSError:
            devices = []
        found = [self._text(f"{directory}/{name}/tsme_status") for name in devices]
        known = [text for text in found if text in ("0", "1")]
        if not known:
            self._note("tsme", "no device of the ccp driver shows tsme_status")
            return None
        if len(set(known)) > 1:
            self._note("tsme", "devices of the ccp driver differ in tsme_status")
            return None
        return known[0] == "1"

    def _guest_ids_peak(self) -> Optional[Dict[str, int]]:
        """Most guest keys in use at a time since boot (Linux 6.12 kernel/cgroup/misc.c)."""
        text = self._text("sys/fs/cgroup/misc.peak")
        if text is None:
            return None
        rows = re.findall(r"^(sev|sev_es|tdx) ([0-9]{1,9})$", text, re.M)
        return {name: int(number) for name, number in rows}

    # changes of the running code

    def _livepatches(self) -> Optional[Dict[str, Optional[List[str]]]]:
        """Live patches that are applied or being applied, each with what it replaces."""
        directory = "sys/kernel/livepatch"
        try:
            patches = self._tree.names(directory)
        except OSError as error:
            # Without CONFIG_LIVEPATCH there is no directory; a copy may just lack it.
            if self._tree.is_this_host and error.errno == errno.ENOENT:
                return {}
            if self._tree.is_this_host:
                self._note("live patches", f"/{directory} may not be read")
            return None
        return {
            name: self._replaced(f"{directory}/{name}")
            for name in sorted(patches)
            if self._text(f"{directory}/{name}/enabled") != "0"
            or self._text(f"{directory}/{name}/transition") == "1"
        }

    def _replaced(self, patch: str) -> Optional[List[str]]:
        """The functions that a live patch replaces; None if it names none."""
        replaced: List[str] = []
        try:
            for part in self._tree.names(patch):
                if part in _PATCH_FILES:
                    continue
                # PATCH/OBJECT/FUNCTION,SYMPOS (Documentation/ABI/testing/sysfs-kernel-livepatch).
                functions = self._tree.names(f"{patch}/{part}")
                replaced += [f"{part}:{f.partition(',')[0]}" for f in functions if f != "patched"]
        except OSError:  # also of an attribute that is none of `_PATCH_FILES`
            return None
        return sorted(replaced) or None

    def _kprobes(self) -> Optional[List[str]]:
        """Where probes are; ``?`` for one that cannot be told, or more than are listed."""
        directory = "sys/kernel/debug/kprobes"
        text = self._text(directory + "/list")
        if text is None and self._tree.is_this_host:
            self._note("kprobes", f"/{directory}/list is missing or may not be read; run as root")
        if text is None:
            return None
        if self._text(directory + "/enabled") == "0":
            return []
        places = set()
        for line in filter(None, text.split("\n")):
            # Linux 7.3 kernel/kprobes.c report_probe().
            found = re.match(_PROBE, line)
            if not re.search(r"\[(?:GONE|DISABLED)\]", line):
                places.add(found.group(1) if found else "?")
        listed = sorted(places)
        return listed if len(listed) <= _PROBES_MAX else [*listed[:_PROBES_MAX], "?"]

    def _tainting_modules(self) -> Optional[List[str]]:
        """Loaded modules with taint flags, such as O for out of tree."""
        try:
            names = sorted(self._tree.names("sys/module"))
        except OSError:
            return None
        flags = [(name, self._text(f"sys/module/{name}/taint")) for name in names]
        known = [(name, text) for name, text in flags if text is not None]
        return [f"{name}:{text}" for name, text in known if text] if known else None


def _moved_to(cpu: int) -> bool:
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError:
        return False
    return True


def _reason(error: OSError) -> str:
    """Why, in the same words for every CPU."""
    path = re.sub(r"^.*/dev/cpu/[0-9]+/", "/dev/cpu/N/", str(error.filename or ""))
    return ": ".join(filter(None, (path, error.strerror or str(error))))


def _natural(text: Optional[str], digits: int = 9) -> Optional[int]:
    return int(text) if text and len(text) <= digits and re.match("^[0-9]+$", text) else None


def _gnu_build_id(notes: bytes) -> Optional[str]:
    """The description of the ELF note GNU, type 3."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<3I", notes, at)
        name_at = at + 12
        at = name_at + (name_size + 3 & ~3)
        if kind == 3 and notes[name_at : name_at + name_size] == b"GNU\0":
            return notes[at : at + size].hex() or None
        at += size + 3 & ~3
    return None


def _messages(text: str) -> Tuple[bool, List[str]]:
    """The kernel's messages in /dev/kmsg records, and whether they are all from its first on.

    Records are ``level,sequence,time,flags;message`` (Documentation/ABI/testing/dev-kmsg);
    the sequence numbers of all records, the programs' too, follow one another.
    """
    messages: List[str] = []
    expected: Optional[int] = 0
    for line in text.split("\n"):
        prefix, semicolon, message = line.partition(";")
        fields = prefix.split(",")
        # Continuation lines begin with a space and carry key=value pairs, no message.
        if not semicolon or len(fields) < 4 or line.startswith(" "):
            continue
        level, number = _natural(fields[0]), _natural(fields[1], 18)
        expected = None if expected is None or number != expected else expected + 1
        # Programs write with another facility than the kernel's, 0.
        if level is not None and level < 8:
            messages.append(message)
    return expected is not None and expected > 0, messages


def config_options(text: str) -> Dict[str, str]:
    """What a kernel's .config says of options.

    One that it does not name may have been cut off with its line, so that is no ``n``.
    """
    unset = re.findall(r"^# (CONFIG_[A-Z0-9_]+) is not set$", text, re.M)
    found = re.findall(r"^(CONFIG_[A-Z0-9_]+)=(.*)$", text, re.M)
    return {**dict.fromkeys(unset, "n"), **{name: _option(value) for name, value in found}}


def _option(value: str) -> str:
    """A value of a kernel's .config; strings stand there in quotes, with escapes."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def bootconfig_keys(text: str) -> List[str]:
    """The keys in the text of /proc/bootconfig, each as often as it has values.

    Linux 6.12 fs/proc/bootconfig.c copy_xbc_key_value_list().

    Raises:
        ValueError: `text` is not of its form.
    """
    keys: List[str] = []
    at = 0
    while at < len(text) and not text.startswith("#", at):
        row = re.compile(_BOOTCONFIG_ROW).match(text, at)
        if row is None:
            raise ValueError("not the form of /proc/bootconfig")
        keys.extend([row.group(1)] * len(re.findall(_BOOTCONFIG_VALUE, row.group(2))))
        at = row.end()
    return keys


def _loader_cmdline(messages: Iterable[str]) -> Optional[str]:
    """What the kernel prints before it adds CONFIG_CMDLINE and bootconfig; None if it was cut."""
    # Linux 5.10.262 arch/x86/kernel/setup.c:834, 7.3.4 :909.
    start = "Command line: "
    text = next((one[len(start) :] for one in messages if one.startswith(start)), None)
    # printk keeps some 1000 bytes.
    return None if text is None or len(text) > 900 or "\\x" in text else text


def is_telling_module(name: str) -> bool:
    """Does a module of this name tell of a hypervisor or a live patch by being loaded?"""
    return re.match(_TELLING_MODULE, name) is not None


def is_relevant(message: str) -> bool:
    """Does a message of the kernel log tell of encryption, hypervisor, CPU, boot or kexec?"""
    return re.search(_RELEVANT, message) is not None and re.match(_ELSEWHERE, message) is None


# ---- formats -----------------------------------------------------------------------------


def first_processor(text: str) -> Dict[str, str]:
    """The fields of the first processor in the text of /proc/cpuinfo."""
    fields: Dict[str, str] = {}
    # The last line counts only when it is finished: "sme" may be a cut "smep".
    for line in text[: text.rfind("\n") + 1].split("\n"):
        if not line.strip() and fields:
            break
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def cpu_list(text: str) -> List[int]:
    """The CPUs of a kernel CPU list such as ``0-3,8``.

    Raises:
        ValueError: `text` is not one.
    """
    cpus: List[int] = []
    for part in filter(None, text.strip().split(",")):
        found = re.match(r"^([0-9]{1,6})(?:-([0-9]{1,6}))?$", part)
        first, last = (
            (int(found.group(1)), int(found.group(2) or found.group(1))) if found else (1, 0)
        )
        if not first <= last < _CPUS_MAX:
            raise ValueError(f"{text!r} is not a list of CPUs")
        cpus.extend(range(first, last + 1))
    return cpus


def cpu_list_text(cpus: Iterable[int]) -> str:
    """The shortest kernel CPU list of `cpus`."""
    runs: List[List[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def shared_entries(entries: List[Document]) -> List[Document]:
    """`entries` of ``cpus``, where a CPU much like an earlier one holds only the difference.

    Such an entry's ``like`` is the index of the earlier one; CPUs of one machine differ in
    the few leaves that number them.
    """
    whole: List[int] = []
    shared: List[Document] = []
    for index, entry in enumerate(entries):
        differences = [_difference(base, entries[base], entry) for base in whole[-8:]]
        usable = [difference for difference in differences if difference is not None]
        if usable:
            shared.append(min(usable, key=lambda difference: len(difference["cpuid"])))
        else:
            whole.append(index)
            shared.append(entry)
    return shared


def _difference(index: int, base: Document, entry: Document) -> Optional[Document]:
    """`entry` as what it differs in from `base`; None if it lacks something or is too different."""
    result: Document = {"like": index, "cpuid": {}}
    if "cpu" in entry:
        result = dict([("cpu", entry["cpu"])], **result)
    for table in ("cpuid", "msr"):
        of_base, own = base.get(table) or {}, entry.get(table) or {}
        if set(of_base) - set(own):
            return None
        differing = {name: value for name, value in own.items() if of_base.get(name) != value}
        if differing:
            result[table] = differing
    if base.get("msr_faults", []) != entry.get("msr_faults", []):
        result["msr_faults"] = entry.get("msr_faults", [])
    return result if 2 * len(result["cpuid"]) <= len(entry.get("cpuid") or ()) else None


def document_text(document: Document) -> str:
    """`document` as JSON in ASCII, with a line for each CPU and each other field."""
    return "{\n " + ",\n ".join(_field(*item) for item in document.items()) + "\n}\n"


def _field(name: str, value: Any) -> str:
    text = json.dumps(value)
    if isinstance(value, list) and value:
        text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
    return f"{json.dumps(name)}: {text}"


# ---- a slim snapshot -----------------------------------------------------------------------

#: Leaves that tell a fact, the cost of a flush, or what the CPU is called; and the highest basic
#: one, with which Intel's CPUs answer beyond it.
_SLIM_LEAVES = frozenset(
    (
        *(0x0, 0x1, 0x4, 0x7, 0xB, 0x1F, 0x21, 0x4000_0000, 0x4000_0001, 0x4000_0002, 0x4000_0003),
        *(0x8000_0000, 0x8000_0002, 0x8000_0003, 0x8000_0004, 0x8000_0008, 0x8000_001D),
        *(0x8000_001F, 0x8000_0023),
    )
)
#: AMD's and Hygon's CPUs tell caches and threads in leaves of their own.
_NOT_OF_AMD = frozenset((0x4, 0xB, 0x1F))
_AMD_EBX = ("0x68747541", "0x6f677948")  # the first letters of their vendor strings
#: Leaves of which EDX numbers the CPU; in leaf 1 bits 31:24 of EBX do.
_NUMBERING = (0xB, 0x1F)
#: Flags of /proc/cpuinfo that some fact or contradiction rests on.
_SLIM_FLAGS = (
    *("hypervisor", "monitor", "movdir64b", "pconfig", "sev", "sev_es", "sev_snp", "sme", "ss"),
    *("tdx_guest", "tdx_host_platform", "tme", "wbnoinvd"),
)


def slim(document: Document) -> Document:
    """`document` with what facts and costs are told by, and CPUs that are alike told once.

    How many there are is told by state.online_cpus.
    """
    small = dict(document, cpus=shared_entries(_unlike(_whole_entries(document["cpus"]))))
    small["caches"] = [
        dict(cache, cpus=folded_lists(cache["cpus"]))
        for cache in document.get("caches") or []
        if cache["type"] == "Unified"
    ]
    cpuinfo = document.get("cpuinfo")
    if cpuinfo:
        flags = [flag for flag in cpuinfo.get("flags") or [] if flag in _SLIM_FLAGS]
        small["cpuinfo"] = dict(cpuinfo, flags=flags, bugs=[])
    for table in ("kernel", "state"):
        known = (document.get(table) or {}).items()
        small[table] = {name: value for name, value in known if value is not None}
    return small


#: Lists of CPUs of which each has the numbers of the one before and STEP more: FIRST +STEP*TIMES.
_FOLDED = re.compile(r"([0-9,-]+) \+([0-9]{1,4})\*([0-9]{1,4})")


_LISTS_MAX = 8192


def folded_lists(lists: List[str]) -> List[str]:
    """Lists of CPUs, runs of which are one text each: 192 caches of two threads take 2 kB."""
    folded: List[str] = []
    left = list(lists)
    while left:
        step, times = _run(left)
        folded.append(left[0] if times < 3 else f"{left[0]} +{step}*{times}")
        left = left[max(times, 1) if times >= 3 else 1 :]
    return folded


def _run(lists: List[str]) -> Tuple[int, int]:
    """How many lists from the first on are alike but for a step, and the step."""
    numbers = [int(found) for one in lists[:2] for found in re.findall("^[0-9]+", one)]
    if len(numbers) < 2 or numbers[1] <= numbers[0]:
        return 0, 1
    step, times = numbers[1] - numbers[0], 1
    while times < len(lists) and lists[times] == _shifted(lists[0], step * times):
        times += 1
    return step, times


def unfolded_lists(lists: List[str]) -> List[str]:
    """What `folded_lists` was given; a text in no such form is left as it is."""
    unfolded: List[str] = []
    for text in lists:
        folded = _FOLDED.fullmatch(text)
        step, times = (int(folded.group(2)), int(folded.group(3))) if folded else (0, 0)
        # No text gets longer than the lists of the largest machine (NR_CPUS is at most 8192).
        if not folded or len(unfolded) + times > _LISTS_MAX:
            unfolded.append(text)
            continue
        unfolded += [_shifted(folded.group(1), step * number) for number in range(times)]
    return unfolded


def _shifted(listed: str, by: int) -> str:
    return re.sub("[0-9]+", lambda number: str(int(number.group()) + by), listed)


def _whole_entries(entries: List[Document]) -> List[Document]:
    """Entries without ``like``."""
    whole: List[Document] = []
    for entry in entries:
        own = {name: value for name, value in entry.items() if name != "like"}
        if entry.get("like") is not None:
            base = whole[entry["like"]]
            for table in ("cpuid", "msr"):
                own[table] = dict(base.get(table) or {}, **(entry.get(table) or {}))
            if own.get("msr_faults") is None and base.get("msr_faults"):
                own["msr_faults"] = base["msr_faults"]
        whole.append(own)
    return whole


def _unlike(entries: List[Document]) -> List[Document]:
    """The first two, and each that is like none before it, with the leaves that are kept."""
    kept: List[Document] = []
    seen: Set[str] = set()
    for index, entry in enumerate(entries):
        cpuid = entry.get("cpuid") or {}
        first = cpuid.get("0x00000000:0") or ["0x0", "", "", ""]
        wanted = _SLIM_LEAVES - _NOT_OF_AMD if first[1] in _AMD_EBX else _SLIM_LEAVES
        wanted |= {int(first[0], 16)} if first[1] not in _AMD_EBX else set()
        leaves = {
            name: registers
            for name, registers in cpuid.items()
            if int(name.split(":")[0], 16) in wanted
        }
        kind = json.dumps([_unnumbered(leaves), entry.get("msr"), entry.get("msr_faults")])
        if index < 2 or kind not in seen:
            kept.append(dict(entry, cpuid=leaves))
        seen.add(kind)
    return kept


def _unnumbered(leaves: Dict[str, List[str]]) -> List[Any]:
    """Leaves without what numbers the CPU that they are of."""
    rows: List[Any] = []
    for name, registers in sorted(leaves.items()):
        leaf = int(name.split(":")[0], 16)
        eax, ebx, ecx, edx = (int(register, 16) for register in registers)
        if leaf == 1:
            ebx &= 0xFF_FFFF
        rows.append([name, eax, ebx, ecx, 0 if leaf in _NUMBERING else edx])
    return rows


# ---- redaction ---------------------------------------------------------------------------


def redacted(document: Document) -> Document:
    """`document` without names and addresses of the host, and values of no concern here.

    The command line names hosts and addresses in many parameters (ip=, nfsroot=,
    netconsole=); only the values of those that bear on the question are kept.
    """
    redaction = _Redaction(document.get("host") or "")
    clean = dict(document, host=None)
    kernel, log = document.get("kernel") or {}, document.get("log") or {}
    if kernel:
        clean["kernel"] = dict(kernel, **_redacted_lines(kernel, redaction))
    if log:
        clean["log"] = dict(log, lines=[redaction.message(line) for line in log["lines"]])
    notes = [dict(note, why=redaction.text(note["why"])) for note in document.get("notes") or []]
    why = "host names, addresses and unrelated parameters were redacted on request"
    clean["notes"] = [*notes, {"what": "host", "why": why}]
    return clean


def _redacted_lines(kernel: Document, redaction: "_Redaction") -> Document:
    """The release, and every command line, redacted alike, so that each stays part of the other."""
    found = {name: kernel.get(name) for name in ("cmdline", "loader_cmdline")}
    lines: Document = {
        name: redaction.command_line(line) for name, line in found.items() if line is not None
    }
    if kernel.get("release") is not None:
        lines["release"] = redaction.text(kernel["release"])
    config = kernel.get("config") or {}
    if "CONFIG_CMDLINE" in config:
        built_in = redaction.command_line(config["CONFIG_CMDLINE"])
        lines["config"] = dict(config, CONFIG_CMDLINE=built_in)
    return lines


class _Redaction:
    """Takes out of texts what tells which host they are of."""

    def __init__(self, host: str) -> None:
        names = sorted({host, host.partition(".")[0]} - {""}, key=len, reverse=True)
        self._in_values = self._pattern(n for n in names if not re.fullmatch(_VALUE_WORDS, n))
        self._in_text = self._pattern(n for n in names if not re.fullmatch(_MESSAGE_WORDS, n))

    @staticmethod
    def _pattern(names: Iterable[str]) -> Pattern[str]:
        # A name of letters may be a part of other words; one between others is the name.
        own = "|".join(re.escape(name) for name in names) or "(?!)"
        return re.compile(rf"(?i)(?<![a-z0-9])(?:{own})(?![a-z0-9])|{_ADDRESS}")

    def text(self, text: str) -> str:
        """A text that is no command line."""
        return re.sub(_USER, rf"\1{_REDACTED}", self._in_text.sub(_REDACTED, text))

    def message(self, line: str) -> str:
        """A message of the kernel log; some repeat the command line, or words of it."""
        found = re.match(_REPEATS_COMMAND_LINE, line)
        if found is None:
            return self.text(line)
        return self.text(found.group(1)) + self.command_line(found.group(2))

    def command_line(self, text: str) -> str:
        """The command line, word for word.

        Words inside quotes and words for init are treated alone too: the code that reads
        mem_encrypt= knows of neither (Linux arch/x86/lib/cmdline.c), and what it would see
        there is evidence.
        """
        words: List[str] = []
        quoted = for_init = False
        for word in text.split():
            opaque = quoted or for_init
            for_init = for_init or (word == "--" and not quoted)
            words.append(self._word(word, quoted=quoted, opaque=opaque))
            quoted ^= word.count('"') % 2 == 1
        return " ".join(words)

    def _word(self, word: str, *, quoted: bool, opaque: bool) -> str:
        name, equals, value = word.partition("=")
        if re.fullmatch(_KEPT_PARAMETER, name.lstrip('"')):
            return name + equals + self._in_values.sub(_REDACTED, value)
        if word == "--" and not opaque:
            return word
        quote = '"' if word.count('"') % 2 else ""
        closing = _REDACTED + quote if quoted else quote + _REDACTED
        plain = name[1:] if name.startswith('"') and not quoted else name
        if opaque or self._in_text.search(plain) or not re.match(r"^[A-Za-z_][\w.-]*$", plain):
            return closing
        return f"{plain}={closing}" if equals else word


# ---- the command -------------------------------------------------------------------------


def main(arguments: Optional[List[str]] = None) -> int:
    """Write the snapshot; returns the exit status: 0, or 1 where it cannot be written."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="staleline-collect.py", description="Write a snapshot of this host for staleline."
    )
    parser.add_argument("-o", "--output", metavar="FILE", default="-", help="default: stdout")
    parser.add_argument("--redact", action="store_true", help="leave out names and addresses")
    parser.add_argument("--slim", action="store_true", help="some kB: tell CPUs alike once")
    options = parser.parse_args(arguments)
    try:
        document = slim(collect()) if options.slim else collect()
        _write(document_text(redacted(document) if options.redact else document), options.output)
    except KeyboardInterrupt:
        return 130  # 128 and SIGINT, as shells have it
    except BrokenPipeError:
        return 141  # 128 and SIGPIPE
    except OSError as error:
        sys.stderr.write(f"staleline-collect.py: {options.output}: {error.strerror}\n")
        return 1
    return 0


def _write(text: str, output: str) -> None:
    if output == "-":
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        # Not through sys.stdout: what it could not write it would try again at the end.
        file = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    else:
        file = open(output, "w", encoding="ascii")  # noqa: SIM115 - closed below
    with file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
