# SPDX-License-Identifier: GPL-2.0-or-later
"""What is, or what if: whether the kernel that is judged is the one that the snapshot saw run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from staleline.evidence.given import Given
from staleline.evidence.snapshot import KernelEvidence, Snapshot, with_flags_of_hardware
from staleline.facts import MachineFacts, from_snapshot
from staleline.facts.fact import Layer
from staleline.facts.observation import observed_as
from staleline.verdict.handover.kernels import ImageKernel, Kernel

__all__ = ["NOT_COMPARED", "By", "Identity", "facts_of", "identity_of", "with_given_for"]


_UNNAMED = KernelEvidence()
#: What another kernel finds there too: the hypervisor that dom0 or a root partition asks to jump.
#: What an unread message would tell of the hardware is so as well.
_OF_ANY_KERNEL = frozenset({"jumped_by", "unread_messages"})


class By(StrEnum):
    """What tells whether the kernel that is judged is the running one."""

    BUILD_ID = "build-id"
    RELEASE = "release"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Identity:
    """The kernel that is judged against the one that the snapshot saw run.

    Attributes:
        what_if: The judged kernel does not run there; None where nothing tells.
        by: What tells.
        running: The running kernel as it names itself.
        judged_release: The judged kernel's release, where it is known.
    """

    what_if: bool | None = None
    by: By = By.NOTHING
    running: KernelEvidence = _UNNAMED
    judged_release: str | None = None


#: Nothing tells whether it runs there.
NOT_COMPARED = Identity()


def identity_of(running: KernelEvidence, kernels: Sequence[Kernel], wanted: str | None) -> Identity:
    """Compare what is judged with what runs.

    Args:
        running: The snapshot's kernel.
        kernels: What is judged.
        wanted: How the user named it; None for the kernel that the snapshot names.
    """
    image = next((kernel.image for kernel in kernels if isinstance(kernel, ImageKernel)), None)
    if image is not None:
        release, build_id = image.release, image.build_id
        # The build ID is of the very bytes; a distribution may build a release again under its
        # name.
        if build_id is not None and running.build_id is not None:
            return Identity(build_id != running.build_id, By.BUILD_ID, running, release)
        return _by_release(running, release)
    # Nobody named another kernel: the rule was looked for by the release that runs.
    if wanted is None:
        return Identity(False, By.RELEASE, running, running.release)
    guessed = any(getattr(kernel, "guessed", False) for kernel in kernels)
    # A policy is a rule: which kernels carry it is not asked.
    return _by_release(running, wanted) if guessed else Identity(running=running)


def _by_release(running: KernelEvidence, release: str | None) -> Identity:
    """By the release; nothing where one is but the beginning of the other, as 7.3.4 of 7.3.4-1."""
    names = (running.release, release)
    if None in names or (names[0] != names[1] and _begins(str(names[0]), str(names[1]))):
        return Identity(running=running, judged_release=release)
    return Identity(names[0] != names[1], By.RELEASE, running, release)


def _begins(first: str, second: str) -> bool:
    short, long = sorted((first, second), key=len)
    # A number that goes on with a digit is another number: 6.1 does not begin 6.12.
    return long.startswith(short) and long[len(short)] in ".-+_~"


def with_given_for(observed: Snapshot, identity: Identity, given: Given) -> Snapshot:
    """The snapshot of the kernel that is judged, with what the user says of it.

    Raises:
        UsageError: What was given makes no sense.
        ContradictionError: It cannot be true of what was observed.
    """
    if not identity.what_if:
        return given.added_to(observed)
    return given.added_to(_without_what_it_did(observed, identity), another_kernel=True)


def facts_of(
    observed: Snapshot, identity: Identity, given: Given, judged: str | None = None
) -> MachineFacts:
    """What is known of the machine under the kernel that is judged, by its release `judged`."""
    facts = from_snapshot(with_given_for(observed, identity, given), judged=judged)
    if not identity.what_if:
        return facts
    # MSRs and some states are the machine's under any kernel; the rest is of the one judged.
    seen = from_snapshot(given.of_machine.added_to(observed))
    own = {fact.name for fact in facts.layer(Layer.KERNEL)} - _OF_ANY_KERNEL
    return MachineFacts.of(
        facts[fact.name] if fact.name in own else fact for fact in _proved_by_running(seen)
    )


def _proved_by_running(seen: MachineFacts) -> MachineFacts:
    """With what follows of firmware from what the running kernel did."""
    enabled = seen["sme_enabled"]
    if not seen.boolean("sme_active") or enabled.value is not None:
        return seen
    # It maps memory with the C-bit only where SYSCFG[23] is set (linux 6.12.117
    # arch/x86/mm/mem_encrypt_identity.c sme_enable()).
    source = f"the running kernel uses the C-bit: {seen['sme_active'].source}"
    proved = observed_as(True, source).fact(enabled.name, enabled.layer, enabled.text)
    return MachineFacts.of(proved if fact.name == proved.name else fact for fact in seen)


def _without_what_it_did(snapshot: Snapshot, identity: Identity) -> Snapshot:
    """Without all that is of the running kernel alone."""
    # Of another kernel nothing is known that the running one did or was made to do: that it
    # encrypts, used TDX, ran SEV guests.
    state = replace(
        snapshot.state,
        sme_active=None,
        tdx_module=None,
        seamcalled_cpus=None,
        sev_guests_run=None,
        reboot_force=None,
        guest_ids_peak=None,
        livepatches=None,
        kprobes=None,
        tainted=None,
        tainting_modules=None,
    )
    # The command line stays, as that which the boot loader gives; ``--cmdline`` gives another.
    kernel = replace(
        snapshot.kernel,
        release=identity.judged_release,
        build_id=None,
        config=None,
        # The running kernel's own stub sets XLF_MEM_ENCRYPTION (linux 6.12.117
        # drivers/firmware/efi/libstub/x86-stub.c:996), and one before 6.9 never does: the flag
        # says nothing of what another makes of the line, nor is that one booted as this was.
        xloadflags=None,
        booted_by=None,
    )
    # Which flags were set by hand the kernel that shows them tells, and not the one that is judged.
    settled = with_flags_of_hardware(snapshot)
    return replace(settled, kernel=kernel, state=state, log=None, modules=None)
