"""The words for each kind and state: every report says the same thing in the same way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pytest_httpleak.model.findings import ALSO, Finding, Held
from pytest_httpleak.model.kinds import Kind, State, Verdict
from pytest_httpleak.model.rows import Growth
from pytest_httpleak.reports.notes import counted
from pytest_httpleak.reports.places import shortened
from pytest_httpleak.reports.text_safety import safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_httpleak.model.run import Summary

_NOUNS: Final = {
    Kind.RESPONSES: "HTTP response",
    Kind.CONNECTIONS: "HTTP connection",
    Kind.CLIENTS: "HTTP client",
    Kind.SOCKETS: "socket",
    Kind.FDS: "file descriptor",
    Kind.TASKS: "asyncio task",
    Kind.THREADS: "thread",
    Kind.LOOPS: "event loop",
}

RULES: Final = {
    Kind.RESPONSES: "An HTTP response still holds its connection: its body was neither read to the end nor closed.",
    Kind.CONNECTIONS: "An HTTP connection was taken from its pool, or opened, and never given back or closed.",
    Kind.CLIENTS: "A client, session or pool was left open by its owner while it holds connections.",
    Kind.SOCKETS: "A socket was left open that no HTTP object answers for.",
    Kind.FDS: "A file descriptor was left open that no HTTP object or socket answers for.",
    Kind.TASKS: "An asyncio task was still pending when its owner was over.",
    Kind.THREADS: "A thread was still alive when its owner was over.",
    Kind.LOOPS: "An event loop was created and never closed.",
}

_MAX_HELD: Final = 8
_NUMBERS: Final = re.compile(r"\bfd (\d+)\b")
_SELF_EVIDENT: Final = ("a ", "an ", "and ", "the ", "fd ")

_OPEN: Final = {
    Kind.CONNECTIONS: "never released",
    Kind.CLIENTS: "never closed",
    Kind.LOOPS: "never closed",
}

_COLLECTED: Final = "left to the garbage collector"

VERDICTS: Final = {
    Verdict.LEAKED: "leaked",
    Verdict.WARNED: "leaked (a warning only)",
    Verdict.KNOWN: "leaked (known: in the baseline)",
    Verdict.TOLERATED: "leaked (tolerated)",
    Verdict.IGNORED: "leaked (ignored)",
}

_FIGURES: Final = ("checked", "clean", "leaked", "warned", "tolerated", "known")

# Summaries of some adapters say it already.
_SAYS_OPEN: Final = re.compile(r"\b(?:still|not closed|never closed|unclosed|not released|never given back)\b")
_LISTS: Final = re.compile(rf", fd \d+: |{ALSO}")  # of unlike things, not one that is there so many times
_SAYS_DROPPED: Final = re.compile("dropped (?:without being closed|while checked out)|never given back")


def noun(kind: Kind, count: int = 1) -> str:
    """The name of a kind for a person, in the plural where `count` asks for it."""
    return _NOUNS[kind] if count == 1 else f"{_NOUNS[kind]}s"


def figures(summary: Summary) -> dict[str, int]:
    """How many tests were checked, and how many of them came to which outcome, in the order in which it is told."""
    return {name: getattr(summary, name) for name in _FIGURES}


def grown(growth: Growth) -> str:
    """`2 HTTP clients at first, 40 in the end, over 40 tests: 1.0 more a test`."""
    return (
        f"{amount(growth.kind, growth.first)} at first, {growth.last:,} in the end, "
        f"over {counted(growth.tests, 'test')}: {growth.slope:,} more for each"
    )


def amount(kind: Kind, count: int) -> str:
    """`1 HTTP response`, `3 sockets`."""
    return f"{count:,} {noun(kind, count)}"


def state(finding: Finding) -> str:
    """What had become of a leaked resource when it was judged: `still open`, `never closed`, `still pending`, ..."""
    if finding.state is State.COLLECTED:
        return f"dropped while open and {_COLLECTED}"
    if finding.state is State.OPEN:
        return _OPEN.get(finding.kind, "still open")
    return f"still {finding.state.value}"


def subject(finding: Finding) -> str:
    """The object itself, safe to show: `httpx.Response GET http://127.0.0.1:8000/items?*** [200]`."""
    named = finding.state is State.PEAK or finding.summary.startswith(finding.type)
    words = [finding.summary] if named else [finding.type, finding.summary]
    return safe(" ".join(word for word in words if word)) or noun(finding.kind)


def described(finding: Finding) -> str:
    """The object, how many of them, and their state: all of a headline but its verdict."""
    shown = subject(finding)
    if finding.count > 1 and finding.state is not State.PEAK and not _LISTS.search(shown):
        shown += f" x{finding.count}"
    if finding.state is State.PEAK or (finding.state is State.OPEN and _SAYS_OPEN.search(shown)):
        return shown
    if finding.state is State.COLLECTED and _SAYS_DROPPED.search(shown):
        return f"{shown}, {_COLLECTED}"
    return f"{shown}, {state(finding)}"


def headline(finding: Finding) -> str:
    """The sentence that names one leak: `1 HTTP response leaked: httpx.Response GET ... [200], still open`."""
    if finding.state is State.PEAK:
        return f"limit exceeded for {noun(finding.kind, 2)}: {described(finding)}"
    shown = described(finding).removeprefix(f"{noun(finding.kind)} ")  # where that is all that is known of its type
    return f"{amount(finding.kind, finding.count)} {VERDICTS[finding.verdict]}: {shown}"


def held_label(finding: Finding) -> str:
    """The label for what `held_lines` gives."""
    return "made by" if finding.state is State.PEAK else "holds"


def held_lines(finding: Finding, rootdir: str) -> list[str]:
    """What a leaked resource holds, a line each: `socket 127.0.0.1:53122 -> 127.0.0.1:8000 (fd 12)`.

    At most eight lines; for a breached limit they are the lines of code that came together.
    """
    lines: list[str] = []
    holds = _told_once(finding)
    for each in holds[:_MAX_HELD]:
        summary = safe(shortened(each.summary, rootdir))
        kind = "" if finding.state is State.PEAK or _names_itself(each.kind, summary) else f"{noun(each.kind)} "
        descriptor = "" if each.fd is None or re.search(rf"\bfd {each.fd}\b", summary) else f" (fd {each.fd})"
        lines.append(f"{kind}{summary}{descriptor}")
    if len(holds) > _MAX_HELD:
        lines.append(f"and {sum(each.number for each in holds[_MAX_HELD:]):,} more")
    return lines


def _told_once(finding: Finding) -> list[Held]:
    """What a resource holds, without the bare numbers of what was told with its number before."""
    told = set(_NUMBERS.findall(finding.summary)) if finding.count == 1 else set()
    holds = []
    for each in finding.holds:
        if each.fd is None or str(each.fd) not in told or each.summary != f"fd {each.fd}":
            holds.append(each)
        told |= {*_NUMBERS.findall(each.summary), str(each.fd)}
    return holds


def totals(findings: Iterable[Finding]) -> str:
    """`2 HTTP responses, 1 asyncio task, 1 limit exceeded`, in the order of the kinds."""
    counts = dict.fromkeys(Kind, 0)
    limits = 0
    for finding in findings:
        if finding.state is State.PEAK:
            limits += 1
        else:
            counts[finding.kind] += finding.count
    words = [amount(kind, count) for kind, count in counts.items() if count]
    if limits:
        words.append(f"{counted(limits, 'limit')} exceeded")
    return ", ".join(words)


def _names_itself(kind: Kind, summary: str) -> bool:
    return summary.startswith(_SELF_EVIDENT) or _NOUNS[kind].rpartition(" ")[2] in summary
