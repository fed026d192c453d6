# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel log tells: the wordings it holds (wordings.toml), and what they prove."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from staleline.evidence.snapshot import LogEvidence, Snapshot

if TYPE_CHECKING:
    from staleline.evidence.log.wordings import LogValue, Wording

__all__ = ["WITHOUT_SEAMCALLS", "Told", "by_peak", "spoken", "told", "told_twice", "with_state"]

_T = TypeVar("_T")

#: States of the TDX module in which no SEAMCALL was made.
WITHOUT_SEAMCALLS = frozenset({"absent", "not-initialized"})


@dataclass(frozen=True, slots=True)
class Told:
    """What a log tells of one fact.

    Attributes:
        value: The value.
        line: The message that proves it; None where the silence of a whole log does.
        unlike_registers: The registers of the same machine may show another value.
    """

    value: LogValue
    line: str | None
    unlike_registers: bool = False

    @property
    def source(self) -> str:
        """The evidence, as facts name it."""
        if self.line is None:
            return "kernel log, whole, without a message of it"
        return f'kernel log, "{self.line}"'


def told(
    log: LogEvidence | None, release: str | None = None, vendor: str | None = None
) -> Mapping[str, Told]:
    """What `log` tells, by the fact's name; nothing of what it tells in two ways.

    Args:
        log: Messages of one boot.
        release: Of the kernel that wrote it; what silence proves depends on it.
        vendor: Of the CPU; where None, as the log tells.
    """
    return {} if log is None else _told(log.lines, log.complete, release, vendor)


def told_twice(log: LogEvidence | None) -> tuple[tuple[str, Told, Told], ...]:
    """Facts of which `log` tells two values, with one message for each."""
    if log is None:
        return ()
    statements = _statements(log.lines, None)
    return tuple(
        (fact, said[0], other)
        for fact, said in statements.items()
        if (other := next((one for one in said if one.value != said[0].value), None))
    )


def spoken(log: LogEvidence | None) -> Iterator[tuple[Wording, str]]:
    """The wordings that `log` holds, each with its message."""
    for line in () if log is None else log.lines:
        yield from _spoken(line)


def with_state(snapshot: Snapshot) -> Snapshot:
    """`snapshot` with what its log and its guest keys tell of the state it leaves unknown."""
    by_log = told(snapshot.log, snapshot.kernel.release)
    state = snapshot.state
    return replace(
        snapshot,
        state=replace(
            state,
            sme_active=_known(state.sme_active, _boolean(by_log, "sme_active")),
            tdx_module=_known(state.tdx_module, _text(by_log, "tdx_module")),
            sev_guests_run=_known(
                state.sev_guests_run,
                _known(by_peak(state.guest_ids_peak), _boolean(by_log, "sev_guests_run")),
            ),
        ),
    )


@lru_cache(maxsize=64)
def _told(
    lines: tuple[str, ...], complete: bool, release: str | None, vendor: str | None
) -> Mapping[str, Told]:
    statements = _statements(lines, vendor)
    # Two values of one fact are a contradiction, which is told elsewhere; neither counts meanwhile.
    agreed = {
        fact: said[0]
        for fact, said in statements.items()
        if all(one.value == said[0].value for one in said)
    }
    # Some wordings prove more on one vendor's CPUs (`proves_on`), and the log may name the vendor.
    if vendor is None and "vendor" in agreed:
        return _told(lines, complete, release, str(agreed["vendor"].value))
    # A missing message means something only if the log is proved whole, and only for what every
    # release says (``[[silence]]``).
    return {**(_silent(lines, release, statements) if complete else {}), **agreed}


@lru_cache(maxsize=64)
def _statements(lines: tuple[str, ...], vendor: str | None) -> Mapping[str, list[Told]]:
    statements: dict[str, list[Told]] = {}
    for line in lines:
        for wording, message in _spoken(line):
            for fact, value in wording.values(message, vendor).items():
                unlike = fact in wording.unlike
                statements.setdefault(fact, []).append(Told(value, line, unlike))
    return statements


@lru_cache(maxsize=4096)
def _spoken(line: str) -> tuple[tuple[Wording, str], ...]:
    # Most evidence holds no log, and the table's types take longer to make than a dump to read.
    from staleline.evidence.log.wordings import wordings_of

    return tuple((wording, line) for wording in wordings_of(line))


def _silent(
    lines: tuple[str, ...], release: str | None, statements: Mapping[str, object]
) -> Mapping[str, Told]:
    """What a whole log proves by what it does not say."""
    from staleline.evidence.log.wordings import release_of, silences

    known = release_of(release)
    ids = {wording.id for line in lines for wording, _ in _spoken(line)}
    return {
        row.fact: Told(row.value, None)
        for row in silences()
        # Of a release that nobody read, silence says nothing: it may word the message otherwise.
        if known is not None
        and row.first <= known <= row.last
        and not row.of & ids
        and row.fact not in statements
    }


def _boolean(by_log: Mapping[str, Told], name: str) -> bool | None:
    value = by_log[name].value if name in by_log else None
    assert value is None or isinstance(value, bool), name
    return value


def _text(by_log: Mapping[str, Told], name: str) -> str | None:
    value = by_log[name].value if name in by_log else None
    assert value is None or isinstance(value, str), name
    return value


def by_peak(peak: Mapping[str, int] | None) -> bool | None:
    """Were SEV keys ever taken? By misc.peak (Linux 6.12.117 kernel/cgroup/misc.c)."""
    kinds = [peak[kind] for kind in ("sev", "sev_es") if peak is not None and kind in peak]
    if any(kinds):
        return True
    # A kind that has no keys now is not listed, whatever was taken before; only both kinds at zero
    # mean that none ever was.
    return False if len(kinds) == 2 else None


def _known(value: _T | None, otherwise: _T | None) -> _T | None:
    return otherwise if value is None else value
