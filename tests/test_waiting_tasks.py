"""Tasks that wait for something of a wider fixture: the test's, unless an object of the fixture has started and keeps them."""

from __future__ import annotations

import pytest
from inner import Inner

WAITING = """
import asyncio
import socket

import pytest

{imports}
KEPT = []


class Worker:
    def __init__(self, wait=None):
        self.wait = wait
        self.task = None

    async def start(self):
        self.task = asyncio.create_task(self.run())
        await asyncio.sleep(0)

    async def run(self):
        one, other = socket.socketpair()
        with one, other:
            child = asyncio.create_task(asyncio.sleep(60))
            try:
                await self.wait()
            finally:
                child.cancel()

    async def stop(self):
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def wait(runner):
    async def make():
        {make}

    return runner.run(make())


@pytest.fixture(scope="module")
def service(runner):
    service = Worker(asyncio.Event().wait)
    yield service
    runner.run(service.stop())


def test_leaks(runner, wait):
    KEPT.append(Worker(wait))
    runner.run(KEPT[0].start())


def test_ends_it(runner, wait):
    worker = Worker(wait)
    runner.run(worker.start())
    runner.run(worker.stop())


def test_lets_the_fixture_start_its_own(runner, service):
    runner.run(service.start())


def test_nothing(runner, service):
    assert not service.task.done()
"""


ANYIO = "anyio = pytest.importorskip('anyio')"


@pytest.mark.parametrize(
    ("imports", "make"),
    [
        ("", "return asyncio.Event().wait"),
        ("", "return asyncio.Queue().get"),
        ("", "return asyncio.Semaphore(0).acquire"),
        ("", "lock = asyncio.Lock(); await lock.acquire(); return lock.acquire"),
        ("", "future = asyncio.get_running_loop().create_future(); return lambda: asyncio.wait([future])"),
        (ANYIO, "return anyio.Event().wait"),
        (ANYIO, "return anyio.create_memory_object_stream(0)[1].receive"),
        (ANYIO, "return anyio.Semaphore(0).acquire"),
    ],
    ids=["event", "queue", "semaphore", "lock", "future", "anyio-event", "anyio-stream", "anyio-semaphore"],
)
def test_what_a_task_waits_for_does_not_keep_it(inner: Inner, imports: str, make: str) -> None:
    inner.write(test_a=WAITING.replace("{imports}", imports).replace("{make}", make))
    inner.run("-W", "ignore")
    assert {name: outcome for name, outcome in inner.outcomes().items() if outcome != "clean"} == {
        "test_leaks": "leaked"
    }
    assert inner.report["fixtures"] == []
    (leaking,) = (row for row in inner.report["tests"] if row["outcome"] == "leaked")
    assert [each["kind"] for each in leaking["findings"]] == ["tasks", "tasks"]  # and its child


REGISTERED = """
import functools
import socket

import pytest


class Api:
    all = []

    def __init__(self):
        self.sock = socket.socket()
        self.all.append(self)

    def another(self):
        return Api()


@pytest.fixture(scope="module")
def api():
    with Api().sock:
        yield Api.all[0]
    while Api.all:
        Api.all.pop().sock.close()


@pytest.fixture(scope="module")
def cls():
    yield Api
    while Api.all:
        Api.all.pop().sock.close()


@pytest.fixture(scope="module")
def make():
    yield functools.partial(functools.partial(Api))
    while Api.all:
        Api.all.pop().sock.close()


def test_makes_one(api):
    Api()


def test_lets_the_fixture_make_one(api):
    api.another()


def test_makes_one_of_the_class_of_a_fixture(cls):
    cls()


def test_makes_one_by_a_partial_function(make):
    make()
"""


def test_an_object_has_not_made_what_another_of_its_class_makes_in_its_constructor(inner: Inner) -> None:
    inner.write(test_a=REGISTERED)
    inner.run("-W", "ignore")
    assert {name: outcome for name, outcome in inner.outcomes().items() if outcome != "clean"} == {
        "test_makes_one": "leaked"
    }
    assert inner.report["fixtures"] == []
