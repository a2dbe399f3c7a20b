"""httpx and httpx2: what is a leak, and its clean twin."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from inner import Inner
from marked import Leaks, Marked

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.adapters import httpx as adapter
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.session import judging
from pytest_httpleak.session.core import Session

# What is dropped on purpose makes the interpreter warn, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

module = types.ModuleType("app")  # a module of the program under test
module.__file__ = __file__


@pytest.fixture(params=["httpx", "httpx2"])
def httpx(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture
def held() -> Iterator[list[Any]]:
    """What outlives the leaking functions of a test; freed at its end."""
    things: list[Any] = []
    yield things
    things.clear()
    gc.collect()


@pytest.fixture
def client(session: Session, httpx: Any) -> Iterator[Any]:
    """A client that is someone else's: it outlives the leaking functions."""
    with httpx.Client() as client:
        yield client


@pytest.fixture
def loop(session: Session) -> Iterator[asyncio.Runner]:
    """An event loop that is someone else's: it outlives the leaking functions, and stands still between them."""
    with asyncio.Runner() as runner:
        runner.run(asyncio.sleep(0))
        yield runner


@pytest.fixture
def async_client(loop: asyncio.Runner, httpx: Any) -> Iterator[Any]:
    """An asynchronous client that is someone else's."""
    client = httpx.AsyncClient()
    yield client
    loop.run(client.aclose())


