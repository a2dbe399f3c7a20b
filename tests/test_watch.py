"""The watch by itself, with nothing patched: who answers, where something was made, what is counted."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_httpleak import descriptorowners
from pytest_httpleak.answering import TaskOrigin
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner, Peaks
from pytest_httpleak.ownership import Watch
from pytest_httpleak.records import RUNNER_TASKS, Record, Worker
from pytest_httpleak.sites import Birth, capture

NOWHERE = Birth([], False, None)


class Thing(Record):
    kind = Kind.SOCKETS

    def is_open(self) -> bool:
        return True


class Answer(Thing):
    kind = Kind.RESPONSES


class Task:
    """A task as far as the watch asks it."""

    def __init__(self, name: str = "work", frame: object = None) -> None:
        self.coroutine = SimpleNamespace(__qualname__=name, cr_frame=frame)

    def get_coro(self) -> object:
        return self.coroutine

    def done(self) -> bool:
        return False


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def test(watch: Watch) -> Owner:
    """The owner that answers."""
    owner = Owner("test", "function")
    watch.push(owner)
    return owner


@pytest.fixture
def other() -> Owner:
    return Owner("other", "module")


@pytest.fixture
def fd() -> Iterator[int]:
    number = os.open(os.devnull, os.O_RDONLY)
    yield number
    os.close(number)


def running(watch: Watch, task: object) -> None:
    """Let a loop run, in this task, or in a callback where there is none."""
    watch.running_loop = lambda: "loop"
    watch.current_task = lambda _: task


def known(watch: Watch, task: Task, owner: Owner, birth: Birth) -> None:
    watch.tasks[id(task)] = birth, owner, id(task.get_coro())


def in_thread(function: Callable[[], Any], prepare: Callable[[threading.Thread], object] = lambda _: None) -> Any:
    """The result of a function in a thread that `prepare` is handed before it starts."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    prepare(thread)
    thread.start()
    thread.join()
    return results[0]


def thread_record(owner: Owner | None, *, pooled: bool = False) -> Any:
    record: Any = Thing()
    record.owner, record.pooled, record.birth = owner, pooled, Birth([], False, None)
    return record


# -- who answers -------------------------------------------------------------------------------------------------------


def test_a_new_watch_is_off_and_the_process_answers(watch: Watch) -> None:
    assert watch.on is False
    assert watch.owner() is watch.root
    assert repr(watch.root) == "<Owner process <the process>>"
    assert watch.changes == {}


def test_a_new_watch_knows_of_nothing_that_is_open(watch: Watch) -> None:
    assert watch.open_sockets == 0
    assert (watch.loops, watch.maps, watch.keepers) == ({}, {}, [])


def test_until_somebody_wants_to_know_the_life_of_a_loop_is_nothing(watch: Watch) -> None:
    assert watch.loops_come() is None
    assert watch.loop_closing("loop", cancelled=()) is None
    assert watch.task_destroyed("task") is None


def test_the_owner_that_came_last_answers_until_it_goes(watch: Watch, test: Owner, other: Owner) -> None:
    watch.push(other)
    assert watch.owner() is other
    watch.pop(other)
    assert watch.owner() is test
    watch.pop(other)
    assert watch.owner() is test


def test_an_owner_below_may_go_first(watch: Watch, test: Owner, other: Owner) -> None:
    watch.push(other)
    watch.pop(test)
    assert watch.owner() is other
    watch.pop(other)
    assert watch.owner() is watch.root


def test_an_owner_is_acted_for_in_a_block_also_if_it_raises(watch: Watch, test: Owner, other: Owner) -> None:
    with pytest.raises(ValueError, match="on purpose"), watch.acting_for(other):
        assert watch.owner() is other
        raise ValueError("on purpose")
    assert watch.owner() is test


def test_it_is_acted_for_inside_a_task_too(watch: Watch, test: Owner, other: Owner) -> None:
    known(watch, task := Task(), test, NOWHERE)
    before = watch.tasks.copy()
    running(watch, task)
    with watch.acting_for(other):
        assert watch.owner() is other
    assert watch.owner() is test
    assert watch.tasks == before


def test_it_is_acted_for_in_a_thread_and_nowhere_else(watch: Watch, test: Owner, other: Owner) -> None:
    def asked() -> tuple[Owner, Owner]:
        with watch.acting_for(other):
            return watch.owner(), watch.stack[-1]

    assert in_thread(asked) == (other, test)
    assert watch.borrowed == {}


def test_a_task_that_nobody_saw_being_made_is_unknown_again_after_the_block(
    watch: Watch, test: Owner, other: Owner
) -> None:
    running(watch, Task())
    with watch.acting_for(other):
        assert watch.owner() is other
    assert watch.tasks == {}


def test_blocks_in_a_thread_may_lie_in_one_another(watch: Watch, test: Owner, other: Owner) -> None:
    def asked() -> list[Owner]:
        with watch.acting_for(test):
            with watch.acting_for(other):
                inside = watch.owner()
            return [inside, watch.owner()]

    assert in_thread(asked) == [other, test]
    assert watch.borrowed == {}


