# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the emulated machine has the pages that a loaded kernel image controls the jump with.

They are decrypted where the old kernel encrypts, in the direct map too, until they are freed
(linux 7.3.4 kernel/kexec_core.c:294,457 arch_kexec_post_alloc_pages()).
"""

from __future__ import annotations

from typing import Final

__all__ = ["CONTROL_PAGES", "CONTROL_SIZE", "SWAP_PAGE"]

#: Physical address and size of the control page, where relocate_kernel() is copied.
CONTROL_PAGES: Final = 0x1_0000
CONTROL_SIZE: Final = 0x2000
#: Physical address of a kexec jump's swap page.
SWAP_PAGE: Final = 0xA000
