# SPDX-License-Identifier: GPL-2.0-or-later
"""Loaded modules that tell of a hypervisor or of a live patch, in whatever lists them.

::

    Module                  Size  Used by
    jailhouse              49152  0
    jailhouse 49152 0 - Live 0xffffffffc0a45000 (OE)
    [  101.5] Modules linked in: kpatch_fix(OEK) xen_acpi_processor [last unloaded: jailhouse(O)]
    /sys/module/jailhouse

lsmod shows no flags. What a list lacks may have been cut off, so only what stands there counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from staleline.evidence.pasted.prompts import is_prompt
from staleline.evidence.snapshot import Snapshot, StateEvidence, Statement
from staleline.evidence.staleline_collect import is_telling_module
from staleline.pattern import Pattern

__all__ = ["listed_modules", "parse"]

#: lsmod's row, and that of /proc/modules (linux 7.3.4 kernel/module/procfs.c m_show()); marks of a
#: quotation or a list may stand before it.
_ROW = Pattern(
    r"[\s>|*+`-]{0,12}(?P<name>[\w-]{1,64})\s+[0-9]{1,10}\s+-?[0-9]{1,6}"
    r"(?:\s+(?P<users>[^\s(]\S{0,2000}))?"
    r"(?:\s+(?:Live|Loading|Unloading)\s+0x[0-9a-fA-F]{1,16}(?:\s+\((?P<flags>[A-Z]{0,24})[+-]?\))?)?"
    r"[\s`|]*"
)
_HEADING = Pattern(r"[\s>|*+`-]{0,12}Module\s+Size\s+Used by\s*")
#: linux 7.3.4 kernel/module/main.c:3878 print_modules(); + is being loaded, - unloaded.
_LINKED: Final = "Modules linked in:"
_LINKED_ONE = Pattern(r"(?P<name>[\w-]{1,64})(?:\((?P<flags>[A-Z]{0,24})[+-]?\))?")
#: Its rest, of a list that printk split.
_GOES_ON = Pattern(
    r"(?:.{0,120}[\]:|>]\s)?(?P<rest>\s*[\w-]{2,64}(?:\([A-Z]{0,24}[+-]?\))?(?:\s.*)?)"
)
_NO_MORE: Final = ("[last", "Unloaded", "CPU:")
#: systool -m, and files of sysfs by name. What is not loadable has no initstate.
_SYSTOOL = Pattern(r'\s*Module = "(?P<name>[\w-]{1,64})"\s*')
_SYSFS = Pattern(r"(?:^|[\s>|'\"`])(?:\S{0,200})?/sys/module/(?P<name>[\w-]{1,64})(?![\w-])")
_NAMES = Pattern(r"\s*[\w-]{1,64}(?:\s+[\w-]{1,64})*\s*")
_LISTS_SYSFS = Pattern(
    r".*[#$%>+]\s*(?:\S+\s+)?(?:\S*/)?ls(?:\s+-\S+)*\s+(?:-\S+\s+)*/sys/module/?\s*"
)
#: linux 7.3.4 kernel/module/main.c: what taints is told when it is loaded.
_TAINTS = Pattern(
    r"(?:.*\s)?(?P<name>[\w-]{1,64}): (?:loading out-of-tree module taints kernel"
    r"|module verification failed|module license '.{0,80}' taints kernel)"
)
#: Of jailhouse 0.12 driver/sysfs.c enabled_show(), and of tools/jailhouse cell list: cell 0 is the
#: root's. Of xl list: domain 0 is.
_ENABLED = Pattern(r".*/sys/devices/jailhouse/enabled\W{1,4}1\s*")
_CELLS = Pattern(r"\s*ID\s+Name\s+State\s+Assigned CPUs.*")
_ROOT_CELL = Pattern(r"\s*0\s+\S{1,64}\s+running\b.*")
_DOMAINS = Pattern(r"\s*Name\s+ID\s+Mem(?:\(MiB\))?\s+VCPUs\b.*")
_DOMAIN_0 = Pattern(r"\s*Domain-0\s+0\s.*")
#: Jailhouse in a form that is not known: a list of another tool's, the hypervisor's own console,
#: its device, or the command that enables it. No path, no part of a release, and no host's name.
_MENTIONED = Pattern(
    r"(?i)(?:.*[^@\w./-])?(?:/dev/)?jailhouse(?![\w.-]|\.\w| (?:kernel|login|systemd)\b)"
    r"(?!.*\bwas closed).*"
)
_HOST_NAMED_SO = Pattern(
    r"(?i)(?:Linux|[A-Z][a-z]{2} +[0-9]{1,2} [0-9:]{8}|[0-9-]{10}T\S{8,32}) jailhouse\b.*"
)
_ENABLES = Pattern(r".*\b(?:jailhouse enable|modprobe jailhouse|insmod \S*jailhouse\.ko)\b.*")
_DENIED: Final = (
    "No such file",
    "not found",
    "cannot access",
    "last unloaded",
    "rmmod",
    "not load",
)
_LONGEST: Final = 8192


@dataclass(frozen=True, slots=True)
class _Module:
    """One that is loaded, with the letters of its taint, and what lists it."""

    name: str
    flags: str
    by: str


#: Of modules whose initialisation fails elsewhere: what there is below. Linux 5.10.223 and 7.3.4:
#: drivers/xen/xen-acpi-processor.c:520 and xen-pciback/pci_stub.c:1722 ask xen_initial_domain();
#: gntdev.c:1186, gntalloc.c:581, evtchn.c:708, privcmd.c:1729, xenbus/, net/xen-netback, block/
#: xen-blkback and the frontends xen_domain(); 7.3.4 drivers/hv/mshv_root_main.c:2366
#: hv_parent_partition(); hv/vmbus_drv.c:2971 hv_is_hyperv_initialized(); virt/acrn/hsm.c:508
#: X86_HYPER_ACRN. xenfs is loaded anywhere.
_OF_DOM0: Final = frozenset({"xen_acpi_processor", "xen_pciback"})
_OF_XEN: Final = _OF_DOM0 | {
    *("xen_gntdev", "xen_gntalloc", "xen_evtchn", "xen_privcmd", "xen_netback", "xen_blkback"),
    *("xen_scsiback", "xen_blkfront", "xen_netfront", "xen_fbfront", "xen_kbdfront"),
    *("xen_pcifront", "xen_scsifront", "pvcalls_back", "pvcalls_front"),
}
_OF_HYPERV: Final = frozenset({"mshv_root", "hv_vmbus"})


def parse(text: str, where: str) -> Snapshot:
    """Return what a list of modules tells; one without any that tells is one all the same."""
    del where
    return listed_modules(text) or Snapshot(cpus=(), modules={})


def listed_modules(text: str) -> Snapshot | None:
    """The machine as far as lists of modules in `text` tell of it; None where there is none."""
    lines = [line if len(line) <= _LONGEST else line[:_LONGEST] for line in text.split("\n")]
    modules = {module.name: module for module in _modules(lines)}
    statements = (*_of_modules(modules), *_of_domains(lines))
    if not modules and not statements and not any(map(_HEADING.fullmatch, lines)):
        return None
    telling: dict[str, Mapping[str, str]] = {
        name: {} for name in sorted(modules) if is_telling_module(name)
    }
    tainting = tuple(f"{one.name}:{one.flags}" for one in modules.values() if one.flags)
    return Snapshot(
        cpus=(),
        state=StateEvidence(tainting_modules=tainting or None),
        modules=telling,
        statements=tuple(dict.fromkeys(statements)),
    )


def _modules(lines: Sequence[str]) -> Iterator[_Module]:
    linked = False
    heading = False
    for number, line in enumerate(lines):
        _, mark, rest = line.partition(_LINKED)
        if mark:
            linked = True
        elif linked and (continued := _GOES_ON.fullmatch(line)) and not is_prompt(line):
            rest = continued["rest"]
        else:
            linked = False
        if linked:
            listed = list(_linked(rest))
            yield from listed
            linked = len(listed) == len(rest.split())
            continue
        heading = heading or _HEADING.fullmatch(line) is not None
        yield from _of_line(line, heading=heading)
        if "ailhouse" in line and _mentions_jailhouse(line):
            yield _module("jailhouse", None, "a line of the evidence")
        if "/sys/module" in line and _LISTS_SYSFS.fullmatch(line) and is_prompt(line):
            yield from _of_listing(lines[number + 1 :])


def _mentions_jailhouse(line: str) -> bool:
    if is_prompt(line) or _ENABLES.fullmatch(line):
        return _ENABLES.fullmatch(line) is not None
    if any(word in line for word in _DENIED) or _HOST_NAMED_SO.match(line):
        return False
    return _MENTIONED.fullmatch(line) is not None


def _linked(rest: str) -> Iterator[_Module]:
    for word in rest.split():
        module = _LINKED_ONE.fullmatch(word)
        if module is None or word.startswith(_NO_MORE):
            return
        yield _module(module["name"], module["flags"], "kernel log, Modules linked in")


def _of_line(line: str, *, heading: bool) -> Iterator[_Module]:
    if shown := _ROW.fullmatch(line):
        # Without a heading a row of numbers is one of modules by its other columns or its name.
        name, live = shown["name"], "Live 0x" in line
        if heading or live or _is_of_interest(name):
            yield _module(name, shown["flags"], "/proc/modules" if live else "lsmod")
    elif shown := _TAINTS.match(line):
        yield _module(shown["name"], None, "kernel log")
    elif shown := _SYSTOOL.fullmatch(line):
        yield _module(shown["name"], None, "systool")
    elif "/sys/module/" in line and not is_prompt(line) and "No such file" not in line:
        for each in _SYSFS.finditer(line):
            yield from _of_sysfs(each["name"], line)


def _of_listing(behind: Sequence[str]) -> Iterator[_Module]:
    for line in behind:
        if not _NAMES.fullmatch(line):
            return
        for name in line.split():
            yield from _of_sysfs(name, line)


def _of_sysfs(name: str, line: str) -> Iterator[_Module]:
    """What is built in has a directory too, unless nobody builds it in."""
    if is_telling_module(_plain(name)) or f"{name}/initstate" in line:
        yield _module(name, None, "/sys/module")


def _module(name: str, flags: str | None, by: str) -> _Module:
    return _Module(_plain(name), flags or "", by)


def _plain(name: str) -> str:
    """As the kernel calls it, whatever its file is called (KBUILD_MODNAME)."""
    return name.replace("-", "_")


def _is_of_interest(name: str) -> bool:
    plain = _plain(name)
    return is_telling_module(plain) or plain in _OF_XEN | _OF_HYPERV | {"acrn"}


def _of_modules(modules: Mapping[str, _Module]) -> Iterator[Statement]:
    for name, module in modules.items():
        source = f"{module.by}: {name}"
        if name in _OF_XEN:
            yield from _under("Xen", source)
        if name in _OF_DOM0:
            yield Statement("jumped_by", "xen", source)
        if name in _OF_HYPERV:
            yield from _under("Hyper-V", source)
        if name == "mshv_root":
            yield Statement("jumped_by", "hyper-v", source)
        if name == "acrn":
            yield from _under("ACRN", source)


def _under(name: str, source: str) -> Iterator[Statement]:
    yield Statement("hypervisor", True, source)
    yield Statement("hypervisor_name", name, source)


def _of_domains(lines: Sequence[str]) -> Iterator[Statement]:
    """Of Jailhouse's cells, and of Xen's domains, that only the first of them can list."""
    cells = domains = False
    for line in lines:
        cells = cells or _CELLS.fullmatch(line) is not None
        domains = domains or _DOMAINS.fullmatch(line) is not None
        if cells and _ROOT_CELL.fullmatch(line):
            yield Statement("jumped_by", "jailhouse", "jailhouse cell list")
        if _ENABLED.fullmatch(line):
            yield Statement("jumped_by", "jailhouse", "/sys/devices/jailhouse/enabled")
        if domains and _DOMAIN_0.fullmatch(line):
            yield from _under("Xen", "xl list: Domain-0")
            yield Statement("jumped_by", "xen", "xl list: Domain-0")
