"""What is there only until the test runner lets go: of a failed test's traceback, fixtures' values, a `TestCase`, warnings."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterable, Mapping
from types import MethodType
from typing import Any, Final

from pytest_httpleak import databases
from pytest_httpleak.asking import attribute, is_a, referrers_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.descriptorowners import Holder
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner
from pytest_httpleak.probes import children, descriptors, frames, lasterror
from pytest_httpleak.probes.trialdeletion import deleted_with
from pytest_httpleak.records import Record
from pytest_httpleak.session.keeping import is_idle_worker
from pytest_httpleak.weakrefs import Address

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
    def _ends(self) -> _Ends:
        return _Ends(self._owner, self._item, self._frames)

    def going(self, suspects: Iterable[Suspect], holders: Mapping[int, Holder]) -> set[int]:
        """Keys of descriptors, by their `holders`, that go with the test's own fixtures' values and its `TestCase`.

        The same as `dying` gives for most of these, in little time: not a search of the heap, but the counts of references. It
        tells nothing where the test has failed, and keeps more than that.
        """
        asked = {each.key: holders[-1 - each.key] for each in suspects if each.key < 0 and -1 - each.key in holders}
        if not asked or self._owner.scope != "function":
            return set()
        going = deleted_with(_of_the_test(self._item))
        if any(map(children.is_running, going.values())):  # which `subprocess` keeps if it is dropped
            return set()
        return {key for key, holder in asked.items() if _goes(-1 - key, holder, going)}

    def dying(self, suspects: list[Suspect], records: dict[int, Record], *, is_near: bool = False) -> set[int]:
        """Keys of descriptors and workers: to drop a file is Python's own business, and so is an idle executor or queue.

        With `is_near` only of those that a few steps lead to, which is told in little time.
        """
        workers = [each.key for each in suspects if each.kind is Kind.THREADS and is_idle_worker(records.get(each.key))]
        asked = [each.key for each in suspects if each.key < 0 and each.key in records] + workers
        if not asked:
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
                    answers[found] = lasterror.ends_of(databases.living(found), self._frames) is not None
            if answers[waiting.get(place, frozenset())]:
                keys.add(suspect.key)
        return keys


class _Ends:
    """What will be let go of: the frames, the values of fixtures, the instance of a test of unittest's."""

    def __init__(self, owner: Owner, item: Any, frames: list[Any]) -> None:
        self._item, self._frames = item, frames
        result = None if item is None or owner.scope == "function" else lasterror.result_of_fixture()
        self._sure = [*frames, *([] if result is None else [result])]  # pytest drops what a wider fixture has given
        # Others may have the first part of each, too: to ask is a search of the heap.
        self._doubtful = [self._values(), self._instance()]

    def _values(self) -> list[Any]:
        """What the test has by the names of its fixtures."""
        values = attribute(self._item, "funcargs")
        return [values] if is_a(values, dict) and values else []

    def _instance(self) -> list[Any]:
        instance = _instance_of(self._item)
        return [] if instance is None else [instance, object.__getattribute__(instance, "__dict__")]

    def all(self) -> list[Any]:
        return [*self._sure, *(part for parts in self._doubtful for part in parts)]

    def are_let_go_of(self, reached: set[int]) -> bool:
        """Whether nobody else has any of those that were reached; what somebody has is no end from here on."""
        are_all = True
        for parts in self._doubtful:
            if not reached.isdisjoint(map(id, parts)):
                if self._are_alone(parts):
                    self._sure += parts
                else:
                    are_all = False
                parts.clear()
        return are_all

    def _are_alone(self, parts: list[Any]) -> bool:
        known = [*self._frames, self._item, self._item.__dict__]
        return lasterror.ends_of({id(parts[0]): parts[0]}, known, passing=[parts]) is not None


class _Search:
    """Which of some things are only in what is let go of: all, or else each half for itself, as long as there is time."""

    def __init__(
        self, ends: _Ends, records: dict[int, Record], *, passing: list[Any], outside: set[int], levels: int
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
        while (reached := self._reached(keys)) is not None:
            if self._ends.are_let_go_of(reached):
                return True
        return False

    def _reached(self, keys: list[int]) -> set[int] | None:
        things = [self._records[key].ref() for key in keys]
        return lasterror.ends_of(
            {id(thing): thing for thing in things},
            self._ends.all(),
            passing=[*self._passing, things],
            outside=self._outside,
            until=self._until,
            levels=self._levels,
        )


def _of_the_test(item: Any) -> list[Any]:
    """What pytest lets go of with a test: what its fixtures have given, by their names, and its instance."""
    own = attribute(item, "__dict__", {})
    values, instance = own.get("funcargs"), _instance_of(item)
    of_instance = [each for each in own.values() if type(each) is MethodType and each.__self__ is instance]
    return [each for each in (values, instance, *of_instance) if each is not None]


def _goes(fd: int, holder: Holder, going: Mapping[int, Any]) -> bool:
    """Whether the object of a descriptor is among those that go, and closes it then."""
    identity, reference = holder
    if identity is None or descriptors.identity(fd) != identity:
        return False
    if isinstance(reference, Address):
        thing = going.get(reference.key)
        is_it = thing is not None and is_a(thing, reference.cls)
    else:
        thing = reference()
        is_it = id(thing) in going
    return is_it and _closes_when_dropped(thing)


def _instance_of(item: Any) -> Any:
    """The instance of a test of unittest's; None for others, which pytest asks for all that they have."""
    case, instance = attribute(sys.modules.get("unittest"), "TestCase"), attribute(item, "_instance")
    return instance if is_a(case, type) and is_a(instance, case) else None


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
