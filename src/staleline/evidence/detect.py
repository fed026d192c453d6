# SPDX-License-Identifier: GPL-2.0-or-later
"""Recognise what kind of evidence a file is by its content, and read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from io import BytesIO

from staleline.errors import EvidenceError
from staleline.evidence.consistency import require_consistent
from staleline.evidence.formats import is_of_messages, is_telling
from staleline.evidence.log import kernel_log
from staleline.evidence.snapshot import Snapshot, UnreadMessage
from staleline.evidence.source import decode, opened_evidence, whole
from staleline.evidence.tools.asides import asides
from staleline.evidence.transcript import JSON_MAX, Excerpt, begins_as_document, parts
from staleline.pattern import Pattern
from staleline.tar import is_tar
from staleline.unpacking import Bounds, Complaint, UnpackedStream, compression_of

__all__ = ["parse_snapshot", "read_snapshot", "read_stream"]

#: What a member of an archive may unpack to.
_OF_MEMBER = Bounds(most=16 << 20, free=1 << 20, alone=True)
#: The flags of a CPU take some 2000 characters, a message of the kernel log 1000.
_LINE_MAX = 1 << 16

#: What commands that show files of /proc and /sys begin with.
_SHOWS = ("cat /", "cat  /", "/sys/kernel/livepatch")
#: A text without any is none of a web page or of another document.
_OF_MARKUP = ("<", "&", "{\\rtf1")
_JSON = Pattern(r'\s*\{\s*["}]')

_KNOWN = (
    "give cpuid -r output, an AIDA64 or libcpuid raw dump, hwloc's or libvirt's CPU data, lscpu, "
    "dmesg, rdmsr or snphost output, /proc/cpuinfo, a sosreport or a staleline snapshot"
)


def read_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Return the machine that the file or directory `path` describes, whatever its format.

    Raises:
        EvidenceError: It cannot be read, is of no known format, is damaged, or contradicts
            itself.
    """
    where = os.fspath(path)
    return _whole(_read(where), where)


def read_stream(stream: UnpackedStream, where: str) -> Snapshot:
    """Return the machine that a file or an archive describes, read from a stream.

    Raises:
        EvidenceError: As `read_snapshot`.
    """
    return _whole(_of_stream(stream, where), where)


def parse_snapshot(text: str | bytes, where: str) -> Snapshot:
    """Return the machine that `text` describes; `where` names it in errors.

    Raises:
        EvidenceError: As `read_snapshot`.
    """
    return _whole(_parse_text(text, where), where)


def _whole(snapshot: Snapshot, where: str) -> Snapshot:
    machine = kernel_log.with_state(snapshot)
    require_consistent(machine, where)
    return machine


# What most evidence does not need is imported where it is needed: it takes longer than reading.


def _read(where: str) -> Snapshot:
    if os.path.isdir(where):
        return _of_directory(where)
    with opened_evidence(where) as stream:
        return _of_stream(stream, where)


def _of_stream(stream: UnpackedStream, where: str) -> Snapshot:
    if is_tar(stream.peek(512)):
        from staleline.evidence.hosts.archive import read_archive

        return _of_archive(read_archive(stream), where)
    return _parse_text(whole(stream), where)


def _of_directory(where: str) -> Snapshot:
    from staleline.evidence.cpuid import hwloc
    from staleline.evidence.hosts import trees
    from staleline.evidence.hosts.loose import files_beside

    # hwloc's files lie beside a host's where somebody put both into one directory.
    of_hwloc = [hwloc.read_hwloc_directory(where)] if hwloc.is_directory(where) else []
    if of_hwloc and not trees.is_host_directory(where):
        machines = of_hwloc
    else:
        machines = [trees.read_directory(where), *of_hwloc]
    beside = {} if os.path.realpath(where) == "/" else dict(_texts(files_beside(where), where))
    return _merged((*machines, *_loose(beside, where)), where)


def _parse_text(text: str | bytes, where: str) -> Snapshot:
    if isinstance(text, bytes):
        text = decode(text, where)
    machine = _machine(text, where)
    if machine is None:
        raise _unknown(text, where)
    if machine.unread and machine == Snapshot(cpus=(), unread=machine.unread):
        from staleline.evidence.pasted import encoded, foreign

        raise (
            foreign.refused(text, where)
            or encoded.numbers_refused(text, where)
            or _of_unknown_form(machine.unread[0])
        )
    return machine


