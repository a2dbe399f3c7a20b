"""`httpleak.pools()`: every figure of every library, held to a server that counts connections and requests itself."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pooldrivers import LIBRARIES, Counter, Driver, new_driver

from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.session.core import Session
from pytest_httpleak.session.poolfigures import pools
from pytest_httpleak.settings import default_settings

Drive = Callable[..., Driver]


@pytest.fixture
def counter(own_server: str) -> Iterator[Counter]:
    counter = Counter(own_server)
    yield counter
    counter.close()


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param.partition(" ")[0])
    return str(request.param)


@pytest.fixture
def drive(session: Session, counter: Counter, library: str) -> Iterator[Drive]:
    """Makes the library's client, as a test would: `drive(most=2)`."""
    check = session.begin("test_x", "function", default_settings())
    drivers: list[Driver] = []

    def make(**limits: Any) -> Driver:
        drivers.append(new_driver(library, **limits))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.end()
    session.drop(check)


def figures(session: Session) -> PoolState:
    """The figures of the one pool that there is."""
    (state,) = pools(session.watch)
    return state


# What differs by library where no limit is set: what its pools keep by default, and what it has no notion of.
_BY_LIBRARY: dict[str, dict[str, Any]] = {
    "urllib3": {"max_keepalive": 10},
    "requests": {"max_keepalive": 10},
    "aiohttp": {"overflow": None},
}


def expected(library: str, server: str, counter: Counter, **figures: Any) -> dict[str, Any]:
    """All figures of a pool: those that are named, those that the server has counted, and otherwise 0 or no limit."""
    connections, requests = counter.counts()
    numbers = dict.fromkeys(("idle", "active", "expired", "connecting", "waiting", "overflow"), 0)
    limits = dict.fromkeys(("max_connections", "max_keepalive", "per_host"))
    counted = {"connections_made": connections, "requests": requests}
    name = {"library": library.partition(" ")[0], "origin": server, "owner": "test_x"}
    return {**numbers, **limits, **counted, **name, **_BY_LIBRARY.get(library, {}), **figures}


def told(state: PoolState) -> dict[str, Any]:
    figures = state._asdict()
    del figures["created"]
    return figures


# -- connections -------------------------------------------------------------------------------------------------------


def test_one_connection_serves_requests_that_follow_each_other(
    session: Session, drive: Drive, own_server: str, counter: Counter, library: str
) -> None:
    driver = drive()
    for _ in range(3):
        driver.get(f"{own_server}/ok")
    state = figures(session)
    assert told(state) == expected(library, own_server, counter, idle=1)
    assert (state.connections_made, state.requests, state.reuse) == (1, 3, 3.0)


def test_requests_at_once_have_a_connection_each(
    session: Session, drive: Drive, own_server: str, counter: Counter, library: str
) -> None:
    driver = drive()
    driver.hold(f"{own_server}/big")
    driver.hold(f"{own_server}/big")
    state = figures(session)
    assert told(state) == expected(library, own_server, counter, active=2)
    assert (state.connections_made, state.requests, state.reuse) == (2, 2, 1.0)
    driver.release()
    assert told(figures(session)) == expected(library, own_server, counter, idle=2)


def test_an_idle_connection_that_cannot_be_used_again_is_expired(
    session: Session, drive: Drive, own_server: str, counter: Counter, library: str
) -> None:
    driver = drive(expiry=0)
    # aiohttp notices at once that the server has closed a connection, so there it is the time that expires one.
    driver.get(f"{own_server}/{'ok' if library == 'aiohttp' else 'dropped'}")
    counter.drop()
    driver.until(lambda: figures(session).expired)
    assert told(figures(session)) == expected(library, own_server, counter, expired=1)
    driver.get(f"{own_server}/ok")
    state = figures(session)
    assert (state.idle + state.expired, state.connections_made, state.requests) == (1, *counter.counts()) == (1, 2, 2)


def test_a_connection_that_the_server_closes_is_made_anew(
    session: Session, drive: Drive, own_server: str, counter: Counter, library: str
) -> None:
    driver = drive()
    for _ in range(3):
        driver.get(f"{own_server}/close")
    state = figures(session)
    origin = {"origin": "(no connection)"} if library.partition(" ")[0] in ("httpx", "httpx2", "aiohttp") else {}
    assert told(state) == expected(library, own_server, counter, **origin)
    assert (state.connections_made, state.requests, state.reuse) == (3, 3, 1.0)


def test_a_pool_that_another_thread_is_just_making_has_no_figures_yet(
    session: Session, drive: Drive, own_server: str
) -> None:
    drive().get(f"{own_server}/ok")
    (record,) = (each for each in session.watch.everything() if hasattr(each, "state") and each.state() is not None)
    assert pools(session.watch)
    record.owner = None  # as between its entry in the table and its birth
    assert pools(session.watch) == ()