def test_a_block_may_end_after_its_task_has_been_forgotten_or_its_thread_has_ended(
    watch: Watch, test: Owner, other: Owner
) -> None:
    watch.push(other)
    in_thread_back = in_thread(lambda: watch.lend(other))
    running(watch, Task())
    in_task_back = watch.lend(other)
    watch.borrowed.clear()
    watch.tasks.clear()
    in_thread_back()
    in_task_back()
    assert (watch.borrowed, watch.tasks) == ({}, {})


def test_where_no_loop_runs_no_task_is_asked_for(watch: Watch, test: Owner, other: Owner) -> None:
    watch.current_task = lambda _: pytest.fail("there is no loop that could run one")
    watch.birth_in_trio = capture  # so that the longer way is taken
    with watch.acting_for(other):
        watch.add(thing := Thing())
    assert (thing.owner, thing.maker) == (other, None)


def test_for_an_owner_that_is_over_the_process_answers(watch: Watch, test: Owner) -> None:
    assert watch.owner() is test
    test.over = True
    assert watch.owner() is watch.root


def test_a_callback_is_of_whoever_registered_it(watch: Watch, test: Owner, other: Owner) -> None:
    registered = contextvars.copy_context()
    watch.push(other)
    running(watch, None)
    assert watch.owner() is other
    assert registered.run(watch.owner) is test
    watch.pop(other)
    assert contextvars.copy_context().run(watch.owner) is test


def test_a_callback_that_knows_nobody_is_of_the_top(watch: Watch, test: Owner) -> None:
    running(watch, None)
    assert contextvars.Context().run(watch.owner) is test


def test_a_task_is_of_its_maker(watch: Watch, test: Owner, other: Owner) -> None:
    task = Task()
    known(watch, task, other, Birth([], False, None))
    running(watch, task)
    assert watch.owner() is other


def test_a_task_at_the_address_of_an_older_one_is_not_of_that_ones_maker(
    watch: Watch, test: Owner, other: Owner
) -> None:
    task = Task()
    watch.tasks[id(task)] = Birth([], False, None), other, 0
    running(watch, task)
    watch.add(thing := Thing())
    assert watch.owner() is thing.owner is test


@pytest.mark.parametrize(("name", "by_context"), [("work", True), *((name, False) for name in sorted(RUNNER_TASKS))])
def test_a_task_that_nobody_saw_being_made_is_of_its_context_unless_it_is_the_runners(
    watch: Watch, test: Owner, other: Owner, name: str, by_context: bool
) -> None:
    begun = contextvars.copy_context()
    watch.push(other)
    running(watch, Task(name))
    assert begun.run(watch.owner) is (test if by_context else other)
    assert contextvars.Context().run(watch.owner) is other


def test_a_task_of_a_coroutine_without_a_name_is_of_its_context(watch: Watch, test: Owner, other: Owner) -> None:
    begun, task = contextvars.copy_context(), Task()
    task.coroutine = SimpleNamespace()
    watch.push(other)
    running(watch, task)
    assert begun.run(watch.owner) is test


def test_a_thread_is_of_its_starter(watch: Watch, test: Owner, other: Owner) -> None:
    threads = watch.table("threads")
    record = thread_record(other)
    assert in_thread(watch.owner, lambda thread: threads.put(thread, record)) is other


def test_what_a_thread_makes_is_of_its_starter(watch: Watch, test: Owner, other: Owner, fd: int) -> None:
    threads, record, thing = watch.table("threads"), thread_record(other), Thing()

    def body() -> None:
        watch.add(thing)
        watch.descriptor_made(fd, 2)

    in_thread(body, lambda thread: threads.put(thread, record))
    assert (thing.owner, watch.fds[fd][1]) == (other, other)


def test_a_thread_that_is_older_than_the_watch_is_the_processs(watch: Watch, test: Owner) -> None:
    assert in_thread(watch.owner) is watch.root


@pytest.mark.parametrize("pooled", [False, True])
def test_a_thread_that_works_for_nobody_is_of_whoever_is_running(watch: Watch, test: Owner, pooled: bool) -> None:
    threads = watch.table("threads")
    record = thread_record(None, pooled=pooled)
    assert in_thread(watch.owner, lambda thread: threads.put(thread, record)) is test


def test_a_pooled_thread_is_of_who_made_it_for_nobody(watch: Watch, test: Owner, other: Owner) -> None:
    threads = watch.table("threads")
    record = thread_record(other, pooled=True)
    assert in_thread(watch.owner, lambda thread: threads.put(thread, record)) is test


def test_a_borrowed_thread_works_for_whoever_submitted_last(watch: Watch, test: Owner, other: Owner) -> None:
    def asked() -> Owner:
        watch.borrowed[threading.get_ident()] = [Worker(test, None), Worker(other, None)]
        return watch.owner()

    assert in_thread(asked) is other


def test_an_heir_answers_for_tasks_and_descriptors_of_one_owner_alone(
    watch: Watch, test: Owner, other: Owner, fd: int
) -> None:
    heir = Owner("heir", "module")
    watch.tasks = {1: (NOWHERE, test, 5), 2: (NOWHERE, other, 6)}
    for owner in (test, other, heir):
        watch.give(fd, NOWHERE, owner)
    watch.fds = {3: (None, test, (1, 2)), 4: (NOWHERE, other, None)}
    watch.pass_on(test, heir)
    assert watch.tasks == {1: (NOWHERE, heir, 5), 2: (NOWHERE, other, 6)}
    assert watch.fds == {3: (None, heir, (1, 2)), 4: (NOWHERE, other, None)}
    assert (heir.descriptors, other.descriptors) == (2, 1)


