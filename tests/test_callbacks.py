"""Tasks that a loop makes by a callback which is nothing but the function for that: no frame of the user's is on the way."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from inner import Inner
from loops import Loop
from marked import Marked


async def beat() -> None:
    await asyncio.sleep(60)


def create_task(coroutine: Any) -> asyncio.Task[None]:
    return asyncio.create_task(coroutine)  # leak: tasks


def test_a_task_leaks_at_the_line_that_sent_its_coroutine_to_the_loop(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        loop.loop.call_soon_threadsafe(loop.loop.create_task, beat())  # leak: tasks
        loop.run(asyncio.sleep(0))

    marked(leaking)


def test_a_task_leaks_at_the_line_that_set_the_timer_for_it(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        loop.loop.call_later(0, asyncio.ensure_future, beat())  # leak: tasks
        loop.run(asyncio.sleep(0.001))

    marked(leaking)


def test_each_task_of_a_partial_call_leaks_there(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        loop.loop.call_soon_threadsafe(functools.partial(asyncio.gather, beat(), beat()))  # leak: tasks x2
        loop.run(asyncio.sleep(0))

    marked(leaking)


def test_where_a_task_factory_makes_the_task_at_once_it_is_that_line_too(marked: Marked, loop: Loop) -> None:
    loop.loop.set_task_factory(lambda loop, coroutine, **kwargs: asyncio.Task(coroutine, loop=loop, **kwargs))

    def leaking() -> None:
        loop.loop.call_soon_threadsafe(loop.loop.create_task, beat())  # leak: tasks
        loop.run(asyncio.sleep(0))

    marked(leaking)


def test_a_loop_may_be_told_by_keywords(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        called: list[int] = []
        loop.loop.call_at(when=0, callback=functools.partial(called.append, 1))
        loop.loop.call_soon_threadsafe(callback=functools.partial(asyncio.ensure_future, beat()))  # leak: tasks
        loop.loop.call_later(delay=0, callback=functools.partial(asyncio.ensure_future, beat()))  # leak: tasks
        loop.run(asyncio.sleep(0.001))
        assert called == [1]

    with pytest.raises(TypeError):
        loop.loop.call_at(0)  # type: ignore[call-arg]
    marked(leaking)


def test_a_function_of_the_users_own_is_named_by_its_own_line(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        loop.loop.call_soon_threadsafe(create_task, beat())
        loop.run(asyncio.sleep(0))

    marked(leaking, create_task)


def test_what_is_called_off_in_time_or_ends_is_clean(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        coroutine = beat()
        loop.loop.call_later(60, loop.loop.create_task, coroutine).cancel()
        coroutine.close()
        loop.loop.call_soon_threadsafe(loop.loop.create_task, asyncio.sleep(0))
        loop.run(asyncio.sleep(0.001))

    marked(clean)
    assert marked.session.watch.scheduled == {}


SUITE = """
import asyncio, functools, threading, unittest
import pytest

async def beat():  # of call_soon
    await asyncio.sleep(60)

@pytest.fixture(scope="module")
def background():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop

    async def end():
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    asyncio.run_coroutine_threadsafe(end(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()

def test_in_a_fixtures_loop(background):
    background.call_soon_threadsafe(background.create_task, beat())  # of in_a_fixtures_loop
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), background).result()

@pytest.mark.asyncio
async def test_threadsafe():
    asyncio.get_running_loop().call_soon_threadsafe(asyncio.ensure_future, beat())  # of threadsafe
    await asyncio.sleep(0)

@pytest.mark.asyncio
async def test_later():
    asyncio.get_running_loop().call_later(0, functools.partial(asyncio.create_task, beat()))  # of later
    await asyncio.sleep(0.01)

@pytest.mark.asyncio
async def test_call_soon():
    asyncio.get_running_loop().call_soon(asyncio.ensure_future, beat())
    await asyncio.sleep(0)

@pytest.mark.asyncio
async def test_call_soon_with_a_factory():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coroutine, **kwargs: asyncio.Task(coroutine, loop=loop, **kwargs))
    loop.call_soon(loop.create_task, beat())
    await asyncio.sleep(0)

def test_call_soon_in_a_fixtures_loop(background):
    background.call_soon_threadsafe(background.call_soon, background.create_task, beat())
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), background).result()

class TestIt(unittest.IsolatedAsyncioTestCase):
    async def test_unittest(self):
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.create_task, beat())  # of unittest
        await asyncio.sleep(0)

@pytest.mark.asyncio
async def test_clean():
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.create_task, asyncio.sleep(0))
    loop.call_soon_threadsafe(asyncio.ensure_future, asyncio.sleep(0))
    await asyncio.sleep(0.01)
"""


def test_under_a_test_runner_such_tasks_leak_and_have_a_line_of_the_users(inner: Inner) -> None:
    inner.write(test_a=SUITE)
    inner.run("-p", "pytest_asyncio.plugin", "-W", "ignore")
    lines = {
        line.rpartition("# of ")[2]: number
        for number, line in enumerate(SUITE.lstrip().splitlines(), 1)
        if "# of " in line
    }
    found = {
        row["nodeid"].rpartition("::test_")[2]: [(each["kind"], each["created"]["line"]) for each in row["findings"]]
        for row in inner.report["tests"]
    }
    lines |= dict.fromkeys(("call_soon_with_a_factory", "call_soon_in_a_fixtures_loop"), lines["call_soon"])
    assert found == {**{name: [("tasks", line)] for name, line in lines.items()}, "clean": []}
