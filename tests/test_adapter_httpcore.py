"""httpcore and httpcore2: pools used directly, lost slots, HTTP/2, proxies, and the figures of a pool."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import ssl
import subprocess
import sys
import types
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from marked import Leaks, Marked, expected, seen

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.adapters import httpcore as adapter
from pytest_httpleak.httpcorepools import PoolRecord
from pytest_httpleak.httpcorerecords import RequestRecord
from pytest_httpleak.model.findings import Site, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.reports.text import leak_text
from pytest_httpleak.session import websockets
from pytest_httpleak.session.core import Session
from pytest_httpleak.tables import Table

# What is dropped on purpose makes the interpreter warn, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CERTIFICATE = Path(__file__).with_name("data") / "localhost.pem"


class Network:
    """Where the servers of `network.py` listen."""

    def __init__(self, ports: dict[str, int], folder: Path) -> None:
        self.plain = f"http://127.0.0.1:{ports['plain']}"
        self.tls = f"https://127.0.0.1:{ports['tls']}"
        self.h2 = f"http://127.0.0.1:{ports['h2']}"
        self.proxy = f"http://127.0.0.1:{ports['proxy']}"
        self.socks = f"socks5://127.0.0.1:{ports['socks']}"
        self.unix = str(folder / "http.sock")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    command = [sys.executable, str(Path(__file__).with_name("network.py")), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Network(json.loads(process.stdout.readline()), folder)
        process.stdin.close()
        process.wait(10)


@pytest.fixture(params=["httpcore", "httpcore2"])
def httpcore(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture
def httpx(httpcore: Any) -> Any:
    return pytest.importorskip(httpcore.__name__.replace("core", "x"))


@pytest.fixture
def held() -> Iterator[list[Any]]:
    """What outlives the leaking functions of a test; freed at its end."""
    things: list[Any] = []
    yield things
    things.clear()
    gc.collect()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads here what holds a leak, which takes a scan of the heap to tell."""
    monkeypatch.setattr("pytest_httpleak.probes.references.held_by", lambda thing: None)


@pytest.fixture
def loop(session: Session) -> Iterator[asyncio.Runner]:
    """An event loop that is someone else's: it outlives the leaking functions, and stands still between them."""
    with asyncio.Runner() as runner:
        runner.run(asyncio.sleep(0))
        yield runner


@pytest.fixture
def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(CERTIFICATE)
    return context


def running(loop: asyncio.Runner, coroutine: Coroutine[Any, Any, None]) -> Callable[[], None]:
    def run() -> None:
        loop.run(coroutine)

    return run


def figures(session: Session, thing: Any) -> PoolState:
    record = session.watch.table("httpcore pools").get(thing)
    state = record.state()
    assert isinstance(state, PoolState)
    return state


# -- pools used directly -----------------------------------------------------------------------------------------------


def test_a_response_of_a_pool_leaks_until_it_is_closed(
    marked: Marked, held: list[Any], network: Network, httpcore: Any, session: Session
) -> None:
    def leaking() -> None:
        request = httpcore.Request("GET", f"{network.plain}/big", headers={"Host": "x"})
        held.append(pool.handle_request(request))  # leak: responses

    def dropping() -> None:
        request = httpcore.Request("GET", f"{network.plain}/big", headers={"Host": "x"})
        pool.handle_request(request)  # leak: responses collected

    def clean() -> None:
        held.append(pool.request("GET", f"{network.plain}/big"))
        with pool.stream("GET", f"{network.plain}/big") as response:
            held.append(response)
        with httpcore.stream("GET", f"{network.plain}/big") as response:
            held.append(response)

    with httpcore.ConnectionPool() as pool:
        (finding,) = marked(leaking)
        assert finding.type == f"{httpcore.__name__}.Response"
        assert finding.library == httpcore.__name__
        assert finding.summary == f"GET {network.plain}/big [200]"
        marked(dropping)
        marked(clean)