# -- births ------------------------------------------------------------------------------------------------------------


def first(birth: Birth | None) -> str:
    """The function in which the recorded stack begins."""
    assert birth is not None
    return birth.frames[0][0].co_name


def test_a_birth_begins_at_the_caller_of_what_records_it(watch: Watch) -> None:
    def wrapper() -> Birth:
        return watch.birth()

    def user() -> Birth:
        return wrapper()

    assert first(user()) == "user"


@pytest.mark.parametrize("take", ["add", "hand_over"])
def test_a_record_is_born_where_the_wrapper_is_called(watch: Watch, test: Owner, take: str) -> None:
    thing = Thing()

    def wrapper() -> None:
        getattr(watch, take)(thing)

    def user() -> None:
        wrapper()

    user()
    assert first(thing.birth) == "user"
    running(watch, task := Task())
    known(watch, task, test, Birth([], False, None))
    user()
    assert first(thing.birth) == "user"


def test_a_task_is_born_where_the_wrapper_is_called(watch: Watch) -> None:
    task = Task()

    def wrapper() -> None:
        watch.task_made(task, task.get_coro())

    def user() -> None:
        wrapper()

    user()
    birth, owner, coroutine = watch.tasks[id(task)]
    assert (first(birth), owner, coroutine) == ("user", watch.root, id(task.get_coro()))


def test_an_announced_task_is_born_where_the_wrapper_is_called(watch: Watch) -> None:
    task = Task()

    def wrapper() -> None:
        watch.task_coming(task.get_coro())

    def user() -> None:
        wrapper()

    user()
    known = watch.of_task(task)
    assert known is not None
    assert first(known[0]) == "user"


class TestTasksMadeInsideATask:
    """The watch keeps the last birth in a task's own frame, which the next task of the same line shares."""

    @pytest.fixture(params=["any task", "a stock task"])
    def made(self, request: pytest.FixtureRequest, watch: Watch, test: Owner) -> Callable[..., Birth]:
        """The birth of a task that the caller makes, whose own frame is that of a task of `maker`."""
        somebody = Birth([], True, None)

        def make(maker: Birth = somebody, up: int = 1) -> Birth:
            task, around = Task(), Task(frame=sys._getframe(up))
            known(watch, around, test, maker)
            running(watch, around)
            if request.param == "any task":
                watch.task_made(task, task.get_coro())
            else:
                watch.stock_task_made("loop", task, task.get_coro())
            return watch.tasks[id(task)][0]

        return make

    def test_one_line_has_one_birth(self, made: Any) -> None:
        births = [made() for _ in range(3)]
        assert births[0] is births[1] is births[2]

    def test_two_lines_have_two(self, made: Any) -> None:
        one = made()
        other = made()
        assert one.frames[-1] != other.frames[-1]

    def test_so_has_one_that_goes_through_a_known_passage(self, watch: Watch, made: Any) -> None:
        def create_task() -> Birth:
            return made(up=2)  # type: ignore[no-any-return]

        one, other = [create_task() for _ in range(2)]
        assert one is not other
        watch.passages = (create_task.__code__,)
        one, other = [create_task() for _ in range(2)]
        assert one is other

    def test_two_lines_of_a_helper_have_two(self, made: Any) -> None:
        def helper(first: bool) -> Birth:
            if first:
                return made(up=2)  # type: ignore[no-any-return]
            return made(up=2)  # type: ignore[no-any-return]

        births = [helper(first) for first in (True, False)]
        assert births[0].frames[0][1] != births[1].frames[0][1]

    def test_two_functions_that_read_alike_have_two(self, made: Any) -> None:
        births = []
        for name in ("one.py", "other.py"):
            names: dict[str, Any] = {}
            exec(compile("def function(made): return made()", name, "exec"), names)
            births.append(names["function"](made))
        assert [birth.frames[0][0].co_filename for birth in births] == ["one.py", "other.py"]

    def test_in_a_librarys_frame_the_line_is_that_of_the_maker(self, made: Any) -> None:
        makers = Birth([], True, None), Birth([], True, None)
        source = "def spawn(made, maker): return made(maker)"
        library: dict[str, Any] = {"__name__": "aiohttp.client"}
        exec(compile(source, "/usr/lib/python3/site-packages/aiohttp/client.py", "exec"), library)
        births = [library["spawn"](made, maker) for maker in makers]
        assert [birth.parent for birth in births] == list(makers)


