# SPDX-License-Identifier: GPL-2.0-or-later
"""Static branches that cannot be told are not passed over in silence."""

from __future__ import annotations

from staleline.kernel.image.staticbranches import static_branches, unnamed_branches
from tests.kernel.inventory.test_inventory import kernel

TABLE = {"__start___jump_table": "90", "__stop___jump_table": "90"}


def test_a_kernel_that_sets_branches_up_has_them() -> None:
    """jump_label_init(), kernel/jump_label.c, 5.10.262 to 7.3.4."""
    image = kernel(jump_label_init="c3")
    assert unnamed_branches(image)
    assert list(static_branches(image, [(0, 1 << 63)])) == []


def test_one_that_names_their_table_tells_their_places() -> None:
    assert not unnamed_branches(kernel(jump_label_init="c3", **TABLE))


def test_one_without_jump_labels_has_none() -> None:
    assert not unnamed_branches(kernel(stop_this_cpu="c3"))