def test_a_pool_that_is_never_closed_leaks(marked: Marked, held: list[Any], network: Network, httpcore: Any) -> None:
    def leaking() -> None:
        pool = httpcore.ConnectionPool()  # leak: clients
        held.append((pool, pool.request("GET", f"{network.plain}/ok")))

    def dropping() -> None:
        pool = httpcore.ConnectionPool()  # leak: clients collected
        pool.request("GET", f"{network.plain}/ok")

    def clean() -> None:
        held.append(httpcore.ConnectionPool())
        with httpcore.ConnectionPool() as pool:
            held.append(pool.request("GET", f"{network.plain}/ok"))
        held.append(pool)

    (finding,) = marked(leaking)
    assert finding.type == f"{httpcore.__name__}.ConnectionPool"
    assert finding.hint == "use it in a `with` block, or call its `.close()` in a `finally`"
    marked(dropping)
    marked(clean)


def test_an_async_pool_that_is_never_closed_leaks(
    marked: Marked, held: list[Any], loop: asyncio.Runner, network: Network, httpcore: Any
) -> None:
    async def fetch() -> None:
        pool = httpcore.AsyncConnectionPool()  # leak: clients
        held.append((pool, await pool.request("GET", f"{network.plain}/ok")))

    def leaking() -> None:
        loop.run(fetch())

    (finding,) = marked(leaking, fetch)
    assert finding.hint == "use it in an `async with` block, or `await` its `.aclose()` in a `finally`"
    loop.run(held.pop()[0].aclose())


def test_a_pool_of_its_own_kind_is_watched(marked: Marked, held: list[Any], network: Network, httpcore: Any) -> None:
    class Pool(httpcore.ConnectionPool):  # type: ignore[misc,name-defined]
        def create_connection(self, origin: Any) -> Any:
            return httpcore.HTTPConnection(origin)

    def leaking() -> None:
        request = httpcore.Request("GET", f"{network.plain}/big", headers={"Host": "x"})
        held.append(pool.handle_request(request))  # leak: responses

    with Pool() as pool:
        marked(leaking)


def test_a_pool_that_builds_on_the_stock_connections_counts_them_once(
    session: Session, network: Network, httpcore: Any
) -> None:
    class Pool(httpcore.ConnectionPool):  # type: ignore[misc,name-defined]
        def create_connection(self, origin: Any) -> Any:
            return super().create_connection(origin)

    with Pool() as pool:
        pool.request("GET", f"{network.plain}/ok")
        assert figures(session, pool).connections_made == 1


def test_a_pool_that_is_older_than_the_watch_is_the_processs(
    request: pytest.FixtureRequest, held: list[Any], network: Network, httpx: Any
) -> None:
    client, other = httpx.Client(), httpx.Client()
    assert client.get(f"{network.plain}/ok").text == "ok"
    marked: Marked = request.getfixturevalue("marked")

    def leaking() -> None:
        held.append(client.send(client.build_request("GET", f"{network.plain}/big"), stream=True))  # leak: responses

    def leaking_later() -> None:
        held.append(other.send(other.build_request("GET", f"{network.plain}/big"), stream=True))  # leak: responses

    def clean() -> None:
        assert client.get(f"{network.plain}/ok").text == "ok"

    (finding,) = marked(leaking)
    assert (finding.type, finding.library) == (f"{httpx.__name__}.Response", httpx.__name__)
    marked(leaking_later)
    marked(clean)
    client.close()
    other.close()


def test_a_pool_older_than_the_watch_is_known_by_its_own_name(
    request: pytest.FixtureRequest, held: list[Any], network: Network, httpcore: Any
) -> None:
    with httpcore.ConnectionPool() as pool:
        marked: Marked = request.getfixturevalue("marked")

        def leaking() -> None:
            message = httpcore.Request("GET", f"{network.plain}/big", headers={"Host": "x"})
            held.append(pool.handle_request(message))  # leak: responses

        (finding,) = marked(leaking)
        assert finding.type == f"{httpcore.__name__}.Response"


