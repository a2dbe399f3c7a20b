"""aiohttp: sessions, connectors, responses, WebSockets; what is a leak, and its clean twin."""

from __future__ import annotations

import asyncio
import gc
import sys
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

import pytest
from inner import Inner
from loops import Loop
from marked import Leaks, Marked, expected, seen

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.adapters import aiohttp as adapter
from pytest_httpleak.aiohttpplaces import PlaceRecord
from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.session.core import Session
from pytest_httpleak.tables import Table

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")
test_utils = pytest.importorskip("aiohttp.test_utils")

# What is dropped on purpose makes the interpreter and aiohttp complain, too.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*DefaultResolver:UserWarning"),
]

module = types.ModuleType("app")  # a module of the program under test
module.__file__ = __file__


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly anybody reads here what holds a leak, which takes a scan of the heap to tell."""
    if "attribute" not in request.node.name:
        monkeypatch.setattr("pytest_httpleak.probes.references.held_by", lambda thing: None)


class Later:
    """Closes a session, or what else has to be awaited, when its loop ends."""

    def __init__(self, loop: Loop, thing: Any) -> None:
        self.loop = loop
        self.thing = thing

    def close(self) -> None:
        ended = self.thing.close()
        if ended is not None and hasattr(ended, "__await__"):
            self.loop.run(_ended(ended))


async def _ended(awaitable: Any) -> None:
    await awaitable
    await asyncio.sleep(0)


def new_session(**keywords: Any) -> Any:
    """A session whose names are resolved without c-ares, which opens descriptors of its own."""
    connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver(), **keywords)
    return aiohttp.ClientSession(connector=connector)


@pytest.fixture
def client(loop: Loop) -> Iterator[Any]:
    """A session that is someone else's: it outlives the leaking functions."""

    async def make() -> Any:
        return new_session()

    session = loop.run(make())
    yield session
    loop.run(_ended(session.close()))


async def hello(request: Any) -> Any:
    return web.Response(text="hello")


async def repeat(request: Any) -> Any:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def endless(request: Any) -> Any:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 1000)
        await asyncio.sleep(0.01)


def app() -> Any:
    application = web.Application()
    application.router.add_get("/hello", hello)
    application.router.add_get("/repeat", repeat)
    application.router.add_get("/endless", endless)
    return application


@pytest.fixture
def local(loop: Loop) -> Iterator[str]:
    """The base URL of a server of aiohttp's own in this process, someone else's."""

    async def start() -> Any:
        server = test_utils.TestServer(app())
        await server.start_server()
        return server

    server = loop.run(start())
    yield str(server.make_url("")).rstrip("/")
    loop.run(server.close())


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_the_response_of_a_lone_request_answers_for_its_session(marked: Marked, loop: Loop, server: str) -> None:
    def leaking() -> None:
        async def main() -> None:
            context = aiohttp.request("GET", f"{server}/big")
            loop.kept.append(Later(loop, types.SimpleNamespace(close=lambda: context.__aexit__(None, None, None))))
            await context.__aenter__()  # leak: responses

        loop.run(main())

    marked(leaking)