def send(client: Any, url: str, method: str = "GET") -> Any:
    return client.send(client.build_request(method, url), stream=True)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly anybody reads here what holds a leak, which takes a scan of the heap to tell."""
    if "registry" not in request.node.name:
        monkeypatch.setattr("pytest_httpleak.probes.references.held_by", lambda thing: None)


class Holder:
    """Something that its attributes keep alive."""


def cycle(thing: object) -> None:
    """Leave something to the garbage collector alone."""
    holder: Any = Holder()
    holder.thing, holder.self = thing, holder


# -- responses ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_is_kept_leaks(marked: Marked, held: list[Any], client: Any, server: str, httpx: Any) -> None:
    def leaking() -> None:
        request = client.build_request("GET", f"{server}/big?token=secret")
        held.append(client.send(request, stream=True))  # leak: responses

    (finding,) = marked(leaking)
    assert finding.library == httpx.__name__
    assert finding.type == f"{httpx.__name__}.Response"
    assert finding.summary == f"GET {server}/big?token=secret [200]"  # reports mask what may not be shown
    assert [each.kind.value for each in finding.holds] == ["connections", "sockets"]
    assert finding.holds[0].summary == f"a connection to {server} (pool: 1 active, 0 idle, 0 waiting, max 100)"


def test_a_stream_that_is_closed_is_clean(marked: Marked, held: list[Any], client: Any, server: str) -> None:
    def clean() -> None:
        response = send(client, f"{server}/big")
        response.close()
        held.append(response)
        with client.stream("GET", f"{server}/big") as response:
            held.append(response)
        with contextlib.closing(send(client, f"{server}/big")):
            pass

    marked(clean)


def test_a_stream_that_is_read_in_part_leaks(marked: Marked, held: list[Any], client: Any, server: str) -> None:
    def leaking() -> None:
        response = client.send(client.build_request("GET", f"{server}/big"), stream=True)  # leak: responses
        chunks = response.iter_bytes(1000)
        assert len(next(chunks)) == 1000
        held.append(chunks)

    marked(leaking)


def test_a_stream_that_is_read_to_its_end_is_clean(marked: Marked, held: list[Any], client: Any, server: str) -> None:
    def clean() -> None:
        for path in ("/ok", "/big", "/close"):
            response = send(client, server + path)
            response.read()
            held.append(response)
        held.append(list(send(client, f"{server}/big").iter_bytes()))
        held.append(client.get(f"{server}/big"))

    marked(clean)


def test_a_stream_whose_iterator_is_given_up_is_clean(
    marked: Marked, held: list[Any], client: Any, server: str
) -> None:
    def clean() -> None:
        response = send(client, f"{server}/big")
        for _ in response.iter_raw():
            break
        held.append(response)

    marked(clean)


def test_a_stream_that_is_dropped_leaks(marked: Marked, client: Any, server: str) -> None:
    def leaking() -> None:
        request = client.build_request("GET", f"{server}/big")
        assert client.send(request, stream=True).status_code == 200  # leak: responses collected

    marked(leaking)


def test_a_stream_that_is_dropped_in_a_cycle_leaks(marked: Marked, client: Any, server: str) -> None:
    def leaking() -> None:
        cycle(client.send(client.build_request("GET", f"{server}/big"), stream=True))  # leak: responses collected

    marked(leaking)


def test_an_iterator_that_only_the_garbage_collector_frees_leaks(marked: Marked, client: Any, server: str) -> None:
    def leaking() -> None:
        response = client.send(client.build_request("GET", f"{server}/big"), stream=True)  # leak: responses collected
        chunks = response.iter_raw()
        next(chunks)
        cycle(chunks)

    gc.disable()
    try:
        marked(leaking)
    finally:
        gc.enable()


def test_a_stream_that_a_thread_closes_while_garbage_is_collected_is_clean(
    marked: Marked, client: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[Any] = []

    def collect(generation: int = 2) -> None:
        while streams:
            closing = threading.Thread(target=streams.pop().close)
            closing.start()
            closing.join()

    def clean() -> None:
        streams.append(send(client, f"{server}/big"))

    monkeypatch.setattr(judging, "collect", collect)
    marked(clean)
    assert not streams


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/ok"), ("GET", "/204"), ("GET", "/304"), ("GET", "/ok")])
def test_a_stream_without_much_of_a_body_still_holds_its_connection(
    marked: Marked, held: list[Any], client: Any, server: str, method: str, path: str
) -> None:
    def leaking() -> None:
        held.append(client.send(client.build_request(method, server + path), stream=True))  # leak: responses

    def clean() -> None:
        held.append(client.request(method, server + path))
        with client.stream(method, server + path) as response:
            held.append(response)

    marked(leaking)
    marked(clean)


def test_an_exception_between_send_and_close_leaks(
    marked: Marked, held: list[Any], client: Any, server: str, httpx: Any
) -> None:
    def leaking() -> None:
        with pytest.raises(httpx.HTTPStatusError) as info:
            response = client.send(client.build_request("GET", f"{server}/status/500"), stream=True)  # leak: responses
            response.raise_for_status()
            response.close()
        held.append(info)

    def clean() -> None:
        with pytest.raises(httpx.HTTPStatusError) as info, client.stream("GET", f"{server}/status/500") as response:
            response.raise_for_status()
        held.append(info)

    marked(leaking)
    marked(clean)


def test_a_generator_that_is_kept_alive_leaks(marked: Marked, held: list[Any], client: Any, server: str) -> None:
    def lines() -> Iterator[bytes]:
        with client.stream("GET", f"{server}/chunked") as response:  # leak: responses
            yield from response.iter_bytes()

    def leaking() -> None:
        chunks = lines()
        assert next(chunks)
        held.append(chunks)

    marked(leaking, lines)


def test_a_generator_that_is_given_up_is_clean(marked: Marked, held: list[Any], client: Any, server: str) -> None:
    def lines() -> Iterator[bytes]:
        with client.stream("GET", f"{server}/chunked") as response:
            yield from response.iter_bytes()

    def clean() -> None:
        for line in lines():
            held.append(line)
            break

    marked(clean)


def test_a_broken_body_is_clean(marked: Marked, held: list[Any], client: Any, server: str, httpx: Any) -> None:
    def clean() -> None:
        response = send(client, f"{server}/reset")
        with pytest.raises(httpx.RemoteProtocolError) as info:
            response.read()
        held.extend((response, info))

    marked(clean)


def end_stream_alone(response: Any) -> None:
    """Close the stream of the connection, but not that of the pool: until 2.11 httpcore2 did so where an answer failed."""
    response.stream._stream._httpcore_stream._stream.close()


def test_an_answer_whose_connection_the_library_has_closed_keeps_its_place_there(
    marked: Marked, client: Any, server: str
) -> None:
    def leaking() -> None:
        response = client.send(client.build_request("GET", f"{server}/big"), stream=True)  # leak: responses collected
        end_stream_alone(response)

    (finding,) = marked(leaking)
    assert [each.kind.value for each in finding.holds] == ["connections"]  # and no socket


def test_an_answer_that_is_closed_after_its_connection_is_clean(marked: Marked, client: Any, server: str) -> None:
    def clean() -> None:
        with client.stream("GET", f"{server}/big") as response:
            end_stream_alone(response)

    marked(clean)


def test_an_answer_whose_connection_is_closed_is_clean_once_its_client_is(
    marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    def clean() -> None:
        with httpx.Client() as client:
            held.append((client, send(client, f"{server}/big")))
            end_stream_alone(held[-1][1])

    marked(clean)


def test_a_retry_that_drops_what_failed_leaks_once_for_each_try(marked: Marked, client: Any, server: str) -> None:
    def leaking() -> None:
        for _ in range(3):
            request = client.build_request("GET", f"{server}/status/503")
            response = client.send(request, stream=True)  # leak: responses x3 collected
            if response.status_code == 200:
                break
        del response

    def clean() -> None:
        for _ in range(3):
            with client.stream("GET", f"{server}/status/503") as response:
                if response.status_code == 200:
                    break

    marked(leaking)
    marked(clean)


def test_redirects_authentication_and_hooks_are_clean(
    marked: Marked, held: list[Any], client: Any, server: str, httpx: Any
) -> None:
    class Twice(httpx.Auth):  # type: ignore[misc,name-defined]
        def auth_flow(self, request: Any) -> Iterator[Any]:
            response = yield request
            assert response.status_code == 200
            yield request

    def refuse(response: Any) -> None:
        raise RuntimeError("refused")

    def clean() -> None:
        held.append(client.get(f"{server}/redirect", follow_redirects=True))
        held.append(client.get(f"{server}/big", auth=Twice()))
        with httpx.Client(event_hooks={"response": [refuse]}) as hooked, pytest.raises(RuntimeError) as info:
            hooked.send(hooked.build_request("GET", f"{server}/big"), stream=True)
        held.append(info)

    marked(clean)


def test_a_response_whose_client_was_closed_is_clean(marked: Marked, held: list[Any], server: str, httpx: Any) -> None:
    def clean() -> None:
        with httpx.Client() as client:
            held.append(send(client, f"{server}/big"))

    marked(clean)


def test_the_top_level_stream_leaks_when_it_is_not_left(
    marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    def leaking() -> None:
        manager = httpx.stream("GET", f"{server}/big")
        manager.__enter__()  # leak: responses
        held.append(manager)

    def clean() -> None:
        with httpx.stream("GET", f"{server}/big") as response:
            held.append(response)
        held.append(httpx.get(f"{server}/ok"))

    marked(leaking)
    marked(clean)


def test_responses_of_threads_are_those_of_the_test(marked: Marked, held: list[Any], client: Any, server: str) -> None:
    def fetch() -> None:
        held.append(client.send(client.build_request("GET", f"{server}/big"), stream=True))  # leak: responses x3

    def leaking() -> None:
        threads = [threading.Thread(target=fetch) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    marked(leaking, fetch)


def test_a_request_that_a_thread_waits_for_is_the_leak_of_the_thread(
    marked: Marked, client: Any, server: str, httpx: Any
) -> None:
    def fetch() -> None:
        with contextlib.suppress(httpx.HTTPError, OSError):
            client.get(f"{server}/hang")

    def leaking() -> None:
        thread = threading.Thread(target=fetch)
        thread.start()  # leak: threads
        while not is_sending(client):
            pass
        threads.append(thread)

    threads: list[threading.Thread] = []
    marked(leaking)
    shut(client)
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_a_request_that_a_worker_of_its_own_executor_waits_for_is_the_leak_of_the_worker(
    marked: Marked, client: Any, server: str, httpx: Any
) -> None:
    def fetch() -> None:
        with contextlib.suppress(httpx.HTTPError, OSError):
            client.get(f"{server}/hang")

    def leaking() -> None:
        executor = ThreadPoolExecutor(1)
        executor.submit(fetch)  # leak: threads
        while not is_sending(client):
            pass
        executor.shutdown(wait=False)

    marked(leaking)
    shut(client)


def is_sending(client: Any) -> bool:
    return any("ACTIVE" in each.info() for each in client._transport._pool.connections)


def shut(client: Any) -> None:
    """Let whoever reads from a connection of the client come back."""
    import socket

    for connection in client._transport._pool.connections:
        connection._connection._network_stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def test_a_request_of_a_pooled_worker_is_checked_out(marked: Marked, client: Any, server: str, httpx: Any) -> None:
    def fetch() -> None:
        with contextlib.suppress(httpx.HTTPError, OSError):
            client.get(f"{server}/hang")  # leak: connections

    def leaking() -> None:
        executor.submit(fetch)
        while not is_sending(client):
            pass

    with ThreadPoolExecutor(1) as executor:
        executor.submit(int).result()
        marked(leaking, fetch)
        shut(client)


def test_timeouts_are_clean(marked: Marked, held: list[Any], client: Any, server: str, httpx: Any) -> None:
    def clean() -> None:
        with pytest.raises(httpx.ReadTimeout) as info:
            client.get(f"{server}/hang", timeout=0.01)
        held.append(info)

    marked(clean)


# -- clients -----------------------------------------------------------------------------------------------------------


def test_a_client_for_each_call_leaks(marked: Marked, held: list[Any], server: str, httpx: Any) -> None:
    def leaking() -> None:
        for _ in range(3):
            client = httpx.Client()  # leak: clients x3
            assert client.get(f"{server}/ok").text == "ok"
            held.append(client)

    def clean() -> None:
        for _ in range(3):
            with httpx.Client() as client:
                assert client.get(f"{server}/ok").text == "ok"
            held.append(client)

    (finding,) = marked(leaking)
    assert finding.type == f"{httpx.__name__}.Client"
    assert finding.summary == "not closed, with 1 open connection"
    assert finding.hint == f"use `with {httpx.__name__}.Client() as client:`, or call `client.close()` in a `finally`"
    marked(clean)


def test_a_client_that_is_dropped_with_an_idle_connection_leaks(marked: Marked, server: str, httpx: Any) -> None:
    def leaking() -> None:
        client = httpx.Client()  # leak: clients collected
        assert client.get(f"{server}/ok").text == "ok"

    marked(leaking)


def test_a_client_whose_socket_dies_after_the_transport_of_it_leaks_as_a_client(
    marked: Marked, loop: asyncio.Runner, httpx: Any, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            client = httpx.AsyncClient()  # leak: clients collected
            async with client.stream("GET", server) as response:
                await response.aread()
                sockets.append(response.extensions["network_stream"].get_extra_info("socket"))

        sockets: list[Any] = []
        loop.run(main())
        gc.collect()
        sockets.clear()

    marked(leaking)


@pytest.mark.parametrize("is_collected", [False, True])
def test_an_answer_that_is_dropped_unread_with_its_client_is_the_cause(
    marked: Marked, server: str, httpx: Any, is_collected: bool
) -> None:
    def leaking() -> None:
        client = httpx.Client()
        response = client.send(client.build_request("GET", f"{server}/big"), stream=True)  # leak: responses collected
        assert response.status_code == 200
        del client, response
        if is_collected:
            gc.collect()

    def leaking_otherwise() -> None:
        client = httpx.Client()  # leak: clients collected
        response = send(client, f"{server}/big")
        response.read()
        response = send(client, f"{server}/ok")
        response.read()
        del client, response
        if is_collected:
            gc.collect()

    (finding,) = marked(leaking)
    assert finding.summary == f"GET {server}/big [200]"
    marked(leaking_otherwise)


def test_a_client_that_holds_nothing_is_clean(marked: Marked, held: list[Any], server: str, httpx: Any) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"ok"]

    def clean() -> None:
        held.append(httpx.Client())
        mocked = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, text="ok")))
        wsgi = httpx.Client(transport=httpx.WSGITransport(app), base_url="http://test")
        for client in (mocked, wsgi):
            assert client.get("http://test/").text == "ok"
            held.append(send(client, "http://test/"))
            held.append(client)
        once = httpx.Client()
        held.append(once.get(f"{server}/close"))
        held.append(once)
        refused = httpx.Client()
        with pytest.raises(httpx.ConnectError):
            refused.get("http://127.0.0.1:1/")
        held.append(refused)

    marked(clean)


def test_a_connection_of_a_wider_client_is_the_clients(marked: Marked, server: str, httpx: Any) -> None:
    def setting_up() -> Any:
        return httpx.Client()  # leak: clients

    def clean() -> None:
        for _ in range(3):
            assert client.get(f"{server}/ok").text == "ok"

    with marked.fixture(setting_up) as fixture:
        client = fixture.make(setting_up)
        marked(clean)
    client.close()


def test_a_wider_client_that_is_closed_is_clean(marked: Marked, server: str, httpx: Any) -> None:
    def setting_up() -> Any:
        return httpx.Client()

    def clean() -> None:
        assert client.get(f"{server}/ok").text == "ok"

    with marked.fixture(setting_up) as fixture:
        client = fixture.make(setting_up)
        marked(clean)
        with fixture.during():
            client.close()


def test_a_client_over_a_wider_fixtures_transport_has_nothing_to_close(
    marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    def setting_up() -> Any:
        return httpx.HTTPTransport()

    def clean() -> None:
        held.append(httpx.Client(transport=transport))
        held[-1].get(f"{server}/ok")

    def leaking() -> None:
        client = httpx.Client(transport=transport)
        held.append(client.send(client.build_request("GET", f"{server}/big"), stream=True))  # leak: responses

    with marked.fixture(setting_up) as fixture:
        transport = fixture.make(setting_up)
        marked(clean)
        marked(leaking)
        with fixture.during():
            transport.close()


def test_a_transport_of_a_wider_fixture_leaks_also_where_a_client_of_a_test_has_used_it(
    marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    def setting_up() -> Any:
        return httpx.HTTPTransport()  # leak: clients

    def clean() -> None:
        held.append(httpx.Client(transport=transport))
        held[-1].get(f"{server}/ok")

    with marked.fixture(setting_up) as fixture:
        transport = fixture.make(setting_up)
        marked(clean)
    transport.close()


def test_a_client_over_a_transport_of_its_own_test_leaks(
    marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    def leaking() -> None:
        transport = httpx.HTTPTransport()
        client = httpx.Client(transport=transport)  # leak: clients
        held.append(client)
        client.get(f"{server}/ok")

    marked(leaking)


def test_a_subclass_is_reported_by_its_name(marked: Marked, held: list[Any], server: str, httpx: Any) -> None:
    class Api(httpx.Client):  # type: ignore[misc,name-defined]
        token = "t"

    def leaking() -> None:
        api = Api(base_url=server)  # leak: clients
        held.append((api, api.get("/ok")))

    (finding,) = marked(leaking)
    assert finding.type.endswith(".Api")
    assert finding.library == httpx.__name__


def test_a_client_that_closes_itself_when_it_is_dropped_is_clean(marked: Marked, server: str, httpx: Any) -> None:
    class Careful(httpx.Client):  # type: ignore[misc,name-defined]
        def __del__(self) -> None:
            self.close()

    def clean() -> None:
        assert Careful().get(f"{server}/ok").text == "ok"

    marked(clean)


def test_a_client_that_is_made_in_two_goes_leaks_once(marked: Marked, held: list[Any], server: str, httpx: Any) -> None:
    class Api(httpx.Client):  # type: ignore[misc,name-defined]
        def again(self) -> None:
            super().__init__()

    def leaking() -> None:
        api = Api()  # leak: clients
        api.again()
        held.append((api, api.get(f"{server}/ok")))

    marked(leaking)


def test_a_transport_that_a_client_has_lost_leaks(marked: Marked, held: list[Any], server: str, httpx: Any) -> None:
    def leaking() -> None:
        client = httpx.Client(transport=httpx.HTTPTransport())  # leak: clients collected
        assert client.get(f"{server}/ok").text == "ok"
        client._transport = httpx.MockTransport(lambda request: httpx.Response(200))
        held.append(client)

    (finding,) = marked(leaking)
    assert finding.type == f"{httpx.__name__}.HTTPTransport"


def test_many_requests_do_not_pile_up(
    session: Session, leaks: Leaks, held: list[Any], client: Any, server: str, httpx: Any
) -> None:
    def many() -> None:
        held.append(send(client, f"{server}/big"))
        for _ in range(550):
            client.get(f"{server}/ok")
        for _ in range(3):
            httpx.Client()
        owner = session.watch.stack[-1]
        owner.keep(session.watch.table("httpx clients").get(client))
        assert len(owner.records) < 300

    (finding,) = leaks(many)
    assert finding.kind.value == "responses"


def test_a_transport_that_outlives_its_client_leaks(marked: Marked, held: list[Any], server: str, httpx: Any) -> None:
    def leaking() -> None:
        transport = httpx.HTTPTransport()  # leak: clients
        held.append(transport)
        assert httpx.Client(transport=transport).get(f"{server}/ok").text == "ok"

    def clean() -> None:
        with httpx.HTTPTransport() as transport:
            assert httpx.Client(transport=transport).get(f"{server}/ok").text == "ok"
            held.append(transport)
        transport = httpx.HTTPTransport()
        with httpx.Client(transport=transport) as client:
            assert client.get(f"{server}/ok").text == "ok"
        held.append(transport)

    (finding,) = marked(leaking)
    assert finding.type == f"{httpx.__name__}.HTTPTransport"
    marked(clean)


def test_clients_that_share_a_transport_leak_once(marked: Marked, held: list[Any], server: str, httpx: Any) -> None:
    def leaking() -> None:
        transport = httpx.HTTPTransport()
        for _ in range(2):
            client = httpx.Client(transport=transport)  # leak: clients
            assert client.get(f"{server}/ok").text == "ok"
            held.append(client)

    marked(leaking)


def test_a_transport_around_the_stock_one_is_looked_through(
    marked: Marked, leaks: Leaks, held: list[Any], server: str, httpx: Any
) -> None:
    class Logging(httpx.BaseTransport):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.inner = httpx.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            return self.inner.handle_request(request)  # the innermost line of the user's that sends it

        def close(self) -> None:
            self.inner.close()

    def leaking() -> None:
        client = httpx.Client(transport=Logging())  # leak: clients
        assert client.get(f"{server}/ok").text == "ok"
        held.append(client)

    def leaking_response() -> None:
        held.append(send(client, f"{server}/big"))

    def clean() -> None:
        with httpx.Client(transport=Logging()) as client:
            assert client.get(f"{server}/ok").text == "ok"
            held.append(client)

    marked(leaking)
    with httpx.Client(transport=Logging()) as client:
        (finding,) = leaks(leaking_response)
        assert (finding.kind.value, finding.created and finding.created.function) == ("responses", "handle_request")
    marked(clean)


def test_a_transport_that_does_not_close_the_stock_one_leaks(
    marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    class Forgetful(httpx.BaseTransport):  # type: ignore[misc,name-defined]
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def handle_request(self, request: Any) -> Any:
            return self.inner.handle_request(request)

    def leaking() -> None:
        inner = httpx.HTTPTransport()  # leak: clients
        with httpx.Client(transport=Forgetful(inner)) as client:
            assert client.get(f"{server}/ok").text == "ok"
        held.append(client)

    marked(leaking)


def test_a_mounted_transport_belongs_to_its_client(marked: Marked, held: list[Any], server: str, httpx: Any) -> None:
    def leaking() -> None:
        client = httpx.Client(mounts={"http://": httpx.HTTPTransport(), "https://": None})  # leak: clients
        assert client.get(f"{server}/ok").text == "ok"
        held.append(client)

    def clean() -> None:
        with httpx.Client(mounts={"http://": httpx.HTTPTransport(), "https://": None}) as client:
            assert client.get(f"{server}/ok").text == "ok"

    marked(leaking)
    marked(clean)


def test_a_client_in_an_executor_is_that_of_whoever_submits(
    marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    def fetch() -> None:
        client = httpx.Client()  # leak: clients x2
        assert client.get(f"{server}/ok").text == "ok"
        held.append(client)

    def leaking() -> None:
        for future in [executor.submit(fetch) for _ in range(2)]:
            future.result()

    with ThreadPoolExecutor(2) as executor:
        executor.submit(int).result()
        marked(leaking, fetch)


class Singleton:
    """One for the process."""

    client: Any = None


@functools.cache
def cached(factory: Any) -> Any:
    return factory()


@pytest.mark.usefixtures("whole_heap")
def test_a_client_for_the_whole_process_is_clean(marked: Marked, server: str, httpx: Any) -> None:
    def clean() -> None:
        globals()["_api"] = httpx.Client()
        Singleton.client = httpx.Client()
        single = globals()["_single"] = Singleton()
        single.client = httpx.Client()
        for client in (_api, Singleton.client, single.client, cached(httpx.Client)):  # type: ignore[name-defined]  # noqa: F821
            assert client.get(f"{server}/ok").text == "ok"

    marked(clean)
    for client in (globals().pop("_api"), Singleton.client, globals().pop("_single").client, cached(httpx.Client)):
        client.close()
    Singleton.client = None
    cached.cache_clear()


def test_what_a_client_for_the_whole_process_has_checked_out_leaks(
    marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    def leaking() -> None:
        Singleton.client = client = httpx.Client()
        held.append(client.send(client.build_request("GET", f"{server}/big"), stream=True))  # leak: responses

    marked(leaking)
    Singleton.client.close()
    Singleton.client = None


registry: list[Any] = []


@pytest.mark.usefixtures("whole_heap")
def test_a_response_in_a_registry_is_told_by_its_place_there_and_not_by_the_pools(
    leaks: Leaks, server: str, client: Any
) -> None:
    (finding,) = leaks(lambda: registry.append(client.send(client.build_request("GET", f"{server}/big"), stream=True)))
    assert finding.held_by == f"module attribute {__name__}.registry[0]"
    registry.pop().close()


@pytest.mark.usefixtures("whole_heap")
def test_a_registry_of_clients_leaks(marked: Marked, server: str, httpx: Any) -> None:
    def leaking() -> None:
        registry.append(httpx.Client())  # leak: clients
        assert registry[-1].get(f"{server}/ok").text == "ok"

    (finding,) = marked(leaking)
    assert finding.held_by == f"module attribute {__name__}.registry[0]"
    registry.pop().close()


def test_clients_are_counted_by_their_makers(leaks: Leaks, server: str, httpx: Any) -> None:
    def making() -> None:
        for _ in range(2):
            with httpx.Client() as client:
                client.get(f"{server}/ok")

    (finding,) = leaks(making, max_clients=1)
    assert finding.summary == "2 clients made, and the limit is 1"
    assert leaks(making, max_clients=2) == ()


def test_connections_and_responses_are_counted_at_their_peak(leaks: Leaks, client: Any, server: str) -> None:
    def three_at_once() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(client.stream("GET", f"{server}/big"))

    def one_after_the_other() -> None:
        for _ in range(3):
            client.get(f"{server}/ok")

    found = leaks(three_at_once, peak_connections=2, peak_responses=2)
    assert sorted(finding.summary for finding in found) == [
        "3 connections open at once, and the limit is 2",
        "3 responses open at once, and the limit is 2",
    ]
    assert leaks(three_at_once, peak_connections=3, peak_responses=3) == ()
    assert leaks(one_after_the_other, peak_connections=1, peak_responses=1) == ()


def test_connections_of_earlier_requests_count_when_they_are_used_again(leaks: Leaks, client: Any, server: str) -> None:
    def two_at_once() -> None:
        with client.stream("GET", f"{server}/ok") as first, client.stream("GET", f"{server}/ok") as second:
            first.read()
            second.read()

    assert leaks(two_at_once) == ()
    (finding,) = leaks(two_at_once, peak_connections=1)
    assert finding.summary == "2 connections open at once, and the limit is 1"
    assert leaks(lambda: client.get(f"{server}/ok"), peak_connections=1) == ()


# -- asyncio -----------------------------------------------------------------------------------------------------------


def test_an_async_stream_that_is_kept_leaks(
    marked: Marked, held: list[Any], loop: asyncio.Runner, async_client: Any, server: str
) -> None:
    async def fetch() -> None:
        request = async_client.build_request("GET", f"{server}/big")
        held.append(await async_client.send(request, stream=True))  # leak: responses

    def leaking() -> None:
        loop.run(fetch())

    (finding,) = marked(leaking, fetch)
    assert finding.hint.startswith("use `async with client.stream(...) as response:`, or `await response.aclose()`")


def test_an_async_stream_that_is_closed_is_clean(
    marked: Marked, held: list[Any], loop: asyncio.Runner, async_client: Any, server: str
) -> None:
    async def fetch() -> None:
        async with async_client.stream("GET", f"{server}/big") as response:
            held.append(response)
        response = await async_client.send(async_client.build_request("GET", f"{server}/big"), stream=True)
        await response.aclose()
        held.append(response)
        held.append(await async_client.get(f"{server}/big"))
        response = await async_client.send(async_client.build_request("GET", f"{server}/ok"), stream=True)
        held.append([chunk async for chunk in response.aiter_raw()])

    def clean() -> None:
        loop.run(fetch())

    marked(clean)


def test_an_async_stream_that_is_dropped_leaks(
    marked: Marked, loop: asyncio.Runner, async_client: Any, server: str
) -> None:
    async def fetch() -> None:
        request = async_client.build_request("GET", f"{server}/big")
        assert (await async_client.send(request, stream=True)).status_code == 200  # leak: responses collected

    async def fetch_in_a_cycle() -> None:
        request = async_client.build_request("GET", f"{server}/big")
        cycle(await async_client.send(request, stream=True))  # leak: responses collected

    marked(named(lambda: loop.run(fetch())), fetch)
    marked(named(lambda: loop.run(fetch_in_a_cycle())), fetch_in_a_cycle)


def named(function: Callable[[], Any]) -> Callable[[], Any]:
    def running() -> None:
        function()

    return running


def test_an_async_generator_that_is_kept_alive_leaks(
    marked: Marked, held: list[Any], loop: asyncio.Runner, async_client: Any, server: str
) -> None:
    async def lines() -> Any:
        async with async_client.stream("GET", f"{server}/chunked") as response:  # leak: responses
            async for chunk in response.aiter_bytes():
                yield chunk

    async def fetch() -> None:
        chunks = lines()
        assert await anext(chunks)
        held.append(chunks)

    marked(named(lambda: loop.run(fetch())), lines)
    loop.run(held.pop().aclose())


def test_an_async_generator_that_is_given_up_is_clean(
    marked: Marked, held: list[Any], loop: asyncio.Runner, async_client: Any, server: str
) -> None:
    async def lines() -> Any:
        async with async_client.stream("GET", f"{server}/chunked") as response:
            held.append(response)
            async for chunk in response.aiter_bytes():
                yield chunk

    async def fetch() -> None:
        async for _ in lines():
            break

    marked(named(lambda: loop.run(fetch())))


def test_an_async_client_that_is_never_closed_leaks_whatever_the_loop(
    marked: Marked, held: list[Any], loop: asyncio.Runner, server: str, httpx: Any
) -> None:
    async def fetch() -> None:
        client = httpx.AsyncClient()  # leak: clients
        assert (await client.get(f"{server}/ok")).text == "ok"
        held.append(client)

    async def drop() -> None:
        client = httpx.AsyncClient()  # leak: clients collected
        assert (await client.get(f"{server}/ok")).text == "ok"

    async def close() -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{server}/ok")).text == "ok"
        held.append(client)

    (finding,) = marked(named(lambda: asyncio.run(fetch())), fetch)
    assert finding.hint == (
        f"use `async with {httpx.__name__}.AsyncClient() as client:`, or `await client.aclose()` in a `finally`"
    )
    marked(named(lambda: loop.run(fetch())), fetch)
    loop.run(held.pop().aclose())
    marked(named(lambda: asyncio.run(drop())), drop)
    marked(named(lambda: loop.run(drop())), drop)
    marked(named(lambda: asyncio.run(close())), close)
    marked(named(lambda: loop.run(close())), close)


def test_an_async_client_that_holds_nothing_is_clean(
    marked: Marked, held: list[Any], loop: asyncio.Runner, httpx: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def fetch() -> None:
        held.append(httpx.AsyncClient())
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        assert (await client.get("/")).text == "ok"
        held.append(client)

    marked(named(lambda: loop.run(fetch())))


def test_requests_that_are_given_up_are_clean(
    marked: Marked, loop: asyncio.Runner, async_client: Any, server: str, httpx: Any
) -> None:
    async def give_up() -> None:
        for path in ("/hang", "/chunked"):
            task = asyncio.create_task(async_client.get(server + path))
            while not is_sending(async_client):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(httpx.ReadTimeout):
            await async_client.get(f"{server}/hang", timeout=httpx.Timeout(5, read=0.01))
        async with async_client.stream("GET", f"{server}/chunked") as response:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    async for _ in response.aiter_raw():
                        pass

    marked(named(lambda: loop.run(give_up())))


def test_a_request_that_a_task_waits_for_is_the_leak_of_the_task(
    marked: Marked, held: list[Any], loop: asyncio.Runner, async_client: Any, server: str
) -> None:
    async def start() -> None:
        task = asyncio.create_task(async_client.get(f"{server}/hang"))  # leak: tasks
        held.append(task)
        while not is_sending(async_client):
            await asyncio.sleep(0)

    (finding,) = marked(named(lambda: loop.run(start())), start)
    assert [each.kind for each in finding.holds] == [Kind.RESPONSES, Kind.CONNECTIONS, Kind.SOCKETS]
    assert finding.holds[0].summary == f"GET {server}/hang"
    assert ") > ... > " in finding.summary
    held[0].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        loop.run(wait_for(held.pop()))


async def wait_for(task: Any) -> None:
    await task


def test_async_requests_at_once_are_clean(marked: Marked, loop: asyncio.Runner, async_client: Any, server: str) -> None:
    async def fetch() -> None:
        responses = await asyncio.gather(*(async_client.get(f"{server}/ok") for _ in range(20)))
        assert {response.text for response in responses} == {"ok"}

    marked(named(lambda: loop.run(fetch())))


def test_a_response_of_a_task_group_leaks_at_its_own_line(
    marked: Marked, held: list[Any], loop: asyncio.Runner, async_client: Any, server: str
) -> None:
    async def fetch() -> None:
        request = async_client.build_request("GET", f"{server}/big")
        held.append(await async_client.send(request, stream=True))  # leak: responses x2

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch())
            group.create_task(fetch())

    marked(named(lambda: loop.run(both())), fetch)


def test_under_uvloop_streams_and_clients_leak_and_close_alike(
    session: Session, marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def stream() -> None:
        client = httpx.AsyncClient()
        request = client.build_request("GET", f"{server}/big")
        held.append(await client.send(request, stream=True))  # leak: responses

    async def client() -> None:
        client = httpx.AsyncClient()  # leak: clients
        assert (await client.get(f"{server}/ok")).text == "ok"
        held.append(client)

    async def close() -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{server}/ok")).text == "ok"
            async with client.stream("GET", f"{server}/big") as response:
                held.append(response)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(asyncio.sleep(0))
        session.ledger.open()
        marked(named(lambda: loop.run(stream())), stream)
        marked(named(lambda: loop.run(client())), client)
        marked(named(lambda: loop.run(close())))


def test_names_of_hosts_and_loops_in_threads_are_clean(marked: Marked, server: str, httpx: Any) -> None:
    async def fetch() -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{server}/ok".replace("127.0.0.1", "localhost"))).text == "ok"

    def clean() -> None:
        asyncio.run(fetch())
        thread = threading.Thread(target=asyncio.run, args=(fetch(),))
        thread.start()
        thread.join()

    marked(clean)


# -- trio --------------------------------------------------------------------------------------------------------------


def test_under_trio_streams_and_clients_leak_and_close_alike(
    marked: Marked, held: list[Any], server: str, httpx: Any
) -> None:
    trio = pytest.importorskip("trio")

    async def stream() -> None:
        client = httpx.AsyncClient()
        request = client.build_request("GET", f"{server}/big")
        held.append(await client.send(request, stream=True))  # leak: responses

    async def client() -> None:
        client = httpx.AsyncClient()  # leak: clients
        assert (await client.get(f"{server}/ok")).text == "ok"
        held.append(client)

    async def drop() -> None:
        client = httpx.AsyncClient()  # leak: clients collected
        assert (await client.get(f"{server}/ok")).text == "ok"

    async def close() -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{server}/ok")).text == "ok"
            with trio.move_on_after(0.02):
                await client.get(f"{server}/hang")
            async with client.stream("GET", f"{server}/big") as response:
                held.append(response)
            held.append(await client.send(client.build_request("GET", f"{server}/big"), stream=True))

    async def use(shared: Any) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(shared.get, f"{server}/ok")
            nursery.start_soon(shared.get, f"{server}/hang")
            await trio.sleep(0.02)
            nursery.cancel_scope.cancel()

    async def all_together() -> None:
        async with httpx.AsyncClient() as shared:
            await use(shared)

    marked(named(lambda: trio.run(stream)), stream)
    marked(named(lambda: trio.run(client)), client)
    marked(named(lambda: trio.run(drop)), drop)
    marked(named(lambda: trio.run(close)))
    marked(named(lambda: trio.run(all_together)))


# -- what is not known -------------------------------------------------------------------------------------------------


def test_a_library_without_its_parts_is_left_alone(session: Session) -> None:
    module = types.ModuleType("fakex")
    hooks = Hooks(session.watch, session.watch.patches, session.watch.wall("fakex"))
    with pytest.raises(Unsupported, match=r"^fakex has no Client$"):
        adapter.attach(module, hooks)


def test_a_library_with_other_internals_is_switched_off_in_one_line(session: Session) -> None:
    module: Any = types.ModuleType("fakex")
    for name in ("Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport"):
        setattr(module, name, type(name, (), {"__init__": lambda self: None}))
    wall = session.watch.wall("the adapter for fakex")
    adapter.attach(module, Hooks(session.watch, session.watch.patches, wall))
    module.Client()
    assert wall.error is not None
    assert wall.error.startswith(
        "the adapter for fakex was switched off for the rest of this run: "
        "Unsupported: fakex keeps its transports in a place that is not known"
    )
    session.watch.walls.remove(wall)


# -- whole runs --------------------------------------------------------------------------------------------------------

ASYNCIO = """
    import pytest
    import pytest_asyncio

    httpx = pytest.importorskip({httpx!r})
    KEPT = []
    SERVER = {server!r}
    pytestmark = pytest.mark.asyncio


    @pytest_asyncio.fixture(loop_scope="module", scope="module")
    async def shared():
        async with httpx.AsyncClient() as client:
            yield client


    @pytest_asyncio.fixture(loop_scope="module", scope="module")
    async def forgetful():
        client = httpx.AsyncClient()  # fixture leak: clients
        await client.get(SERVER)
        yield client


    @pytest_asyncio.fixture
    async def own():
        async with httpx.AsyncClient() as client:
            yield client


    async def test_client_on_a_loop_of_its_own():
        client = httpx.AsyncClient()  # leak: clients
        await client.get(SERVER)
        KEPT.append(client)


    async def test_stream_of_its_own_client(own):
        KEPT.append(await own.send(own.build_request("GET", SERVER), stream=True))


    @pytest.mark.asyncio(loop_scope="module")
    async def test_client_on_a_shared_loop():
        client = httpx.AsyncClient()  # leak: clients
        await client.get(SERVER)
        KEPT.append(client)


    @pytest.mark.asyncio(loop_scope="module")
    async def test_stream_of_a_shared_client(shared):
        KEPT.append(await shared.send(shared.build_request("GET", SERVER), stream=True))  # leak: responses


    @pytest.mark.asyncio(loop_scope="module")
    async def test_requests_of_a_shared_client(shared):
        assert [(await shared.get(SERVER)).text for _ in range(3)] == ["ok"] * 3


    @pytest.mark.asyncio(loop_scope="module")
    async def test_requests_of_a_forgetful_client(forgetful):
        assert (await forgetful.get(SERVER)).text == "ok"