class TestStockTasks:
    """What costs most in sum, tasks that a task makes from one line, is decided from what the last one was given."""

    @pytest.fixture
    def three(self, watch: Watch, test: Owner, other: Owner) -> Callable[..., list[TaskOrigin]]:
        """Three tasks from one line of a task of `other`; before the last one, something may change."""

        def wrapper(task: Task) -> TaskOrigin:
            watch.stock_task_made("loop", task, task.get_coro())
            return watch.tasks[id(task)]

        def passage(task: Task) -> TaskOrigin:
            return wrapper(task)

        def make(
            change: Callable[[Task, Task], object] = lambda around, last: None, *, passes: bool = False
        ) -> list[TaskOrigin]:
            if passes:
                watch.passages = (passage.__code__,)
            around, tasks, origins = Task(frame=sys._getframe()), [Task(), Task(), Task()], []
            known(watch, around, other, MAKER)
            running(watch, around)
            for task in tasks:
                if task is tasks[-1]:
                    change(around, task)
                made = passage if passes else wrapper
                origins.append(made(task))
            assert [origin[2] for origin in origins] == [id(task.get_coro()) for task in tasks]
            return origins

        return make

    def test_they_have_one_birth_and_the_owner_of_the_task(self, watch: Watch, other: Owner, three: Any) -> None:
        origins = three()
        assert {id(birth) for birth, _, _ in origins} == {id(origins[0][0])}
        assert [owner for _, owner, _ in origins] == [other] * 3
        assert watch.births_of_tasks == 3

    @pytest.mark.parametrize("passes", [False, True], ids=["straight", "through a passage"])
    def test_but_for_the_first_they_go_the_short_way(self, watch: Watch, three: Any, passes: bool) -> None:
        def lengthen(task: object, *_: object) -> None:
            pytest.fail("this is the long way")

        three(lambda around, last: setattr(watch, "task_made", lengthen), passes=passes)

    def test_for_an_owner_that_is_over_the_process_answers(self, watch: Watch, other: Owner, three: Any) -> None:
        origins = three(lambda around, last: setattr(other, "over", True))
        assert [owner for _, owner, _ in origins] == [other, other, watch.root]

    def test_one_that_was_announced_is_of_whoever_announced_it(self, watch: Watch, test: Owner, three: Any) -> None:
        def announce(around: Task, last: Task) -> None:
            watch.sent[id(last.get_coro())] = NOWHERE, test, id(last.get_coro())

        assert three(announce)[-1][:2] == (NOWHERE, test)
        assert watch.sent == {}

    def test_they_are_counted_from_when_somebody_asks(self, watch: Watch, other: Owner, three: Any) -> None:
        other.peaks = Peaks()
        three(lambda around, last: setattr(watch, "peaking", 1))
        assert other.peaks.highest(Kind.TASKS) == 1

    def test_of_a_task_at_the_address_of_an_older_one_they_are_not(
        self, watch: Watch, test: Owner, other: Owner, three: Any
    ) -> None:
        def replace(around: Task, last: Task) -> None:
            watch.tasks[id(around)] = MAKER, other, 0

        assert [owner for _, owner, _ in three(replace)] == [other, other, test]

    def test_of_a_task_that_nobody_saw_being_made_they_are_not(self, watch: Watch, test: Owner, three: Any) -> None:
        assert three(lambda around, last: watch.tasks.pop(id(around)))[-1][1] is test

    def test_of_a_coroutine_that_shows_no_frame_they_have_another_place(self, three: Any) -> None:
        origins = three(lambda around, last: vars(around.coroutine).pop("cr_frame"))
        assert origins[0][0] is origins[1][0] is not origins[2][0]


def test_a_descriptor_is_born_where_the_outer_of_two_wrappers_is_called(watch: Watch, test: Owner, fd: int) -> None:
    def inner() -> None:
        watch.descriptor_made(fd)

    def outer() -> None:
        inner()

    def user() -> None:
        outer()

    status = os.fstat(fd)
    for loops in (False, True):
        if loops:
            running(watch, None)
        user()
        birth, owner, identity = watch.fds[fd]
        assert (first(birth), owner, identity) == ("user", test, (status.st_dev, status.st_ino))


@pytest.mark.parametrize("thread", [None, 0], ids=["nobody", "another thread"])
def test_a_descriptor_is_recorded_while_another_thread_makes_a_loop(
    watch: Watch, test: Owner, fd: int, thread: int | None
) -> None:
    watch.making.update(() if thread is None else (thread,))
    watch.descriptor_made(fd, 2)
    assert watch.fds[fd][1] is test


def test_what_a_loop_opens_for_itself_while_it_is_made_is_not_recorded(watch: Watch, fd: int) -> None:
    watch.making.add(threading.get_ident())
    watch.descriptor_made(fd, 2)
    assert watch.fds == {}


def test_in_trio_a_birth_is_what_trios_adapter_says(watch: Watch) -> None:
    told: list[Birth] = []

    def birth_in_trio(depth: int) -> Birth:
        told.append(capture(depth))
        return told[-1]

    def user() -> Birth:
        return watch.birth(2)

    watch.birth_in_trio = birth_in_trio
    assert user() is told[0]
    assert first(told[0]) == "user"
    running(watch, None)
    assert first(user()) == "user"
    assert len(told) == 1


@pytest.mark.parametrize("tells", [True, False], ids=["trio tells", "trio cannot tell"])
@pytest.mark.parametrize("is_inside", [True, False], ids=["inside", "outside"])
def test_what_is_made_in_trio_has_the_place_that_trios_adapter_says(
    watch: Watch, test: Owner, fd: int, is_inside: bool, tells: bool
) -> None:
    there = Birth([], True, NOWHERE)
    watch.birth_in_trio = lambda _: there if is_inside else None
    if tells:
        watch.is_in_trio = lambda: is_inside
    watch.add(thing := Thing())
    watch.descriptor_made(fd, 2)
    assert (thing.owner, watch.fds[fd][1]) == (test, test)
    assert (thing.birth is there, watch.fds[fd][0] is there) == (is_inside, is_inside)


