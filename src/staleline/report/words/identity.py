# SPDX-License-Identifier: GPL-2.0-or-later
"""What is, or what if, in words and as the fields of a document."""

from __future__ import annotations

from typing import Any

from staleline.verdict.audit.identity import By, Identity

__all__ = ["identity_fields", "identity_words", "running_name"]


def identity_words(identity: Identity) -> str:
    """Whether the judged kernel is the one that runs, as a clause."""
    if identity.what_if:
        return (
            f"what if: this kernel does not run there, {running_name(identity)} does; "
            "what that one did since it booted is not taken for this one's, its command line is"
        )
    if identity.what_if is None:
        return "whether it is the kernel that runs there is not known"
    by = "build ID" if identity.by is By.BUILD_ID else "release alone"
    return f"it is the kernel that runs there, by its {by}"


def running_name(identity: Identity) -> str:
    """The running kernel by release; by build ID where the judged one has the same release."""
    release, build_id = identity.running.release, identity.running.build_id
    if release is None or release == identity.judged_release:
        return f"{release or 'a kernel'} with build ID {build_id}"
    return release


def identity_fields(identity: Identity | None) -> dict[str, Any]:
    """Fields of ``staleline/audit/1``; null where that was not looked at."""
    if identity is None:
        return {"what_if": None, "compared_by": None, "running": None}
    running = identity.running
    return {
        "what_if": identity.what_if,
        "compared_by": identity.by,
        "running": {"release": running.release, "build_id": running.build_id},
    }
