# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a decision depend on anything that the truth table is not over?

The truth table varies the listed facts (`kernel.boot.rawfacts`) and nothing else. Should a
guard also ask another CPUID bit or MSR, a variable that a driver or a command line option
sets, or a static branch, the table would show its answer for the one value that the image and
the machine happen to begin with. So everything a site reads, and everything the derivation
asks or finds initialised, is changed, and the decisions are to stay the same.

What is not varied: what `kernel.rerun.inputs` calls structural (topology; and family, model,
stepping and the highest leaves take some existing values only), what
`staleline.kernel.rerun.fixedinputs` names with its reason, pointers, read-only data, the command
line's other words; the jumping CPU's way is looked at elsewhere. In the boot two kinds of
dependency may be missed: one on several unlisted things at once is found only if a round happens
to change enough of them, and one on a variable's being equal to some number only if that is 0, 1,
all ones or what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from staleline.kernel.derivation import DerivationError
from staleline.kernel.image.alternatives import unread_patches
from staleline.kernel.image.staticbranches import unnamed_branches
from staleline.kernel.influence.at_boot import search_boot
from staleline.kernel.influence.at_sites import search_sites
from staleline.kernel.influence.first_way import FirstWay
from staleline.kernel.influence.rows import ROWS, machines
from staleline.kernel.influence.sitesearch.influences import SiteSearch
from staleline.kernel.rerun.changes import Memory
from staleline.kernel.rerun.reruns import SITES
from staleline.workers import AsideError, aside

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.influence.search import Dependency
    from staleline.vocabulary import Site

__all__ = ["Dependencies", "dependencies"]


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What the decisions of an image depend on.

    Attributes:
        influences: Per site, the names of what its decision depends on when it runs: variables
            that the listed facts set, and listed facts that it asks itself.
        unlisted: Per site, one sentence per dependency that no listed fact accounts for, or
            why that could not be found out. Empty means none was found.
        not_varied: Name -> how code failed when it was varied, so it was not.
        boots: How often the derivation was run.
    """

    influences: Mapping[Site, tuple[str, ...]]
    unlisted: Mapping[Site, tuple[str, ...]]
    not_varied: Mapping[str, str]
    boots: int


def dependencies(image: KernelImage, *, side_by_side: bool = False) -> Dependencies:
    """What the decisions depend on, and why the truth table does not tell everything.

    Args:
        image: The kernel.
        side_by_side: Look at the boot in another process, forked from this one, in which no other
            thread may run.
    """
    try:
        reruns = FirstWay(image)
        # Neither search needs what the other finds.
        search = partial(_search_boot, reruns)
        boot_search = aside(search) if side_by_side else search
        sites, boots = _search_sites(reruns)
        boot = boot_search()
    except (DerivationError, AsideError) as error:
        reason = f"what else the decision depends on could not be tried: {error}"
        return Dependencies(dict.fromkeys(SITES, ()), dict.fromkeys(SITES, (reason,)), {}, 0)
    return Dependencies(
        {site: _explained(search) for site, search in sites.items()},
        {site: tuple(_unlisted(site, search, boot)) for site, search in sites.items()},
        _lost(sites.values(), boot) | _untold(image),
        boots + boot.boots,
    )


@dataclass(frozen=True, slots=True)
class _BootFindings:
    """What the boot was found to depend on."""

    findings: tuple[Dependency, ...]
    exhausted: bool
    boots: int


def _search_sites(reruns: FirstWay) -> tuple[Mapping[Site, SiteSearch], int]:
    """And how often the derivation was run."""
    before = reruns.boots
    with reruns.series():
        influences = search_sites(reruns, list(machines(reruns.image)))
    return influences, reruns.boots - before


def _search_boot(reruns: FirstWay) -> _BootFindings:
    before = reruns.boots
    with reruns.series():
        searched = search_boot(reruns, ROWS)
    return _BootFindings(tuple(searched.findings), searched.exhausted, reruns.boots - before)


def _explained(search: SiteSearch) -> tuple[str, ...]:
    return tuple(sorted(found.name for found in search.influences.values() if found.explained))


def _unlisted(site: Site, search: SiteSearch, boot: _BootFindings) -> Iterator[str]:
    """One sentence per dependency; what the site itself was seen to depend on comes first."""
    influences = [found for found in search.influences.values() if not found.explained]
    told = {found.name for found in influences}
    for influence in influences:
        yield f"{site} also depends on {influence}, which no fact sets"
    for finding in boot.findings:
        name = str(finding.change)
        # What is called there is in no image: a function of a driver, or of a module.
        if (site in finding.sites or finding.calls_unset) and name not in told:
            initially = " when the kernel starts" if isinstance(finding.change, Memory) else ""
            yield f"{site} also depends on {name}{initially}, which no fact sets"
    if search.exhausted or boot.exhausted:
        yield f"{site} depends on more than could be told apart"


def _untold(image: KernelImage) -> dict[str, str]:
    """What could not even be found."""
    untold = {}
    if unnamed_branches(image):
        untold["static branches"] = "the image does not name the table of them"
    if unread_patches(image):
        untold["code that boot patches"] = "the image has no table of it in a form that is known"
    return untold


def _lost(sites: Iterable[SiteSearch], boot: _BootFindings) -> dict[str, str]:
    # A change that makes the code fail is no dependency: it shows an index, a pointer, or a path
    # that is not modelled.
    lost = {name: why for search in sites for name, why in search.lost.items()}
    return lost | {
        str(finding.change): finding.lost
        for finding in boot.findings
        if finding.lost is not None and not finding.calls_unset
    }