def _unknown(text: str, where: str) -> EvidenceError:
    from staleline.evidence.pasted import encoded, foreign
    from staleline.evidence.tools import rdmsr

    if rdmsr.is_bare(text):
        rdmsr.refuse_bare(text, where)
    return (
        foreign.refused(text, where)
        or encoded.numbers_refused(text, where)
        or EvidenceError("is of no known format", where=where, do=_KNOWN)
    )


def _of_unknown_form(unread: UnreadMessage) -> EvidenceError:
    what = f"holds a message of a kernel in a form that is not known: {unread.message}"
    return EvidenceError(what, where=unread.where, do="give the output of dmesg as it was printed")


def _machine(text: str, where: str) -> Snapshot | None:
    """The machine that all outputs in `text` are of; None where it holds none."""
    given = _plain_characters(text, where)
    text = _undressed(given, where)
    _require_one_machine(text, where)
    shown, text = _shown(text, where)
    outputs = parts(text, where)
    for output in outputs:
        _require_bounds(output, where)
    unread = _unread(given, text, where, outputs)
    machines = [_of_output(output, where, alone=len(outputs) == 1) for output in outputs]
    machines += [shown] if shown is not None else []
    machines += asides(text, where)
    if unread:
        machines.append(Snapshot(cpus=(), unread=unread))
    return _merged(machines, where) if machines else None


def _merged(machines: Iterable[Snapshot], where: str) -> Snapshot:
    """One machine of all; what only one tells needs nothing to be merged by."""
    first, *others = machines
    if not others:
        return first
    from staleline.evidence.hosts.merge import merged

    return merged((first, *others), where)


def _of_output(output: Excerpt, where: str, *, alone: bool) -> Snapshot:
    if output.document or output.text.endswith("\n"):
        return output.parse(output.text, where)
    from staleline.evidence.pasted.cutoff import read_before_cut

    return read_before_cut(output.parse, output.text, where, alone=alone)


def _is_read_in(outputs: Sequence[Excerpt]) -> Callable[[int, str], bool]:
    """Whether a line, by its number from 0, is one that its output's reader understands."""

    @cache
    def places() -> list[tuple[range, Excerpt]]:
        return [(output.lines, output) for output in outputs]

    def is_read(number: int, line: str) -> bool:
        return any(number in lines and output.reads(line) for lines, output in places())

    return is_read


def _plain_characters(text: str, where: str) -> str:
    """`text` without what terminals put to it, and with no character that stands for another."""
    from staleline.evidence.pasted.quoting import plain_characters

    if any(mark in text for mark in _OF_MARKUP) and not _JSON.match(text):
        from staleline.evidence.pasted.markup import as_shown

        text = as_shown(text, where)
    is_json = text.lstrip()[:1] == "{" and begins_as_document(text)
    return plain_characters(text, is_json=is_json)


def _undressed(text: str, where: str) -> str:
    """`text` as the tools printed it, without what mails and pages put before its lines."""
    if begins_as_document(text):
        return text
    from staleline.evidence.cpuid.cpuid_tool import is_wrapped, unwrapped
    from staleline.evidence.pasted.quoting import unquoted

    return unwrapped(unquoted(text, where, lambda line: is_telling(line) or is_wrapped(line)))


def _require_one_machine(text: str, where: str) -> None:
    """Refuse outputs over which it is written that they are of two machines."""
    if not begins_as_document(text):
        from staleline.evidence.pasted.labels import require_one_machine

        require_one_machine(text, where, is_telling)


def _shown(text: str, where: str) -> tuple[Snapshot | None, str]:
    """What a terminal shows of files that the collector reads, and the rest of `text`."""
    if begins_as_document(text):
        return None, text
    if not any(command in text for command in _SHOWS):
        return None, text
    from staleline.evidence.shown import shown_files

    return shown_files(text, where)


