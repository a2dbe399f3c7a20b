"""Owners keep what they answer for, and forget what is over; the highest numbers open at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner, Peaks, Taken, TaskRecord
from pytest_httpleak.records import Record
from pytest_httpleak.settings import default_settings
from pytest_httpleak.sites import Birth, capture

MANY = 512
HERE, MAKER = capture(1), Birth([], False, None)


class Thing(Record):
    """A resource that is open or over as a test says."""

    kind = Kind.SOCKETS

    def __init__(self, *, is_open: bool = True) -> None:
        super().__init__()
        self.opened = is_open
        self.asked = 0

    def is_open(self) -> bool:
        self.asked += 1
        return self.opened

    def is_over(self) -> bool:
        return not self.is_open()


@pytest.fixture
def owner() -> Owner:
    return Owner("server", "session")


def test_an_owner_reads_as_its_scope_and_name(owner: Owner) -> None:
    assert repr(owner) == "<Owner session server>"


SCOPES = ("process", "session", "package", "module", "class", "function", "block")


@pytest.mark.parametrize("place", range(1, len(SCOPES)))
def test_an_owner_of_a_wider_scope_outlives_the_others(place: int) -> None:
    wider, narrower = Owner("a", SCOPES[place - 1]), Owner("b", SCOPES[place])
    assert wider.outlives(narrower)
    assert not narrower.outlives(wider)


@pytest.mark.parametrize(
    ("scope", "outlives"), [("session", True), ("class", True), ("function", False), ("block", False)]
)
def test_of_two_of_one_scope_the_fixture_that_lends_something_ends_last(scope: str, *, outlives: bool) -> None:
    assert Owner("a", scope).outlives(Owner("b", scope)) is outlives


def test_an_owner_outlives_neither_itself_nor_anybody_once_it_is_over(owner: Owner) -> None:
    assert not owner.outlives(owner)
    owner.over = True
    assert not owner.outlives(Owner("test", "function"))


def test_an_owner_keeps_what_ended_with_each_of_its_loops(owner: Owner) -> None:
    one, other = Thing(), Thing()
    owner.leave(["one"], {1: one})  # type: ignore[list-item]
    owner.leave(["other"], {2: other})  # type: ignore[list-item]
    assert owner.left == ["one", "other"]
    assert owner.left_tasks == {1: one, 2: other}


def test_an_owner_waits_as_long_as_the_default_until_it_is_told_otherwise(owner: Owner) -> None:
    assert owner.grace == default_settings().grace


def test_what_is_over_is_forgotten_when_many_have_come_together(owner: Owner) -> None:
    things = [Thing(is_open=number % 2 == 0) for number in range(MANY)]
    for thing in things[:-1]:
        owner.keep(thing)
    assert owner.records == things[:-1]
    owner.keep(things[-1])
    assert owner.records == things[::2]


def test_nothing_is_asked_again_until_there_are_twice_as_many_as_were_open(owner: Owner) -> None:
    things = [Thing() for _ in range(2 * MANY)]
    for thing in things[:-1]:
        owner.keep(thing)
    assert {thing.asked for thing in things[:MANY]} == {1}
    owner.keep(things[-1])
    assert {thing.asked for thing in things[:MANY]} == {2}
    assert owner.records == things


def test_what_comes_while_the_others_are_asked_is_kept(owner: Owner) -> None:
    late = Thing()

    class Asked(Thing):
        def is_over(self) -> bool:
            owner.keep(late)  # as another thread may at this moment
            return True

    for _ in range(MANY - 1):
        owner.keep(Thing(is_open=False))
    owner.keep(Asked())
    assert owner.records == [late]


def test_where_few_are_open_as_many_may_come_together_again(owner: Owner) -> None:
    for _ in range(MANY):
        owner.keep(Thing(is_open=False))
    things = [Thing() for _ in range(MANY)]
    for thing in things[:-1]:
        owner.keep(thing)
    assert {thing.asked for thing in things} == {0}
    owner.keep(things[-1])
    assert {thing.asked for thing in things} == {1}


@pytest.mark.parametrize(
    ("message", "hint", "birth", "is_same"),
    [
        ("message", "hint", HERE, True),
        ("message", "hint", Birth(list(HERE.frames), False, None), True),
        ("other", "hint", HERE, False),
        ("message", "other", HERE, False),
        ("message", "hint", Birth([], False, None), False),
        ("message", "hint", Birth(HERE.frames, False, MAKER), False),
    ],
    ids=["the very same", "the same lines", "a message", "a hint", "a line", "a maker"],
)
def test_a_note_says_the_same_as_one_that_differs_in_nothing_that_is_told(
    message: str, hint: str, birth: Birth, is_same: bool
) -> None:
    assert Taken("name", "message", "hint", HERE).says(message, hint, birth) is is_same


def test_a_task_counts_as_open_until_it_is_done_and_no_longer_once_it_is_gone() -> None:
    async def nothing() -> None:
        pass

    async def main() -> list[bool]:
        task: Any = asyncio.create_task(nothing())
        record = TaskRecord(task, Birth([], False, None))
        seen = [record.is_open()]
        await task
        seen.append(record.is_open())
        del task
        await asyncio.sleep(0)  # the loop holds what has just been awaited until its next round
        return [*seen, record.is_open()]

    assert asyncio.run(main()) == [True, False, False]


def test_what_one_kind_has_open_counts_for_no_other() -> None:
    class Other(Thing):
        kind = Kind.THREADS

    peaks = Peaks()
    peaks.born(Thing())
    peaks.born(Other())
    assert (peaks.highest(Kind.SOCKETS), peaks.highest(Kind.THREADS), peaks.highest(Kind.FDS)) == (1, 1, 0)


def test_births_in_several_threads_at_once_count_all() -> None:
    entered, go = threading.Semaphore(0), threading.Event()

    class Slow(Thing):
        def is_open(self) -> bool:
            entered.release()
            return go.wait(30)

    peaks = Peaks()
    peaks.born(Slow())
    threads = [threading.Thread(target=peaks.born, args=(Thing(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert all(entered.acquire(timeout=5) for _ in threads)
    go.set()
    for thread in threads:
        thread.join()
    assert peaks.highest(Kind.SOCKETS) == 3


def test_what_a_look_makes_itself_does_not_count() -> None:
    peaks = Peaks()

    class Making(Thing):
        def is_open(self) -> bool:
            peaks.born(Thing())
            return True

    peaks.born(Making())
    peaks.born(Thing())
    assert peaks.highest(Kind.SOCKETS) == 2


def test_a_task_is_asyncios_and_has_the_birth_that_it_is_given() -> None:
    class Task:
        pass

    record = TaskRecord(Task(), HERE)
    assert (record.kind, record.library, record.birth, record.inner) == (Kind.TASKS, "asyncio", HERE, False)


def test_the_highest_number_is_of_those_that_were_open_at_once() -> None:
    peaks = Peaks()
    things = [Thing(), Thing(is_open=False), Thing(), Thing()]
    for thing in things[:3]:
        peaks.born(thing)
    assert peaks.highest(Kind.SOCKETS) == 2
    things[0].opened = things[2].opened = False
    peaks.born(things[3])
    assert peaks.highest(Kind.SOCKETS) == 2


def test_what_is_opened_again_counts_once() -> None:
    peaks, thing = Peaks(), Thing()
    for _ in range(2):
        peaks.born(thing)
    assert peaks.highest(Kind.SOCKETS) == 1


def test_the_highest_number_is_told_with_those_that_were_open_as_it_was_first_reached() -> None:
    peaks = Peaks()
    first = [Thing(), Thing()]
    for thing in first:
        peaks.born(thing)
    assert peaks.holders == {Kind.SOCKETS: first}
    first[0].opened = False
    peaks.born(Thing())
    assert peaks.holders == {Kind.SOCKETS: first}
    peaks.born(last := Thing())
    told = peaks.holders[Kind.SOCKETS]
    assert (len(told), told[0], told[-1]) == (3, first[1], last)


def test_what_is_made_by_looking_at_a_resource_is_not_counted() -> None:
    peaks = Peaks()

    class Curious(Thing):
        def is_open(self) -> bool:
            peaks.born(Thing())
            return True

    things = [Curious(), Curious(), Curious()]
    for thing in things[:2]:
        peaks.born(thing)
    assert peaks.highest(Kind.SOCKETS) == 2
    peaks.born(things[2])
    assert peaks.highest(Kind.SOCKETS) == 3


def test_the_clients_that_were_made_are_kept_without_what_is_inside_them() -> None:
    class Client(Thing):
        kind = Kind.CLIENTS

    peaks = Peaks()
    closed, pool, client = Client(is_open=False), Client(), Client()
    pool.inner = True
    for record in (closed, pool, Thing(), client):
        peaks.born(record)
    assert peaks.clients() == [closed, client]