def test_the_session_of_a_lone_request_leaks_by_itself_where_that_is_read(
    marked: Marked, loop: Loop, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            context = aiohttp.request("GET", f"{server}/ok")  # leak: clients
            loop.kept.append(Later(loop, types.SimpleNamespace(close=lambda: context.__aexit__(None, None, None))))
            await (await context.__aenter__()).read()

        loop.run(main())

    marked(leaking)


def test_a_session_that_is_kept_open_leaks_with_its_idle_connection(marked: Marked, loop: Loop, server: str) -> None:
    def leaking() -> None:
        async def main() -> None:
            session = new_session()
            loop.kept.append(Later(loop, session))
            async with session.get(f"{server}/ok") as response:
                await response.read()

        loop.run(main())

    (finding,) = marked.found(leaking)
    assert (finding.library, finding.type, finding.kind.value) == ("aiohttp", "aiohttp.ClientSession", "clients")
    assert finding.summary == "not closed, with 1 idle connection"
    assert [held.kind.value for held in finding.holds] == ["sockets"]


@pytest.mark.usefixtures("whole_heap")
def test_a_session_that_was_never_used_leaks_by_aiohttps_own_word(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            loop.kept.append(Later(loop, aiohttp.ClientSession()))  # leak: clients

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.summary == "not closed"


def test_a_session_that_is_dropped_leaks(marked: Marked, loop: Loop, server: str) -> None:
    def leaking() -> None:
        async def main() -> None:
            session = aiohttp.ClientSession()  # leak: clients collected
            async with session.get(f"{server}/ok") as response:
                await response.read()

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.hint.startswith("use `async with aiohttp.ClientSession() as session:`")


@pytest.mark.parametrize("has_one", [True, False])
def test_a_session_whose_making_fails_leaks_if_it_has_a_connector_by_then(
    marked: Marked, loop: Loop, has_one: bool
) -> None:
    def leaking() -> None:
        async def main() -> None:
            with pytest.raises(TypeError):
                aiohttp.ClientSession(headers=5)  # type: ignore[arg-type]  # leak: clients collected

        loop.run(main())

    def clean() -> None:
        async def main() -> None:
            with pytest.raises(TypeError):
                aiohttp.ClientSession(no_such_option=5)  # type: ignore[call-arg]

        loop.run(main())

    findings = marked(leaking if has_one else clean)
    assert all(finding.hint.startswith("its `__init__` has raised") for finding in findings)


def test_a_session_that_only_the_collector_frees_leaks(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            holder = types.SimpleNamespace(session=aiohttp.ClientSession())  # leak: clients collected
            holder.itself = holder

        loop.run(main())

    marked(leaking)


def test_a_session_that_the_collector_has_freed_before_leaks(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            holder = types.SimpleNamespace(session=aiohttp.ClientSession())  # leak: clients collected
            holder.itself = holder

        loop.run(main())
        gc.collect()

    marked(leaking)


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_session_whose_connector_the_collector_has_finalized_first_leaks_all_the_same(
    marked: Marked, loop: Loop, server: str, is_closed: bool
) -> None:
    async def use(session: Any) -> None:
        async with session.get(f"{server}/ok") as response:
            await response.read()
        if is_closed:
            await session.close()
        holder = types.SimpleNamespace(session=session)
        holder.itself = holder

    async def main(make: Any) -> None:
        await use(make())
        gc.collect()

    def leaking() -> None:
        def make() -> Any:  # the older of two is finalized first
            connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
            return aiohttp.ClientSession(connector=connector)  # leak: clients collected

        loop.run(main(make))

    def clean() -> None:
        loop.run(main(new_session))

    marked(clean if is_closed else leaking)


def test_a_session_that_is_closed_is_clean(marked: Marked, held: list[Any], loop: Loop, server: str) -> None:
    def clean() -> None:
        async def main() -> None:
            async with aiohttp.ClientSession() as session, session.get(f"{server}/ok") as response:
                held.append((session, response))
                await response.read()
            async with aiohttp.request("GET", f"{server}/ok") as response:
                held.append(response)

        loop.run(main())

    marked(clean)


def test_a_session_that_a_fixture_shares_is_clean(marked: Marked, loop: Loop, client: Any, server: str) -> None:
    def clean() -> None:
        async def main() -> None:
            async with client.get(f"{server}/ok") as response:
                assert await response.text() == "ok"

        loop.run(main())

    marked(clean)


def test_a_wider_fixture_answers_for_the_session_that_it_leaves(marked: Marked, loop: Loop) -> None:
    async def begin() -> None:
        loop.kept.append(Later(loop, aiohttp.ClientSession()))  # leak: clients

    with marked.fixture(begin) as life:
        life.make(lambda: loop.run(begin()))


@pytest.mark.usefixtures("whole_heap")
def test_a_session_in_a_module_attribute_belongs_to_the_process(
    marked: Marked, loop: Loop, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "app", module)

    def clean() -> None:
        async def main() -> None:
            module.session = new_session()  # type: ignore[attr-defined]
            async with module.session.get(f"{server}/ok") as response:
                await response.read()

        loop.run(main())

    marked(clean)
    loop.run(_ended(module.session.close()))
    del module.session


def test_a_session_inside_a_class_has_the_line_that_made_it(marked: Marked, loop: Loop) -> None:
    class Api:
        def __init__(self) -> None:
            self.session = aiohttp.ClientSession()  # leak: clients

    def leaking() -> None:
        async def main() -> None:
            loop.kept.append(Later(loop, Api().session))

        loop.run(main())

    marked(leaking, Api.__init__)


# -- connectors --------------------------------------------------------------------------------------------------------


def test_a_connector_that_its_session_does_not_own_leaks_when_it_is_kept_open(
    marked: Marked, loop: Loop, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())  # leak: clients
            loop.kept.append(Later(loop, connector))
            async with aiohttp.ClientSession(connector=connector, connector_owner=False) as session:
                for _ in range(2):
                    async with session.get(f"{server}/ok") as response:
                        await response.read()

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.type == "aiohttp.TCPConnector"
    assert finding.summary == "not closed, with 1 idle connection"
    assert finding.hint.startswith("call `await connector.close()`")


def test_a_connector_that_its_session_does_not_own_leaks_when_it_is_dropped(
    marked: Marked, loop: Loop, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())  # leak: clients collected
            async with aiohttp.ClientSession(connector=connector, connector_owner=False) as session:
                async with session.get(f"{server}/ok") as response:
                    await response.read()

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.hint.startswith("call `await connector.close()`")


def test_a_connector_that_its_session_has_detached_leaks_when_it_is_kept_open(
    marked: Marked, loop: Loop, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())  # leak: clients
            session = aiohttp.ClientSession(connector=connector)
            loop.kept.append(Later(loop, session.connector))
            await _read(session, f"{server}/ok")
            session.detach()

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.type == "aiohttp.TCPConnector"
    assert finding.hint.startswith("call `await connector.close()`")


def test_a_connector_that_its_session_has_detached_leaks_when_it_is_dropped(
    marked: Marked, loop: Loop, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())  # leak: clients collected
            session = aiohttp.ClientSession(connector=connector)
            del connector
            await _read(session, f"{server}/ok")
            session.detach()

        loop.run(main())

    marked(leaking)


def test_a_connector_that_was_detached_and_closed_is_clean(marked: Marked, loop: Loop, server: str) -> None:
    def clean() -> None:
        async def main() -> None:
            session = new_session()
            loop.kept.append(Later(loop, session.connector))
            await _read(session, f"{server}/ok")
            session.detach()
            await loop.kept[-1].thing.close()

        loop.run(main())

    marked(clean)


def test_a_connector_that_one_of_its_sessions_has_detached_is_the_other_ones(
    marked: Marked, loop: Loop, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
            session = aiohttp.ClientSession(connector=connector)  # leak: clients
            loop.kept.append(Later(loop, session))
            await _read(session, f"{server}/ok")
            aiohttp.ClientSession(connector=session.connector).detach()

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.type == "aiohttp.ClientSession"


def test_a_connector_that_is_closed_is_clean(marked: Marked, held: list[Any], loop: Loop, server: str) -> None:
    def clean() -> None:
        async def main() -> None:
            connector = aiohttp.TCPConnector()
            held.append(connector)
            async with aiohttp.ClientSession(connector=connector, connector_owner=False) as session:
                async with session.get(f"{server}/ok") as response:
                    await response.read()
            await connector.close()

        loop.run(main())

    marked(clean)


def test_a_connector_without_a_connection_is_clean(marked: Marked, held: list[Any], loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
            held.append(connector)
            loop.kept.append(Later(loop, connector))

        loop.run(main())

    marked(clean)


def test_a_connector_that_is_dropped_answers_for_its_resolver(marked: Marked, loop: Loop, server: str) -> None:
    pytest.importorskip("aiodns")

    def leaking() -> None:
        async def main() -> None:
            connector = aiohttp.TCPConnector()  # leak: clients collected
            async with aiohttp.ClientSession(connector=connector, connector_owner=False) as session:
                async with session.get(f"{server}/ok") as response:
                    await response.read()

        loop.run(main())

    marked(leaking)


def test_resolvers_that_follow_each_other_are_told_apart(marked: Marked, loop: Loop, server: str) -> None:
    pytest.importorskip("aiodns")

    def leaking() -> None:
        async def main() -> None:
            for _ in range(5):
                async with aiohttp.ClientSession() as session, session.get(f"{server}/ok") as response:
                    await response.read()
            loop.kept.append(Later(loop, aiohttp.ClientSession()))  # leak: clients

        loop.run(main())

    for _ in range(4):
        marked(leaking)


@pytest.mark.usefixtures("client")
def test_a_stand_in_for_an_idle_connection_has_no_time_to_expire(session: Session) -> None:
    (record,) = session.watch.table("aiohttp connectors")
    record.ref()._conns["key"] = [(mock.Mock(), object())]
    assert (record.state().idle, record.state().expired) == (1, 0)
    record.ref()._conns.clear()


def test_the_figures_of_a_connector_are_told(
    session: Session, leaks: Leaks, loop: Loop, client: Any, server: str
) -> None:
    (record,) = session.watch.table("aiohttp connectors")
    assert record.state().origin == "(no connection)"
    response = loop.run(_get(client, f"{server}/big"))
    loop.run(_read(client, f"{server}/ok"))
    state: PoolState = record.state()
    assert (state.origin, state.active, state.idle, state.requests, state.connections_made) == (server, 1, 1, 2, 2)
    assert (state.max_connections, state.per_host, state.connecting) == (100, None, 0)
    response.close()
    loop.run(_ended(client.close()))
    assert record.state() is None
    assert record.figures() == "a closed connector"
    assert list(record.descriptors()) == []


async def _get(client: Any, url: str) -> Any:
    return await client.get(url)


async def _read(client: Any, url: str) -> None:
    async with client.get(url) as response:
        await response.read()


def test_a_connector_without_a_limit_says_so(session: Session, loop: Loop) -> None:
    async def main() -> None:
        async with new_session(limit=0):
            (record,) = session.watch.table("aiohttp connectors")
            assert record.figures() == "the connector (0 active, 0 idle, 0 waiting, limit none)"

    loop.run(main())


# -- responses ---------------------------------------------------------------------------------------------------------


def test_a_response_that_is_kept_open_leaks(
    marked: Marked, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            held.append(await client.get(f"{server}/big?token=secret"))  # leak: responses

        loop.run(main())

    (finding,) = marked(leaking)
    assert (finding.library, finding.type) == ("aiohttp", "aiohttp.ClientResponse")
    assert finding.summary == f"GET {server}/big?token=secret [200]"  # reports mask what may not be shown
    assert [each.kind.value for each in finding.holds] == ["connections", "sockets"]
    assert finding.holds[0].summary == "a connection of the connector (1 active, 0 idle, 0 waiting, limit 100)"
    held[0].close()


def test_a_response_that_is_dropped_leaks(marked: Marked, loop: Loop, client: Any, server: str) -> None:
    def leaking() -> None:
        async def main() -> None:
            await client.get(f"{server}/big")  # leak: responses

        loop.run(main())

    marked(leaking)


def test_responses_of_one_line_are_one_finding(
    marked: Marked, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            for _ in range(3):
                held.append(await client.get(f"{server}/big"))  # leak: responses x3

        loop.run(main())

    assert len(marked(leaking)) == 1
    for response in held:
        response.close()


def test_a_response_that_is_read_in_part_leaks(
    marked: Marked, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            response = await client.get(f"{server}/big")  # leak: responses
            held.append(response)
            async for _ in response.content.iter_chunked(10):
                break

        loop.run(main())

    marked(leaking)
    held[0].close()


@pytest.mark.parametrize("is_collected", [False, True])
def test_a_response_and_its_session_that_are_both_dropped_leak_each(
    leaks: Leaks, loop: Loop, server: str, is_collected: bool
) -> None:
    def leaking() -> None:
        async def main() -> None:
            session = aiohttp.ClientSession()
            await session.get(f"{server}/big")

        loop.run(main())
        if is_collected:
            gc.collect()

    findings = leaks(leaking)
    lines = [finding.created.line for finding in findings if finding.created is not None]
    assert [finding.kind.value for finding in findings] == ["responses", "clients"]
    assert lines[0] == lines[1] + 1


def test_responses_whose_body_has_arrived_whole_are_clean(
    marked: Marked, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    def clean() -> None:
        async def main() -> None:
            held.append(await client.head(f"{server}/big"))
            for path in ("/ok", "/204", "/status/404", "/redirect"):
                held.append(await client.get(server + path))
            response = await client.get(f"{server}/big")
            await response.read()
            held.append(response)

        loop.run(main())

    marked(clean)


def test_responses_that_are_closed_or_released_are_clean(
    marked: Marked, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    def clean() -> None:
        async def main() -> None:
            closed = await client.get(f"{server}/big")
            closed.close()
            released = await client.get(f"{server}/big")
            released.release()
            async with client.get(f"{server}/big") as left:
                pass
            with pytest.raises(aiohttp.ClientResponseError):
                await client.get(f"{server}/status/500", raise_for_status=True)
            with pytest.raises(aiohttp.ClientPayloadError):
                async with client.get(f"{server}/reset") as broken:
                    await broken.read()
            held.extend((closed, released, left, broken))

        loop.run(main())

    marked(clean)


def test_a_response_that_is_open_when_its_session_closes_is_clean(
    marked: Marked, held: list[Any], loop: Loop, server: str
) -> None:
    def clean() -> None:
        async def main() -> None:
            async with new_session() as session:
                held.append(await session.get(f"{server}/big"))

        loop.run(main())

    marked(clean)


def test_requests_that_fail_time_out_or_are_cancelled_are_clean(
    marked: Marked, loop: Loop, client: Any, server: str
) -> None:
    def clean() -> None:
        async def main() -> None:
            with pytest.raises(TimeoutError):
                await client.get(f"{server}/hang", timeout=aiohttp.ClientTimeout(total=0.01))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(f"{server}/hang"), 0.01)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_read(client, f"{server}/chunked"), 0.03)
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get("http://127.0.0.1:1/")

        loop.run(main())

    marked(clean)


def test_a_request_under_way_in_a_task_is_that_tasks(marked: Marked, loop: Loop, client: Any, server: str) -> None:
    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(_read(client, f"{server}/hang"))  # leak: tasks
            await asyncio.sleep(0.02)

        loop.run(main())

    (finding,) = marked(leaking)
    assert "responses" in [each.kind.value for each in finding.holds]


def test_a_response_inside_a_task_is_that_tasks(marked: Marked, loop: Loop, client: Any, server: str) -> None:
    def leaking() -> None:
        async def main() -> None:
            asyncio.create_task(_read(client, f"{server}/chunked"))  # leak: tasks
            await asyncio.sleep(0.02)

        loop.run(main())

    (finding,) = marked(leaking)
    kinds = [each.kind.value for each in finding.holds]
    assert f"GET {server}/chunked [200]" in [each.summary for each in finding.holds]
    assert kinds == ["responses", "connections", "sockets"]
    assert not any("no response to explain it" in each.summary for each in finding.holds)


@pytest.mark.usefixtures("whole_heap")
def test_a_response_inside_a_task_is_that_tasks_also_where_an_earlier_one_of_its_connection_is_kept(
    marked: Marked, loop: Loop, client: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(module, "kept", kept, raising=False)
    monkeypatch.setitem(sys.modules, "app", module)

    def leaking() -> None:
        async def main() -> None:
            kept.append(await client.get(f"{server}/ok"))
            await kept[0].read()
            kept.append(asyncio.create_task(_read(client, f"{server}/chunked")))  # leak: tasks
            await asyncio.sleep(0.02)

        loop.run(main())

    (finding,) = marked(leaking)
    assert f"GET {server}/chunked [200]" in [each.summary for each in finding.holds]


@pytest.mark.parametrize("way", ["alone", "in a wait", "in a gathering", "next of a generator"])
def test_a_request_that_is_pending_is_one_finding_with_its_task(
    leaks: Leaks, held: list[Any], loop: Loop, client: Any, server: str, way: str
) -> None:
    async def generated() -> AsyncIterator[int]:
        async with client.get(f"{server}/hang") as response:
            yield response.status

    def request() -> Any:
        if way == "next of a generator":
            return anext(generated())
        request = client.get(f"{server}/hang")
        if way == "in a wait":
            return asyncio.wait_for(request, 60)
        return asyncio.gather(request) if way == "in a gathering" else request

    def leaking() -> None:
        async def main() -> None:
            held.append(asyncio.ensure_future(request()))
            await asyncio.sleep(0.05)

        loop.run(main())

    (finding,) = leaks(leaking)
    assert finding.kind.value == "tasks"
    assert "object at" not in finding.summary


@pytest.mark.usefixtures("whole_heap")
def test_a_response_that_a_task_hands_on_is_a_cause_of_its_own(
    leaks: Leaks, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    def leaking() -> None:
        async def read() -> None:
            async with client.get(f"{server}/chunked") as response:
                held.append(response)
                await response.read()

        async def main() -> None:
            asyncio.create_task(read())
            await asyncio.sleep(0.02)

        loop.run(main())

    assert [finding.kind.value for finding in leaks(leaking)] == ["responses", "tasks"]


def test_a_session_inside_a_task_is_that_tasks(marked: Marked, loop: Loop, server: str) -> None:
    def leaking() -> None:
        async def watch() -> None:
            async with aiohttp.ClientSession() as session:
                await _read(session, f"{server}/chunked")

        async def main() -> None:
            asyncio.create_task(watch())  # leak: tasks
            await asyncio.sleep(0.02)

        loop.run(main())

    (finding,) = marked(leaking)
    assert {"responses", "clients"} <= {each.kind.value for each in finding.holds}


def test_a_response_on_uvloop_is_one_finding(marked: Marked, held: list[Any], server: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = Loop(uvloop.new_event_loop())

    async def make() -> Any:
        return new_session()

    client = loop.run(make())

    def leaking() -> None:
        async def main() -> None:
            held.append(await client.get(f"{server}/big"))  # leak: responses

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.holds[1].fd is not None
    held[0].close()
    loop.run(_ended(client.close()))
    loop.end()


# -- checkouts ---------------------------------------------------------------------------------------------------------


async def _check_out(client: Any, url: str) -> Any:
    """A connection of the connector's, as a library above aiohttp's responses may take it."""
    request = types.SimpleNamespace()
    request_class = aiohttp.client_reqrep.ClientRequest
    keywords: dict[str, Any] = {"loop": asyncio.get_running_loop(), "session": client}
    names = request_class.__init__.__code__.co_varnames
    for name, value in _REQUEST.items():
        if name in names:
            keywords[name] = value
    request = request_class("GET", aiohttp.client.URL(url), **keywords)
    return await client.connector.connect(request, [], aiohttp.ClientTimeout())


_REQUEST: dict[str, Any] = {
    "params": {},
    "headers": {},
    "skip_auto_headers": frozenset(),
    "data": None,
    "cookies": {},
    "auth": None,
    "version": aiohttp.HttpVersion11,
    "compress": False,
    "chunked": None,
    "expect100": False,
    "response_class": aiohttp.ClientResponse,
    "proxy": None,
    "proxy_auth": None,
    "timer": aiohttp.helpers.TimerNoop(),
    "ssl": True,
    "proxy_headers": None,
    "traces": [],
    "trust_env": False,
    "server_hostname": None,
}


def test_a_connection_that_is_checked_out_without_a_response_leaks(
    marked: Marked, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            held.append(await _check_out(client, server))

        loop.run(main())

    (finding,) = marked.found(leaking)
    assert finding.kind.value == "connections"
    assert finding.summary == f"{server}, checked out, with no response to explain it"
    held.pop().close()


def test_a_connection_is_its_last_users(marked: Marked, held: list[Any], loop: Loop, client: Any, server: str) -> None:
    def clean() -> None:
        loop.run(_read(client, f"{server}/ok"))

    def leaking() -> None:
        async def main() -> None:
            held.append(await _check_out(client, server))

        loop.run(main())

    marked(clean)
    (finding,) = marked.found(leaking)
    assert finding.kind.value == "connections"
    held.pop().close()


def test_a_connection_that_is_released_is_clean(
    marked: Marked, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    def clean() -> None:
        async def main() -> None:
            connection = await _check_out(client, server)
            held.append(connection)
            connection.release()

        loop.run(main())

    marked(clean)


def test_a_checkout_that_is_dropped_leaks(marked: Marked, loop: Loop, client: Any, server: str) -> None:
    def leaking() -> None:
        loop.run(_check_out(client, server))

    (finding,) = marked.found(leaking)
    assert (finding.kind.value, finding.state.value) == ("connections", "collected")


# -- WebSockets, and servers of aiohttp's own --------------------------------------------------------------------------


# -- what a connector loses --------------------------------------------------------------------------------------------


def test_a_connection_that_its_connector_throws_away_leaks(
    marked: Marked, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    """As aiohttp 3.10.11 does when a request is cancelled in the trace of a connection that is used again."""

    async def throwing() -> None:
        async with client.get(server + "/") as response:  # leak: connections
            await response.read()
        held.extend(client.connector._conns.values())
        client.connector._conns.clear()

    def leaking() -> None:
        loop.run(throwing())

    (finding,) = marked(leaking, throwing)
    assert finding.summary.endswith(", thrown away by its connector without being closed")
    assert finding.hint == "this is the library's own doing: upgrade aiohttp"
    held[0][0][0].close()


def test_a_connection_that_is_thrown_away_and_dropped_open_leaks(marked: Marked, server: str) -> None:
    async def throwing() -> None:
        client = new_session()
        response = await client.get(server + "/")  # leak: connections collected
        await response.read()
        client.connector._conns.clear()
        await client.close()

    def leaking() -> None:
        asyncio.run(throwing())

    (finding,) = marked(leaking, throwing)
    assert finding.summary == f"{server}, not closed before its event loop was"
    assert finding.hint.startswith("use a session in one event loop only")


def test_a_connection_that_was_told_to_close_before_its_loop_was_closed_is_no_leak(marked: Marked, server: str) -> None:
    """A session does not wait for the end of TLS each time, so that it is not its user's to wait."""

    async def closing() -> None:
        async with new_session() as client:
            async with client.get(server + "/") as response:
                await response.read()
            ((protocol, *_),) = next(iter(client.connector._conns.values()))
            with mock.patch.object(protocol.transport, "close"):  # as if it took longer
                protocol.close()
            client.connector._conns.clear()

    def clean() -> None:
        asyncio.run(closing())

    marked(clean)


@pytest.mark.parametrize("is_read", [True, False])
def test_a_session_that_is_dropped_answers_for_what_its_closed_loop_could_not_close(
    marked: Marked, server: str, is_read: bool
) -> None:
    async def dropping() -> None:
        connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
        session = aiohttp.ClientSession(connector=connector)  # leak: clients collected
        response = await session.get(f"{server}/ok")
        await response.read()

    async def dropping_unread() -> None:
        connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
        session = aiohttp.ClientSession(connector=connector)  # leak: clients collected
        await session.get(f"{server}/big")  # leak: responses collected

    main = dropping if is_read else dropping_unread

    def leaking() -> None:
        asyncio.run(main())

    marked(leaking, main)


def test_sessions_that_are_closed_in_their_loop_are_clean(marked: Marked, server: str) -> None:
    async def closing(path: str) -> None:
        async with new_session() as session, session.get(server + path):
            pass

    def clean() -> None:
        asyncio.run(closing("/ok"))
        asyncio.run(closing("/big"))

    marked(clean)


def test_a_stand_in_for_a_connection_is_not_thrown_away(marked: Marked, held: list[Any], loop: Loop) -> None:
    """It says yes to everything, that it is connected, too."""

    async def create_connection(*args: Any) -> mock.Mock:
        closed = asyncio.get_running_loop().create_future()
        closed.set_result(None)
        held.append(mock.Mock(closed=closed))
        protocol: mock.Mock = held[-1]
        return protocol

    async def connecting() -> None:
        async with aiohttp.TCPConnector() as connector:
            connector._create_connection = create_connection  # type: ignore[assignment]
            (await connector.connect(mock.Mock(), [], aiohttp.ClientTimeout())).close()

    def clean() -> None:
        loop.run(connecting())

    marked(clean)


def test_a_connection_that_its_connector_throws_away_and_closes_is_clean(
    marked: Marked, held: list[Any], loop: Loop, client: Any, server: str
) -> None:
    async def throwing() -> None:
        async with client.get(server + "/") as response:
            await response.read()
        for items in client.connector._conns.values():
            for protocol, *_ in items:
                protocol.close()
                held.append(protocol)
        client.connector._conns.clear()

    def clean() -> None:
        loop.run(throwing())

    marked(clean)


class Careless(aiohttp.TCPConnector):  # type: ignore[misc, name-defined]
    """Does not give the place for a new connection back when it is cancelled in between, as aiohttp until 3.10.11."""

    gives_back = False

    async def connect(self, request: Any, traces: Any, timeout: Any) -> Any:
        made = aiohttp.connector._TransportPlaceholder
        future = getattr(self, "_placeholder_future", None)
        place = made() if future is None else made(future)  # leak: connections
        self._acquired.add(place)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            if self.gives_back:
                self._acquired.remove(place)
            raise
        self._acquired.remove(place)
        return await super().connect(request, traces, timeout)


class Careful(Careless):
    gives_back = True


async def given_up(client: Any, server: str) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.get(server + "/"), 0.01)


def careless(loop: Loop, kind: type) -> Any:
    async def make() -> Any:
        return aiohttp.ClientSession(connector=kind(limit=1, resolver=aiohttp.ThreadedResolver()))

    return loop.run(make())


def test_a_place_that_a_cancelled_request_has_taken_is_lost(leaks: Leaks, loop: Loop, server: str) -> None:
    client = careless(loop, Careless)
    found = leaks(lambda: loop.run(given_up(client, server)))
    assert seen(found) == expected(Careless.connect)
    (finding,) = found
    assert finding.summary.startswith("place for a connection, still taken by a request that was given up")
    loop.run(_ended(client.close()))


def test_a_place_that_a_cancelled_request_gives_back_is_clean(leaks: Leaks, loop: Loop, server: str) -> None:
    client = careless(loop, Careful)
    assert leaks(lambda: loop.run(given_up(client, server))) == ()
    loop.run(_ended(client.close()))


def test_a_place_of_a_session_that_is_closed_is_clean(leaks: Leaks, held: list[Any], loop: Loop, server: str) -> None:
    client = careless(loop, Careless)
    held.append(client)

    async def main() -> None:
        await given_up(client, server)
        await _ended(client.close())

    assert leaks(lambda: loop.run(main())) == ()


def test_a_place_that_is_taken_by_a_pending_request_is_its_tasks(leaks: Leaks, loop: Loop, server: str) -> None:
    client = careless(loop, Careless)
    tasks = []

    async def begin() -> None:
        tasks.append(asyncio.ensure_future(client.get(server + "/")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert [finding.kind.value for finding in leaks(lambda: loop.run(begin()))] == ["tasks"]
    tasks[0].cancel()
    loop.run(_ended(asyncio.wait(tasks)))
    loop.run(_ended(client.close()))


def test_a_place_that_has_the_number_of_an_earlier_one_is_its_own(session: Session) -> None:
    connector = types.SimpleNamespace(closed=False, limit=1, _acquired=set(), _acquired_per_host={})
    place = object()
    connector._acquired.add(place)
    earlier = PlaceRecord([types.SimpleNamespace(ref=lambda: connector)], Table(), id(place))  # type: ignore[arg-type]
    assert not earlier.is_over()
    earlier.number = 0
    assert earlier.is_over()


def test_a_websocket_that_is_kept_open_leaks(
    marked: Marked, held: list[Any], loop: Loop, client: Any, local: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            socket = await client.ws_connect(f"{local}/repeat")  # leak: responses
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            held.append(socket)

        loop.run(main())

    (finding,) = marked(leaking)
    assert finding.type == "aiohttp.ClientWebSocketResponse"
    assert "session.ws_connect" in finding.hint
    loop.run(held[0].close())


def test_a_websocket_that_is_closed_is_clean(
    marked: Marked, held: list[Any], loop: Loop, client: Any, local: str
) -> None:
    def clean() -> None:
        async def main() -> None:
            async with client.ws_connect(f"{local}/repeat") as socket:
                held.append(socket)
                await socket.send_str("hello")
                assert await socket.receive_str() == "hello"

        loop.run(main())

    marked(clean)


def test_what_a_server_of_a_wider_fixture_does_is_none_of_the_tests(
    marked: Marked, held: list[Any], loop: Loop, client: Any, local: str
) -> None:
    def leaking() -> None:
        async def main() -> None:
            await _read(client, f"{local}/hello")
            held.append(await client.get(f"{local}/endless"))  # leak: responses

        loop.run(main())

    marked(leaking)
    held[0].close()


def test_a_client_and_a_server_for_tests_that_are_closed_are_clean(marked: Marked, loop: Loop) -> None:
    def clean() -> None:
        async def main() -> None:
            async with test_utils.TestClient(test_utils.TestServer(app())) as client:
                response = await client.get("/hello")
                assert await response.text() == "hello"
                await client.get("/endless")

        loop.run(main())

    marked(clean)


def test_a_server_for_tests_that_is_left_leaks_its_listening_socket(marked: Marked, loop: Loop) -> None:
    def leaking() -> None:
        async def main() -> None:
            server = test_utils.TestServer(app())
            await server.start_server()  # leak: sockets
            loop.kept.append(Later(loop, server))

        loop.run(main())

    marked(leaking)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_connections_and_responses_at_once_are_counted(leaks: Leaks, loop: Loop, client: Any, server: str) -> None:
    def busy() -> None:
        async def main() -> None:
            await _read(client, f"{server}/ok")
            responses = [await client.get(f"{server}/big") for _ in range(3)]
            for response in responses:
                response.close()
            await _read(client, f"{server}/ok")

        loop.run(main())

    assert leaks(busy, peak_connections=3, peak_responses=3) == ()
    found = leaks(busy, peak_connections=2, peak_responses=2)
    assert sorted((finding.kind.value, finding.state.value) for finding in found) == [
        ("connections", "peak"),
        ("responses", "peak"),
    ]


def test_sessions_are_counted_without_the_connectors_inside_them(leaks: Leaks, loop: Loop) -> None:
    def busy() -> None:
        async def main() -> None:
            for _ in range(2):
                async with aiohttp.ClientSession():
                    pass

        loop.run(main())

    assert leaks(busy, max_clients=2) == ()
    (finding,) = leaks(busy, max_clients=1)
    assert finding.summary == "2 clients made, and the limit is 1"


def test_what_is_over_may_be_forgotten(session: Session, loop: Loop, client: Any, held: list[Any], server: str) -> None:
    loop.run(_read(client, f"{server}/ok"))
    response = loop.run(_get(client, f"{server}/big"))
    held.append(response)
    names = ("sessions", "connectors", "responses", "connections")
    records = [each for name in names for each in session.watch.table(f"aiohttp {name}")]
    assert len(records) == 4
    assert not any(record.is_over() for record in records)
    response.close()
    (over,) = (record for record in records if record.is_over())
    assert over.ref() is response


# -- the adapter -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name"),
    [("ClientSession", "__del__"), ("BaseConnector", "_release_acquired"), ("ClientResponse", "start")],
)
def test_an_aiohttp_that_is_built_otherwise_is_named(owner: str, name: str) -> None:
    names = {
        "ClientSession": ("__del__", "detach"),
        "BaseConnector": ("__del__", "_release_acquired"),
        "ClientResponse": ("__del__", "start"),
    }
    other = types.ModuleType("aiohttp")
    other.__version__ = "9.0"  # type: ignore[attr-defined]
    for cls, methods in names.items():
        kept = {each: lambda self: None for each in methods if (cls, each) != (owner, name)}
        setattr(other, cls, type(cls, (), kept))
    with pytest.raises(Unsupported, match=f"aiohttp 9.0: {owner} has no {name}"):
        adapter.attach(other, Hooks(None, None, None))  # type: ignore[arg-type]


def test_sessions_of_before_the_watch_are_let_be(loop: Loop, server: str, session: Session, marked: Marked) -> None:
    session.watch.on = False
    for wall in session.watch.walls:
        wall.on = False

    async def make() -> Any:
        return new_session()

    earlier = loop.run(make())
    loop.run(_read(earlier, f"{server}/ok"))
    session.watch.on = True
    for wall in session.watch.walls:
        wall.on = True

    def clean() -> None:
        async def main() -> None:
            await _read(earlier, f"{server}/ok")
            async with aiohttp.ClientSession(connector=earlier.connector, connector_owner=False) as later:
                await _read(later, f"{server}/ok")

        loop.run(main())

    marked(clean)
    loop.run(_ended(earlier.close()))


PINGS = """
import asyncio

from aiohttp import web


async def handle(request):
    # As a library does that pings its clients: in a task of its own, which nobody waits for.
    request.app["pings"].append(asyncio.ensure_future(asyncio.sleep(100)))
    return web.Response(text="hello")
"""
SERVED = """
import asyncio

import aiohttp
import pings
import pytest
from aiohttp import web

pytestmark = pytest.mark.asyncio


async def get(handler):
    app = web.Application()
    app["pings"] = kept = []
    app.router.add_get("/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as session:
        async with session.get("http://127.0.0.1:%d/" % runner.addresses[0][1]) as response:
            await response.text()
    await runner.cleanup()
    return kept


async def test_of_the_library():
    kept = await get(pings.handle)
    assert not kept[0].done()


async def test_of_the_test():
    async def handle(request):
        request.app["pings"].append(asyncio.ensure_future(asyncio.sleep(100)))
        return web.Response(text="hello")

    await get(handle)
"""


def test_a_task_that_a_servers_library_makes_in_a_handler_is_its_own(
    inner: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner.install(monkeypatch, pings=PINGS)
    inner.write(test_a=SERVED)
    inner.judge("-p", "pytest_asyncio.plugin", "-W", "ignore", test_of_the_library="clean", test_of_the_test="leaked")
