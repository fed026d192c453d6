# SPDX-License-Identifier: GPL-2.0-or-later
"""What a check or a comparison found, as plain text to paste into a reply on a mailing list.

72 columns, no blanks at the ends of lines, nothing that a mail client would break; in ASCII where
that is asked for. It says what was looked at so that somebody else can look again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from textwrap import wrap

from staleline.check.runs.trace import Counterexample
from staleline.printable import printable
from staleline.report.policies.check import RuleCheck, exact_words, headline, told_reasons
from staleline.report.policies.folding import where_words, why_not_safe
from staleline.report.policies.subject import identity_lines
from staleline.report.words.words import transition_words
from staleline.verdict.handover.readkernel import NamedRule, PartlyReadKernel
from staleline.verdict.policies.difference import ChangedHandover, Difference
from staleline.verdict.policies.platforms import PlatformHandover
from staleline.vocabulary import Site

__all__ = ["Mail", "check_mail", "difference_mail"]

_WIDTH = 72
_ASCII = str.maketrans({"→": "->", "·": "*", "…": "...", "≥": ">=", "≤": "<="})


@dataclass(frozen=True, slots=True)
class Mail:
    """How it is written.

    Attributes:
        command: The words of the command line that made it, quoted for a shell.
        ascii: Without any character beyond ASCII.
    """

    command: Sequence[str]
    ascii: bool = False

    def text(self, paragraphs: Iterable[_Paragraph | str]) -> str:
        """All of it as it is sent; texts are lines already."""
        lines = (
            line
            for paragraph in paragraphs
            for line in (
                [self._spelt(paragraph)] if isinstance(paragraph, str) else self._wrapped(paragraph)
            )
        )
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def _wrapped(self, paragraph: _Paragraph) -> list[str]:
        """A word that is longer than a line stays whole."""
        return wrap(
            self._spelt(printable(paragraph.text)),
            width=_WIDTH,
            initial_indent=paragraph.first,
            subsequent_indent=paragraph.later,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _spelt(self, text: str) -> str:
        if not self.ascii:
            return text
        # A letter is shown by its number rather than left out: names of files may have any.
        return text.translate(_ASCII).encode("ascii", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """A text, and what stands before its first line and before the others."""

    text: str
    first: str
    later: str


_Lines = Iterator[_Paragraph | str]


def check_mail(mail: Mail, several: Sequence[RuleCheck]) -> str:
    """The check of rules; of several, what changes in the rule from each to the next."""

    def lines() -> _Lines:
        yield from _head(mail)
        previous: NamedRule | None = None
        for checked in several:
            yield from ("", *_subject(checked.rule), "", _paragraph(f"{headline(checked)}."))
            for name in checked.accepted:
                yield _paragraph(
                    f"Accepted, not shown: {name}; without it {checked.only_accepted} of these "
                    "are not safe."
                )
            if checked.exact is not None:
                yield _paragraph(exact_words(checked.exact))
            yield from _reason_lines(checked.rows)
            if previous is None:
                yield from ("", "The rule:", *_rule(checked.rule))
            # Of builds in a row the change says more than the rule, most of which stays.
            else:
                yield from ("", *_rule_change(previous, checked.rule))
            yield from _shortest(checked.rows)
            previous = checked.rule

    return mail.text(lines())


def difference_mail(mail: Mail, difference: Difference, old: NamedRule, new: NamedRule) -> str:
    """What changes from one rule to another."""

    def lines() -> _Lines:
        yield from (*_head(mail), "", *_subject(old, "old"), "", *_subject(new, "new"), "")
        yield from _rule_change(old, new)
        for word, changed in _judged(difference):
            if changed:
                where = "; ".join(_by_path(changed))
                count = f"{len(changed)} handover{'' if len(changed) == 1 else 's'}"
                yield from ("", _item(f"{count} {word}: {where}"))
        if not any(changed for _, changed in _judged(difference)):
            yield from ("", "No verdict changes on any platform class.")
        yield from _shortest([one.new for one in difference.handovers if one.worse])

    return mail.text(lines())


def _head(mail: Mail) -> _Lines:
    yield f"staleline {version('staleline')}"
    words = [printable(word) for word in mail.command]
    line = "$"
    for word in words:
        # The command keeps its first word beside the prompt, however long that is.
        if len(line) + len(word) + len(" ") + len(" \\") > _WIDTH and line.strip() != "$":
            yield f"{line} \\"  # so that all of it can be pasted
            line = "   "
        line = f"{line} {word}"
    yield line


def _subject(rule: NamedRule, label: str = "") -> _Lines:
    name = f"{label}: {rule.name}" if label else rule.name
    yield _paragraph(name)
    for what, text in identity_lines(rule):
        yield _paragraph(f"{what}: {text}", "  ", "    ")


def _rule(rule: NamedRule) -> _Lines:
    for label, text in _conditions(rule):
        yield _paragraph(f"{label}: {text}", "  ", "      ")


def _conditions(rule: NamedRule) -> Iterator[tuple[str, str]]:
    """Label and text of everything that the rule says."""
    kernel, policy = rule.kernel, rule.policy
    partly = kernel if isinstance(kernel, PartlyReadKernel) else None
    for site in Site:
        unknown = partly is not None and site in partly.unknown
        condition = str(policy.condition(site))
        yield site, "unknown" if unknown else _when(condition)
    for site, crash in policy.in_a_crash.items():
        unknown = partly is not None and bool(partly.in_a_crash)
        yield f"{site} in a crash", "unknown" if unknown else _when(str(crash))
    reported = "unknown" if partly is not None and partly.order else policy.reported
    yield "a CPU is reported stopped", reported.replace("-", " its ")
    if partly is not None and partly.encrypts:
        yield "encrypts its memory", "unknown"
    elif policy.encrypts is not None:
        yield "encrypts its memory", f"if {policy.encrypts}"
    if policy.lacks:
        yield "has no code for", ", ".join(policy.lacks)


def _when(condition: str) -> str:
    return {"true": "always WBINVD", "false": "no WBINVD"}.get(condition, f"WBINVD if {condition}")


def _rule_change(old: NamedRule, new: NamedRule) -> _Lines:
    """The lines of the rule that are not the same, as a diff."""
    before, after = dict(_conditions(old)), dict(_conditions(new))
    changed = [name for name in (*before, *after) if before.get(name) != after.get(name)]
    if not changed:
        yield "The rule is the same."
        return
    yield from (f"--- {printable(old.name)}", f"+++ {printable(new.name)}")
    for name in dict.fromkeys(changed):
        yield f"@@ {name} @@"
        for sign, told in (("-", before.get(name)), ("+", after.get(name))):
            if told is not None:
                yield _paragraph(told, sign, f"{sign}    ")


def _reason_lines(rows: Sequence[PlatformHandover]) -> _Lines:
    for reason, text in told_reasons(rows):
        word = reason.verdict.words
        count = f"{len(reason.rows)} handover{'' if len(reason.rows) == 1 else 's'}"
        yield from ("", _item(f"{word} ({count}): {text}"))


def _judged(difference: Difference) -> tuple[tuple[str, list[ChangedHandover]], ...]:
    handovers = difference.handovers
    return (
        ("no longer safe", [one for one in handovers if one.worse]),
        ("safe now", [one for one in handovers if one.better]),
    )


def _by_path(changed: Sequence[ChangedHandover]) -> Iterator[str]:
    for path in dict.fromkeys(one.new.path for one in changed):
        yield f"{path} {where_words(one.new for one in changed if one.new.path is path)}"


def _shortest(rows: Sequence[PlatformHandover]) -> _Lines:
    """The shortest counterexample of all."""
    told = [one for reason in why_not_safe(rows) if (one := reason.shortest) is not None]
    if not told:
        return
    row, run = min(told, key=lambda one: len(one[1].steps))
    where = f"{row.path} {transition_words(row)} on {row.platform}"
    yield from ("", _paragraph(f"The shortest counterexample, {where}:"))
    yield from _steps(run)


def _steps(run: Counterexample) -> _Lines:
    width = len(str(len(run.steps)))
    for number, step in enumerate(run.steps, 1):
        yield _paragraph(step.sentence, f"{number:{width + 1}}. ", " " * (width + 3))
    last = "; ".join(f"{one.cpu}: {one.after}" for one in run.steps[-1].changes)
    yield _paragraph(f"[{run.property} is broken: {last}]", " " * (width + 3))


def _item(text: str) -> _Paragraph:
    return _paragraph(text, "* ", "  ")


def _paragraph(text: str, first: str = "", later: str | None = None) -> _Paragraph:
    return _Paragraph(text, first, first if later is None else later)
