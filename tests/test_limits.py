"""Limits while a test runs: one too many at once fails, the same number one after the other does not."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest
from inner import Inner
from marked import Leaks

NUMBER = 3
Make = Callable[[str, ExitStack], None]


def response(server: str, stack: ExitStack) -> None:
    connection = stack.enter_context(closing(http.client.HTTPConnection(urlsplit(server).netloc)))
    connection.request("GET", "/ok")
    stack.enter_context(connection.getresponse())


def connection(server: str, stack: ExitStack) -> None:
    stack.enter_context(closing(http.client.HTTPConnection(urlsplit(server).netloc))).connect()


def plain_socket(server: str, stack: ExitStack) -> None:
    stack.enter_context(socket.socket())


def thread(server: str, stack: ExitStack) -> None:
    end = threading.Event()
    started = threading.Thread(target=end.wait)
    started.start()
    stack.callback(started.join)
    stack.callback(end.set)


def client(server: str, stack: ExitStack) -> None:
    stack.enter_context(pytest.importorskip("httpx").Client())


MAKERS: dict[str, Make] = {
    "peak_responses": response,
    "peak_connections": connection,
    "peak_sockets": plain_socket,
    "peak_threads": thread,
}


def at_once(make: Make, server: str) -> Callable[[], None]:
    def run() -> None:
        with ExitStack() as stack:
            for _ in range(NUMBER):
                make(server, stack)

    return run


def one_by_one(make: Make, server: str) -> Callable[[], None]:
    def run() -> None:
        for _ in range(NUMBER):
            with ExitStack() as stack:
                make(server, stack)

    return run


@pytest.mark.parametrize(("key", "make"), MAKERS.items())
def test_more_at_once_than_the_limit_fails_with_who_held_them(leaks: Leaks, server: str, key: str, make: Make) -> None:
    assert leaks(at_once(make, server), **{key: NUMBER}) == ()
    (finding,) = leaks(at_once(make, server), **{key: NUMBER - 1})
    kind = key.removeprefix("peak_")
    assert (finding.kind.value, finding.state.value) == (kind, "peak")
    assert finding.summary == f"{NUMBER} {kind} open at once, and the limit is {NUMBER - 1}"
    assert finding.created is not None
    assert finding.created.function == make.__name__
    (holder,) = finding.holds
    assert holder.summary == f"{NUMBER} from {finding.created.file}:{finding.created.line}"


@pytest.mark.parametrize(("key", "make"), MAKERS.items())
def test_as_many_one_after_the_other_are_within_the_limit(leaks: Leaks, server: str, key: str, make: Make) -> None:
    assert leaks(one_by_one(make, server), **{key: 1}) == ()


async def _sleep() -> None:
    await asyncio.sleep(0)


def test_tasks_at_once_are_limited(leaks: Leaks) -> None:
    async def together() -> None:
        await asyncio.gather(*[asyncio.create_task(_sleep()) for _ in range(NUMBER)])

    (finding,) = leaks(lambda: asyncio.run(together()), peak_tasks=NUMBER)
    # The one that runs them all is one more.
    assert finding.summary == f"{NUMBER + 1} tasks open at once, and the limit is {NUMBER}"
    assert leaks(lambda: asyncio.run(together()), peak_tasks=NUMBER + 1) == ()


OF_RUNNERS = """
import asyncio
import unittest

import pytest


async def three():
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))


@pytest.mark.asyncio
@pytest.mark.httpleak(peak_tasks=3)
async def test_three(httpleak):
    assert httpleak.snapshot().tasks == 0
    await three()
    assert httpleak.peak("tasks") == 3


@pytest.mark.asyncio
@pytest.mark.httpleak(peak_tasks=2)
async def test_one_more():
    await three()


@pytest.mark.asyncio
@pytest.mark.httpleak(peak_tasks=2)
async def test_made_by_callbacks(httpleak):
    for _ in range(3):
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, asyncio.sleep(0.01))
    await asyncio.sleep(0)
    assert httpleak.snapshot().tasks == 3
    await asyncio.sleep(0.02)


