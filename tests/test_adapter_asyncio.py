"""asyncio, uvloop and trio: tasks, streams and event loops; each leak with its clean twin."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import importlib
import itertools
import logging
import selectors
import signal
import socket
import ssl
import sys
import threading
import types
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
from inner import Inner
from loops import Loop
from marked import Leaks, Marked, expected, seen

from pytest_httpleak.clocks import Real
from pytest_httpleak.coroutines import awaits
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.probes import descriptors, taskframes, tasks
from pytest_httpleak.session.blocks import Block
from pytest_httpleak.session.core import Session
from pytest_httpleak.session.settling import pauses, settle
from pytest_httpleak.settings import default_settings, settings_from_keywords

# What is dropped on purpose makes the interpreter and asyncio complain, too.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*event loop:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """No collection but those that a test or the plugin asks for: a task that nothing refers to is pending until then."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def uvloop(session: Session) -> Any:
    return pytest.importorskip("uvloop")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads here what holds a leak, which takes a scan of the heap to tell."""
    monkeypatch.setattr("pytest_httpleak.probes.references.held_by", lambda thing: None)


async def beat() -> None:
    while True:
        await asyncio.sleep(0.005)


async def stuck() -> None:
    await asyncio.get_running_loop().create_future()


async def numbers() -> AsyncIterator[int]:
    try:
        for number in range(10):
            yield number
    finally:
        await asyncio.sleep(0)


# -- tasks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["create_task", "ensure_future"])
def test_a_task_that_is_left_pending_leaks(marked: Marked, loop: Loop, name: str) -> None:
    def leaking() -> None:
        async def main() -> None:
            getattr(asyncio, name)(beat())  # leak: tasks

        loop.run(main())

    (finding,) = marked(leaking)
    assert (finding.library, finding.type) == ("asyncio", "asyncio.Task")


async def ticks() -> AsyncIterator[int]:
    while True:
        await asyncio.sleep(60)
        yield 1


@pytest.mark.parametrize("step", [anext, lambda generator: generator.asend(None)], ids=["anext", "asend"])
def test_a_task_that_waits_for_a_generators_next_item_leaks(
    marked: Marked, loop: Loop, step: Callable[[Any], Any]
) -> None:
    def leaking() -> None:
        async def main() -> None:
            loop.loop.create_task(step(ticks()), name="next")  # leak: tasks

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.summary.startswith("'next' running ticks(), waiting in ticks (test_adapter_asyncio.py:")


@pytest.mark.parametrize("step", [anext, lambda generator: generator.asend(None)], ids=["anext", "asend"])
def test_a_task_that_has_waited_for_a_generators_next_item_is_clean(
    marked: Marked, loop: Loop, step: Callable[[Any], Any]
) -> None:
    def waiting() -> None:
        async def main() -> None:
            generator = ticks()
            task = loop.loop.create_task(step(generator))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await generator.aclose()

        loop.run(main())

    marked(waiting)


def test_a_finding_tells_name_and_coroutine_and_where_the_task_waits(leaks: Leaks, loop: Loop) -> None:
    async def outer() -> None:
        await stuck()

    def leaking() -> None:
        loop.loop.create_task(outer(), name="heartbeat")
        loop.run(asyncio.sleep(0))

    (finding,) = leaks(leaking)
    name = Path(__file__).name
    assert finding.summary.startswith("'heartbeat' running ")
    assert f"outer(), waiting in outer ({name}:" in finding.summary
    assert f" > stuck ({name}:" in finding.summary


def test_the_place_is_told_through_generators_and_wrappers(leaks: Leaks, loop: Loop) -> None:
    class Awaitable:
        def __await__(self) -> Any:
            return stuck().__await__()

    async def generator() -> AsyncIterator[int]:
        await Awaitable()
        yield 1

    async def main() -> None:
        async for _ in generator():
            pass

    def leaking() -> None:
        loop.loop.create_task(main())
        loop.run(asyncio.sleep(0))

    (finding,) = leaks(leaking)
    for function in ("main", "generator", "stuck"):
        assert f"{function} (test_adapter_asyncio.py:" in finding.summary


@pytest.mark.parametrize("name", ["create_task", "ensure_future"])
def test_a_task_that_is_awaited_is_clean(marked: Marked, loop: Loop, name: str) -> None:
    def clean() -> None:
        async def main() -> None:
            await getattr(asyncio, name)(asyncio.sleep(0))

        loop.run(main())

    marked(clean)


def test_gathered_coroutines_that_nobody_awaits_leak_together(marked: Marked, held: list[Any], loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            held.append(asyncio.gather(beat(), beat(), beat()))  # leak: tasks x3

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.count == 3
    with contextlib.suppress(asyncio.CancelledError):
        held[0].cancel()
        loop.run(held[0])


def test_gathered_coroutines_that_are_awaited_are_clean(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

        loop.run(main())

    marked(clean)


def test_a_group_that_nobody_leaves_leaks_its_tasks(marked: Marked, held: list[Any], loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            group = asyncio.TaskGroup()
            held.append(group)
            await group.__aenter__()
            group.create_task(beat())  # leak: tasks

        loop.run(main())

    marked(leaking)


def test_a_group_that_is_left_is_clean(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(beat())
                await asyncio.sleep(0)
                task.cancel()

        loop.run(main())

    marked(clean)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_an_eager_task_that_is_left_leaks_with_its_line(marked: Marked, loop: Loop) -> None:
    loop.loop.set_task_factory(asyncio.eager_task_factory)

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(beat())  # leak: tasks

        loop.run(main())

    marked(leaking)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_what_an_eager_task_makes_before_it_is_handed_out_has_its_line(marked: Marked, loop: Loop) -> None:
    loop.loop.set_task_factory(asyncio.eager_task_factory)

    def leaking() -> None:
        async def opening() -> None:
            marked.kept.append(socket.socket())  # leak: sockets

        async def main() -> None:
            await asyncio.create_task(opening())

        loop.run(main())

    marked(leaking)


def wrapping(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
    """A task factory that puts a coroutine of its own around each, as instrumentations do."""

    async def wrapped() -> Any:
        return await coroutine

    return asyncio.Task(wrapped(), loop=loop, **kwargs)


def test_a_task_whose_factory_wraps_its_coroutine_leaks_with_its_line(marked: Marked, loop: Loop) -> None:
    loop.loop.set_task_factory(wrapping)

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(beat())  # leak: tasks
            await asyncio.sleep(0)

        loop.run(main())

    marked(leaking)


def test_a_task_whose_factory_wraps_its_coroutine_is_clean_once_it_is_awaited(marked: Marked, loop: Loop) -> None:
    loop.loop.set_task_factory(wrapping)

    def clean() -> None:
        async def main() -> None:
            await asyncio.create_task(asyncio.sleep(0))

        loop.run(main())

    marked(clean)


@pytest.fixture
def wrapped_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """`create_task` that was given a wrapper around each coroutine before the watch began."""
    original = asyncio.BaseEventLoop.create_task

    def create_task(loop: Any, coroutine: Any, **kwargs: Any) -> Any:
        async def wrapped() -> Any:
            return await coroutine

        return original(loop, wrapped(), **kwargs)

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_task", create_task)


@pytest.mark.usefixtures("wrapped_before")
def test_a_task_whose_coroutine_was_wrapped_before_the_watch_saw_it_leaks_with_its_line(
    request: pytest.FixtureRequest,
) -> None:
    marked, loop = request.getfixturevalue("marked"), request.getfixturevalue("loop")

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(beat())  # leak: tasks

        loop.run(main())

    marked(leaking)


def test_a_task_factory_that_makes_something_else_is_let_be(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            assert await asyncio.get_running_loop().create_task(asyncio.sleep(0)) == "no task"

        def factory(loop: Any, coroutine: Any, **kwargs: Any) -> Any:
            coroutine.close()
            future = Future(loop=loop)
            future.set_result("no task")
            return future

        class Future(asyncio.Future[str]):
            def set_name(self, name: str) -> None:
                pass

        task = asyncio.Task(main(), loop=loop.loop)
        loop.loop.set_task_factory(factory)
        loop.loop.run_until_complete(task)
        loop.loop.set_task_factory(None)

    marked(clean)


class OwnTask(asyncio.Task[None]):
    """A class of tasks that the user has written."""


until_3_14 = pytest.mark.skipif(sys.version_info >= (3, 14), reason="from Python 3.14 on nothing tells of such tasks")


@until_3_14
@pytest.mark.parametrize("cls", [asyncio.Task, OwnTask])
@pytest.mark.parametrize("waiting", [beat, lambda: asyncio.sleep(60)], ids=["the user's", "the library's"])
def test_a_task_that_is_made_by_its_class_leaks(
    marked: Marked, loop: Loop, cls: type[asyncio.Task[None]], waiting: Callable[[], Any]
) -> None:
    def leaking() -> None:
        async def main() -> None:
            cls(waiting(), loop=loop.loop)  # leak: tasks

        loop.run(main())

    marked(leaking)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@until_3_14
def test_so_does_one_that_begins_at_once(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            asyncio.Task(beat(), loop=loop.loop, eager_start=True)  # leak: tasks

        loop.run(main())

    marked(leaking)


@pytest.mark.parametrize("cls", [asyncio.Task, OwnTask])
def test_a_task_that_is_made_by_its_class_and_awaited_is_clean(
    marked: Marked, loop: Loop, cls: type[asyncio.Task[None]]
) -> None:
    def clean() -> None:
        async def main() -> None:
            await cls(asyncio.sleep(0), loop=loop.loop)

        loop.run(main())

    marked(clean)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="until Python 3.14 its line is known")
@pytest.mark.parametrize(("cls", "waiting"), [(asyncio.Task, beat), (OwnTask, lambda: asyncio.sleep(60))])
def test_a_task_of_the_users_coroutine_or_class_leaks_without_a_line(
    leaks: Leaks, loop: Loop, cls: type[asyncio.Task[None]], waiting: Callable[[], Any]
) -> None:
    def leaking() -> None:
        async def main() -> None:
            cls(waiting(), loop=loop.loop)

        loop.run(main())

    (finding,) = leaks(leaking)
    assert (finding.kind.value, finding.created) == ("tasks", None)


def test_what_keeps_a_task_is_told_also_once_its_runner_has_cancelled_it(inner: Inner) -> None:
    inner.write(
        test_a="""
        import asyncio
        import unittest

        KEPT = []
        OTHERS = []
        LOOP = asyncio.new_event_loop()

        async def keep():
            KEPT.append(asyncio.create_task(asyncio.sleep(60)))
            await asyncio.sleep(0)

        async def drop():
            asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)

        class TestCase(unittest.IsolatedAsyncioTestCase):
            async def test_kept(self): await keep()
            async def test_dropped(self): await drop()
            async def test_dropped_beside_another(self):
                await drop()
                OTHERS.append(asyncio.create_task(asyncio.sleep(60)))

        def test_kept_pending(): LOOP.run_until_complete(keep())
        def teardown_module(): LOOP.close()
        """
    )
    inner.run("--httpleak-grace=0.05")
    found = {
        row["nodeid"].rpartition("::")[2]: sorted(str(finding["held_by"]) for finding in row["findings"])
        for row in inner.report["tests"]
    }
    assert found == {
        "test_kept": ["module attribute test_a.KEPT[0]"],
        "test_dropped": ["None"],
        "test_dropped_beside_another": ["None", "module attribute test_a.OTHERS[0]"],
        "test_kept_pending": ["module attribute test_a.KEPT[1]"],
    }


class Unready(asyncio.Task[None]):
    """One that cannot be asked until its constructor is through."""

    def __init__(self, coroutine: Any, **kwargs: Any) -> None:
        super().__init__(coroutine, **kwargs)
        self.ready = True

    def get_coro(self) -> Any:
        assert self.ready
        return super().get_coro()

    def get_loop(self) -> Any:
        assert self.ready
        return super().get_loop()

    def done(self) -> bool:
        return self.ready and super().done()


class NoTask:
    """What stands in for a task, as third parties may write one."""

    def __init__(self) -> None:
        asyncio._register_task(self)  # type: ignore[arg-type]
        asyncio._unregister_task(self)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda: Unready(asyncio.sleep(0)), NoTask], ids=["unready", "no task"])
def test_what_calls_itself_a_task_is_not_asked_by_its_own_methods(
    marked: Marked, loop: Loop, session: Session, make: Callable[[], Any]
) -> None:
    def clean() -> None:
        async def main() -> None:
            make()
            await asyncio.sleep(0)

        loop.run(main())

    marked(clean)
    assert not any(wall.error for wall in session.watch.walls)


def test_a_task_of_a_factory_that_wraps_is_counted_once(inner: Inner) -> None:
    inner.write(
        test_a="""
        import asyncio

        async def wrapped(coroutine):
            return await coroutine

        def factory(loop, coroutine, **kwargs):
            return asyncio.Task(wrapped(coroutine), loop=loop, **kwargs)

        def test_a(httpleak):
            async def main():
                asyncio.get_running_loop().set_task_factory(factory)
                await asyncio.gather(*(asyncio.create_task(asyncio.sleep(0)) for _ in range(3)))

            asyncio.run(main())
            assert httpleak.peak("tasks") == 4
        """
    )
    inner.run().assert_outcomes(passed=1)


def test_the_set_of_all_tasks_is_left_as_it_was_found(session: Session) -> None:
    name = "_scheduled_tasks" if hasattr(asyncio.tasks, "_scheduled_tasks") else "_all_tasks"
    known = getattr(asyncio.tasks, name)
    assert "add" in vars(known)
    session.stop()
    assert "add" not in vars(known)


FIRST_MET = """
import asyncio