def test_outside_trio_its_adapter_is_not_asked_for_a_place(watch: Watch, test: Owner) -> None:
    watch.is_in_trio = lambda: False
    watch.birth_in_trio = lambda _: pytest.fail("asking costs an error in old versions")
    watch.add(thing := Thing())
    assert thing.owner is test


def test_where_trios_adapter_knows_nothing_the_stack_counts(watch: Watch) -> None:
    def user() -> Birth:
        return watch.birth(2)

    watch.birth_in_trio = lambda _: None
    assert first(user()) == "user"


GENERATED = """
def body(act):
    return act(__import__("sys")._getframe())
"""


def in_library_code(act: Callable[[object], Any]) -> Any:
    """The result of `act`, called with the frame of code that is not the user's."""
    names: dict[str, Any] = {}
    exec(compile(GENERATED, "<generated>", "exec"), names)  # its frame has to be a library's
    return names["body"](act)


MAKER = Birth([], True, None)
NO_USER = Birth([], False, None)
IN_TASK = Birth([], True, NO_USER)


@pytest.mark.parametrize(
    ("maker", "parent"),
    [(MAKER, MAKER), (NO_USER, NO_USER), (Birth([], False, MAKER), MAKER), (IN_TASK, IN_TASK)],
    ids=["a user", "nobody", "a user's task", "a user in nobody's task"],
)
@pytest.mark.parametrize("way", ["birth", "add"])
def test_what_a_librarys_task_makes_has_the_place_of_the_users_that_made_it(
    watch: Watch, test: Owner, maker: Birth, parent: Birth, way: str
) -> None:
    thing = Thing()

    def act(frame: object) -> Birth | None:
        task = Task(frame=frame)
        known(watch, task, test, maker)
        running(watch, task)
        if way == "birth":
            return watch.birth(3)
        watch.add(thing)
        return thing.birth

    birth = in_library_code(act)
    assert [code.co_name for code, _ in birth.frames] == ["body"]
    assert birth.parent is parent


def test_what_a_task_makes_whose_coroutine_shows_no_frame_has_the_place_of_the_stack(
    watch: Watch, test: Owner, other: Owner
) -> None:
    task, thing = Task(), Thing()
    task.coroutine = SimpleNamespace()
    known(watch, task, other, MAKER)
    running(watch, task)

    def user() -> Birth:
        watch.add(thing, depth=3)
        return watch.birth(2)

    assert first(user()) == first(thing.birth) == "user"
    assert thing.owner is other


def test_what_a_users_task_makes_has_its_own_place(watch: Watch, test: Owner) -> None:
    def user() -> Birth:
        task = Task(frame=sys._getframe())
        known(watch, task, test, MAKER)
        running(watch, task)
        return watch.birth(2)

    birth = user()
    assert [code.co_name for code, _ in birth.frames] == ["user"]
    assert birth.parent is None


def test_what_a_librarys_thread_makes_has_the_place_of_its_start(watch: Watch, test: Owner) -> None:
    threads, record = watch.table("threads"), thread_record(test)
    begun = in_thread(watch.birth, lambda thread: threads.put(thread, record))
    assert begun.has_user is False
    assert begun.parent is record.birth
    assert in_thread(watch.birth).parent is None


def test_what_a_users_thread_makes_has_its_own_place(watch: Watch, test: Owner) -> None:
    threads, record = watch.table("threads"), thread_record(test)

    def user() -> Birth:
        return watch.birth(2)

    birth = in_thread(user, lambda thread: threads.put(thread, record))
    assert first(birth) == "user"
    assert birth.parent is None


# -- what is counted ---------------------------------------------------------------------------------------------------


def test_what_the_running_owner_makes_is_kept_by_it(watch: Watch, test: Owner) -> None:
    things = [Thing(), Thing()]
    for thing in things:
        watch.add(thing)
        assert thing.owner is test
    assert (test.records, watch.births) == (things, 2)


def test_a_response_is_no_birth(watch: Watch, test: Owner) -> None:
    answer, follower = Answer(), Answer()
    watch.add(answer)
    watch.add_with(follower, answer)
    assert test.records == [answer, follower]
    assert watch.births == 0


@pytest.mark.parametrize("is_over", [False, True])
def test_the_process_keeps_no_records(watch: Watch, is_over: bool) -> None:
    if is_over:
        watch.push(Owner("test", "function"))
        watch.stack[-1].over = True
    thing, follower = Thing(), Thing()
    watch.add(thing)
    watch.add_with(follower, thing)
    assert thing.owner is follower.owner is watch.root
    assert watch.root.records == []
    assert watch.births == 2


def test_what_comes_with_another_has_its_birth_its_maker_and_its_owner(watch: Watch, test: Owner) -> None:
    thing, follower = Thing(), Thing()
    thing.birth, thing.owner, thing.maker = NOWHERE, test, lambda: None
    watch.add_with(follower, thing)
    assert (follower.birth, follower.owner, follower.maker) == (NOWHERE, test, thing.maker)
    assert test.records == [follower]
    assert watch.births == 1


