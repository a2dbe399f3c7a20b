"""What is there only until the test runner lets go: of a failed test's traceback, fixtures' values, a `TestCase`, warnings."""

from __future__ import annotations

import functools
import sys
import threading
from types import MethodType
from typing import Any, Final

from pytest_httpleak import databases
from pytest_httpleak.asking import attribute, is_a, referrers_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner
from pytest_httpleak.probes import frames, lasterror
from pytest_httpleak.records import Record
from pytest_httpleak.session.keeping import is_idle_worker

_SECONDS: Final = 2.0  # of processor time, for all that one owner has left
# The methods that are called for each thread: by the system, and from Python 3.14 on by code in C within the first.
_BEGINNINGS: Final = ("_bootstrap", "run")
_MOST_PLACES: Final = 20  # that are asked about in a failed test, each by a search of the heap


class Dropped:
    """What one owner has left, and would be gone, or will be, if nobody had looked."""

    def __init__(self, owner: Owner, item: Any) -> None:
        """`item` is the test that has just run, as the test runner knows it; None for a block, after which all goes on."""
        self._owner, self._item = owner, item

    @functools.cached_property
    def _frames(self) -> list[Any]:
        return lasterror.frames(self._owner.raised)

    @functools.cached_property
    def _ends(self) -> list[Any]:
        """What will be let go of: the frames, the fixtures' values, the instance of a test of unittest's, recorded warnings."""
        return [*self._frames, *self._values(), *self._instance(), *lasterror.recorded_warnings()]

    def _values(self) -> list[Any]:
        """What the test has by the names of its fixtures, and what a wider fixture has given: pytest drops both."""
        if self._item is None:
            return []
        values = attribute(self._item, "funcargs")
        found: list[Any] = [values] if is_a(values, dict) and values and self._has_alone(values) else []
        result = None if self._owner.scope == "function" else lasterror.result_of_fixture()
        return found if result is None else [*found, result]

    def _instance(self) -> list[Any]:
        case, instance = attribute(sys.modules.get("unittest"), "TestCase"), attribute(self._item, "_instance")
        if not is_a(case, type) or not is_a(instance, case) or not self._has_alone(instance):
            return []
        return [instance, object.__getattribute__(instance, "__dict__")]

    def _has_alone(self, thing: Any) -> bool:
        return lasterror.are_only_in({id(thing): thing}, [*self._frames, self._item, self._item.__dict__])

    def dying(self, suspects: list[Suspect], records: dict[int, Record], *, is_near: bool = False) -> set[int]:
        """Keys of descriptors and workers: to drop a file is Python's own business, and so is an idle executor or queue.

        With `is_near` only of those that a few steps lead to, which is told in little time.
        """
        workers = [each.key for each in suspects if each.kind is Kind.THREADS and is_idle_worker(records.get(each.key))]
        asked = [each.key for each in suspects if each.key < 0 and each.key in records] + workers
        if not asked or not self._ends:
            return set()
        keys = [key for key in asked if records[key].ref() is not None]
        keys = [key for key in keys if key in workers or _closes_when_dropped(records[key].ref())]
        idents = {attribute(records[key].ref(), "ident") for key in workers}
        levels = lasterror.NEAR if is_near else lasterror.FAR
        passing, outside = _passing() if workers else [], _in_variables(idents)
        return _Search(self._ends, records, passing=passing, outside=outside, levels=levels).those(keys)

    def ending(self, suspects: list[Suspect]) -> set[int]:
        """Keys of what would be closed if the test had not failed: a generator leaves its `with` block when it is dropped."""
        if not suspects or not self._frames:
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
                    answers[found] = lasterror.are_only_in(databases.living(found), self._frames)
            if answers[waiting.get(place, frozenset())]:
                keys.add(suspect.key)
        return keys


class _Search:
    """Which of some things are only in what is let go of: all, or else each half for itself, as long as there is time."""

    def __init__(
        self, ends: list[Any], records: dict[int, Record], *, passing: list[Any], outside: set[int], levels: int
    ) -> None:
        self._ends, self._records, self._passing, self._outside, self._levels = ends, records, passing, outside, levels
        self._until = Real.thread_time() + _SECONDS

    def those(self, keys: list[int]) -> set[int]:
        if not keys or self._are_only_in_ends(keys):
            return set(keys)
        if len(keys) == 1 or Real.thread_time() > self._until:
            return set()
        middle = len(keys) // 2
        return self.those(keys[:middle]) | self.those(keys[middle:])

    def _are_only_in_ends(self, keys: list[int]) -> bool:
        things = [self._records[key].ref() for key in keys]
        return lasterror.are_only_in(
            {id(thing): thing for thing in things},
            self._ends,
            passing=[*self._passing, things],
            outside=self._outside,
            until=self._until,
            levels=self._levels,
        )


def _closes_when_dropped(thing: Any) -> bool:
    """Whether what a descriptor belongs to closes it: a file does, and an object that has its number alone does not."""
    return databases.is_database(type(thing)) or attribute(type(thing), "__del__") is not None


def _passing() -> list[Any]:
    """What refers to threads as long as they run."""
    active = attribute(threading, "_active", {})
    methods = (each for each in referrers_of([*active.values()]) if is_a(each, MethodType))
    return [active, *(each for each in methods if each.__name__ in _BEGINNINGS)]


def _in_variables(but: set[int | None]) -> set[int]:
    """The identities of what functions at work in other threads have: their frames are nothing that the collector knows."""
    return {id(value) for frame in frames.of_others(but=but) for _, value in frames.locals_of(frame)}