def test_a_connection_that_its_pool_throws_away_leaks(
    marked: Marked, held: list[Any], network: Network, httpx: Any
) -> None:
    def leaking() -> None:
        assert client.get(f"{network.plain}/ok").text == "ok"  # leak: connections collected
        books(client).clear()

    def books(client: Any) -> Any:
        pool = client._transport._pool
        return pool._connections if hasattr(pool, "_connections") else pool._pool  # the second until 1.0.2

    def keeping() -> None:
        assert client.get(f"{network.plain}/ok").text == "ok"  # leak: connections
        held.extend(books(client))
        books(client).clear()

    def closing() -> None:
        with httpx.Client() as own:
            assert own.get(f"{network.plain}/ok").text == "ok"  # leak: connections collected
            books(own).clear()

    def dropping() -> None:
        own = httpx.Client()  # leak: clients collected
        assert own.get(f"{network.plain}/ok").text == "ok"

    with httpx.Client() as client:
        (finding,) = marked(leaking)
        assert finding.summary == "threw a connection away without closing it"
        marked(keeping)
    (finding,) = marked(closing)
    assert finding.summary == "threw a connection away without closing it"
    marked(dropping)


def test_a_client_that_is_used_in_two_loops_leaks_the_first_ones_connection(
    leaks: Leaks, held: list[Any], network: Network, httpx: Any
) -> None:
    async def ask(client: Any) -> None:
        assert (await client.get(f"{network.plain}/ok")).text == "ok"

    async def ask_and_close(client: Any) -> None:
        async with client:
            await ask(client)

    def leaking() -> None:
        client = httpx.AsyncClient()
        held.append(client)
        asyncio.run(ask(client))
        with pytest.raises(RuntimeError, match="loop is closed"):
            asyncio.run(client.aclose())

    def clean() -> None:
        asyncio.run(ask_and_close(httpx.AsyncClient()))

    assert leaks(clean) == ()
    (finding,) = leaks(leaking)
    assert (finding.kind.value, finding.state.value) == ("connections", "collected")
    assert finding.summary == "could not close a connection whose event loop is closed"
    assert "asyncio.run()" in finding.hint


def test_a_client_that_a_second_loop_asks_again_is_told_to_keep_to_one(
    leaks: Leaks, network: Network, httpx: Any
) -> None:
    async def ask(client: Any) -> None:
        assert (await client.get(f"{network.plain}/ok")).text == "ok"

    def leaking() -> None:
        client = httpx.AsyncClient()
        asyncio.run(ask(client))
        with pytest.raises(RuntimeError, match="loop is closed"):
            asyncio.run(ask(client))
        asyncio.run(client.aclose())

    (finding,) = leaks(leaking)
    library = httpx.__name__.replace("httpx", "httpcore")
    assert finding.summary == "threw a connection away without closing it"
    assert finding.hint.startswith("use a client in one event loop only")
    assert finding.hint.endswith(f"upgrade {library}")


# -- slots that are lost -----------------------------------------------------------------------------------------------


def test_a_slot_that_was_given_to_a_cancelled_request_is_lost(
    leaks: Leaks, loop: asyncio.Runner, network: Network, httpx: Any, session: Session
) -> None:
    """httpcore has no release without this, httpcore2 has since 2.3: https://github.com/encode/httpcore/issues/1093."""

    async def both() -> None:
        parts = []
        for path in ("/left", "/right"):
            parts.append(asyncio.create_task(client.get(network.plain + path)))  # leak: connections
        await asyncio.sleep(0)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)

    def leaking() -> None:
        loop.run(both())

    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=1))
    found = leaks(leaking)
    if client._transport._pool.connections:
        (finding,) = found
        assert seen(found) == expected(both)
        library = httpx.__name__.replace("httpx", "httpcore")
        text = leak_text((finding,), owner="test_page.py::test", rootdir=str(Path(__file__).parent))
        assert [line.strip() for line in text.splitlines()] == [
            f"1 HTTP connection leaked: {library}.AsyncConnectionPool slot still taken by GET {network.plain}/right, "
            "a request that was given up (cancelled, timed out or failed) before it was answered",
            "left by: test_page.py::test",
            f"created: test_adapter_httpcore.py:{finding.created.line} in both",  # type: ignore[union-attr]
            f"{finding.created.line} |  "  # type: ignore[union-attr]
            "parts.append(asyncio.create_task(client.get(network.plain + path)))  # leak: connections",
            f"holds:   a place for a connection to {network.plain} (pool: 0 active, 0 idle, 1 lost, 0 waiting, max 1)",
            "fix:     nothing gives this slot back until the client is closed, and with all slots lost each request "
            f"ends in PoolTimeout: upgrade {library}, or keep the request from being cancelled half-way "
            "(`asyncio.shield`)",
        ]
        state = figures(session, client._transport._pool)
        assert (state.active, state.connecting, state.waiting) == (1, 0, 0)
    else:
        assert found == ()
    loop.run(client.aclose())