async def beat():
    await asyncio.sleep(60)
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a task tells its context from Python 3.12 on")
def test_a_coroutine_of_a_file_that_has_made_nothing_yet_is_the_users(
    leaks: Leaks, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first_met.py").write_text(FIRST_MET, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("first_met")

    def leaking() -> None:
        async def main() -> None:
            asyncio.Task(module.beat(), loop=loop.loop)

        loop.run(main())

    (finding,) = leaks(leaking)
    assert finding.type == "asyncio.Task"


def test_what_a_task_makes_that_nobody_saw_being_made_belongs_to_its_maker(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def opening() -> None:
            marked.kept.append(socket.socket())  # leak: sockets

        async def main() -> None:
            await asyncio.Task(opening(), loop=loop.loop)

        loop.run(main())

    marked(leaking)


OWN_WAY = """
import asyncio

def start(coroutine, loop):
    return asyncio.Task(coroutine, loop=loop)
"""


def test_a_library_may_make_tasks_in_a_way_of_its_own(marked: Marked, loop: Loop) -> None:
    library: dict[str, Any] = {"__name__": "library"}
    exec(compile(OWN_WAY, "/usr/lib/python3/site-packages/library.py", "exec"), library)

    def clean() -> None:
        async def main() -> None:
            library["start"](asyncio.sleep(60), loop.loop)

        loop.run(main())

    marked(clean)


def test_a_task_in_a_library_has_the_line_that_called_the_library(marked: Marked, held: list[Any], loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(stuck()), 0.001)  # leak: tasks

        loop.run(main())

    marked(leaking)


def test_a_shielded_task_that_ends_is_clean(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.sleep(0.003)), 0.001)

        loop.run(main())

    marked(clean)


def test_what_a_librarys_task_makes_has_the_users_line_and_not_that_of_run(
    marked: Marked, address: tuple[str, int]
) -> None:
    def leaking() -> None:
        async def main() -> None:
            opening = asyncio.open_connection(*address, happy_eyeballs_delay=0.1)
            gathered = await asyncio.gather(opening, opening_too())  # leak: sockets
            marked.kept.extend(writer for _, writer in gathered)

        async def opening_too() -> Any:
            return await asyncio.open_connection(*address)  # leak: sockets

        asyncio.run(main())

    marked(leaking)
    marked.kept[:] = [writer._transport._sock for writer in marked.kept]


def test_a_task_that_ends_within_the_grace_is_clean(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            asyncio.create_task(asyncio.sleep(0.01))

        loop.run(main())

    marked(clean)


def test_a_task_that_is_cancelled_and_not_awaited_is_clean(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            task = asyncio.create_task(beat())
            await asyncio.sleep(0)
            task.cancel()

        loop.run(main())

    marked(clean)


def test_a_task_that_will_not_be_cancelled_leaks(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def stubborn() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await stuck()
            await stuck()

        async def main() -> None:
            task = asyncio.create_task(stubborn())  # leak: tasks
            await asyncio.sleep(0)
            task.cancel()

        loop.run(main())

    marked(leaking)


def test_a_generator_that_is_abandoned_is_clean(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            async for _ in numbers():
                break

        loop.run(main())

    marked(clean)


@pytest.mark.parametrize("pattern", ["tasks:heart*", "tasks:beat"])
def test_a_task_can_be_ignored_by_its_name_and_by_its_function(leaks: Leaks, loop: Loop, pattern: str) -> None:
    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(beat(), name="heartbeat-1")

        loop.run(main())

    assert [finding.verdict.value for finding in leaks(leaking, ignore=[pattern])] == ["ignored"]


def test_a_task_that_a_wider_fixture_made_is_none_of_the_tests(marked: Marked, loop: Loop) -> None:
    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(beat())

    def clean() -> None:
        loop.run(asyncio.sleep(0))

    with marked.fixture() as life:
        task = life.make(lambda: loop.run(begin()))
        marked(clean)
        task.cancel()


def test_a_wider_fixture_answers_for_the_task_that_it_leaves(marked: Marked, loop: Loop) -> None:
    async def begin() -> None:
        asyncio.create_task(beat())  # leak: tasks

    with marked.fixture(begin) as life:
        life.make(lambda: loop.run(begin()))


# -- tasks and the end of their loop -----------------------------------------------------------------------------------


def test_run_and_runner_cancel_what_is_left(marked: Marked, held: list[Any]) -> None:
    def clean() -> None:
        async def main() -> None:
            held.append(asyncio.create_task(beat()))
            await asyncio.sleep(0)

        asyncio.run(main())
        with asyncio.Runner() as runner:
            runner.run(main())

    marked(clean)


def test_a_loop_that_is_closed_over_a_task_leaves_that_task(marked: Marked, held: list[Any]) -> None:
    def leaking() -> None:
        loop = asyncio.new_event_loop()
        held.append(loop.create_task(beat()))  # leak: tasks
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    marked(leaking)


def test_a_loop_that_is_closed_after_its_tasks_is_clean(marked: Marked, held: list[Any]) -> None:
    def clean() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(beat())
        held.append(task)
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    marked(clean)


def test_a_fixture_that_closes_its_loop_later_tells_whose_task_is_left(marked: Marked, leaks: Leaks) -> None:
    loop = asyncio.new_event_loop()
    task: Any = None

    def leaking() -> None:
        nonlocal task
        task = loop.create_task(beat())  # leak: tasks
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()  # the fixture's teardown

    marked(leaking)


def test_a_task_that_is_destroyed_while_pending_leaks(
    marked: Marked, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.loop.set_exception_handler(lambda loop, context: None)

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(stuck())  # leak: tasks collected
            await asyncio.sleep(0)

        loop.run(main())
        gc.collect()

    (finding,) = marked(leaking)
    assert finding.summary.endswith("destroyed while pending")


def test_other_things_that_go_wrong_in_a_loop_are_no_leak(marked: Marked, loop: Loop) -> None:
    heard: list[Any] = []
    loop.loop.set_exception_handler(lambda loop, context: heard.append(context["message"]))

    def clean() -> None:
        async def main() -> None:
            asyncio.get_running_loop().call_soon(int, "no number")
            await asyncio.sleep(0)

        loop.run(main())

    marked(clean)
    assert len(heard) == 1


# -- one cause, one finding --------------------------------------------------------------------------------------------


def test_a_task_is_one_finding_with_the_task_that_it_awaits(marked: Marked, loop: Loop) -> None:
    async def parent() -> None:
        await asyncio.create_task(beat())

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(parent())  # leak: tasks
            await asyncio.sleep(0)

        loop.run(main())

    (finding,) = marked(leaking)
    assert [held.kind.value for held in finding.holds] == ["tasks"]
    assert "running beat()" in finding.holds[0].summary


def test_a_task_is_one_finding_with_the_tasks_that_it_gathers(marked: Marked, loop: Loop) -> None:
    async def parent() -> None:
        await asyncio.gather(beat(), parent_of_one(), asyncio.get_running_loop().create_future())

    async def parent_of_one() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(beat())

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(parent())  # leak: tasks
            await asyncio.sleep(0.001)

        loop.run(main())

    (finding,) = marked(leaking)
    assert len(finding.holds) == 3


def test_a_task_is_one_finding_with_what_it_waits_for_with_a_timeout(marked: Marked, loop: Loop) -> None:
    async def parent() -> None:
        await asyncio.wait_for(beat(), 60)

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(parent())  # leak: tasks
            await asyncio.sleep(0.001)

        loop.run(main())

    marked(leaking)


def test_a_task_is_one_finding_with_the_group_of_anyio_that_it_waits_in(marked: Marked, loop: Loop) -> None:
    anyio = pytest.importorskip("anyio")

    async def parent() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(beat)

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(parent())  # leak: tasks
            await asyncio.sleep(0.001)

        loop.run(main())

    marked(leaking)


def test_a_task_that_another_one_only_watches_is_a_cause_of_its_own(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def watch(task: asyncio.Task[None]) -> None:
            await asyncio.wait([task])

        async def main() -> None:
            task = asyncio.create_task(beat())  # leak: tasks
            asyncio.create_task(watch(task))  # leak: tasks
            await asyncio.sleep(0.001)

        loop.run(main())

    marked(leaking)


def test_tasks_that_wait_for_each_other_are_both_found(marked: Marked) -> None:
    def leaking() -> None:
        async def wait_for(other: list[asyncio.Task[None]]) -> None:
            await other[0]

        async def main() -> None:
            first: list[Any] = []
            second = [asyncio.create_task(wait_for(first))]  # leak: tasks
            first.append(asyncio.create_task(wait_for(second)))  # leak: tasks
            await asyncio.sleep(0.001)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()

    marked(leaking)


async def talk(address: tuple[str, int], held: list[Any] | None = None) -> None:
    reader, writer = await asyncio.open_connection(*address)
    try:
        if held is not None:
            held.append(writer)
        await reader.read()
    finally:
        writer.close()


def test_a_task_that_was_never_run_is_said_to_be_none_that_waits(loop: Loop) -> None:
    task = loop.loop.create_task(stuck(), name="late")
    assert tasks.describe(task) == "'late' to run stuck(), never started"
    loop.run(asyncio.sleep(0))
    assert tasks.describe(task).startswith("'late' running stuck(), waiting in stuck (")


def test_the_next_step_of_a_generator_that_is_over_has_its_name_and_no_address(loop: Loop) -> None:
    async def step() -> Any:
        made = numbers()
        waiting = made.asend(None)
        await made.aclose()
        return waiting

    waiting = loop.run(step())
    told = tasks.describe(SimpleNamespace(get_coro=lambda: waiting, get_name=lambda: "late"))
    waiting.close()
    assert told == "'late' running numbers()"


def test_a_task_is_one_finding_with_the_stream_inside_it(marked: Marked, loop: Loop, address: tuple[str, int]) -> None:
    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(talk(address))  # leak: tasks
            await asyncio.sleep(0.005)

        loop.run(main())

    (finding,) = marked(leaking)
    assert [held.kind.value for held in finding.holds] == ["sockets", "fds"]


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@contextlib.asynccontextmanager
async def listening_too() -> AsyncIterator[socket.socket]:
    with listening() as sock:
        yield sock


async def use_a_context() -> None:
    with listening():
        await asyncio.Event().wait()


async def use_an_asynchronous_context() -> None:
    async with listening_too():
        await asyncio.Event().wait()


async def use_a_stack_of_contexts() -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(listening_too())
        await asyncio.Event().wait()


async def use_a_generator() -> None:
    for _ in listening.__wrapped__():  # type: ignore[attr-defined]
        await asyncio.Event().wait()


async def use_an_asynchronous_generator() -> None:
    async for _ in listening_too.__wrapped__():  # type: ignore[attr-defined]
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "use",
    [
        use_a_context,
        use_an_asynchronous_context,
        use_a_stack_of_contexts,
        use_a_generator,
        use_an_asynchronous_generator,
    ],
)
def test_a_task_is_one_finding_with_what_its_generators_hold(marked: Marked, loop: Loop, use: Any) -> None:
    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(use())  # leak: tasks
            await asyncio.sleep(0.001)

        loop.run(main())

    (finding,) = marked(leaking)
    assert [held.kind for held in finding.holds] == [Kind.SOCKETS, Kind.FDS]


@pytest.mark.usefixtures("whole_heap")
def test_what_a_generator_holds_that_is_kept_elsewhere_too_is_a_cause_of_its_own(
    marked: Marked, held: list[Any], loop: Loop
) -> None:
    places: list[Any] = globals()["_places"]

    async def numbers() -> AsyncIterator[int]:
        with socket.socket() as sock:  # leak: sockets
            yield sock.fileno()
            yield sock.fileno()

    async def use(generator: AsyncIterator[int]) -> None:
        async for _ in generator:
            await asyncio.Event().wait()

    async def make_and_use() -> None:
        places.append(numbers())
        await anext(places[0])
        await use(places[0])

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(make_and_use())  # leak: tasks
            await asyncio.sleep(0.001)

        loop.run(main())

    marked(leaking, numbers)
    places.clear()


_places: list[Any] = []


@pytest.mark.usefixtures("whole_heap")
def test_a_stream_that_is_kept_elsewhere_too_is_a_cause_of_its_own(
    leaks: Leaks, held: list[Any], loop: Loop, address: tuple[str, int]
) -> None:
    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(talk(address, held))
            await asyncio.sleep(0.005)

        loop.run(main())

    assert sorted(finding.kind.value for finding in leaks(leaking)) == ["sockets", "tasks"]


def test_a_stream_that_a_task_was_only_given_is_a_cause_of_its_own(
    leaks: Leaks, loop: Loop, address: tuple[str, int]
) -> None:
    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(use(*await asyncio.open_connection(*address)))

        loop.run(main())

    assert sorted(finding.kind.value for finding in leaks(leaking)) == ["sockets", "tasks"]


SDK = """
import asyncio

class Client:
    async def start(self, address):
        self.reader, self.writer = await asyncio.open_connection(*address)
        self.task = asyncio.create_task(self.read())

    async def read(self):
        while True:
            await self.reader.readline()

async def connect(address):
    client = Client()
    await client.start(address)
    return client

async def open(address):
    client = Client()
    client.reader, client.writer = await asyncio.open_connection(*address)
    return client

def watch(client):
    client.task = asyncio.create_task(client.read())
"""


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("way", ["one call", "two calls", "kept"])
def test_what_a_library_has_made_with_the_task_that_uses_it_is_one_cause_with_it(
    leaks: Leaks, held: list[Any], loop: Loop, address: tuple[str, int], way: str
) -> None:
    sdk: dict[str, Any] = {"__name__": "sdk"}
    exec(compile(SDK, "/usr/lib/python3/site-packages/sdk/__init__.py", "exec"), sdk)

    def leaking() -> None:
        async def main() -> None:
            if way == "two calls":
                client = await sdk["open"](address)
                sdk["watch"](client)
                return
            client = await sdk["connect"](address)
            if way == "kept":
                held.append(client.writer)

        loop.run(main())

    found = leaks(leaking)
    is_one_call = way != "two calls"
    assert sorted(finding.kind.value for finding in found) == (["tasks"] if is_one_call else ["sockets", "tasks"])
    if is_one_call:
        assert found[0].holds[0].kind is Kind.SOCKETS


def test_a_task_that_is_destroyed_while_pending_takes_along_what_was_made_in_it(
    leaks: Leaks, loop: Loop, address: tuple[str, int]
) -> None:
    async def talking() -> None:
        _, writer = await asyncio.open_connection(*address)
        await asyncio.get_running_loop().create_future()
        writer.close()

    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(talking())
            await asyncio.sleep(0.02)
            gc.collect()

        loop.run(main())

    (finding,) = leaks(leaking)
    assert (finding.kind, finding.state) == (Kind.TASKS, State.COLLECTED)
    assert [held.kind for held in finding.holds] == [Kind.SOCKETS]


def test_what_was_dropped_beside_a_destroyed_task_is_a_leak_of_its_own(
    leaks: Leaks, loop: Loop, address: tuple[str, int]
) -> None:
    async def waiting() -> None:
        await asyncio.get_running_loop().create_future()

    def leaking() -> None:
        async def main() -> None:
            await asyncio.open_connection(*address)
            asyncio.create_task(waiting())
            await asyncio.sleep(0)
            gc.collect()

        loop.run(main())

    assert sorted(finding.kind.value for finding in leaks(leaking)) == ["sockets", "tasks"]


def test_a_task_is_one_finding_with_the_file_inside_it(marked: Marked, loop: Loop, tmp_path: Path) -> None:
    def leaking() -> None:
        async def writing() -> None:
            with (tmp_path / "log").open("w"):
                await stuck()

        async def main() -> None:
            asyncio.create_task(writing())  # leak: tasks
            await asyncio.sleep(0.001)

        loop.run(main())

    (finding,) = marked(leaking)
    assert [held.kind.value for held in finding.holds] == ["fds"]


def test_what_a_task_holds_is_forgiven_with_it_when_its_loop_ends(marked: Marked, address: tuple[str, int]) -> None:
    loop = asyncio.new_event_loop()

    def leaking() -> None:
        loop.create_task(talk(address))  # leak: tasks
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    marked(leaking)


# -- threads and other loops -------------------------------------------------------------------------------------------


@pytest.fixture
def threaded(session: Session) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread, both someone else's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop

    async def end() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_coroutine_that_is_left_in_another_threads_loop_leaks_at_the_line_that_sent_it(
    marked: Marked, threaded: asyncio.AbstractEventLoop
) -> None:
    def leaking() -> None:
        asyncio.run_coroutine_threadsafe(beat(), threaded)  # leak: tasks

    marked(leaking)


def test_a_coroutine_that_is_left_in_a_loop_with_a_task_factory_leaks_at_the_line_that_sent_it(
    marked: Marked, threaded: asyncio.AbstractEventLoop
) -> None:
    threaded.set_task_factory(wrapping)

    def leaking() -> None:
        asyncio.run_coroutine_threadsafe(beat(), threaded)  # leak: tasks

    marked(leaking)


@pytest.mark.parametrize("factory", [None, wrapping])
def test_a_coroutine_that_ends_in_another_threads_loop_is_clean(
    marked: Marked, threaded: asyncio.AbstractEventLoop, factory: Any
) -> None:
    threaded.set_task_factory(factory)

    def clean() -> None:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), threaded)
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "done"), threaded).result(10) == "done"
        asyncio.run_coroutine_threadsafe(threaded.shutdown_asyncgens(), threaded).result(10)
        asyncio.run_coroutine_threadsafe(threaded.shutdown_default_executor(), threaded).result(10)

    marked(clean)


def test_a_coroutine_that_another_threads_loop_never_begins_leaks(marked: Marked, loop: Loop) -> None:
    coroutine = beat()

    def leaking() -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop.loop)  # leak: tasks

    (finding,) = _without_turning(marked, leaking)
    assert "has not been begun" in finding.summary


def _without_turning(marked: Marked, function: Any) -> tuple[Finding, ...]:
    """Judge a function while no loop may be run from here, as one that another thread is about to run."""
    for record in marked.session.watch.table("loops"):
        record.thread = -1
    return marked(function)


def test_a_loop_that_another_thread_has_run_is_not_run_from_here(session: Session, leaks: Leaks) -> None:
    loop = asyncio.new_event_loop()
    ran: list[int] = []

    def leaking() -> None:
        thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.sleep(0),))
        thread.start()
        thread.join()
        loop.call_soon(lambda: ran.append(threading.get_ident()))
        loop.create_task(beat())

    findings = leaks(leaking)
    assert [finding.kind.value for finding in findings] == ["tasks"]
    assert ran == []
    Loop(loop).end()


