"""What one call of a library's has left behind: a thread, and the socket that it reads from, end with the same object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Finding, Held
from pytest_httpleak.model.kinds import Kind, State, Verdict
from pytest_httpleak.probes.infrastructure import package_of
from pytest_httpleak.session.keeping import KNOWN

# The first of these that a call has left speaks for the others.
_ORDER: Final = (Kind.THREADS, Kind.TASKS, Kind.LOOPS, Kind.SOCKETS, Kind.FDS)


def folded(findings: Sequence[Finding]) -> list[Finding]:
    """The same leaks, of the calls that one line makes of a library's function only the first kind, which lists the others.

    A client of a library that is not known by name has all that, and whoever closes it ends it all. What was dropped
    while it was open is a cause by itself, and so is what a line of the user's own has made, and what is tolerated or known.
    """
    leading: dict[object, Finding] = {}
    for finding in findings:
        call = _call(finding)
        if call is not None:
            leading[call] = min(leading.get(call, finding), finding, key=lambda each: _ORDER.index(each.kind))
    holds: dict[int, list[Held]] = {}
    left: list[Finding] = []
    for finding in findings:
        leader = leading.get(_call(finding), finding)
        if leader is finding:
            left.append(finding)
        else:
            holds.setdefault(id(leader), list(leader.holds)).append(_held(finding))
    return [replace(each, holds=tuple(holds[id(each)])) if id(each) in holds else each for each in left]


def _held(finding: Finding) -> Held:
    """What is shown of one that another speaks for, with its first descriptor."""
    number = f" x{finding.count}" if finding.count > 1 else ""
    fd = next((each.fd for each in finding.holds if each.fd is not None), None)
    return Held(finding.kind, finding.summary + number, fd)


def _call(finding: Finding) -> tuple[object, ...] | None:
    """The user's line, and the function of a library's that it has called; None for the user's own, or a known library's."""
    created, stack = finding.created, finding.stack
    is_leak = finding.verdict is Verdict.LEAKED or finding.verdict is Verdict.WARNED
    if not is_leak or finding.kind not in _ORDER or finding.state in (State.COLLECTED, State.PEAK):
        return None
    if created is None or created not in stack:
        return None
    called = next((site for site in reversed(stack[: stack.index(created)]) if package_of(site.file)), None)
    if called is None or package_of(called.file) in KNOWN:
        return None
    return finding.verdict, created, called.file, called.function
