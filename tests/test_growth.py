"""What grows test after test is one cause with its slope; what is made at first use, or stays level, is nothing."""

from __future__ import annotations

import _socket
import asyncio
import ctypes
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from inner import Inner
from loops import Loop
from marked import Leaks
from pooldrivers import LIBRARIES, new_driver

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Site
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.model.rows import Growth
from pytest_httpleak.probes import descriptors, nativethreads
from pytest_httpleak.results import together
from pytest_httpleak.session.core import Session
from pytest_httpleak.session.growth import grows, slope

TESTS = 10


@pytest.fixture
def grown(session: Session, leaks: Leaks) -> Callable[..., list[Growth]]:
    """Runs a function as so many tests, which may leave what they like, and gives what has grown."""

    def run(function: Callable[[int], object], tests: int = TESTS, **tolerated: int) -> list[Growth]:
        for number in range(tests):
            session.is_last = number == tests - 1
            leaks(lambda number=number: function(number), grace=0, **tolerated)
        return session.growth()

    return run


# -- what grows --------------------------------------------------------------------------------------------------------


def test_a_registry_that_gains_a_client_with_each_test_grows(
    grown: Any, kept: list[Any], server: str, session: Session
) -> None:
    httpx = pytest.importorskip("httpx")

    def tenant(number: int) -> None:
        kept.append(httpx.Client())
        kept[-1].get(f"{server}/ok")

    (growth,) = grown(tenant, clients=1)
    assert (growth.kind, growth.library, growth.type) == (Kind.CLIENTS, "httpx", "httpx.Client")
    assert (growth.first, growth.last, growth.tests, growth.slope) == (1, TESTS, TESTS, 1.0)
    assert growth.created.function == "tenant"


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="needs `eventfd`, of Linux")
def test_what_code_in_c_leaves_open_grows_also_where_nothing_else_is_made(
    grown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a thread that is not Python's it is no test's leak, as the runtime of a library may have opened it."""
    monkeypatch.setattr(nativethreads, "are_running", lambda: True)
    eventfd = ctypes.CDLL(None).eventfd
    made: list[int] = []

    try:
        (growth,) = grown(lambda number: made.append(eventfd(0, 0)))
    finally:
        for fd in made:
            os.close(fd)
    assert (growth.kind, growth.tests, growth.slope) == (Kind.FDS, TESTS, 1.0)


def test_who_serves_is_asked_once_for_all_sockets_of_code_in_c(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    server_sides = descriptors.server_sides
    monkeypatch.setattr(descriptors, "server_sides", lambda: asked.append(1) or server_sides())
    made = [_socket.socket() for _ in range(3)]
    told = [suspect.kind for suspect, _ in session.ledger.census(set())]
    for sock in made:
        sock.close()
    assert told.count(Kind.SOCKETS) == 3
    assert len(asked) == 1


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="needs `eventfd`, of Linux")
def test_what_code_in_c_opens_and_closes_does_not(grown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nativethreads, "are_running", lambda: True)
    library = ctypes.CDLL(None)
    assert grown(lambda number: library.close(library.eventfd(0, 0))) == []


def test_a_registry_that_is_filled_at_first_use_does_not(grown: Any, kept: list[Any], server: str) -> None:
    httpx = pytest.importorskip("httpx")

    def shared(number: int) -> None:
        if len(kept) < 3:
            kept.append(httpx.Client())
        kept[-1].get(f"{server}/ok")

    assert grown(shared, clients=1) == []


def test_a_registry_that_closes_its_oldest_client_does_not(grown: Any, server: str) -> None:
    httpx = pytest.importorskip("httpx")
    registry: list[Any] = []

    def bounded(number: int) -> None:
        registry.append(httpx.Client())
        registry[-1].get(f"{server}/ok")
        if len(registry) > 2:
            registry.pop(0).close()

    assert grown(bounded, clients=1) == []
    for client in registry:
        client.close()


@pytest.mark.parametrize("is_one", [False, True])
def test_executors_grow_and_the_workers_of_one_do_not(grown: Any, kept: list[Any], is_one: bool) -> None:
    stop = threading.Event()

    class Executors:
        def __init__(self) -> None:
            self.made: list[ThreadPoolExecutor] = []

        def close(self) -> None:
            stop.set()
            for executor in self.made:
                executor.shutdown()

    kept.append(executors := Executors())

    def work(number: int) -> None:
        if not executors.made or not is_one:
            executors.made.append(ThreadPoolExecutor(TESTS))
        executors.made[-1].submit(stop.wait)

    growths = grown(work, threads=1)
    assert [(growth.kind, growth.first, growth.last) for growth in growths] == (
        [] if is_one else [(Kind.THREADS, 1, TESTS)]
    )


def test_what_the_last_test_frees_does_not(grown: Any) -> None:
    sockets: list[socket.socket] = []

    def opening(number: int) -> None:
        sockets.append(socket.socket())
        while number == TESTS - 1 and sockets:
            sockets.pop().close()

    assert grown(opening, sockets=1) == []


def opened_socket(kept: list[Any], loop: Loop) -> None:
    kept.append(socket.socket())


def opened_file(kept: list[Any], loop: Loop) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    kept.append(Ending(lambda: os.close(descriptor)))


def started_thread(kept: list[Any], loop: Loop) -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    kept.append(Ending(lambda: (end.set(), thread.join())))


def started_task(kept: list[Any], loop: Loop) -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        kept.append(Ending(task.cancel))

    loop.run(main())


class Ending:
    """Something that is ended by being closed."""

    def __init__(self, close: Callable[[], object]) -> None:
        self.close = close


@pytest.mark.parametrize(
    ("kind", "leave"),
    [("sockets", opened_socket), ("fds", opened_file), ("threads", started_thread), ("tasks", started_task)],
)
def test_each_kind_is_followed_though_each_test_is_within_its_tolerance(
    grown: Any, kept: list[Any], loop: Loop, kind: str, leave: Callable[..., None]
) -> None:
    (growth,) = grown(lambda number: leave(kept, loop), **{kind: 1})
    assert (growth.kind.value, growth.last, growth.slope) == (kind, TESTS, 1.0)
    assert growth.created.function == ("main" if kind == "tasks" else leave.__name__)


@pytest.mark.parametrize("is_piling_up", [True, False])
def test_the_handlers_of_a_logger_grow_where_none_is_taken_off(
    grown: Any, tmp_path: Path, *, is_piling_up: bool
) -> None:
    logger = logging.getLogger("service")

    def take_off() -> None:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()

    def starting(number: int) -> None:
        if not is_piling_up:
            take_off()
        logger.addHandler(logging.FileHandler(tmp_path / "service.log"))

    found = grown(starting)
    take_off()
    assert [(growth.kind, growth.last, growth.created.function) for growth in found] == (
        [(Kind.FDS, TESTS, "starting")] if is_piling_up else []
    )


# -- pools -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_pool_that_keeps_more_connections_after_each_test_grows(
    session: Session, grown: Any, server: str, library: str
) -> None:
    driver = new_driver(library, keep=50)

    def crowded(number: int) -> None:
        for _ in range(number + 1):
            driver.hold(f"{server}/big")
        driver.release()

    (growth,) = grown(crowded)
    assert (growth.kind, growth.type) == (Kind.CONNECTIONS, "pool with more and more idle connections")
    assert (growth.first, growth.last, round(growth.slope, 1)) == (1, TESTS, 1.0)
    assert f"{TESTS} idle" in growth.summary
    driver.end()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_pool_whose_connections_are_used_again_does_not(
    session: Session, grown: Any, server: str, library: str
) -> None:
    driver = new_driver(library, keep=50)

    def modest(number: int) -> None:
        driver.hold(f"{server}/big")
        driver.hold(f"{server}/big")
        driver.release()

    assert grown(modest) == []
    driver.end()


# -- the judgement -----------------------------------------------------------------------------------------------------


def after(*numbers: int) -> list[int]:
    """The counts after the first, second, ... test."""
    return [each for test, number in enumerate(numbers, 1) for each in (test, number)]


@pytest.mark.parametrize(
    ("counts", "does"),
    [
        (after(1, 2, 3, 4, 5, 6, 7, 8), True),
        (after(1, 2, 3, 4, 5, 6, 7), False),  # too few to tell
        (after(8), False),
        (after(1, 2, 3, 4, 5, 6, 7, 8, 7), False),  # it has become less again
        (after(1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1), False),
        (after(1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 7, 6, 8), True),
        ([], False),
    ],
)
def test_what_has_become_more_after_eight_tests_grows(counts: list[int], does: bool) -> None:
    assert grows(counts) is does


@pytest.mark.parametrize(
    ("counts", "steepness"),
    [(after(1, 2, 3, 4), 1.0), (after(2, 4, 6), 2.0), ([1, 1, 11, 2, 21, 3], 0.1), ([5, 1, 6, 3], 2.0)],
)
def test_the_slope_is_that_of_the_line_through_all_tests(counts: list[int], steepness: float) -> None:
    assert round(slope(counts), 1) == steepness


def growth(**changes: Any) -> Growth:
    site = Site("app/registry.py", 12, "client_for")
    known = Growth(Kind.CLIENTS, "httpx", "httpx.Client", site, "not closed", first=1, last=10, tests=10, slope=1.0)
    return replace(known, **changes)


def test_what_grows_in_several_workers_is_one_cause() -> None:
    other = growth(created=Site("app/other.py", 1, "f"), slope=3.0)
    assert together([growth(), other, growth(last=60, tests=30, slope=2.0)]) == [
        other,
        growth(first=2, last=70, tests=40, slope=1.75),
    ]


# -- what users see ----------------------------------------------------------------------------------------------------

REGISTRY = """
import socket
import pytest

registry = {}

@pytest.mark.parametrize("tenant", range(9))
def test_tenant(tenant):
    registry[tenant] = socket.socket()
"""


def test_growth_is_shown_and_written_though_no_test_fails(inner: Inner) -> None:
    inner.write(test_a=REGISTRY)
    result = inner.run("-o", "httpleak_tolerate=sockets=1")
    result.assert_outcomes(passed=9)
    result.stdout.fnmatch_lines(
        [
            "Growing, test after test:",
            "",
            "test_a.py:8 in test_tenant: 1 socket at first, 9 in the end, over 9 tests: 1.0 more for each",
            "    registry[[]tenant[]] = socket.socket()",
            "    socket.socket: *, held by module attribute test_a.registry*",
            "    fix: something keeps one more of these for each test: close it where it is made, or bound what keeps it",
            "httpleak: 9 checked, 0 leaked, 9 tolerated*",
        ]
    )
    (growth,) = inner.report["growth"]
    assert (growth["kind"], growth["first"], growth["last"], growth["tests"], growth["slope"]) == (
        "sockets",
        1,
        9,
        9,
        1,
    )
    assert growth["created"] == {"file": "test_a.py", "line": 8, "function": "test_tenant"}


def test_what_fails_its_tests_is_not_told_of_twice(inner: Inner) -> None:
    inner.write(test_a=REGISTRY)
    result = inner.run()
    result.assert_outcomes(failed=9)
    result.stdout.no_fnmatch_line("Growing*")
    assert len(inner.report["growth"]) == 1


def test_the_workers_of_xdist_tell_their_controller(inner: Inner) -> None:
    pytest.importorskip("xdist")
    inner.write(test_a=REGISTRY)
    result = inner.run("-n1", "-o", "httpleak_tolerate=sockets=1", plugin=("-p", "httpleak", "-p", "xdist"))
    result.assert_outcomes(passed=9)
    result.stdout.fnmatch_lines(["test_a.py:8 in test_tenant: 1 socket at first, 9 in the end, *"])


def test_a_suite_that_stays_level_has_no_word_of_growth(inner: Inner) -> None:
    inner.write(test_a=REGISTRY.replace("registry[tenant]", "registry.setdefault('one', socket.socket()).close() or _"))
    result = inner.run()
    assert "Growing" not in result.stdout.str()
    assert "growth" not in inner.report