def test_what_a_callback_makes_belongs_to_whoever_registered_it(marked: Marked, loop: Loop) -> None:
    def later() -> None:
        marked.kept.append(socket.socket())  # leak: sockets

    def leaking() -> None:
        loop.loop.call_soon(later)
        loop.run(asyncio.sleep(0))

    marked(leaking, later)


# -- loops -------------------------------------------------------------------------------------------------------------


def test_a_loop_that_is_kept_open_is_one_finding_without_its_pipe_and_poller(marked: Marked) -> None:
    def leaking() -> None:
        marked.kept.append(asyncio.new_event_loop())  # leak: loops

    (finding,) = marked(leaking)
    assert finding.type.endswith("SelectorEventLoop")
    assert finding.summary == "never closed"


def test_a_loop_that_is_closed_is_clean(marked: Marked, held: list[Any]) -> None:
    def clean() -> None:
        loop = asyncio.new_event_loop()
        held.append(loop)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        loop.close()

    marked(clean)


def test_a_loop_that_is_dropped_leaks(marked: Marked) -> None:
    def leaking() -> None:
        asyncio.new_event_loop().run_until_complete(asyncio.sleep(0))  # leak: loops collected

    (finding,) = marked(leaking)
    assert finding.summary == "dropped without being closed"


def test_a_loop_that_was_dropped_and_collected_before_leaks(marked: Marked) -> None:
    def leaking() -> None:
        asyncio.new_event_loop()  # leak: loops collected
        gc.collect()

    marked(leaking)