"""

ANYIO = """
    import pytest

    httpx = pytest.importorskip({httpx!r})
    KEPT = []
    SERVER = {server!r}
    pytestmark = pytest.mark.anyio


    @pytest.fixture(params=["asyncio", "trio"], scope="module")
    def anyio_backend(request):
        return pytest.importorskip(request.param) and request.param


    @pytest.fixture(scope="module")
    async def shared(anyio_backend):
        async with httpx.AsyncClient() as client:
            yield client


    async def test_client(anyio_backend):
        client = httpx.AsyncClient()  # leak: clients
        await client.get(SERVER)
        KEPT.append(client)


    async def test_stream(shared):
        KEPT.append(await shared.send(shared.build_request("GET", SERVER), stream=True))  # leak: responses


    async def test_requests(shared):
        assert [(await shared.get(SERVER)).text for _ in range(3)] == ["ok"] * 3
"""

TRIO = """
    import pytest

    httpx = pytest.importorskip({httpx!r})
    KEPT = []
    SERVER = {server!r}


    @pytest.fixture
    async def own():
        async with httpx.AsyncClient() as client:
            yield client


    @pytest.mark.trio
    async def test_client():
        client = httpx.AsyncClient()  # leak: clients
        await client.get(SERVER)
        KEPT.append(client)


    @pytest.mark.trio
    async def test_requests(own):
        assert [(await own.get(SERVER)).text for _ in range(3)] == ["ok"] * 3