def _unread(
    given: str, text: str, where: str, outputs: Sequence[Excerpt]
) -> tuple[UnreadMessage, ...]:
    """The messages of a kernel in `given` that no output holds in a form that is read."""
    if [output.text.strip() for output in outputs if output.document] == [text.strip()]:
        return ()  # a document, whose reader refuses what it does not know
    from staleline.evidence.log.unread import unread_messages
    from staleline.evidence.pasted.encoded import texts_in_numbers

    in_numbers = (
        replace(message, where=f"{where}:{number + 1}")
        for number, shown in texts_in_numbers(text)
        for message in unread_messages(shown, shown, where, _is_read_nowhere)
    )
    return (*unread_messages(given, text, where, _is_read_in(outputs)), *dict.fromkeys(in_numbers))


def _is_read_nowhere(_number: int, _line: str) -> bool:
    return False


def _require_bounds(output: Excerpt, where: str) -> None:
    if not output.document:
        _require_lines(output.text, where)
    elif len(output.text) > JSON_MAX and not is_of_messages(output.parse):
        what = f"is JSON of more than {JSON_MAX >> 20} MiB, which no snapshot has"
        raise EvidenceError(what, where=where, do="give one snapshot per machine")


def _require_lines(text: str, where: str) -> None:
    if len(text) <= _LINE_MAX:
        return
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LINE_MAX:
            what = f"has a line of {len(line)} characters, which no dump or log has"
            raise EvidenceError(what, where=f"{where}:{number}", do="copy the file whole again")


def _of_archive(files: Mapping[str, bytes], where: str) -> Snapshot:
    from staleline.evidence.hosts import trees
    from staleline.evidence.hosts.archive import UNREAD_LOG

    tree = trees.layout_of(files, where)
    if tree is not None:
        beside = dict(_texts(_beside(files), where))
        return _merged((trees.read_tree(tree, where), *_loose(beside, where)), where)
    # Logs count where no host's own tells better, as what stands in no other file.
    if (log := next((name for name in files if files[name] is UNREAD_LOG), None)) is not None:
        what = f"holds {log}, and more of logs than is read"
        raise EvidenceError(what, where=where, do="give the lines of one boot, or leave it out")
    snapshots = [*_loose(dict(_texts(files, where)), where), *trees.read_pieces(files, where)]
    if not snapshots:
        raise EvidenceError("is an archive without evidence", where=where, do=_KNOWN)
    return _merged(snapshots, where)


def _beside(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files that somebody put beside a host's, but for links into its directories."""
    from staleline.evidence.hosts.loose import is_of_layout

    of_host = {id(data) for name, data in files.items() if is_of_layout(name)}
    return {
        name: data
        for name, data in files.items()
        if not is_of_layout(name) and id(data) not in of_host
    }


def _loose(texts: Mapping[str, str], where: str) -> Iterator[Snapshot]:
    """The evidence in files that are laid out as nothing, but for hwloc's, a file a CPU."""
    from staleline.evidence.cpuid import hwloc

    of_hwloc = {
        name: text
        for name, text in texts.items()
        if hwloc.is_member(name) and hwloc.is_row(text.partition("\n")[0])
    }
    if of_hwloc:
        yield hwloc.parse_files(of_hwloc, where)
    telling: list[str] = []
    for name, text in texts.items():
        if name not in of_hwloc and (machine := _machine(text, f"{where}:{name}")) is not None:
            telling.append(name)
            yield machine
    if len(telling) > 1:
        from staleline.evidence.pasted.labels import of_two_machines

        if named := of_two_machines(telling):
            what = f"holds {named[0]} and {named[1]}, as of two machines"
            raise EvidenceError(what, where=where, do="give one archive or directory per machine")


def _texts(files: Mapping[str, bytes], where: str) -> Iterator[tuple[str, str]]:
    """The members that are text, compressed or not, in whatever encoding a single file may have.

    Raises:
        EvidenceError: One is compressed and damaged, or is an archive of its own: what it says
            may be of this machine, and is not to be left out unseen.
    """
    for name, data in sorted(files.items()):
        place = f"{where}:{name}"
        text = data
        if compression_of(data) is not None:
            complaint = Complaint(EvidenceError, place, "compress it again, or leave it out")
            stream = UnpackedStream(BytesIO(data).read, _OF_MEMBER, complaint)
            text = stream.read(_OF_MEMBER.most)
        if is_tar(text[:512]):
            do = "unpack it and give its directory, or leave it out"
            raise EvidenceError("is an archive within an archive", where=place, do=do)
        try:
            yield name, decode(text, name)
        except EvidenceError:
            continue