def test_a_loop_that_is_made_the_threads_own_leaks_like_any_other(marked: Marked) -> None:
    def leaking() -> None:
        loop = asyncio.new_event_loop()  # leak: loops
        asyncio.set_event_loop(loop)
        marked.kept.append(loop)

    marked(leaking)
    asyncio.set_event_loop(None)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the policy makes no loop of itself any more")
@pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")
def test_a_loop_that_the_policy_makes_for_whoever_asks_is_the_processs(marked: Marked) -> None:
    policy = asyncio.DefaultEventLoopPolicy()

    def clean() -> None:
        loop = policy.get_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        marked.kept.append(loop)

    marked(clean)


@pytest.fixture
def renewed_policy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """asyncio's policy, without a loop, and with another function to make one: what `nest_asyncio.apply()` does to it."""

    def get_event_loop(policy: Any) -> Any:
        if policy._local._loop is None:
            policy.set_event_loop(policy.new_event_loop())
        return policy._local._loop

    asyncio.set_event_loop(None)
    monkeypatch.setattr(type(_policy()), "get_event_loop", get_event_loop)
    yield
    asyncio.set_event_loop(None)


def _policy() -> Any:
    """asyncio's policy, for which it warns to ask from Python 3.14 on."""
    return asyncio.events._event_loop_policy  # type: ignore[attr-defined]


