"""What one call of a library's has left behind: a thread, and the socket that it reads from, end with the same object."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.probes.infrastructure import package_of
from pytest_httpleak.session.keeping import KNOWN

# The first of these that a call has left speaks for the others.
_ORDER: Final = (Kind.THREADS, Kind.TASKS, Kind.LOOPS, Kind.SOCKETS, Kind.FDS)


def folded(causes: Sequence[Suspect], kinds: Collection[Kind]) -> list[Suspect]:
    """The same causes, each call of a library's with those of one kind, which list what else that call has left.

    A client of a library that is not known by name has all that, and whoever closes it ends it all. What was dropped
    while it was open is a cause by itself, and so is what a line of the user's own has made.
    """
    calls: dict[int, object] = {}
    leading: dict[object, Suspect] = {}
    for suspect in causes:
        call = _call(suspect) if suspect.kind in _ORDER and suspect.kind in kinds else None
        if call is not None and suspect.state is not State.COLLECTED:
            calls[id(suspect)] = call
            leading[call] = min(leading.get(call, suspect), suspect, key=lambda each: _ORDER.index(each.kind))
    holds: dict[int, list[Held]] = {}
    left: list[Suspect] = []
    for suspect in causes:
        leader = leading.get(calls.get(id(suspect)), suspect)
        if leader.kind is suspect.kind:
            left.append(suspect)
        else:
            holds.setdefault(id(leader), list(leader.holds)).append(_held(suspect))
    return [replace(each, holds=tuple(holds[id(each)])) if id(each) in holds else each for each in left]


def _held(suspect: Suspect) -> Held:
    fd = -1 - suspect.key if suspect.key < 0 else next((each.fd for each in suspect.holds if each.fd is not None), None)
    return Held(suspect.kind, suspect.summary, fd)


def _call(suspect: Suspect) -> tuple[object, ...] | None:
    """The user's line, and the function of a library's that it has called; None for the user's own, or a known library's."""
    created, stack = suspect.created, suspect.stack
    if created is None or created not in stack:
        return None
    called = next((site for site in reversed(stack[: stack.index(created)]) if package_of(site.file)), None)
    if called is None or package_of(called.file) in KNOWN:
        return None
    return created, called.file, called.function
