# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the running kernel's code is still its image's on the way into the next one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

from staleline.evidence.snapshot import Snapshot
from staleline.facts.observation import Observation, observed_as, untold
from staleline.facts.told.log import of_log
from staleline.facts.told.stated import stated
from staleline.pattern import Pattern

__all__ = ["stop_path_changed", "stop_path_functions", "tainted"]

_LIVE_PATCHES = "/sys/kernel/livepatch"
_KPROBES = "/sys/kernel/debug/kprobes/list"
#: Linux 7.3.4 include/linux/panic.h.
_TAINT_LIVEPATCH = 15
_LIVEPATCH_FLAG = "K"  # kernel/panic.c:832
#: Ksplice and KernelCare patch without what the kernel has for it, so that it does not list them.
_OF_NO_KERNEL = Pattern("ksplice|kcare|kernelcare")
_SHOWN = 3
#: A hypervisor's driver.
_JAILHOUSE = "jailhouse"
#: What kallsyms names; anything else, such as ? or an address, says nothing of the place.
_SYMBOL = Pattern(r"[A-Za-z_][\w.$]*")


def stop_path_changed(snapshot: Snapshot) -> Observation:
    """True if a live patch or a kprobe changes it, or does not tell what it changes."""
    state = snapshot.state
    changes = [*_by_livepatches(snapshot), *_by_traces(snapshot), *_by_names(snapshot)]
    changes += [
        f"{by_tool.source}, but not what is replaced"
        for by_tool in stated("livepatched", snapshot, bool)
        if by_tool.value
    ]
    changes += _by_kprobes(state.kprobes or ())
    if changes:
        return observed_as(True, "; ".join(changes))
    unread = [
        file
        for file, listed in ((_LIVE_PATCHES, state.livepatches), (_KPROBES, state.kprobes))
        if listed is None
    ]
    # One that was read and has nothing on the way says nothing of the other.
    if unread:
        return untold(f"{' and '.join(unread)} not read: run staleline collect, as root")
    return observed_as(False, f"{_LIVE_PATCHES}, {_KPROBES}")


def tainted(snapshot: Snapshot) -> Observation:
    """The reasons why the kernel says that it is tainted; told, and nothing is judged by it."""
    if snapshot.state.tainted is None:
        return untold("/proc/sys/kernel/tainted was not read: run staleline collect on the host")
    modules = snapshot.state.tainting_modules
    by = f" (modules {', '.join(modules)})" if modules else ""
    return observed_as(snapshot.state.tainted, f"/proc/sys/kernel/tainted{by}")


@cache
def stop_path_functions() -> frozenset[str]:
    """All names of stop_path.toml."""
    table = tomllib.loads(files(__package__).joinpath("stop_path.toml").read_text("utf-8"))
    return frozenset(name for names in table.values() for name in names)


def _by_livepatches(snapshot: Snapshot) -> Iterator[str]:
    for patch, replaced in (snapshot.state.livepatches or {}).items():
        if not replaced or not all(name.partition(":")[2] for name in replaced):
            yield f"live patch {patch} does not tell which functions it replaces"
        elif on_it := _on_stop_path(name.partition(":")[2] for name in replaced):
            yield f"live patch {patch} replaces {_listed(on_it)}"


def _by_traces(snapshot: Snapshot) -> Iterator[str]:
    """A live patch that only the log or the taint tells of; what it replaced is not known.

    Where /sys/kernel/livepatch was read, it tells what is in force now.
    """
    if snapshot.state.livepatches is not None:
        return
    if any(told_by_log.value for told_by_log in of_log(snapshot, "livepatched")):
        yield "a live patch that the kernel log tells of, but not which functions it replaced"
    elif (snapshot.state.tainted or 0) >> _TAINT_LIVEPATCH & 1:
        yield "a live patch that /proc/sys/kernel/tainted tells of, but not what it replaced"
    else:
        # NAME:FLAGS, as /sys/module/NAME/taint has them.
        for module in snapshot.state.tainting_modules or ():
            if _LIVEPATCH_FLAG in module.rpartition(":")[2]:
                yield f"a live patch that /sys/module tells of ({module}), but not what it replaced"


def _by_names(snapshot: Snapshot) -> Iterator[str]:
    """Modules that are live patches by their names, of which nothing tells what they replace.

    Where /sys/kernel/livepatch was read, it tells of all but those that are none of the kernel's.
    """
    named = [module.partition(":")[0] for module in snapshot.state.tainting_modules or ()]
    if not named and not snapshot.modules:
        return
    from staleline.evidence.staleline_collect import is_telling_module

    for module in dict.fromkeys((*(snapshot.modules or ()), *named)):
        in_sysfs = snapshot.state.livepatches is not None and not _OF_NO_KERNEL.match(module)
        if module != _JAILHOUSE and is_telling_module(module) and not in_sysfs:
            yield f"module {module}, which is named as live patches are"


def _by_kprobes(places: Iterable[str]) -> Iterator[str]:
    probed = [place.partition("+")[0] for place in places]
    if not all(map(_SYMBOL.fullmatch, probed)):
        yield "a kprobe is where its symbol does not tell"
    if on_it := _on_stop_path(probed):
        yield f"kprobes in {_listed(on_it)}"


def _on_stop_path(names: Iterable[str]) -> list[str]:
    """Those on it; compilers add suffixes such as ``.isra.0`` and ``.cold`` to a name."""
    return sorted({name for name in names if name.partition(".")[0] in stop_path_functions()})


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