@pytest.mark.usefixtures("renewed_policy")
def test_a_loop_is_the_processs_also_where_the_policy_has_got_another_function_to_make_it(marked: Marked) -> None:
    def clean() -> None:
        marked.kept.append(_policy().get_event_loop())
        assert _policy().get_event_loop() is marked.kept[-1]

    marked(clean)


@pytest.mark.usefixtures("renewed_policy")
def test_a_loop_that_is_given_to_such_a_policy_leaks_like_any_other(marked: Marked) -> None:
    def leaking() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())  # leak: loops
        marked.kept.append(_policy().get_event_loop())

    marked(leaking)


LOOPS = """
import asyncio


def lasting():
    try:
        return asyncio.get_event_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop


def fresh():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def passing():
    before = lasting()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(before)
    return loop
"""


@pytest.fixture
def no_loop() -> Iterator[None]:
    """This thread without a loop, as a runner of tests leaves it."""
    asyncio.set_event_loop(None)
    yield
    asyncio.set_event_loop(None)


def _of_file(file: str) -> Any:
    """Functions that make a loop and set it, as if they were of a file."""
    module: dict[str, Any] = {"__name__": "library"}
    exec(compile(LOOPS, file, "exec"), module)
    return SimpleNamespace(**module)


@pytest.mark.usefixtures("no_loop")
def test_a_loop_that_a_library_makes_as_the_main_thread_has_none_is_the_processs(marked: Marked) -> None:
    library = _of_file("/usr/lib/python3/site-packages/library.py")

    def clean() -> None:
        marked.kept.append(library.lasting())
        assert library.lasting() is marked.kept[-1]

    marked(clean)


@pytest.mark.usefixtures("no_loop")
def test_a_loop_that_a_library_makes_whether_there_is_one_or_not_leaks(marked: Marked) -> None:
    library = _of_file("/usr/lib/python3/site-packages/library.py")

    def leaking() -> None:
        marked.kept.append(library.fresh())  # leak: loops

    marked(leaking)


@pytest.mark.usefixtures("no_loop")
def test_a_loop_that_a_library_sets_only_for_a_while_leaks(marked: Marked) -> None:
    library = _of_file("/usr/lib/python3/site-packages/library.py")

    def leaking() -> None:
        marked.kept.append(library.passing())  # leak: loops

    marked(leaking)


@pytest.mark.usefixtures("no_loop")
def test_a_loop_that_the_tested_code_makes_as_the_main_thread_has_none_leaks(marked: Marked) -> None:
    code = _of_file(str(Path(__file__).with_name("code.py")))

    def leaking() -> None:
        marked.kept.append(code.lasting())

    found = marked.found(leaking)
    assert [(each.kind, each.created and each.created.function) for each in found] == [(Kind.LOOPS, "lasting")]


def test_a_loop_that_a_library_makes_for_a_thread_of_the_tests_leaks(marked: Marked) -> None:
    library = _of_file("/usr/lib/python3/site-packages/library.py")

    def leaking() -> None:
        def work() -> None:
            marked.kept.append(library.lasting())  # leak: loops

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    marked(leaking)


def test_a_loop_that_runs_in_a_thread_is_found_as_running(leaks: Leaks) -> None:
    made: list[Any] = []

    def leaking() -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        made.extend((loop, thread))

    findings = leaks(leaking)
    loop, thread = made
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert {(finding.kind.value, finding.state.value) for finding in findings} >= {("loops", "running")}


def test_a_loop_that_runs_in_another_thread_is_not_what_ends_with_the_one_that_made_it(
    leaks: Leaks, ending: contextlib.ExitStack
) -> None:
    is_over = threading.Event()

    def end(loop: Any, thread: threading.Thread) -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def start() -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        ending.callback(end, loop, thread)

    def leaking() -> None:
        pool = ThreadPoolExecutor(1)
        ending.callback(pool.shutdown)
        ending.callback(is_over.set)
        pool.submit(start).result()
        pool.submit(is_over.wait)

    findings = leaks(leaking)
    assert Counter(finding.kind for finding in findings) == {Kind.LOOPS: 1, Kind.THREADS: 2}


# -- streams and transports --------------------------------------------------------------------------------------------


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


def test_a_stream_that_is_kept_open_leaks(marked: Marked, loop: Loop, address: tuple[str, int]) -> None:
    def leaking() -> None:
        async def main() -> None:
            _, writer = await asyncio.open_connection(*address)  # leak: sockets
            loop.kept.append(writer)

        loop.run(main())

    marked(leaking)