@pytest.mark.parametrize("is_over", [None, True])
def test_what_comes_with_another_of_nobody_is_the_processs(watch: Watch, test: Owner, is_over: bool | None) -> None:
    thing, follower = Thing(), Thing()
    if is_over:
        thing.owner = test
        test.over = True
    watch.add_with(follower, thing)
    assert follower.owner is watch.root
    assert test.records == watch.root.records == []


def test_a_record_is_handed_over_once_to_whoever_is_running(watch: Watch, test: Owner, other: Owner) -> None:
    thing = Thing()
    watch.add(thing)
    watch.hand_over(thing)
    assert test.records == [thing]
    watch.push(other)
    watch.hand_over(thing)
    assert (thing.owner, other.records) == (other, [thing])
    watch.pop(other)
    test.over = True
    watch.hand_over(thing)
    assert thing.owner is watch.root
    assert (test.records, other.records, watch.root.records) == ([thing], [thing], [])


def test_a_record_that_is_handed_over_unplaced_keeps_its_birth_until_it_is_placed(
    watch: Watch, test: Owner, other: Owner
) -> None:
    thing = Thing()
    thing.birth, thing.maker = NOWHERE, lambda: None

    def wrapper() -> None:
        watch.place(thing, depth=3)

    def user() -> None:
        wrapper()

    watch.push(other)
    assert watch.hand_over_unplaced(thing)
    assert (thing.owner, thing.birth, thing.maker, other.records) == (other, NOWHERE, None, [thing])
    user()
    assert first(thing.birth) == "user"