class OldPool:
    """A pool as it was until httpcore 1.0.2: a closed connection keeps its place until its request is told to be over."""

    _max_connections, _max_keepalive_connections = 1, 1

    def __init__(self) -> None:
        self.connections = [ClosedConnection()]
        self._requests = [RequestInBooks(self.connections[0])]


class NewPool(OldPool):
    def _assign_requests_to_connections(self) -> None:
        """What takes closed connections out, when the next request comes."""


class RequestInBooks:
    def __init__(self, connection: ClosedConnection) -> None:
        self.connection = connection


class ClosedConnection:
    _origin = "http://127.0.0.1"

    def is_closed(self) -> bool:
        return True

    def is_idle(self) -> bool:
        return False


def request_of(pool: OldPool, table: Table) -> RequestRecord:
    """The record of the one request in that pool's books, of which an answer has been seen that is dead by now."""
    url = types.SimpleNamespace(scheme=b"http", host=b"127.0.0.1", port=80, target=b"/")
    record = RequestRecord("httpcore", types.SimpleNamespace(method=b"GET", url=url), table)
    record.pool = PoolRecord("httpcore", "httpcore.ConnectionPool", table, is_async=False)
    record.pool.owner = types.SimpleNamespace(name="the process")
    table.put(pool, record.pool)
    table.put(pool._requests[0], record)
    record.stream = lambda: None
    return record


def test_a_closed_connection_takes_a_place_as_long_as_its_pool_does_not_look_for_it() -> None:
    pool = OldPool()
    record = request_of(pool, Table())
    suspect = record.look()
    assert suspect is not None
    assert (suspect.kind.value, suspect.state.value) == ("responses", "collected")
    assert [held.summary for held in suspect.holds] == [
        "a place for a connection to http://127.0.0.1 (pool: 1 active, 0 idle, 0 waiting, max 1)"
    ]
    pool.connections.clear()
    assert record.look() is None


def test_an_answer_that_is_left_keeps_the_place_of_a_connection_that_is_closed_already() -> None:
    pool = NewPool()
    record = request_of(pool, Table())
    suspect = record.look()
    assert suspect is not None
    assert (suspect.kind.value, suspect.state.value) == ("responses", "collected")
    assert suspect.holds[0].summary.startswith("a place for a connection to http://127.0.0.1 ")
    pool.connections.clear()  # as the next request does
    assert record.look() is None


def test_an_answer_that_is_closed_takes_no_place_for_a_closed_connection() -> None:
    pool = NewPool()
    record = request_of(pool, Table())
    record.end()
    assert record.look() is None


def loses_slots(httpx: Any) -> bool:
    """Whether the library is one that does not notice that a slot was never connected."""
    core = sys.modules[httpx.__name__.replace("httpx", "httpcore")]
    return not hasattr(core.AsyncConnectionInterface, "is_connected")


def test_a_slot_of_a_client_that_is_closed_is_clean(
    marked: Marked, held: list[Any], loop: asyncio.Runner, network: Network, httpx: Any
) -> None:
    async def both() -> None:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as client:
            held.append(client)
            parts = [asyncio.create_task(client.get(network.plain + path)) for path in ("/left", "/right")]
            await asyncio.sleep(0)
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    def clean() -> None:
        loop.run(both())

    marked(clean)