@pytest.fixture
def mute() -> Iterator[str]:
    """The base URL of a server that does not answer to TLS."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(1)
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.suppress(TimeoutError):  # the test was skipped
            listener.accept()[0].close()


def test_a_connection_is_connecting_until_it_is_established(
    session: Session, drive: Drive, mute: str, counter: Counter, library: str, request: pytest.FixtureRequest
) -> None:
    driver = drive()
    driver.begin(f"{mute}/ok")
    driver.until(lambda: pools(session.watch) and figures(session).connecting)
    # The origin of what is not connected is known to some versions of aiohttp, and not to others.
    origin = {"origin": figures(session).origin} if library == "aiohttp" else {}
    assert told(figures(session)) == expected(library, mute, counter, connecting=1, **origin)


def test_a_connection_that_is_refused_was_not_made(
    session: Session, drive: Drive, counter: Counter, library: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        driver = drive()
        with pytest.raises(Exception, match=r"refused|Connect|connect"):
            driver.get(f"{url}/ok")
    origin = {"origin": "(no connection)"} if library.partition(" ")[0] in ("httpx", "httpx2", "aiohttp") else {}
    assert told(figures(session)) == expected(library, url, counter, **origin)
    assert figures(session).reuse is None


def test_a_request_that_is_never_answered_was_sent(
    session: Session, drive: Drive, own_server: str, counter: Counter, library: str
) -> None:
    driver = drive()
    with pytest.raises(Exception, match=r"(?i)time|^$"):
        driver.get(f"{own_server}/hang", timeout=0.05)
    driver.until(lambda: counter.counts() == (1, 1))
    state = figures(session)
    assert (state.idle, state.active, state.connections_made, state.requests) == (0, 0, 1, 1)


# -- requests that wait, and limits ------------------------------------------------------------------------------------


def test_requests_wait_where_all_connections_are_taken(
    session: Session, drive: Drive, own_server: str, counter: Counter, library: str
) -> None:
    driver = drive(most=1)
    driver.hold(f"{own_server}/big")
    driver.begin(f"{own_server}/ok")
    driver.until(lambda: figures(session).waiting)
    limits: dict[str, int] = {} if library == "aiohttp" else {"max_keepalive": 1}
    limits |= {"per_host": 1} if library in ("urllib3", "requests") else {}
    assert told(figures(session)) == expected(
        library, own_server, counter, active=1, waiting=1, max_connections=1, **limits
    )
    driver.release()
    driver.until(lambda: figures(session).requests == 2)
    assert (figures(session).connections_made, figures(session).waiting) == (1, 0)


LIMITS = [
    ("urllib3", {"most": 7}, (7, 7, 7)),
    ("urllib3", {"keep": 3}, (None, 3, None)),
    ("requests", {"most": 7}, (7, 7, 7)),
    ("requests", {"keep": 3}, (None, 3, None)),
    ("httpx", {"most": 7, "keep": 3}, (7, 3, None)),
    ("httpx", {}, (None, None, None)),
    ("httpx2", {"most": 7, "keep": 3}, (7, 3, None)),
    ("httpx2", {}, (None, None, None)),
    ("aiohttp", {"most": 7, "per_host": 2}, (7, None, 2)),
    ("aiohttp", {}, (None, None, None)),
]


@pytest.mark.parametrize(("library", "limits", "shown"), LIMITS)
def test_the_limits_are_those_of_the_pool(
    session: Session, drive: Drive, own_server: str, limits: dict[str, int], shown: tuple[int | None, ...]
) -> None:
    drive(**limits).get(f"{own_server}/ok")
    state = figures(session)
    assert (state.max_connections, state.max_keepalive, state.per_host) == shown


def test_connections_that_a_full_pool_throws_away_are_counted(
    session: Session, drive: Drive, own_server: str, counter: Counter, library: str
) -> None:
    driver = drive(keep=1)
    for _ in range(3):
        driver.hold(f"{own_server}/big")
    keeps_all = library == "aiohttp"
    limit = {} if keeps_all else {"max_keepalive": 1}
    assert told(figures(session)) == expected(library, own_server, counter, active=3, **limit)
    driver.release()
    driver.get(f"{own_server}/ok")
    after = {"idle": 3} if keeps_all else {"idle": 1, "overflow": 2}
    assert told(figures(session)) == expected(library, own_server, counter, **limit, **after)
    assert counter.counts() == (3, 4)


# -- what else is told of a pool ---------------------------------------------------------------------------------------


def test_the_line_that_made_the_client_is_told(session: Session, drive: Drive, own_server: str) -> None:
    drive().get(f"{own_server}/ok")
    created = figures(session).created
    assert created is not None
    assert created.file.endswith("pooldrivers.py")
    assert created.function == "made"


def test_a_pool_is_no_longer_told_of_once_its_client_is_closed(session: Session, drive: Drive, own_server: str) -> None:
    driver = drive()
    driver.get(f"{own_server}/ok")
    assert len(pools(session.watch)) == 1
    driver.close()
    assert pools(session.watch) == ()


def state(**figures: Any) -> PoolState:
    return PoolState("httpx", "http://127.0.0.1:8000", **figures)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"active": 1, "idle": 2, "max_connections": 10}, "1 active, 2 idle, 0 waiting | max 10"),
        ({}, "0 active, 0 idle, 0 waiting | max none"),
        ({"waiting": None}, "0 active, 0 idle | max none"),
        ({"expired": 1, "connecting": 2}, "0 active, 0 idle, 1 expired, 2 connecting, 0 waiting | max none"),
        (
            {"idle": 1, "connections_made": 1, "requests": 3},
            "0 active, 1 idle, 0 waiting | max none | 3 requests on 1 connection",
        ),
        (
            {"connections_made": 2, "requests": 1, "overflow": 2},
            "0 active, 0 idle, 0 waiting | max none | 1 request on 2 connections, 2 thrown away",
        ),
    ],
)
def test_a_pool_is_one_line(figures: dict[str, Any], words: str) -> None:
    assert repr(state(**figures)) == f"<PoolState httpx http://127.0.0.1:8000 [{words}]>"