def test_a_stream_that_is_dropped_leaks(marked: Marked, loop: Loop, address: tuple[str, int]) -> None:
    def leaking() -> None:
        async def main() -> None:
            await asyncio.open_connection(*address)  # leak: sockets collected

        loop.run(main())

    marked(leaking)


def test_a_transport_that_is_dropped_leaks(marked: Marked, address: tuple[str, int]) -> None:
    def leaking() -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            await loop.create_connection(asyncio.Protocol, *address)  # leak: sockets collected

        asyncio.run(main())
        gc.collect()

    marked(leaking)


class Keeping(asyncio.Protocol):
    transport: Any = None


@pytest.mark.parametrize("is_socket_first", [False, True])
def test_a_transport_that_is_dropped_in_a_cycle_leaks_whichever_finalizer_is_first(
    marked: Marked, address: tuple[str, int], is_socket_first: bool
) -> None:
    def leaking() -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_connection(Keeping, *address)  # leak: sockets collected
            protocol.transport = transport
            if not is_socket_first:  # as it is among what is young
                gc.collect()

        asyncio.run(main())
        gc.collect()

    marked(leaking)


def test_one_that_is_closed_and_dropped_in_a_cycle_is_clean(marked: Marked, address: tuple[str, int]) -> None:
    def clean() -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_connection(Keeping, *address)
            protocol.transport = transport
            gc.collect()
            transport.close()

        asyncio.run(main())
        gc.collect()

    marked(clean)


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_stream_that_is_closed_is_clean(
    marked: Marked, held: list[Any], loop: Loop, address: tuple[str, int], is_awaited: bool
) -> None:
    def clean() -> None:
        async def main() -> None:
            _, writer = await asyncio.open_connection(*address)
            held.append(writer)
            writer.close()
            if is_awaited:
                await writer.wait_closed()

        loop.run(main())

    marked(clean)


def test_a_stream_that_is_closed_when_its_loop_is_closed_already_leaks(
    marked: Marked, held: list[Any], address: tuple[str, int]
) -> None:
    async def main() -> asyncio.StreamWriter:
        return (await asyncio.open_connection(*address))[1]  # leak: sockets

    def leaking() -> None:
        writer = asyncio.run(main())
        held.append(writer)
        with pytest.raises(RuntimeError, match="loop is closed"):
            writer.close()

    marked(leaking, main)
    held[0].transport._sock.close()


def test_a_stream_that_is_closed_too_late_and_dropped_leaks(marked: Marked, address: tuple[str, int]) -> None:
    async def main() -> asyncio.StreamWriter:
        return (await asyncio.open_connection(*address))[1]  # leak: sockets collected

    def leaking() -> None:
        writer = asyncio.run(main())
        with pytest.raises(RuntimeError, match="loop is closed"):
            writer.close()

    marked(leaking, main)