def _in_a_loop(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    running(watch, None)


def _counted(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch.peaking = 1


def _beside_greenlets(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "greenlet", SimpleNamespace())


def _in_another_thread(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch._main = 0


@pytest.mark.parametrize("situation", [_in_a_loop, _counted, _beside_greenlets, _in_another_thread])
def test_a_record_that_may_be_looked_at_meanwhile_is_not_handed_over_unplaced(
    watch: Watch,
    test: Owner,
    situation: Callable[[Watch, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thing = Thing()
    situation(watch, monkeypatch)
    assert not watch.hand_over_unplaced(thing)
    assert (thing.owner, test.records) == (None, [])


def test_whatever_makes_something_is_remembered_weakly(watch: Watch, test: Owner) -> None:
    thing, handed, task = Thing(), Thing(), Task()
    watch.add(thing)
    assert thing.maker is None
    running(watch, task)
    watch.add(thing)
    watch.hand_over(handed)
    assert thing.maker is not None
    assert handed.maker is not None
    assert thing.maker() is handed.maker() is task
    del task
    running(watch, None)
    assert thing.maker() is None


def test_the_maker_outside_any_task_is_the_thread_unless_it_is_the_main_one(watch: Watch) -> None:
    assert watch.maker() is None
    thread, maker = in_thread(lambda: (threading.current_thread(), watch.maker()))
    assert maker() is thread
    running(watch, None)
    assert watch.maker() is None
    thread, maker = in_thread(lambda: (threading.current_thread(), watch.maker()))
    assert maker() is thread


def test_a_descriptor_counts_as_a_birth_and_for_its_owner(watch: Watch, test: Owner, fd: int) -> None:
    for _ in range(2):
        watch.descriptor_made(fd, 2)
    assert (watch.births, test.descriptors, watch.fds[fd][1]) == (2, 2, test)


def test_a_descriptor_that_a_task_makes_is_of_the_tasks_maker(watch: Watch, test: Owner, other: Owner, fd: int) -> None:
    known(watch, task := Task(frame=sys._getframe()), other, NOWHERE)
    running(watch, task)
    watch.descriptor_made(fd, 2)
    assert watch.fds[fd][1] is other


@pytest.mark.parametrize(
    ("birth", "is_runners"),
    [(NOWHERE, True), (Birth([], False, NOWHERE), False), (capture(1), False)],
    ids=["no frames", "a maker", "frames"],
)
def test_a_descriptor_of_no_code_at_all_is_the_test_runners(
    watch: Watch, test: Owner, fd: int, birth: Birth, is_runners: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptorowners, "capture", lambda depth: birth)
    watch.descriptor_made(fd)
    assert watch.fds[fd][1] is (watch.root if is_runners else test)


def test_a_descriptor_of_an_owner_that_is_over_is_the_processs(watch: Watch, test: Owner, fd: int) -> None:
    test.over = True
    watch.descriptor_made(fd, 2)
    assert watch.fds[fd][1] is watch.root


def test_a_new_descriptor_is_at_no_time_its_predecessors(watch: Watch, fd: int) -> None:
    seen: list[Any] = []
    watch.fds = Noticing(lambda: seen.append(watch.holders.get(fd)))
    watch.descriptor_made(fd, 2, Thing())
    watch.descriptor_made(fd, 2, thing := Thing())
    assert seen == [None, None]
    assert watch.holders[fd][1]() is thing
    watch.give(fd, NOWHERE, watch.root)
    assert watch.holders[fd][1]() is thing
    watch.give(fd, None, watch.root)
    assert fd not in watch.holders


class Noticing(dict[int, Any]):
    """Calls a function whenever something is put in."""

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__()
        self._function = function

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self._function()


def test_a_number_that_is_not_open_is_given_to_nobody(watch: Watch, test: Owner) -> None:
    watch.give(-1, NOWHERE, test)
    assert (watch.fds, test.descriptors) == ({}, 0)


def test_notes_are_taken_for_whoever_is_running_where_they_are_made(watch: Watch, test: Owner) -> None:
    def wrapper() -> None:
        watch.note("name", "message", "hint")

    def user() -> None:
        wrapper()

    user()
    (taken,) = test.notes
    assert (taken.name, taken.message, taken.hint, taken.count) == ("name", "message", "hint", 1)
    assert first(taken.birth) == "user"


def test_a_note_of_another_line_is_its_own_though_it_comes_as_far_from_the_same_caller(
    watch: Watch, test: Owner
) -> None:
    def wrapper() -> None:
        watch.note("name", "message", "hint")

    def one() -> None:
        wrapper()

    def other() -> None:
        wrapper()

    def deeper() -> None:
        one()

    for user in (one, other, other, one, deeper, deeper):
        user()
    assert [(first(taken.birth), taken.count) for taken in test.notes] == [
        ("one", 1),
        ("other", 2),
        ("one", 1),
        ("one", 2),
    ]
    assert [taken.birth.frames[1][0] is deeper.__code__ for taken in test.notes] == [False, False, False, True]


def test_a_note_at_the_bottom_of_the_stack_is_not_looked_for_below_it(watch: Watch, test: Owner) -> None:
    def wrapper() -> None:
        watch.note("name", "message", "hint")

    def deep(calls: int) -> None:
        if calls:
            deep(calls - 1)
        else:
            wrapper()

    deep(5)
    watch._last_noted = (watch._last_noted[0], 10_000, *watch._last_noted[2:])
    deep(5)
    assert sum(taken.count for taken in test.notes) == 2


def test_notes_that_say_the_same_of_the_same_lines_are_kept_as_one(watch: Watch, test: Owner) -> None:
    def note(message: str, hint: str) -> None:
        watch.note("name", message, hint)

    def user(message: str = "message", hint: str = "hint") -> None:
        note(message, hint)

    for _ in range(3):
        user()
    user()
    user(message="other")
    user(hint="other")
    user(hint="other")
    assert [(taken.message, taken.hint, taken.count) for taken in test.notes] == [
        ("message", "hint", 3),
        ("message", "hint", 1),
        ("other", "hint", 1),
        ("message", "other", 1),
        ("message", "other", 1),
    ]


def test_a_note_is_held_against_the_last_one_alone_and_against_its_name(watch: Watch, test: Owner) -> None:
    for name in ("one", "other", "other", "one"):
        watch.note(name, "message", "hint")
    assert [(taken.name, taken.count) for taken in test.notes] == [("one", 1), ("other", 2), ("one", 1)]


def test_no_notes_are_taken_for_the_process_and_for_what_is_over(watch: Watch) -> None:
    watch.note("name", "message", "hint")
    watch.push(over := Owner("test", "function"))
    over.over = True
    watch.note("name", "message", "hint")
    assert watch.root.notes == over.notes == []


def test_of_notes_that_never_end_two_hundred_are_taken(watch: Watch, test: Owner) -> None:
    for _ in range(201):
        watch.note("name", "message", "hint")
    assert sum(taken.count for taken in test.notes) == 200


@pytest.fixture
def counted(watch: Watch) -> Owner:
    """An owner that asks for the highest numbers; what is inside it asks for none."""
    around = Owner("around", "function")
    around.peaks = Peaks()
    watch.push(Owner("inside", "block", around))
    return around


def highest(owner: Owner) -> int:
    assert owner.peaks is not None
    return owner.peaks.highest(Kind.SOCKETS)


def test_what_is_open_at_once_counts_for_the_owner_around_too(watch: Watch, counted: Owner) -> None:
    watch.peaking = 1
    things = [Thing(), Thing(), Thing()]
    watch.add(things[0])
    assert highest(counted) == 1
    watch.add_with(things[1], things[0])
    assert highest(counted) == 2
    watch.add(things[2], opened=False)
    assert highest(counted) == 2
    watch.opened(things[2])
    assert highest(counted) == 3


def test_nothing_is_counted_while_nobody_asks(watch: Watch, counted: Owner) -> None:
    things = [Thing(), Thing()]
    watch.add(things[0])
    watch.add_with(things[1], things[0])
    watch.opened(things[0])
    assert highest(counted) == 0


def test_tasks_are_counted_as_they_are_announced_or_made(watch: Watch, test: Owner) -> None:
    tasks = [Task(), Task()]
    for number, task in enumerate(tasks, 1):
        watch.task_made(task, task.get_coro())
        assert watch.births_of_tasks == number
    watch.task_coming(Task().get_coro())
    assert watch.births_of_tasks == 3


def test_tasks_that_are_pending_at_once_are_counted_while_somebody_asks(watch: Watch, test: Owner) -> None:
    test.peaks = Peaks()
    tasks = [Task(), Task(), Task()]
    watch.task_made(tasks[0], tasks[0].get_coro())
    assert test.peaks.holders == {}
    watch.peaking = 1
    for task in tasks[1:]:
        watch.task_made(task, task.get_coro(), depth=3)  # made here
    pending = test.peaks.holders[Kind.TASKS]
    assert len(pending) == 2
    assert [record.birth for record in pending] == [watch.tasks[id(task)][0] for task in tasks[1:]]


def test_a_task_that_no_code_of_the_users_has_led_to_does_not_count(watch: Watch, test: Owner) -> None:
    test.peaks, watch.peaking = Peaks(), 1
    task = Task()
    watch.task_made(task, task.get_coro())  # as by whoever has called the test
    assert not watch.tasks[id(task)][0].is_users()
    assert test.peaks.holders == {}


def test_a_task_of_an_owner_that_is_over_is_the_processs(watch: Watch, test: Owner) -> None:
    test.over = True
    watch.task_made(task := Task(), task.get_coro())
    assert watch.tasks[id(task)][1] is watch.root


def test_a_task_runs_the_coroutine_that_it_names_or_what_it_was_made_of_if_it_is_over_or_names_none(
    watch: Watch,
) -> None:
    class Over(Task):
        def get_coro(self) -> object:
            pytest.fail("an eager task that is over has none left")

        def done(self) -> bool:
            return True

    given = Task().get_coro()
    task, over, silent = Task(), Over(), SimpleNamespace(done=lambda: False)
    for each in (task, over, silent):
        watch.task_made(each, given)
    assert watch.tasks[id(task)][2] == id(task.coroutine)
    assert watch.tasks[id(over)][2] == watch.tasks[id(silent)][2] == id(given)


def test_a_task_that_was_announced_is_of_whoever_announced_it(watch: Watch, test: Owner, other: Owner) -> None:
    task = Task()
    watch.task_coming(task.get_coro(), 2)
    watch.push(other)
    running(watch, task)
    assert watch.owner() is test
    watch.add(thing := Thing())
    assert thing.owner is test
    running(watch, None)
    watch.task_made(task, task.get_coro())
    assert (watch.tasks[id(task)][1], watch.sent) == (test, {})


def test_a_task_that_is_made_while_another_is_announced_is_of_its_own_maker(
    watch: Watch, test: Owner, other: Owner
) -> None:
    announced, task = Task(), Task()
    watch.task_coming(announced.get_coro())
    watch.push(other)
    watch.task_made(task, task.get_coro())
    assert watch.tasks[id(task)][1] is other
    known = watch.of_task(announced)
    assert known is not None
    assert known[1] is test


def test_for_tasks_that_were_reported_nobody_answers(watch: Watch, test: Owner) -> None:
    seen, unseen = Task(), Task()
    birth = Birth([], True, None)
    known(watch, seen, test, birth)
    watch.forget_tasks([seen, unseen])
    assert watch.tasks[id(seen)] == (birth, watch.root, id(seen.get_coro()))
    of_unseen = watch.of_task(unseen)
    assert of_unseen is not None
    assert of_unseen[1] is watch.root
    assert (of_unseen[0].frames, of_unseen[0].has_user) == ([], False)


def test_the_owner_in_a_tasks_context_is_known(watch: Watch, test: Owner) -> None:
    task: Any = SimpleNamespace(get_context=contextvars.copy_context)
    assert watch.owner_by_context(task) is test
    assert watch.owner_by_context(SimpleNamespace(get_context=contextvars.Context)) is watch.root
    assert watch.owner_by_context(SimpleNamespace()) is watch.root
    test.over = True
    assert watch.owner_by_context(task) is watch.root


# -- tables, loops, walls ----------------------------------------------------------------------------------------------


def test_a_table_is_shared_by_its_name(watch: Watch) -> None:
    assert watch.table("a") is watch.table("a")
    assert watch.table("b") is not watch.table("a")
    assert watch.tables() == [watch.table("threads"), watch.table("a"), watch.table("b")]


def test_all_records_are_given_although_a_table_is_begun_meanwhile(watch: Watch) -> None:
    things = [Thing(), Thing()]
    tasks = [Task(), Task()]
    for name, task, thing in zip("ab", tasks, things, strict=True):
        watch.table(name).put(task, thing)
    assert [(watch.table(f"new {thing.key}"), thing)[1] for thing in watch.everything()] == things


def test_loops_that_are_closed_or_gone_are_forgotten(watch: Watch) -> None:
    still, closed = asyncio.new_event_loop(), asyncio.new_event_loop()
    closed.close()
    watch.loops = {1: lambda: None, 2: lambda: closed, 3: lambda: still}
    try:
        assert watch.open_loops() == [still]
        assert list(watch.loops) == [3]
    finally:
        still.close()


def test_a_loop_may_be_forgotten_while_it_is_asked_for(watch: Watch) -> None:
    def dying() -> None:
        watch.loops.clear()

    watch.loops = {1: dying}
    assert watch.open_loops() == []


def test_a_wall_has_the_name_and_the_packages_that_it_is_given(watch: Watch) -> None:
    wall = watch.wall("name", frozenset({"package"}))
    assert (wall.name, wall.packages) == ("name", {"package"})
    assert watch.walls == [wall]


@pytest.mark.parametrize("end", ["stop", "silence"])
def test_at_the_end_every_wall_is_silent_and_only_a_stop_undoes(watch: Watch, end: str) -> None:
    undone: list[str] = []
    watch.on = True
    watch.patches.undo = lambda: undone.append(end)  # type: ignore[method-assign]
    walls = [watch.wall("a"), watch.wall("b")]
    assert all(wall.on for wall in walls)
    getattr(watch, end)()
    assert not watch.on
    assert not any(wall.on for wall in walls)
    assert undone == (["stop"] if end == "stop" else [])