class TestCase(unittest.IsolatedAsyncioTestCase):
    @pytest.mark.httpleak(peak_tasks=3)
    async def test_case(self):
        await three()
"""


def test_the_task_that_a_test_itself_runs_in_is_its_runners(inner: Inner) -> None:
    pytest.importorskip("pytest_asyncio")
    inner.write(test_it=OF_RUNNERS)
    outcomes = {
        "test_three": "clean",
        "test_one_more": "leaked",
        "test_made_by_callbacks": "leaked",
        "test_case": "clean",
    }
    inner.judge("-p", "pytest_asyncio.plugin", **outcomes)


def test_tasks_one_after_the_other_are_within_the_limit(leaks: Leaks) -> None:
    async def in_turn() -> None:
        for _ in range(NUMBER):
            await asyncio.create_task(_sleep())

    assert leaks(lambda: asyncio.run(in_turn()), peak_tasks=2) == ()


def test_clients_are_counted_as_they_are_made_also_if_they_are_closed(leaks: Leaks, server: str) -> None:
    (finding,) = leaks(one_by_one(client, server), max_clients=NUMBER - 1)
    assert finding.summary == f"{NUMBER} clients made, and the limit is {NUMBER - 1}"
    assert finding.hint == "share one client instead of making one for each call, or raise the limit in the marker"
    assert leaks(one_by_one(client, server), max_clients=NUMBER) == ()


SUITE = """
import socket
import pytest

@pytest.mark.httpleak(peak_sockets=1)
def test_marked():
    with socket.socket(), socket.socket():
        pass

def test_by_the_ini_file():
    with socket.socket(), socket.socket(), socket.socket():
        pass

def test_within():
    with socket.socket(), socket.socket():
        pass
"""


def test_limits_come_from_the_marker_and_from_the_ini_file(inner: Inner) -> None:
    inner.write(test_a=SUITE)
    result = inner.run("-o", "httpleak_peak_sockets=2")
    result.assert_outcomes(passed=1, failed=2)
    assert inner.outcomes() == {"test_marked": "leaked", "test_by_the_ini_file": "leaked", "test_within": "clean"}
    result.stdout.fnmatch_lines(["*3 sockets open at once, and the limit is 2*"])


def test_limits_of_kinds_that_are_not_watched_do_not_count(inner: Inner) -> None:
    inner.write(test_a=SUITE)
    inner.run("-o", "httpleak_peak_sockets=2", "--httpleak-kinds=tasks")
    assert set(inner.outcomes().values()) == {"clean"}


AT_RUN_TIME = """
import socket
import pytest

def three():
    sockets = [socket.socket() for _ in range(3)]
    for each in sockets:
        each.close()

def test_set(httpleak):
    httpleak.tolerate(peak_sockets=2)
    three()

@pytest.mark.httpleak(peak_sockets=5)
def test_lowered_afterwards(httpleak):
    three()
    httpleak.tolerate(peak_sockets=2)

@pytest.mark.httpleak(peak_sockets=2)
def test_raised(httpleak):
    httpleak.tolerate(peak_sockets=3)
    three()
"""


def test_limits_that_a_test_sets_while_it_runs_count(inner: Inner) -> None:
    inner.write(test_a=AT_RUN_TIME)
    result = inner.run()
    assert inner.outcomes() == {"test_set": "leaked", "test_lowered_afterwards": "leaked", "test_raised": "clean"}
    result.stdout.fnmatch_lines(["*3 sockets open at once, and the limit is 2*"])


def test_nobody_waits_for_kinds_that_are_not_watched(inner: Inner) -> None:
    inner.write(
        conftest="""
import threading
from pytest_httpleak.session import judging
judging.collect = judging.Judging._wait = None  # to collect and to wait are errors of the plugin's
threading.Thread(target=threading.Event().wait, daemon=True).start()  # which could put something right meanwhile
""",
        test_a="""
import os, socket

KEPT = []

def test_it():
    KEPT.extend((socket.socket(), os.dup(1)))
""",
    )
    inner.run("--httpleak-kinds=tasks")
    assert inner.outcomes() == {"test_it": "clean"}
