"""The same leaks under each runner of asynchronous tests and each scope of its loop: found once, at the user's line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from once import once
from truth import Suite

COMMON = """
import asyncio
import os
from urllib.parse import urlsplit

URL = os.environ["SERVER"]
HOST, PORT = urlsplit(URL).hostname, urlsplit(URL).port
KEPT = []  # outlives every test


async def beat():
    while True:
        await asyncio.sleep(0.05)


async def talk():
    reader, writer = await asyncio.open_connection(HOST, PORT)
    writer.write(b"GET /ok HTTP/1.1\\\\r\\\\nHost: x\\\\r\\\\nConnection: close\\\\r\\\\n\\\\r\\\\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def connected():
    reader, writer = await asyncio.open_connection(HOST, PORT)  # leak: sockets
    try:
        yield writer
    finally:
        writer.close()
""".replace("\\\\", "\\")

# One test of each kind, for runners that take coroutine functions as they are.
FOUR = """
{before}
async def test_a_task_is_left({self}):
    KEPT.append(asyncio.create_task(beat()))  # leak: tasks
    await asyncio.sleep(0)


{before}
async def test_a_stream_is_left({self}):
    reader, writer = await asyncio.open_connection(HOST, PORT)  # leak: sockets
    KEPT.append(writer)


{before}
async def test_a_response_is_left({self}):
    session = aiohttp.ClientSession()  # leak: clients
    KEPT.append(session)
    KEPT.append(await session.get(URL + "/big"))  # leak: responses


{before}
async def test_a_generator_is_left({self}):
    \"\"\"Leaks: connected.\"\"\"
    KEPT.append(connected())
    await anext(KEPT[-1])


{before}
async def test_nothing_is_left({self}):
    await asyncio.gather(talk(), talk())
    async for _ in connected():
        break
    async with contextlib.aclosing(connected()) as generator:
        await anext(generator)
    async with asyncio.TaskGroup() as group:
        group.create_task(talk())
    async with aiohttp.ClientSession() as session, session.get(URL + "/ok") as response:
        assert await response.text() == "ok"
    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    task.cancel()
"""

IMPORTS = """
import asyncio
import contextlib
import socket

import aiohttp
import pytest
import pytest_asyncio
from common import HOST, KEPT, PORT, URL, beat, connected, talk
"""


def four(before: str = "", *, names: str = "task stream response generator nothing", self: str = "") -> str:
    """The four tests, or those of them that are named."""
    tests = FOUR.split("\n\n\n")
    chosen = [test for test in tests if any(f"_{name}_is_left" in test for name in names.split())]
    return "\n\n\n".join(chosen).format(before=before, self=self)


def fixtures(decorator: str, scope: str, mark: str) -> str:
    """Asynchronous fixtures of a wider scope: one that leaks a task and a client, one that cleans up."""
    return f"""
{decorator}
async def careless_{scope}():
    KEPT.append(asyncio.create_task(beat()))  # leak-fixture: tasks
    KEPT.append(aiohttp.ClientSession())  # leak-fixture: clients
    yield


{decorator}
async def careful_{scope}():
    task = asyncio.create_task(beat())
    async with aiohttp.ClientSession() as session:
        yield session
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


{mark}
async def test_beside_careless_{scope}(careless_{scope}):
    await asyncio.sleep(0)


{mark}
async def test_with_careful_{scope}(careful_{scope}):
    async with careful_{scope}.get(URL + "/ok") as response:
        assert await response.text() == "ok"


{mark}
async def test_a_response_of_careful_{scope}(careful_{scope}):
    KEPT.append(await careful_{scope}.get(URL + "/big"))  # leak: responses
"""


def asyncio_scope(scope: str, names: str = "task generator nothing") -> str:
    """The tests for one scope of pytest-asyncio's loop."""
    mark = f'@pytest.mark.asyncio(loop_scope="{scope}")'
    fixture = f'@pytest_asyncio.fixture(scope="{scope}", loop_scope="{scope}")'
    return IMPORTS + four(mark, names=names) + ("" if scope == "function" else fixtures(fixture, scope, mark))


# A loop that ends with the test closes the generators that are left, and with them what they have open.
GENERATORS = """

@contextlib.asynccontextmanager
async def connection():
    reader, writer = await asyncio.open_connection(HOST, PORT)  # leak: sockets
    yield writer
    writer.close()


async def numbers_of(sock):
    while True:
        yield sock.fileno()


@pytest.fixture
def sock():
    with socket.create_connection((HOST, PORT)) as sock:
        yield sock


@pytest.mark.asyncio
async def test_a_context_is_entered_and_never_left():
    \"\"\"Leaks: connection.\"\"\"
    KEPT.append(contextlib.AsyncExitStack())
    await KEPT[-1].enter_async_context(connection())


@pytest.mark.asyncio
async def test_a_context_is_left():
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(connection())


@pytest.mark.asyncio
async def test_a_generator_of_a_pending_task():
    async def use(entered):
        async with connection():
            entered.set()
            await asyncio.Event().wait()

    entered = asyncio.Event()
    KEPT.append(asyncio.create_task(use(entered)))  # leak: tasks
    await entered.wait()


@pytest.mark.asyncio
async def test_a_generator_uses_what_a_fixture_closes(sock):
    KEPT.append(numbers_of(sock))
    await anext(KEPT[-1])
"""

CLASS = (
    IMPORTS
    + """
@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def careless_class():
    KEPT.append(asyncio.create_task(beat()))  # leak-fixture: tasks
    yield


@pytest.mark.asyncio(loop_scope="class")
class TestClass:
    async def test_beside_careless_class(self, careless_class):
        await asyncio.sleep(0)
"""
    + four(names="task nothing", self="self").replace("\n", "\n    ")
)

ANYIO = (
    IMPORTS
    + """
import anyio
import httpx

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def careless():
    KEPT.append(asyncio.create_task(beat()))  # leak-fixture: tasks
    KEPT.append(aiohttp.ClientSession())  # leak-fixture: clients
    yield


@pytest.fixture(scope="module")
async def client_of_the_module():
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def anyio_stream():
    stream = await anyio.connect_tcp(HOST, PORT)  # leak: sockets
    KEPT.append(stream)
    yield stream


async def test_beside_careless(careless):
    await anyio.sleep(0)


async def test_a_response_of_the_modules_client(client_of_the_module):
    request = client_of_the_module.build_request("GET", URL + "/big")
    KEPT.append(await client_of_the_module.send(request, stream=True))  # leak: responses


async def test_the_modules_client(client_of_the_module):
    assert (await client_of_the_module.get(URL + "/ok")).text == "ok"


async def test_a_fixture_leaves_a_stream(anyio_stream):
    \"\"\"Leaks: anyio_stream.\"\"\"


async def test_a_task_group_ends_its_tasks():
    async with anyio.create_task_group() as group:
        group.start_soon(talk)
        group.start_soon(anyio.to_thread.run_sync, len, ())


async def test_a_task_group_that_nobody_leaves():
    group = anyio.create_task_group()
    KEPT.append(group)
    await group.__aenter__()
    group.start_soon(anyio.sleep, 60)  # leak: tasks
    await anyio.sleep(0)
    group.__dict__.clear()
"""
    + four()
)

# Function-scoped loops of anyio's end in the call, or with the last asynchronous fixture.
ANYIO_FUNCTION = (
    IMPORTS
    + """
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def task():
    yield asyncio.create_task(beat())  # leak: tasks


async def test_a_fixture_leaves_a_task(task):
    \"\"\"Leaks: task.\"\"\"
"""
    + four()
)

ANYIO_TRIO = """
import anyio
import httpx
import pytest
from common import HOST, KEPT, PORT, URL

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio"


async def test_a_stream_is_left():
    KEPT.append(await anyio.connect_tcp(HOST, PORT))  # leak: sockets


async def test_a_response_is_left():
    client = httpx.AsyncClient()
    KEPT.append(client)
    KEPT.append(await client.send(client.build_request("GET", URL + "/big"), stream=True))  # leak: responses


async def test_nothing_is_left():
    async with httpx.AsyncClient() as client:
        assert (await client.get(URL + "/ok")).text == "ok"
    async with await anyio.connect_tcp(HOST, PORT), anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
    assert await anyio.to_thread.run_sync(len, ()) == 0
"""

TRIO = """
import httpx
import pytest
import trio
from common import HOST, KEPT, PORT, URL

pytestmark = pytest.mark.trio


@pytest.fixture
async def trio_stream():
    stream = await trio.open_tcp_stream(HOST, PORT)  # leak: sockets
    KEPT.append(stream)
    yield stream


async def test_a_fixture_leaves_a_stream(trio_stream):
    \"\"\"Leaks: trio_stream.\"\"\"


async def test_a_stream_is_left():
    KEPT.append(await trio.open_tcp_stream(HOST, PORT))  # leak: sockets


async def test_a_response_is_left():
    client = httpx.AsyncClient()
    KEPT.append(client)
    KEPT.append(await client.send(client.build_request("GET", URL + "/big"), stream=True))  # leak: responses


async def test_nothing_is_left(nursery):
    nursery.start_soon(trio.sleep_forever)
    async with httpx.AsyncClient() as client:
        assert (await client.get(URL + "/ok")).text == "ok"
    async with await trio.open_tcp_stream(HOST, PORT):
        pass
    assert await trio.to_thread.run_sync(len, ()) == 0
"""

UNITTEST = (
    IMPORTS
    + """
import unittest


class TestCase(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.session = aiohttp.ClientSession()
        self.addAsyncCleanup(self.session.close)

    async def test_a_task_is_left(self):
        KEPT.append(asyncio.create_task(beat()))  # leak: tasks
        await asyncio.sleep(0)

    async def test_a_stream_is_left(self):
        reader, writer = await asyncio.open_connection(HOST, PORT)  # leak: sockets
        KEPT.append(writer)

    async def test_a_session_is_left(self):
        KEPT.append(aiohttp.ClientSession())  # leak: clients

    async def test_a_generator_is_left(self):
        \"\"\"Leaks: connected.\"\"\"
        KEPT.append(connected())
        await anext(KEPT[-1])

    async def test_a_generator_is_closed_by_a_cleanup(self):
        generator = connected()

        async def close():
            await generator.aclose()

        self.addAsyncCleanup(close)
        await anext(generator)

    async def test_a_task_is_cancelled_by_a_cleanup(self):
        task = asyncio.create_task(beat())
        self.addCleanup(task.cancel)
        await asyncio.sleep(0)

    async def test_nothing_is_left(self):
        await talk()
        async with self.session.get(URL + "/ok") as response:
            assert await response.text() == "ok"


class TestSetUp(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        KEPT.append(asyncio.create_task(beat()))  # leak: tasks

    async def test_set_up_leaves_a_task(self):
        \"\"\"Leaks: TestSetUp.asyncSetUp.\"\"\"
"""
)

PLAIN = (
    IMPORTS
    + """

async def run_with_a_task():
    KEPT.append(asyncio.create_task(beat()))
    await asyncio.sleep(0)


async def run_with_a_stream():
    reader, writer = await asyncio.open_connection(HOST, PORT)  # leak: sockets
    KEPT.append(writer)


async def run_with_a_session():
    KEPT.append(aiohttp.ClientSession())  # leak: clients


async def run_with_a_generator():
    KEPT.append(connected())
    await anext(KEPT[-1])


def test_run_cancels_what_is_left():
    asyncio.run(run_with_a_task())
    asyncio.run(run_with_a_generator())


def test_runner_cancels_what_is_left():
    with asyncio.Runner() as runner:
        runner.run(run_with_a_task())
        runner.run(talk())


def test_run_leaves_a_stream():
    \"\"\"Leaks: run_with_a_stream.\"\"\"
    asyncio.run(run_with_a_stream())


def test_runner_leaves_a_session():
    \"\"\"Leaks: run_with_a_session.\"\"\"
    with asyncio.Runner() as runner:
        runner.run(run_with_a_session())


def test_runner_is_left():
    runner = asyncio.Runner()
    KEPT.append(runner)
    KEPT.append(runner.get_loop())  # leak: loops


def test_loop_is_closed_with_a_task():
    loop = asyncio.new_event_loop()
    task = loop.create_task(beat())  # leak: tasks
    KEPT.append(task)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
"""
)

UVLOOP = (
    IMPORTS
    + """
import uvloop


@pytest.fixture(scope="module")
def loop():
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def careless_loop():
    loop = uvloop.new_event_loop()  # leak-fixture: loops
    loop.run_until_complete(talk())
    KEPT.append(loop)
    yield loop


async def with_a_task():
    KEPT.append(asyncio.create_task(beat()))  # leak: tasks


async def with_a_stream():
    reader, writer = await asyncio.open_connection(HOST, PORT)  # leak: sockets
    KEPT.append(writer)


async def with_a_server():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)  # leak: sockets
    KEPT.append(server)


async def with_a_response(session):
    KEPT.append(await session.get(URL + "/big"))  # leak: responses


async def of_a_session(make):
    session = aiohttp.ClientSession()  # leak: clients
    KEPT.append(session)
    await make(session)


def test_a_task_is_left(loop):
    \"\"\"Leaks: with_a_task.\"\"\"
    loop.run_until_complete(with_a_task())


def test_a_stream_is_left(loop):
    \"\"\"Leaks: with_a_stream.\"\"\"
    loop.run_until_complete(with_a_stream())


def test_a_server_is_left(loop):
    \"\"\"Leaks: with_a_server.\"\"\"
    loop.run_until_complete(with_a_server())


def test_a_response_is_left(loop):
    \"\"\"Leaks: with_a_response, of_a_session.\"\"\"
    loop.run_until_complete(of_a_session(with_a_response))


def test_nothing_is_left(loop):
    loop.run_until_complete(talk())


def test_beside_a_loop_that_is_left(careless_loop):
    careless_loop.run_until_complete(talk())


def test_a_loop_is_left():
    KEPT.append(uvloop.new_event_loop())  # leak: loops


def test_run_cancels_what_is_left():
    async def main():
        KEPT.append(asyncio.create_task(beat()))
        await talk()

    uvloop.run(main())


def test_a_server_and_its_client():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def main():
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\\n")
            assert await reader.readline() == b"hello\\n"
            writer.close()
            await writer.wait_closed()

    uvloop.run(main())
"""
)

# uvloop closes what is open in a loop when that is closed, which must not hide what a test has left to its runner.
UVLOOP_FUNCTION = (
    IMPORTS
    + """
import httpx
import uvloop


@pytest.fixture(scope="module")
def event_loop_policy():
    return uvloop.EventLoopPolicy()


@pytest.fixture
def sync_client():
    with httpx.Client() as client:
        yield client


@pytest.mark.asyncio
async def test_a_client_is_left():
    client = httpx.AsyncClient()  # leak: clients
    KEPT.append(client)
    assert (await client.get(URL + "/ok")).text == "ok"


@pytest.mark.asyncio
async def test_a_stream_is_closed_and_not_awaited():
    reader, writer = await asyncio.open_connection(HOST, PORT)
    writer.close()


@pytest.mark.asyncio
async def test_what_is_closed_after_the_loop(sync_client):
    assert sync_client.get(URL + "/ok").text == "ok"
"""
    + four("@pytest.mark.asyncio")
)

AIOHTTP = """
import asyncio

import pytest
from aiohttp import web
from common import KEPT, beat


async def hello(request):
    return web.Response(text="hello")


async def spawn(request):
    request.app["tasks"].append(asyncio.create_task(beat()))
    return web.Response(text="spawned")


async def endless(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 100_000)
        await asyncio.sleep(0.01)


async def stop(app):
    for task in app["tasks"]:
        task.cancel()
    await asyncio.gather(*app["tasks"], return_exceptions=True)


@pytest.fixture
def app():
    app = web.Application()
    app["tasks"] = []
    app.on_cleanup.append(stop)
    app.router.add_get("/hello", hello)
    app.router.add_get("/spawn", spawn)
    app.router.add_get("/endless", endless)
    return app


async def test_nothing_is_left(aiohttp_client, app):
    client = await aiohttp_client(app)
    response = await client.get("/hello")
    assert await response.text() == "hello"
    await (await client.get("/spawn")).read()


async def test_a_response_is_left_and_the_client_closes_it(aiohttp_client, app):
    client = await aiohttp_client(app)
    KEPT.append(await client.get("/endless"))


async def test_a_task_is_left(aiohttp_client, app):
    await aiohttp_client(app)
    KEPT.append(asyncio.create_task(beat()))  # leak: tasks


async def test_a_server(aiohttp_server, app):
    assert (await aiohttp_server(app)).port


async def test_a_server_of_its_own(app):
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()  # leak: sockets
    KEPT.append(runner)
"""

SCOPES = Suite(
    common=COMMON,
    test_asyncio_function=asyncio_scope("function", "task stream response generator nothing") + GENERATORS,
    test_asyncio_class=CLASS,
    test_asyncio_module=asyncio_scope("module", "task stream response generator nothing"),
    package____init__="",
    package__test_asyncio_package=asyncio_scope("package"),
    test_asyncio_session=asyncio_scope("session"),
    test_asyncio_uvloop=UVLOOP_FUNCTION,
    test_unittest=UNITTEST,
    test_plain=PLAIN,
)
OTHERS = Suite(
    common=COMMON,
    test_anyio=ANYIO,
    test_anyio_function=ANYIO_FUNCTION,
    test_anyio_trio=ANYIO_TRIO,
    test_trio=TRIO,
    test_uvloop=UVLOOP,
)
AUTO = Suite(
    common=COMMON,
    test_auto=IMPORTS + four() + fixtures('@pytest.fixture(scope="module")', "module", ""),
    test_aiohttp=AIOHTTP,
)
PYTEST_ASYNCIO = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")
SUITES = (
    (SCOPES, PYTEST_ASYNCIO),
    (OTHERS, ("-p", "anyio.pytest_plugin", "-p", "pytest_trio.plugin")),
    (
        AUTO,
        (
            *PYTEST_ASYNCIO[:2],
            *("-p", "pytest_aiohttp.plugin", "-o", "asyncio_mode=auto"),
            *("-o", "asyncio_default_test_loop_scope=module", "-o", "asyncio_default_fixture_loop_scope=module"),
        ),
    ),
)
NAMES = ("scopes", "others", "auto")
TESTS = [(suite, nodeid) for suite, _ in SUITES for nodeid in suite.tests]
FIXTURES = [(suite, name) for suite, _ in SUITES for name in suite.fixtures]


@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory: pytest.TempPathFactory, server: str) -> None:
    """Run all suites at once, each in a process of its own."""
    for name in ("aiohttp", "anyio", "httpx", "pytest_aiohttp", "pytest_asyncio", "pytest_trio", "uvloop"):
        pytest.importorskip(name)

    def fill(folder: Path) -> None:
        with ThreadPoolExecutor(len(SUITES)) as pool:
            begun = [
                pool.submit(suite.run, folder / name, *options, SERVER=server)
                for name, (suite, options) in zip(NAMES, SUITES, strict=True)
            ]
        for each in begun:
            each.result()

    folder = once(tmp_path_factory, "runners", fill)
    for name, (suite, _) in zip(NAMES, SUITES, strict=True):
        suite.in_folder(folder / name)


@pytest.mark.parametrize(("suite", "nodeid"), TESTS, ids=[nodeid for _, nodeid in TESTS])
def test_a_test_answers_for_what_its_comments_say_and_nothing_else(suite: Suite, nodeid: str) -> None:
    assert suite.seen(nodeid) == suite.expected(nodeid), suite.output


@pytest.mark.parametrize(("suite", "name"), FIXTURES, ids=[name for _, name in FIXTURES])
def test_a_wider_fixture_answers_for_what_its_comments_say(suite: Suite, name: str) -> None:
    assert suite.seen_of_fixture(name) == suite.expected_of_fixture(name), suite.output


@pytest.mark.parametrize("suite", [suite for suite, _ in SUITES], ids=NAMES)
def test_no_other_fixture_leaks_and_nothing_is_switched_off(suite: Suite) -> None:
    assert {row["name"] for row in suite.report["fixtures"]} == set(suite.fixtures)
    assert "switched off" not in suite.output
