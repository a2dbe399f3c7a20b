"""What is there only until the test runner lets go: of a failed test's traceback, of the instance of a `unittest.TestCase`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import MethodType
from typing import Any, Final

from pytest_httpleak import databases
from pytest_httpleak.asking import attribute, is_a, referrers_of
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner
from pytest_httpleak.probes import lasterror
from pytest_httpleak.records import Record
from pytest_httpleak.session.bare import BareRecord
from pytest_httpleak.session.keeping import is_idle_worker

_BEGINNING: Final = "_bootstrap"  # the method that the system calls for each thread
_MOST: Final = 20  # that are asked about one by one, each by a search of the heap


def dying(
    owner: Owner, suspects: list[Suspect], bare: dict[int, BareRecord], records: dict[int, Record], item: Any
) -> set[int]:
    """Keys of what ends as if nobody had looked: to drop a file is Python's own business, and so is an idle executor.

    `bare` are the descriptors, and `item` is the test that is judged, as the test runner knows it; None where it is no test.
    """
    workers = [each.key for each in suspects if each.kind is Kind.THREADS and is_idle_worker(records.get(each.key))]
    asked = [*bare, *workers]
    ends = _ends(item, lasterror.frames(owner.raised)) if asked else []
    if not ends:
        return set()
    passing = list(_of_running_threads()) if workers else []
    if lasterror.are_only_in(_things(asked, records), ends, passing):  # most often it is all of them, or the only one
        return set(asked)
    one_by_one = asked[:_MOST] if len(asked) > 1 else []
    return {key for key in one_by_one if lasterror.are_only_in(_things([key], records), ends, passing)}


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
        if place not in waiting and len(waiting) < _MOST:
            waiting[place] = found = frozenset(withblocks.generators(suspect))
            if found not in answers:
                answers[found] = lasterror.are_only_in(databases.living(found), frames)
        if answers[waiting.get(place, frozenset())]:
            keys.add(suspect.key)
    return keys


def _things(keys: list[int], records: dict[int, Record]) -> dict[int, Any]:
    """The workers, and what has the descriptors, by their identities; none where that is not known of one."""
    things = [records[key].ref() for key in keys]
    return {} if any(thing is None for thing in things) else {id(thing): thing for thing in things}


def _ends(item: Any, frames: list[Any]) -> list[Any]:
    """What will be let go of: the frames, and the instance of a test of unittest's, if nobody else keeps that."""
    case, instance = attribute(sys.modules.get("unittest"), "TestCase"), attribute(item, "_instance")
    if not is_a(case, type) or not is_a(instance, case):
        return frames
    if not lasterror.are_only_in({id(instance): instance}, [*frames, item, item.__dict__]):
        return frames
    return [*frames, instance, object.__getattribute__(instance, "__dict__")]


def _of_running_threads() -> Iterator[Any]:
    """What has a thread, and what it was given, as long as it runs."""
    active = attribute(threading, "_active", {})
    yield active
    yield from (
        each for each in referrers_of([*active.values()]) if is_a(each, MethodType) and each.__name__ == _BEGINNING
    )
    others = sys._current_frames()
    others.pop(threading.get_ident(), None)  # this one, which would refer to itself
    for frame in others.values():
        each: Any = frame
        while each is not None:
            yield each
            each = each.f_back