"""

ALIASED = """
    import httpx2

    httpx2.alias_httpx()
"""

ALIAS = """
    import httpx
    import httpx2
    import pytest

    KEPT = []


    @pytest.fixture(scope="module")
    def shared():
        with httpx.Client() as client:
            yield client


    def test_stream(shared):
        assert httpx is httpx2
        KEPT.append(shared.send(shared.build_request("GET", {server!r}), stream=True))  # leak: responses


    def test_client():
        client = httpx.Client()  # leak: clients
        assert client.get({server!r}).text == "ok"
        KEPT.append(client)


    def test_requests(shared):
        assert shared.get({server!r}).text == "ok"
"""


@pytest.mark.parametrize(
    ("source", "plugin"),
    [(ASYNCIO, "pytest_asyncio.plugin"), (ANYIO, "anyio.pytest_plugin"), (TRIO, "pytest_trio.plugin"), (ALIAS, "")],
)
def test_a_run_reports_what_the_comments_say(inner: Inner, server: str, httpx: Any, source: str, plugin: str) -> None:
    if plugin:
        pytest.importorskip(plugin)
    elif not hasattr(httpx, "alias_httpx"):
        pytest.skip("httpx2 is what can stand in for httpx")
    text = textwrap.dedent(source).format(httpx=httpx.__name__, server=f"{server}/ok")
    inner.write(test_run=text, **({} if plugin else {"conftest": textwrap.dedent(ALIASED)}))
    inner.run(*(["-p", plugin] if plugin else []))
    rows = [*inner.report["tests"], *inner.report["fixtures"]]
    lines = enumerate(text.strip().splitlines(), 1)
    wanted = {(number, line.rpartition(": ")[2]) for number, line in lines if "leak: " in line}
    found = {(each["created"]["line"], each["kind"]) for row in rows for each in row["findings"]}
    assert found == wanted
    assert all(each["count"] == 1 for row in rows for each in row["findings"])
    assert [row["name"] for row in inner.report["fixtures"]] == ["forgetful"] * ("fixture leak" in text)
    assert {row["outcome"] for row in rows} == {"clean", "leaked"}
    assert all(len(row["findings"]) == (row["outcome"] == "leaked") for row in rows)


def test_a_client_that_was_closed_is_not_said_to_be_unclosed(leaks: Leaks, server: str, httpx: Any) -> None:
    class Wrapper(httpx.BaseTransport):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.inner = httpx.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            return self.inner.handle_request(request)

    def leaking() -> None:
        with httpx.Client(transport=Wrapper()) as client:
            client.get(f"{server}/ok")

    (finding,) = leaks(leaking)
    assert finding.type.endswith(".HTTPTransport")
