# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel log tells of SME, SEV guests and the TDX module.

A missing message means something only if the log reaches back to the first record
of this boot (sequence number 0 in /dev/kmsg); otherwise it is unknown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KernelLog", "read_kernel_log", "sev_guests_run", "sme_active", "tdx_module"]

#: Linux arch/x86/mm/mem_encrypt.c print_mem_encrypt_feature_info(): "AMD Memory Encryption
#: Features active: SME" in 5.10, "Memory Encryption Features active: AMD SME" from 6.1 on.
_FEATURES = re.compile(r"Memory Encryption Features active:\s*(.*)")
#: Linux arch/x86/virt/vmx/tdx/tdx.c: "module initialized" (6.12), "TDX-Module initialized"
#: (7.3), "… initialization failed (%d)".
_TDX_INITIALIZED = re.compile(r"virt/tdx: (?:module|TDX-Module) initialized")
_TDX_FAILED = re.compile(r"virt/tdx: (?:module|TDX-Module) initialization failed")
#: Linux arch/x86/kvm/svm/sev.c sev_hardware_setup(): "SEV supported" (5.10),
#: "SEV enabled (ASIDs …)" (6.1 on), "SEV unusable (…)" (6.12).
_SEV_POSSIBLE = re.compile(r"\bSEV\b.*\b(?:supported|enabled|usable|unusable)\b")

_RECORD_BYTES = 8192  # CONSOLE_EXT_LOG_MAX; a shorter read fails with EINVAL
_MAX_RECORDS = 1 << 20


@dataclass(frozen=True, slots=True)
class KernelLog:
    """Messages of this boot, oldest first; `complete` if none has been overwritten."""

    messages: Sequence[str]
    complete: bool


def read_kernel_log(path: Path) -> KernelLog | None:
    """Read /dev/kmsg to its present end, or None where this is not allowed.

    Records are ``level,sequence,time,flags;message``, one per read
    (Linux Documentation/ABI/testing/dev-kmsg).
    """
    try:
        device = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _parse(_records(device))
    finally:
        os.close(device)


def sme_active(log: KernelLog) -> bool | None:
    """Did this kernel map its memory with the C-bit (host SME, not a SEV guest)?"""
    for message in log.messages:
        if found := _FEATURES.search(message):
            return "SME" in found[1].split()
    return False if log.complete else None


def sev_guests_run(log: KernelLog) -> bool | None:
    """False if KVM never offered SEV since boot; guests themselves leave no message."""
    if any(_SEV_POSSIBLE.search(message) for message in log.messages):
        return None
    return False if log.complete else None


def tdx_module(log: KernelLog) -> str | None:
    """``initialized``, ``failed`` (SEAMCALLs were made), ``not-initialized``, or None."""
    for message in log.messages:
        if _TDX_INITIALIZED.search(message):
            return "initialized"
        if _TDX_FAILED.search(message):
            return "failed"
    return "not-initialized" if log.complete else None


def _records(device: int) -> str:
    records: list[bytes] = []
    while len(records) < _MAX_RECORDS:
        try:
            data = os.read(device, _RECORD_BYTES)
        except BlockingIOError:
            break
        except BrokenPipeError:  # EPIPE: overwritten meanwhile; the next read continues
            records.clear()
            continue
        except OSError:
            break
        if not data:
            break
        records.append(data)
    return b"".join(records).decode("utf-8", "replace")


def _parse(text: str) -> KernelLog:
    messages: list[str] = []
    first_sequence: str | None = None
    for line in text.split("\n"):
        prefix, semicolon, message = line.partition(";")
        fields = prefix.split(",")
        # Continuation lines begin with a space and carry key=value pairs, no message.
        if semicolon and len(fields) >= 4 and not line.startswith(" "):
            first_sequence = first_sequence or fields[1]
            messages.append(message)
    return KernelLog(tuple(messages), first_sequence == "0")
