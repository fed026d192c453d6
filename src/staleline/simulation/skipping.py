# SPDX-License-Identifier: GPL-2.0-or-later
"""The WBINVD of one site, as the simulated machine is told not to execute it."""

from __future__ import annotations

from staleline.errors import UsageError
from staleline.kernel.image.image import KernelImage
from staleline.kernel.inventory.inventory import Reach, wbinvd_inventory
from staleline.vocabulary import Site

__all__ = ["skipped_flush"]

_COPIED = ("identity_mapped", "relocate_kernel")


def skipped_flush(image: KernelImage, site: Site) -> str:
    """The option skip_wbinvd of the machine's caches.

    Raises:
        UsageError: The image has no WBINVD in that site's own code.
    """
    functions = _COPIED if site is Site.RELOCATE_KERNEL else (str(site),)
    inline = [
        place.address
        for place in wbinvd_inventory(image).places
        if place.function in functions and place.reach is Reach.INLINE
    ]
    if not inline:
        raise UsageError(
            f"no WBINVD in {site}'s own code, which could be taken away", where=image.path
        )
    if site is not Site.RELOCATE_KERNEL:
        return ";".join(f"{address:x}@1" for address in inline)
    # It is copied to a page, and executed there under the number of the next kernel.
    symbols = image.symbols
    # 7.3 begins the page that is copied with this symbol; up to 6.12 it begins with the function.
    starts = map(symbols.only_address, ("__relocate_kernel_start", "relocate_kernel"))
    start = next(filter(None, starts), None)
    if start is None:
        # At another offset the machine would execute it, in a run that is said to lack it.
        raise UsageError("where relocate_kernel begins is not known", where=image.path)
    return ";".join(f"+{address - start:x}@2" for address in inline)
