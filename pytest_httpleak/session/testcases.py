"""What only the instance of a `unittest.TestCase` keeps, which whoever runs it drops right after the test."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator
from types import MethodType
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a, referrers_of
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.probes import lasterror
from pytest_httpleak.records import Record
from pytest_httpleak.session.keeping import is_idle_worker

_BEGINNING: Final = "_bootstrap"  # the method that the system calls for each thread
_MOST: Final = 10  # that are asked about, each by a search of the heap


def dying(item: Any, suspects: list[Suspect], records: dict[int, Record], raised: Collection[int]) -> set[int]:
    """Keys of what ends as it would in a variable of the test: to drop a file is Python's own business, as is an idle executor.

    `item` is the test that is running, and `raised` are addresses of what has ended it.
    """
    asked = [suspect.key for suspect in suspects if _is_closed_when_dropped(suspect, records)]
    ends = _ends(item, lasterror.frames(raised)) if asked else []
    if not ends:
        return set()
    passing = list(_of_running_threads())
    if lasterror.are_only_in(_things(asked, records), ends, passing):  # most often it is all of them, or the only one
        return set(asked)
    one_by_one = asked[:_MOST] if len(asked) > 1 else []
    return {key for key in one_by_one if lasterror.are_only_in(_things([key], records), ends, passing)}


def _things(keys: list[int], records: dict[int, Record]) -> dict[int, Any]:
    """The workers, and what has the descriptors, by their identities; none where that is not known of one."""
    things = [records[key].ref() for key in keys]
    return {} if any(thing is None for thing in things) else {id(thing): thing for thing in things}


def _is_closed_when_dropped(suspect: Suspect, records: dict[int, Record]) -> bool:
    """Whether it is a descriptor that an object may have, or an idle worker of an executor or queue."""
    record = records.get(suspect.key)
    if record is None:
        return False
    if suspect.key < 0:
        return suspect.kind is Kind.FDS
    return suspect.kind is Kind.THREADS and is_idle_worker(record) is True


def _ends(item: Any, frames: list[Any]) -> list[Any]:
    """The instance with its attributes, and the frames; none where it is no test of unittest's, or somebody keeps it."""
    case, instance = attribute(sys.modules.get("unittest"), "TestCase"), attribute(item, "_instance")
    if not is_a(case, type) or not is_a(instance, case):
        return []
    if not lasterror.are_only_in({id(instance): instance}, [*frames, item, item.__dict__]):
        return []
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
