"""What is only there because the test has failed, and would be closed once its traceback lets go."""

from __future__ import annotations

from typing import Any, Final

from pytest_httpleak import databases
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.owners import Owner
from pytest_httpleak.probes import lasterror
from pytest_httpleak.session.bare import BareRecord

_MOST_PLACES: Final = 20  # that are asked about in a failed test, each by a search of the heap


def dying(owner: Owner, bare: dict[int, BareRecord]) -> set[int]:
    """Of files and databases, those that would be gone if the test had not failed: to drop one is Python's own business."""
    frames = lasterror.frames(owner.raised) if bare else []
    things = ((key, record.ref()) for key, record in bare.items()) if frames else ()
    return {key for key, thing in things if thing is not None and lasterror.is_only_in(thing, frames)}


def ending(owner: Owner, suspects: list[Suspect]) -> set[int]:
    """What would be closed if the test had not failed: a generator that has entered its `with` block leaves it when dropped."""
    frames = lasterror.frames(owner.raised) if suspects else []
    if not frames:
        return set()
    from pytest_httpleak import withblocks  # here, as most tests do not fail

    waiting: dict[Any, frozenset[int]] = {}  # by line and stack, of which there are fewer than suspects
    answers: dict[frozenset[int], bool] = {frozenset(): False}
    keys = set()
    for suspect in suspects:
        place = suspect.created, tuple(suspect.stack)
        if place not in waiting and len(waiting) < _MOST_PLACES:
            waiting[place] = found = frozenset(withblocks.generators(suspect))
            if found not in answers:
                answers[found] = lasterror.are_only_in(databases.living(found), frames)
        if answers[waiting.get(place, frozenset())]:
            keys.add(suspect.key)
    return keys