def test_a_slot_that_a_later_test_loses_is_that_tests_leak(
    marked: Marked, loop: asyncio.Runner, network: Network, httpx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is made by one test and lost by another: here by a body whose end the library forgets to note."""

    async def fetch() -> None:
        await client.get(f"{network.plain}/ok")

    async def lose() -> None:
        async with client.stream("GET", f"{network.plain}/ok") as response:  # leak: connections
            monkeypatch.setattr(pool, "_requests", Forgetful(pool._requests))
            await response.aread()

    def clean() -> None:
        loop.run(fetch())

    def leaking() -> None:
        loop.run(lose())

    class Forgetful(list[Any]):
        def remove(self, entry: Any) -> None:
            super().remove(entry)
            connection = pool.connections[0]._connection
            connection._state = type(connection._state).ACTIVE

    client = httpx.AsyncClient()
    pool = client._transport._pool
    marked(clean)
    (finding,) = marked(leaking, lose)
    assert finding.summary == f"slot still taken by GET {network.plain}/ok, a request that is over"
    assert [each.kind.value for each in finding.holds] == ["connections", "sockets"]
    loop.run(client.aclose())


def test_every_moment_to_cancel_a_request_is_judged_by_the_pools_books(
    leaks: Leaks, loop: asyncio.Runner, network: Network, httpx: Any
) -> None:
    """Whatever the library loses in that moment is found, and nothing else is."""

    async def give_up(client: Any, turns: int) -> None:
        task = asyncio.create_task(client.get(f"{network.plain}/ok"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    for turns in range(14):
        client = httpx.AsyncClient()
        found = leaks(running(loop, give_up(client, turns)), grace=0)
        pool = client._transport._pool
        lost = sum(1 for each in pool.connections if not each.is_idle() and not each.is_closed())
        if not loses_slots(httpx):
            lost = sum(1 for each in pool.connections if each.is_connected() and not each.is_idle())
        assert [(each.kind.value, each.count) for each in found] == [("connections", 1)] * lost
        loop.run(client.aclose())


def test_a_request_that_waits_for_a_connection_takes_no_slot(
    marked: Marked, held: list[Any], loop: asyncio.Runner, network: Network, httpx: Any, session: Session
) -> None:
    async def wait() -> None:
        async with client.stream("GET", f"{network.plain}/big"):
            waiting = asyncio.create_task(client.get(f"{network.plain}/ok"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            held.append(figures(session, client._transport._pool))
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            with pytest.raises(httpx.PoolTimeout):
                await client.get(f"{network.plain}/ok", timeout=httpx.Timeout(5, pool=0.001))

    def clean() -> None:
        loop.run(wait())

    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=1))
    marked(clean)
    assert (held[0].active, held[0].waiting, held[0].origin) == (1, 1, network.plain)
    loop.run(client.aclose())


# -- HTTP/2 ------------------------------------------------------------------------------------------------------------


def test_each_http2_stream_that_is_kept_leaks(
    marked: Marked, held: list[Any], network: Network, httpx: Any, session: Session
) -> None:
    pytest.importorskip("h2")

    def leaking() -> None:
        for _ in range(2):
            response = client.send(client.build_request("GET", f"{network.h2}/big"), stream=True)  # leak: responses x2
            held.append(response)
        assert client.get(f"{network.h2}/ok").text == "ok"

    def clean() -> None:
        with client.stream("GET", f"{network.h2}/big") as response:
            held.append(response)
        for path in ("/ok", "/ok"):
            assert client.get(network.h2 + path).text == "ok"
        for chunk in client.send(client.build_request("GET", f"{network.h2}/big"), stream=True).iter_raw():
            held.append(chunk)
            break

    with httpx.Client(http1=False, http2=True) as client:
        (finding,) = marked(leaking)
        assert {each.summary.partition(" (")[0] for each in finding.holds} >= {f"a connection to {network.h2}"}
        assert figures(session, client._transport._pool).connections_made == 1
    with httpx.Client(http1=False, http2=True) as client:
        marked(clean)
        assert figures(session, client._transport._pool).idle == 1


def test_an_http2_stream_that_is_cancelled_is_clean(
    marked: Marked, held: list[Any], loop: asyncio.Runner, network: Network, httpx: Any
) -> None:
    pytest.importorskip("h2")

    async def give_up() -> None:
        assert (await client.get(f"{network.h2}/ok")).text == "ok"
        task = asyncio.create_task(client.get(f"{network.h2}/hang"))
        while not client._transport._pool.connections[0]._connection._events:
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def leave() -> None:
        request = client.build_request("GET", f"{network.h2}/big")
        held.append(await client.send(request, stream=True))  # leak: responses

    def clean() -> None:
        loop.run(give_up())

    def leaking() -> None:
        loop.run(leave())

    client = httpx.AsyncClient(http1=False, http2=True)
    marked(clean)
    marked(leaking, leave)
    loop.run(client.aclose())


# -- ways to the server ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["tls", "unix", "forward", "tunnel", "socks", "socks and tls"])
def test_whatever_the_way_a_stream_and_a_client_leak_and_close_alike(
    marked: Marked, held: list[Any], network: Network, httpx: Any, trusting: ssl.SSLContext, way: str
) -> None:
    if "socks" in way:
        pytest.importorskip("socksio")
    options: dict[str, Any] = {
        "tls": {"verify": trusting},
        "unix": {"uds": network.unix},
        "forward": {"proxy": network.proxy},
        "tunnel": {"proxy": network.proxy, "verify": trusting},
        "socks": {"proxy": network.socks},
        "socks and tls": {"proxy": network.socks, "verify": trusting},
    }[way]
    base = network.tls if "verify" in options else network.plain

    def leaking_response() -> None:
        held.append(client.send(client.build_request("GET", f"{base}/big"), stream=True))  # leak: responses

    def leaking_client() -> None:
        transport = httpx.HTTPTransport(**options)
        client = httpx.Client(transport=transport)  # leak: clients
        held.append((client, client.get(f"{base}/ok")))

    def dropping_client() -> None:
        transport = httpx.HTTPTransport(**options)
        httpx.Client(transport=transport).get(f"{base}/ok")  # leak: clients collected

    def clean() -> None:
        held.append(client.get(f"{base}/big"))
        with client.stream("GET", f"{base}/big") as response:
            held.append(response)

    with httpx.Client(transport=httpx.HTTPTransport(**options)) as client:
        (finding,) = marked(leaking_response)
        assert finding.summary == f"GET {base}/big [200]"
        assert finding.holds[1].kind.value == "sockets"
        marked(clean)
    (finding,) = marked(leaking_client)
    assert [each.kind.value for each in finding.holds] == ["sockets"]
    marked(dropping_client)


@pytest.mark.parametrize("way", ["tls", "forward", "tunnel", "socks"])
def test_whatever_the_way_an_async_stream_leaks_and_closes_alike(
    marked: Marked,
    held: list[Any],
    loop: asyncio.Runner,
    network: Network,
    httpx: Any,
    trusting: ssl.SSLContext,
    way: str,
) -> None:
    if way == "socks":
        pytest.importorskip("socksio")
    options: dict[str, Any] = {
        "tls": {"verify": trusting},
        "forward": {"proxy": network.proxy},
        "tunnel": {"proxy": network.proxy, "verify": trusting},
        "socks": {"proxy": network.socks},
    }[way]
    base = network.tls if "verify" in options else network.plain

    async def leave() -> None:
        held.append(await client.send(client.build_request("GET", f"{base}/big"), stream=True))  # leak: responses

    async def read() -> None:
        held.append(await client.get(f"{base}/big"))
        async with client.stream("GET", f"{base}/big") as response:
            held.append(response)

    def leaking() -> None:
        loop.run(leave())

    def clean() -> None:
        loop.run(read())

    client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(**options))
    (finding,) = marked(leaking, leave)
    assert finding.holds[1].kind.value == "sockets"
    marked(clean)
    loop.run(client.aclose())


def test_refusals_are_clean(
    marked: Marked, held: list[Any], network: Network, httpx: Any, trusting: ssl.SSLContext
) -> None:
    def clean() -> None:
        for client, url, error in (
            (proxied, "https://refused.test/", httpx.ProxyError),  # the proxy does not let us through
            (plain, f"{network.tls}/ok", httpx.ConnectError),  # a certificate that is not trusted
            (plain, "http://127.0.0.1:1/", httpx.ConnectError),  # nobody listens
        ):
            with pytest.raises(error) as info:
                client.get(url)
            held.append(info)

    retrying = httpx.HTTPTransport(retries=1)
    with httpx.Client(proxy=network.proxy, verify=trusting) as proxied, httpx.Client(transport=retrying) as plain:
        marked(clean)


def test_a_certificate_that_is_refused_behind_a_proxy_loses_the_slot(
    marked: Marked, held: list[Any], network: Network, httpx: Any
) -> None:
    """Neither library notes that the connection failed: one slot less, whatever the error says."""

    def leaking() -> None:
        with pytest.raises(httpx.ConnectError) as info:
            client.get(f"{network.tls}/ok")  # leak: connections
        held.append(info)

    with httpx.Client(proxy=network.proxy) as client:
        (finding,) = marked(leaking)
        assert finding.hint.endswith("or close the client after such an error")


def test_a_socks_proxy_that_refuses_leaves_its_socket_to_the_garbage_collector(
    marked: Marked, network: Network, httpx: Any
) -> None:
    pytest.importorskip("socksio")

    def leaking() -> None:
        with pytest.raises(httpx.ProxyError):
            client.get("http://refused.test/")  # leak: sockets collected

    with httpx.Client(proxy=network.socks) as client:
        marked(leaking)


def test_a_websocket_that_is_left_open_is_one_leak_with_its_threads(leaks: Leaks, network: Network) -> None:
    httpx2 = pytest.importorskip("httpx2")
    pytest.importorskip("wsproto")
    if not hasattr(httpx2.Client, "websocket"):
        pytest.skip("this httpx2 has no WebSockets")
    url = network.plain.replace("http", "ws")
    managers = []

    def leaking() -> None:
        managers.append(client.websocket(url, keepalive_ping_interval_seconds=None))
        managers[0].__enter__()

    def clean() -> None:
        with client.websocket(url, keepalive_ping_interval_seconds=None):
            pass

    with httpx2.Client() as client:
        (finding,) = leaks(leaking)
        assert finding.kind.value == "responses"
        assert {held.kind.value for held in finding.holds} == {"connections", "sockets", "threads"}
        assert finding.hint == "use `with client.websocket(...) as ws:`"
        managers[0].__exit__(None, None, None)
        # httpx2 may leave a worker of the session's executor behind when it is closed at once.
        assert {each.kind.value for each in leaks(clean)} <= {"threads"}


def suspect_of(kind: Kind, key: int, file: str) -> Suspect:
    site = Site(f"/usr/lib/python3/site-packages/{file}", 1, "run")
    return Suspect(kind, "httpx2", str(kind), State.OPEN, f"number {key}", key, site, (site,))


def test_what_a_websocket_does_in_the_background_is_held_by_the_first_of_them() -> None:
    of_it, of_others = "httpx2/websockets/_api.py", "httpx2/_client.py"
    first, second = (suspect_of(Kind.RESPONSES, key, of_it) for key in (1, 2))
    task, thread = suspect_of(Kind.TASKS, 3, of_it), suspect_of(Kind.THREADS, 4, of_it)
    other_task, other_response = suspect_of(Kind.TASKS, 5, of_others), suspect_of(Kind.RESPONSES, 6, of_others)
    told = websockets.with_background([other_response, first, second, task, thread, other_task])
    assert [each.owns for each in told] == [set(), {3, 4}, set(), set(), set(), set()]
    assert [held.summary for held in told[1].holds] == ["number 3", "number 4"]
    without = [other_response, task, other_task]
    assert websockets.with_background(without) == without


# -- figures -----------------------------------------------------------------------------------------------------------


def test_the_figures_of_a_pool_are_those_of_its_books(
    session: Session, network: Network, httpcore: Any, held: list[Any]
) -> None:
    with httpcore.ConnectionPool(max_connections=5, max_keepalive_connections=3) as pool:
        assert repr(figures(session, pool)) == (
            f"<PoolState {httpcore.__name__} (no connection) [0 active, 0 idle, 0 waiting | max 5]>"
        )
        with pool.stream("GET", f"{network.plain}/big"), pool.stream("GET", f"{network.plain}/big"):
            state = figures(session, pool)
            assert (state.active, state.idle, state.connections_made, state.requests) == (2, 0, 2, 2)
        pool.request("GET", f"{network.plain}/ok")
        pool.request("GET", f"{network.plain}/ok")
        state = figures(session, pool)
        assert (state.active, state.idle, state.expired, state.requests) == (0, 1, 0, 4)
        assert (state.max_connections, state.max_keepalive, state.origin) == (5, 3, network.plain)
        assert state.created is not None
        assert state.created.function == "test_the_figures_of_a_pool_are_those_of_its_books"
        pool.connections[0]._connection._expire_at = 0
        state = figures(session, pool)
        assert (state.idle, state.expired) == (0, 1)
    with httpcore.ConnectionPool(max_connections=None) as pool:
        state = figures(session, pool)
        assert (state.max_connections, state.max_keepalive) == (None, None)
    record = session.watch.table("httpcore pools").get(pool)
    del pool
    gc.collect()
    assert record.state() is None
    assert record.figures() == ""


def test_a_connection_that_is_being_opened_is_connecting(
    session: Session, loop: asyncio.Runner, network: Network, httpx: Any, trusting: ssl.SSLContext
) -> None:
    async def connect(client: Any) -> PoolState:
        task = asyncio.create_task(client.get(f"{network.tls}/ok"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        state = figures(session, client._transport._pool if "proxy" not in client.headers else client._mounts["all://"])
        await task
        return state

    async def main() -> list[PoolState]:
        states = []
        for options in ({}, {"proxy": network.proxy}):
            transport = httpx.AsyncHTTPTransport(verify=trusting, **options)
            async with httpx.AsyncClient(transport=transport) as client:
                states.append(await connect(client))
        return states

    for state in loop.run(main()):
        assert (state.connecting, state.active, state.idle) == (1, 0, 0)


def test_what_stands_in_for_a_connection_is_asked_for_no_more(session: Session, httpcore: Any) -> None:
    with httpcore.ConnectionPool() as pool:
        pool._connections.append(mock.Mock(**{"is_closed.return_value": False, "is_idle.return_value": False}))
        assert figures(session, pool).connecting == 0
        pool._connections.clear()


# -- what is not known -------------------------------------------------------------------------------------------------


UNCLOSED = {"create_connection": lambda: None, "connections": None}
POOL = type("ConnectionPool", (), {**UNCLOSED, "close": lambda self: None, "aclose": lambda self: None})
REQUEST = type("PoolRequest", (), {"assign_to_connection": lambda: None})


STREAM = type("PoolByteStream", (), {"close": lambda self: None, "aclose": lambda self: None})


def _library(**changes: Any) -> types.ModuleType:
    """A library like httpcore, with some of its parts missing (None) or other than they are."""
    parts = {"ConnectionPool": POOL, "PoolRequest": REQUEST, "PoolByteStream": STREAM} | changes
    module = types.ModuleType("fakecore")
    for flavour, prefix in (("_sync", ""), ("_async", "Async")):
        inner = types.ModuleType(f"fakecore.{flavour}.connection_pool")
        for name, part in parts.items():
            if part is not None:
                setattr(inner, name if name == "PoolByteStream" else prefix + name, part)
        sys.modules[inner.__name__] = inner
    module.Response = type("Response", (), {})  # type: ignore[attr-defined]
    return module


@pytest.fixture
def hooks(session: Session) -> Iterator[Hooks]:
    yield Hooks(session.watch, session.watch.patches, session.watch.wall("fakecore"))
    for flavour in ("_sync", "_async"):
        sys.modules.pop(f"fakecore.{flavour}.connection_pool", None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ConnectionPool": None}, "fakecore._sync.connection_pool has no ConnectionPool"),
        ({"PoolRequest": None}, "fakecore._sync.connection_pool has no PoolRequest or RequestStatus"),
        ({"PoolByteStream": None}, "fakecore._sync.connection_pool has no PoolByteStream or ConnectionPoolByteStream"),
        ({"PoolByteStream": type("Other", (), {})}, "Other has no close"),
        ({"PoolRequest": type("Other", (), {})}, "Other has no set_connection"),
        ({"ConnectionPool": type("Other", (), {"connections": None})}, "Other has no create_connection"),
        ({"ConnectionPool": type("Other", (), {"create_connection": None})}, "Other has no connections"),
        ({"ConnectionPool": type("Other", (), UNCLOSED)}, "Other has no close"),
    ],
)
def test_a_library_with_other_internals_is_left_alone(hooks: Hooks, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsupported, match=f"^{reason}$"):
        adapter.attach(_library(**changes), hooks)


def test_a_library_without_its_modules_is_left_alone(hooks: Hooks) -> None:
    module = types.ModuleType("fakecore")
    with pytest.raises(Unsupported, match=r"^fakecore has no _sync\.connection_pool$"):
        adapter.attach(module, hooks)


def test_a_library_as_it_is_known_is_watched(hooks: Hooks) -> None:
    module = _library()
    adapter.attach(module, hooks)