def test_a_stream_whose_loop_is_closed_before_all_is_sent_leaks(marked: Marked, held: list[Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:

        async def main() -> None:
            _, writer = await asyncio.open_connection(*nobody.getsockname())  # leak: sockets
            writer.write(b"x" * 50_000_000)  # more than the system takes for a server that reads nothing
            writer.close()
            held.append(writer)

        def leaking() -> None:
            asyncio.run(main())

        marked(leaking, main)
        held[0].transport._sock.close()


def test_a_transport_that_is_aborted_is_clean(marked: Marked, loop: Loop, address: tuple[str, int]) -> None:
    def clean() -> None:
        async def main() -> None:
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *address)
            transport.abort()

        loop.run(main())

    marked(clean)


def test_a_stream_inside_tls_that_is_kept_open_leaks_once(marked: Marked, loop: Loop, tls_server: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = urlsplit(tls_server).port

    def leaking() -> None:
        async def main() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)  # leak: sockets
            await writer.start_tls(context)
            loop.kept.append(writer)

        loop.run(main())

    marked(leaking)


def test_a_server_that_is_left_leaks_its_listening_socket_alone(marked: Marked, held: list[Any], loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            server = await asyncio.start_server(echo, "127.0.0.1", 0)  # leak: sockets
            loop.kept.append(server)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            writer.close()
            await writer.wait_closed()

        loop.run(main())

    (finding,) = marked(leaking)
    assert "listening" in finding.summary


def test_the_client_of_a_server_of_ones_own_leaks_without_the_servers_side(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())  # leak: sockets
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            loop.kept.append(writer)
            server.close()

        loop.run(main())

    marked(leaking)


def test_a_handler_that_hangs_is_its_servers(marked: Marked, loop: Loop) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.gather(stuck(), stuck())

    def clean() -> None:
        async def main() -> None:
            server = await asyncio.start_server(hang, "127.0.0.1", 0)
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await asyncio.sleep(0.005)
            asyncio.create_task(asyncio.sleep(0.005))
            writer.close()
            server.close()

        loop.run(main())

    marked(clean)


def test_a_datagram_endpoint_that_is_kept_open_leaks(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(  # leak: sockets
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            loop.kept.append(transport)

        loop.run(main())

    marked(leaking)


def test_a_datagram_endpoint_that_is_closed_is_clean(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            transport.close()

        loop.run(main())

    marked(clean)


def test_a_subprocess_that_is_awaited_is_clean(marked: Marked, held: list[Any], loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            process = await asyncio.create_subprocess_exec("true", stdin=-1, stdout=-1, stderr=-1)
            await process.communicate()
            held.append(process)

        loop.run(main())

    marked(clean)


# -- uvloop ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def native(uvloop: Any) -> Iterator[Loop]:
    """A loop of uvloop's that is someone else's."""
    loop = Loop(uvloop.new_event_loop())
    yield loop
    loop.end()


def test_a_loop_of_uvloop_that_is_kept_open_is_one_finding(marked: Marked, uvloop: Any) -> None:
    def leaking() -> None:
        loop = uvloop.new_event_loop()  # leak: loops
        loop.run_until_complete(asyncio.sleep(0))
        marked.kept.append(loop)

    (finding,) = marked(leaking)
    assert (finding.library, finding.type) == ("uvloop", "uvloop.Loop")


def test_a_loop_of_uvloop_that_is_closed_is_clean(marked: Marked, held: list[Any], uvloop: Any) -> None:
    def clean() -> None:
        loop = uvloop.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        held.append(loop)

    marked(clean)


def test_a_task_on_uvloop_leaks_with_its_line(marked: Marked, native: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(beat())  # leak: tasks

        native.run(main())

    marked(leaking)


def test_a_task_that_uvloop_makes_by_a_callback_leaks_at_the_line_that_told_it_to(marked: Marked, native: Loop) -> None:
    def sending() -> None:
        native.loop.call_soon_threadsafe(native.loop.create_task, beat())  # leak: tasks
        native.run(asyncio.sleep(0.001))

    def waiting() -> None:
        native.loop.call_later(0, asyncio.ensure_future, beat())  # leak: tasks
        native.run(asyncio.sleep(0.01))

    marked(sending)
    marked(waiting)


def test_a_stream_on_uvloop_leaks_with_its_line(marked: Marked, native: Loop, address: tuple[str, int]) -> None:
    def leaking() -> None:
        async def main() -> None:
            _, writer = await asyncio.open_connection(*address)  # leak: sockets
            native.kept.append(writer)

        native.run(main())

    marked(leaking)


def test_a_stream_on_uvloop_that_is_closed_is_clean(marked: Marked, native: Loop, address: tuple[str, int]) -> None:
    def clean() -> None:
        async def main() -> None:
            _, writer = await asyncio.open_connection(*address)
            writer.close()

        native.run(main())

    marked(clean)


def test_a_server_on_uvloop_leaks_with_its_line(marked: Marked, native: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            native.kept.append(await asyncio.start_server(echo, "127.0.0.1", 0))  # leak: sockets

        native.run(main())

    marked(leaking)


def test_a_task_on_uvloop_is_one_finding_with_the_stream_inside_it(
    marked: Marked, native: Loop, address: tuple[str, int]
) -> None:
    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(talk(address))  # leak: tasks
            await asyncio.sleep(0.005)

        native.run(main())

    marked(leaking)


def test_a_connection_that_uvloop_cannot_make_is_clean(marked: Marked, native: Loop) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]

    def clean() -> None:
        with pytest.raises(OSError, match="refused"):
            native.run(asyncio.open_connection("127.0.0.1", port))

    marked(clean)


# -- trio --------------------------------------------------------------------------------------------------------------


def test_a_socket_that_trio_opens_in_tasks_of_its_own_has_the_users_line(
    marked: Marked, address: tuple[str, int]
) -> None:
    trio = pytest.importorskip("trio")

    def leaking() -> None:
        async def main() -> None:
            stream = await trio.open_tcp_stream(*address)  # leak: sockets
            marked.kept.append(stream.socket._sock)

        trio.run(main)

    marked(leaking)


def test_a_socket_of_a_librarys_own_task_has_the_line_that_runs_it_in_trio(
    marked: Marked, address: tuple[str, int]
) -> None:
    trio = pytest.importorskip("trio")

    def leaking() -> None:
        stream = trio.run(trio.open_tcp_stream, *address)  # leak: sockets
        marked.kept.append(stream.socket._sock)

    marked(leaking)


def test_a_socket_that_trio_opens_and_closes_is_clean(marked: Marked, address: tuple[str, int]) -> None:
    trio = pytest.importorskip("trio")

    def clean() -> None:
        async def main() -> None:
            async with await trio.open_tcp_stream(*address):
                pass

        trio.run(main)

    marked(clean)


# -- the observer and the observed -------------------------------------------------------------------------------------


def test_a_loop_closes_after_a_leaked_task_as_it_would_without_the_watch(leaks: Leaks, loop: Loop) -> None:
    task: Any = None

    def leaking() -> None:
        nonlocal task
        loop.loop.set_debug(True)
        task = loop.loop.create_task(beat())
        loop.run(asyncio.sleep(0))

    assert len(leaks(leaking)) == 1
    assert not task.done()
    assert not loop.loop.is_closed()
    loop.end()
    assert task.cancelled()


def with_factory(loop: Any) -> Any:
    loop.set_task_factory(lambda loop, coro, **kwargs: asyncio.Task(coro, loop=loop, **kwargs))
    return loop.create_task(beat())


@pytest.mark.parametrize("kind", ["loop", "native"])
@pytest.mark.parametrize(
    "make",
    [
        lambda loop: loop.create_task(beat()),
        lambda loop: asyncio.create_task(beat()),
        lambda loop: asyncio.ensure_future(beat()),
        with_factory,
        lambda loop: loop.call_soon_threadsafe(id, 1),
        lambda loop: loop.call_at(0, id, 1),
        lambda loop: loop.call_later(0, id, 1),
    ],
    ids=["of the loop", "of asyncio", "ensure_future", "by a factory", "handle", "timer", "timer by delay"],
)
def test_debug_mode_tells_who_made_something_as_it_would_without_the_watch(
    request: pytest.FixtureRequest, session: Session, kind: str, make: Callable[[Any], Any]
) -> None:
    loop = request.getfixturevalue(kind)
    loop.loop.set_debug(True)

    async def main() -> list[str]:
        stack = make(loop.loop)._source_traceback
        return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in stack][-3:]  # of ten that are kept

    seen = loop.run(main())
    session.stop()
    assert seen == loop.run(main())
    assert any("test_adapter_asyncio" in each for each in seen)


def test_a_task_that_wants_to_leave_the_program_does_not_leave_the_judgement(leaks: Leaks, loop: Loop) -> None:
    async def leave() -> None:
        await asyncio.sleep(0.001)
        raise SystemExit(3)

    tasks_made: list[Any] = []

    def clean() -> None:
        async def main() -> None:
            tasks_made.append(asyncio.create_task(leave()))

        loop.run(main())

    assert leaks(clean) == ()
    assert isinstance(tasks_made[0].exception(), SystemExit)


def test_a_loop_whose_clock_stands_still_does_not_stop_the_judgement(
    leaks: Leaks, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.loop, "time", lambda: 1.0, raising=False)

    def leaking() -> None:
        loop.loop.create_task(beat())

    assert len(leaks(leaking)) == 1


def test_a_block_that_is_judged_inside_a_running_loop_does_not_block_it(session: Session, loop: Loop) -> None:
    settings = settings_from_keywords(default_settings(), {"grace": 30}, "a block")

    async def main() -> tuple[Finding, ...]:
        block = Block(session, settings, None)
        asyncio.create_task(beat())
        return block.end().findings

    (finding,) = loop.run(asyncio.wait_for(main(), 10))
    assert finding.state is State.PENDING


def test_a_block_that_is_judged_inside_a_running_loop_lets_a_thread_end(session: Session, loop: Loop) -> None:
    settings = settings_from_keywords(default_settings(), {"grace": 10}, "a block")
    ending = threading.Event()

    async def main() -> tuple[Finding, ...]:
        block = Block(session, settings, None)
        thread = threading.Thread(target=ending.wait, args=(0.02,))
        thread.start()
        return block.end().findings

    assert loop.run(main()) == ()


def test_the_context_of_the_code_under_test_is_as_it_was(marked: Marked, loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def clean() -> None:
        async def main() -> str:
            variable.set("inside")
            return await asyncio.create_task(child())

        async def child() -> str:
            return variable.get()

        assert loop.run(main()) == "inside"
        assert variable.get() == "unset"

    marked(clean)


def test_tasks_at_once_are_counted(leaks: Leaks, loop: Loop) -> None:
    def busy() -> None:
        async def main() -> None:
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))

        loop.run(main())
        for _ in range(2):
            asyncio.new_event_loop().close()

    assert leaks(busy, peak_tasks=4) == ()
    (finding,) = leaks(busy, peak_tasks=3)
    assert (finding.kind.value, finding.state.value) == ("tasks", "peak")


@pytest.mark.parametrize("has_factory", [False, True])
def test_an_error_of_the_watchs_own_stays_behind_its_wall(
    monkeypatch: pytest.MonkeyPatch, uvloop: Any, address: tuple[str, int], has_factory: bool
) -> None:
    session = Session(rootdir="/")
    session.start()
    monkeypatch.setattr(session.watch, "task_coming", broken)
    monkeypatch.setattr(session.watch, "task_made", broken)
    monkeypatch.setattr(session.watch, "give", broken)

    async def main() -> str:
        if has_factory:
            asyncio.get_running_loop().set_task_factory(lambda *args, **keywords: asyncio.Task(args[1], loop=args[0]))
        _, writer = await asyncio.open_connection(*address)
        writer.close()
        return await asyncio.create_task(asyncio.sleep(0, "unharmed"))

    try:
        for run in (asyncio.run, uvloop.run):
            for wall in session.watch.walls:
                wall.on = True
            assert run(main()) == "unharmed"
        assert (
            "the adapter for asyncio was switched off for the rest of this run: ValueError: broken"
            in session.errors()[0]
        )
    finally:
        session.stop()


def broken(*args: Any) -> None:
    raise ValueError("broken")


def test_nothing_is_noted_once_the_watch_is_off(session: Session, loop: Loop) -> None:
    async def by_class() -> None:
        await asyncio.Task(asyncio.sleep(0))

    session.watch.on = False
    made = session.watch.births_of_tasks
    loop.run(asyncio.sleep(0))
    loop.run(by_class())
    asyncio.run(asyncio.sleep(0))
    session.watch.on = True
    assert session.watch.births_of_tasks == made


def test_a_running_loop_can_be_let_settle_without_being_blocked() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> tuple[bool, bool]:
        counting = asyncio.create_task(count())
        settled = await settle(lambda: turns > 3, 1.0)
        never = await settle(lambda: False, 0.001)
        counting.cancel()
        return settled, never

    assert asyncio.run(main()) == (True, False)
    assert turns > 10


def test_trio_can_be_let_settle_too() -> None:
    trio = pytest.importorskip("trio")
    looks: list[int] = []

    def look() -> bool:
        looks.append(1)
        return len(looks) > 2

    async def main() -> bool:
        return await settle(look, 1.0)

    assert trio.run(main)


def test_no_grace_means_one_look() -> None:
    async def main() -> bool:
        return await settle(lambda: True, 0)

    assert asyncio.run(main())
    assert list(pauses(0)) == []


def test_pauses_are_at_least_ten_and_back_off() -> None:
    found = list(pauses(0.000_001))
    assert len(found) == 10
    assert found[0] == 0.001
    assert max(found) <= 0.05


@pytest.mark.parametrize("grace", [0.01, 0.02, 0.1, 0.5])
def test_ten_pauses_are_no_longer_than_the_grace(grace: float) -> None:
    assert 0.5 * grace <= sum(itertools.islice(pauses(grace), 10)) <= grace * 1.001


def test_where_looking_takes_long_they_are_no_fewer_than_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where hundreds of clients have leaked, each of which is looked at in each pause."""
    moments = itertools.count(0, 1.5)  # seconds: one look each
    monkeypatch.setattr(Real, "monotonic", staticmethod(lambda: next(moments)))
    assert len(list(pauses(0.5))) == 3


def test_a_task_of_a_loop_that_is_closed_meanwhile_stops_the_turning() -> None:
    loop = asyncio.new_event_loop()
    loop.call_soon(lambda: None)
    tasks.let_run(loop, 0)
    loop.close()
    tasks.let_run(loop, 0.01)
    assert not tasks.can_run(loop)


@pytest.mark.parametrize("name", ["call_soon", "call_later", "stop", "run_forever"])
def test_a_loop_that_has_a_mock_for_a_method_is_run_by_its_class(loop: Loop, name: str) -> None:
    ran: list[str] = []
    loop.loop.call_soon(ran.append, name)
    with mock.patch.object(loop.loop, name), _limited():
        assert tasks.can_run(loop.loop)
        tasks.let_run(loop.loop, 0.01)
    assert ran == [name]


@pytest.mark.parametrize("autospec", [True, None])
@pytest.mark.parametrize("name", ["call_soon", "call_later", "stop", "run_forever", "_run_once", "_process_events"])
def test_a_loop_whose_class_has_a_mock_for_a_method_stops_again(loop: Loop, name: str, autospec: bool | None) -> None:
    with mock.patch.object(asyncio.BaseEventLoop, name, autospec=autospec, create=True), _limited():
        tasks.let_run(loop.loop, 0)
    assert not loop.loop._stopping  # type: ignore[attr-defined]


def test_a_loop_that_is_spied_on_is_run(loop: Loop) -> None:
    ran: list[str] = []
    original = asyncio.BaseEventLoop.call_soon
    with mock.patch.object(asyncio.BaseEventLoop, "call_soon", autospec=True, side_effect=original):
        loop.loop.call_soon(ran.append, "first")
        assert tasks.can_run(loop.loop)
        tasks.let_run(loop.loop, 0)
    assert ran == ["first"]


def test_a_loop_that_has_a_mock_for_a_selector_is_not_run(loop: Loop) -> None:
    with mock.patch.object(loop.loop, "_selector"):
        assert not tasks.can_run(loop.loop)


class Proxy:
    """Has whatever it is asked for."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __getattr__(self, name: str) -> Any:
        return getattr(self.thing, name, lambda: None)


def test_a_loop_that_has_a_proxy_for_a_selector_is_run(loop: Loop) -> None:
    with mock.patch.object(loop.loop, "_selector", Proxy(loop.loop._selector)), _limited():  # type: ignore[attr-defined]
        assert tasks.can_run(loop.loop)
        tasks.let_run(loop.loop, 0)


class NeverStopping(asyncio.SelectorEventLoop):
    def stop(self) -> None:
        raise RuntimeError


class Doing(asyncio.SelectorEventLoop):
    """Runs in a way of its own."""

    def run_forever(self) -> None:
        super().run_forever()


@pytest.mark.parametrize("cls", [NeverStopping, Doing])
def test_a_loop_of_somebodys_class_is_run_and_stops_again(cls: Callable[[], Any]) -> None:
    ran: list[str] = []
    with contextlib.closing(cls()) as own, _limited():
        own.call_soon(ran.append, "first")
        tasks.let_run(own, 0.01)
    assert ran == ["first"]


def test_a_loop_of_somebodys_class_that_has_a_mock_is_not_run() -> None:
    with contextlib.closing(Doing()) as own:
        assert tasks.can_run(own)
        with mock.patch.object(Doing, "stop", autospec=True):
            assert not tasks.can_run(own)


def test_a_loop_in_c_that_has_a_mock_for_a_method_is_run_by_its_class() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    native = uvloop.new_event_loop()
    native.call_later = mock.Mock()
    with contextlib.closing(native), _limited():
        tasks.let_run(native, 0.001)


def test_a_loop_that_is_left_with_a_mock_does_not_stop_the_tests(inner: Inner) -> None:
    inner.write(
        test_a="""
        import asyncio
        from unittest.mock import Mock

        KEPT = []

        def test_leaks():
            loop = asyncio.new_event_loop()
            loop.call_soon = loop.call_later = Mock()
            KEPT.extend([loop, asyncio.sleep(0)])

        def test_leaks_too():
            KEPT.append(asyncio.new_event_loop())
        """
    )
    inner.judge(test_leaks="leaked", test_leaks_too="leaked")


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Ends what would never end."""

    def late(*_: object) -> None:
        raise TimeoutError

    handler = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 20)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def test_without_asyncio_there_are_no_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "asyncio")
    assert tasks.pending(None) == []
    assert not tasks.can_run(None)


@types.coroutine
def _pause() -> Iterator[None]:
    yield


async def _below() -> None:
    await _pause()


async def _above() -> None:
    await _below()


async def wait_for(awaitable: Any) -> None:
    """Compiled below as if asyncio had it: is around what a task was made with."""
    await awaitable


@pytest.mark.parametrize("is_around", [False, True], ids=["plain", "asyncio's own around it"])
def test_the_code_of_a_task_is_its_own_and_not_that_of_what_it_calls(is_around: bool) -> None:
    of_asyncio = wait_for.__code__.replace(co_filename=asyncio.tasks.__file__)
    around = types.FunctionType(of_asyncio, globals())
    coroutine = around(_above()) if is_around else _above()
    coroutine.send(None)
    try:
        assert list(taskframes.codes(awaits(coroutine))) == [*[of_asyncio] * is_around, _above.__code__]
    finally:
        coroutine.close()


def test_what_a_module_keeps_is_kept_elsewhere() -> None:
    thing = ["kept"]
    module = type(sys)("somewhere")
    module.thing = thing  # type: ignore[attr-defined]
    assert taskframes.is_kept_elsewhere(thing, [], lambda part: False)


def test_marked_comments_are_read(leaks: Leaks) -> None:
    def leaking() -> None:
        pass  # leak: tasks

    assert sum(expected(leaking).values()) == 1
    assert seen(()) == {}


logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def test_what_a_loop_opens_for_itself_is_not_recorded(session: Session) -> None:
    before = session.watch.open_sockets, recorded(session)
    loop = asyncio.new_event_loop()
    assert (session.watch.open_sockets, recorded(session)) == before
    loop.close()
    assert (session.watch.open_sockets, recorded(session), session.watch.making) == (*before, set())


def recorded(session: Session) -> set[int]:
    """The open descriptors whose making was noted."""
    return {fd for fd, (_, _, known) in session.watch.fds.items() if known == descriptors.identity(fd)}


def test_a_selector_that_a_loop_is_given_is_whoever_made_it(session: Session) -> None:
    selector = selectors.DefaultSelector()
    loop = asyncio.SelectorEventLoop(selector)
    assert selector.fileno() in session.watch.fds
    loop.close()


def test_a_loop_that_cannot_be_made_leaves_the_watch_as_it_was(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(loop: object) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "_make_self_pipe", fails)
    with pytest.raises(OSError, match="too many"):
        asyncio.SelectorEventLoop()
    assert session.watch.making == set()
