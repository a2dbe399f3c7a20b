"""What the objects of wider fixtures make when a test first needs it is the fixture's, wherever they are and keep it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from inner import Inner

from pytest_httpleak.asking import MAPPINGS
from pytest_httpleak.reaching import reachable
from pytest_httpleak.records import Record
from pytest_httpleak.session.holdings import inside
from pytest_httpleak.tables import Table
from pytest_httpleak.values import Values


class Client:
    pass


class Small:
    __slots__ = ("__weakref__",)


def test_what_is_least_deep_is_seen_beside_ever_so_much() -> None:
    client = Client()
    values = Values([[[[n] * 100 for n in range(100)] for _ in range(100)], client])
    assert values.now() == [client]


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_what_a_mapping_has_is_inside(mapping: type[Any]) -> None:
    client = Client()
    assert Values(mapping(a=[client])).now() == [client]
    assert inside(mapping(a=[client]))[id(client)] is client
    table, record = Table(), Record()
    table.put(client, record)
    assert reachable(mapping(a=mapping(b=client)), table) == [record]


class Sorted(list[Client]):
    def __iter__(self) -> Iterator[Client]:
        raise AssertionError("the plugin runs nobody's code")


def test_nobodys_code_is_run_to_see_what_a_list_has() -> None:
    client = Client()
    held = Sorted()
    held.append(client)
    assert client in Values(held).now()


class Proxy(property):
    """As a lazy proxy of C is, which says that its class is one of the interpreter's."""

    __module__ = "builtins"
    __wrapped__ = property(lambda self: self.fget)


def test_a_proxy_of_c_may_make_what_it_stands_for() -> None:
    proxy = Proxy(Client)
    assert Values(proxy).now() == [proxy]


def test_a_plain_value_makes_nothing() -> None:
    assert Values("a").now() == []


def test_what_is_taken_out_is_kept_alive_by_nobody() -> None:
    given = {"client": Client()}
    values = Values(given)
    reference = weakref.ref(given.pop("client"))
    assert reference() is None
    assert values.now() == []


def test_another_one_at_the_same_address_was_not_there() -> None:
    given = [Small()]
    values = Values(given)
    address = id(given.pop())
    others = []
    while not given and len(others) < 1000:  # most often it is the first
        others.append(Small())
        if id(others[-1]) == address:
            given.append(others.pop())
    assert given
    assert values.now() == []


SHAPES = """
import asyncio
import collections
import functools
import socket
import threading
import types
import unittest
from concurrent.futures import ThreadPoolExecutor

import anyio.from_thread
import pytest
import store

KEPT = []


def udp():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


class Api:
    # Makes a socket when it first needs one, and keeps those that are idle in a list.
    def __init__(self):
        self.idle = []

    def call(self):
        self.idle.append(self.idle.pop() if self.idle else udp())

    async def acall(self):
        await asyncio.sleep(0)
        self.call()

    def close(self):
        for each in self.idle:
            each.close()


@pytest.fixture(scope="module")
def apis():
    apis = [Api() for _ in range(12)]
    yield apis
    for api in apis:
        api.close()


@pytest.fixture(scope="module")
def pair(apis):
    return apis[0], "url"


Environment = collections.namedtuple("Environment", "api url")


@pytest.fixture(scope="module")
def named(apis):
    return Environment(apis[1], "url")


@pytest.fixture(scope="module")
def services(apis):
    return {"nested": {"api": apis[2]}}


@pytest.fixture(scope="module")
def lookup(apis):
    return {"api": apis[3]}.get


@pytest.fixture(scope="module")
def namespace(apis):
    return types.SimpleNamespace(parts={"api": apis[4]})


@pytest.fixture(scope="module")
def api(apis):
    return apis[5]


@pytest.fixture(scope="module")
def application(apis):
    views, state = {}, {}

    class Application:
        def __init__(self):
            self.views = views

        def get(self, path):
            return self.views[path]()

    def index():
        if "sock" not in state:
            state["sock"] = udp()

    views["/"] = index
    yield Application()
    state["sock"].close()


@pytest.fixture(scope="module")
def registry():
    class Registry:
        made = []

        @classmethod
        def make(cls):
            cls.made.append(udp())

    yield Registry
    for each in Registry.made:
        each.close()


class Clients:
    @functools.lru_cache
    def of(self, name):
        return udp()


@pytest.fixture(scope="module")
def clients():
    clients = Clients()
    yield clients
    clients.of("a").close()


@pytest.fixture(scope="module")
def client():
    client = store.Client()
    yield client
    client.close()


class Facade:
    # Runs coroutines in a loop of its own, which is made when the first one comes.
    loop = None

    def run(self, coroutine):
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        return self.loop.run_until_complete(coroutine)

    async def refresh(self):
        self.task = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)

    async def stop(self):
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture(scope="module")
def facade():
    facade = Facade()
    yield facade
    facade.run(facade.stop())
    facade.loop.close()


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner


def test_part_of_a_tuple(pair):
    pair[0].call()


def test_part_of_a_named_tuple(named):
    named.api.call()


def test_part_of_dicts(services):
    services["nested"]["api"].call()


def test_part_of_a_dict_by_a_method(lookup):
    lookup("api").call()


def test_part_of_a_part(namespace):
    namespace.parts["api"].call()


def test_view_of_an_application(application):
    application.get("/")


def test_class(registry):
    registry.make()


def test_cached_method(clients):
    clients.of("a")


def test_pool_of_a_library(client):
    client.get()


def test_thread(api):
    thread = threading.Thread(target=api.call)
    thread.start()
    thread.join()


def test_executor(api):
    api.idle.pop().close()
    with ThreadPoolExecutor() as executor:
        executor.submit(api.call).result()


def test_tasks(api):
    async def main():
        await asyncio.gather(api.acall(), api.acall())

    asyncio.run(main())


def test_coroutine(api):
    api.idle.pop().close()
    asyncio.run(api.acall())


def test_loop(facade):
    facade.run(asyncio.sleep(0))


def test_loop_of_a_runner(runner):
    runner.run(asyncio.sleep(0))


def test_task(facade):
    facade.run(facade.refresh())


@pytest.fixture(scope="module")
def portal():
    with anyio.from_thread.start_blocking_portal() as portal:
        yield portal
        portal.call(portal.stop, True)


@pytest.fixture(scope="module", params=[asyncio.TaskGroup, anyio.create_task_group])
def group(portal, request):
    with portal.wrap_async_context_manager(portal.call(request.param)) as group:
        yield group
        for task in list(group._tasks):
            portal.call(task.cancel)


def test_group(portal, group):
    def start():
        if isinstance(group, asyncio.TaskGroup):
            group.create_task(asyncio.sleep(60))
        else:
            group.start_soon(anyio.sleep, 60)

    portal.call(start)


def test_portal(portal):
    portal.start_task_soon(anyio.sleep, 60)


def test_leaves_a_task_in_a_group_of_its_own(portal):
    async def leave():
        KEPT.append(asyncio.TaskGroup())
        await KEPT[-1].__aenter__()
        KEPT[-1].create_task(asyncio.sleep(60))

    portal.call(leave)


@pytest.fixture
def begin(portal):
    def begin(job):
        portal.start_task_soon(job)
        started.wait(10)

    started = begin.started = threading.Event()
    return begin


def test_job_with_a_group_of_its_own(begin):
    async def job():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 60)
            begin.started.set()

    begin(job)


def test_job_that_waits_for_others_with_a_socket(begin):
    async def job():
        with udp():
            begin.started.set()
            await asyncio.gather(asyncio.sleep(60), asyncio.sleep(60))

    begin(job)


def test_leaves_a_task_beside_a_job(begin):
    async def job():
        KEPT.append(asyncio.create_task(asyncio.sleep(60)))
        begin.started.set()
        await asyncio.sleep(60)

    begin(job)


class TestSetUpClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.api, cls.all = Api(), [Api()]

    @classmethod
    def tearDownClass(cls):
        cls.api.close()
        cls.all[0].close()

    def test_attribute_of_the_class(self):
        self.api.call()

    def test_part_of_an_attribute_of_the_class(self):
        self.all[0].call()

    def test_puts_its_own_into_a_list_of_the_class(self):
        self.all.append(Api())
        self.all[1].call()

    def test_puts_its_own_on_the_class(self):
        type(self).own = udp()


class TestOfFixture:
    @pytest.fixture(scope="class", autouse=True)
    def given(self, request):
        request.cls.api = Api()
        yield
        request.cls.api.close()

    def test_attribute_from_a_fixture(self):
        self.api.call()


def setup_module():
    global GIVEN
    GIVEN = Api()


def teardown_module():
    GIVEN.close()


def test_attribute_of_the_module():
    GIVEN.call()


def test_takes_what_is_made_for_it(client):
    KEPT.append(client.new())


def test_puts_its_own_into_a_part(services):
    services["nested"]["own"] = udp()


def test_puts_its_own_into_a_list_of_a_part(api):
    api.idle.append(udp())


def test_leaves_a_task_in_the_fixtures_loop(facade):
    async def main():
        KEPT.append(asyncio.create_task(asyncio.Event().wait()))

    facade.run(main())


def test_hangs_a_task_of_its_own_on_an_object(facade):
    async def main():
        facade.own = asyncio.create_task(asyncio.Event().wait())

    facade.run(main())


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_leaves_a_server_in_the_fixtures_loop(loop):
    loop.run_until_complete(asyncio.start_server(print, "127.0.0.1", 0))


def test_leaves_a_socket_beside_the_fixtures_loop(runner):
    async def main():
        KEPT.append(udp())

    runner.run(main())
"""

STORE = """
import socket


class Connection:
    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


class Pool:
    def __init__(self):
        self.idle = []

    def get(self):
        return self.idle.pop() if self.idle else Connection()


class Client:
    def __init__(self):
        self.pool = Pool()

    def get(self):
        connection = self.pool.get()
        self.pool.idle.append(connection)

    def new(self):
        return Connection()

    def close(self):
        for each in self.pool.idle:
            each.sock.close()
"""

CLEAN = """
part_of_a_tuple part_of_a_named_tuple part_of_dicts part_of_a_dict_by_a_method part_of_a_part view_of_an_application class
cached_method pool_of_a_library thread executor tasks coroutine loop loop_of_a_runner task attribute_of_the_class
part_of_an_attribute_of_the_class attribute_from_a_fixture attribute_of_the_module
group[TaskGroup] group[create_task_group] portal job_with_a_group_of_its_own job_that_waits_for_others_with_a_socket
""".split()
LEAKED = """
puts_its_own_into_a_list_of_the_class puts_its_own_on_the_class takes_what_is_made_for_it
puts_its_own_into_a_part
puts_its_own_into_a_list_of_a_part leaves_a_task_in_the_fixtures_loop
hangs_a_task_of_its_own_on_an_object leaves_a_server_in_the_fixtures_loop
leaves_a_socket_beside_the_fixtures_loop leaves_a_task_in_a_group_of_its_own
leaves_a_task_beside_a_job
""".split()


@pytest.fixture
def store(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that the plugin does not know."""
    inner.install(monkeypatch, store=STORE)


def test_what_objects_of_wider_fixtures_make_is_theirs_and_what_tests_put_there_is_the_tests(
    inner: Inner, store: Any
) -> None:
    inner.write(test_a=SHAPES)
    outcomes = dict.fromkeys((f"test_{name}" for name in CLEAN), "clean")
    outcomes |= dict.fromkeys((f"test_{name}" for name in LEAKED), "leaked")
    inner.judge("-W", "ignore", **outcomes)
    assert inner.report["fixtures"] == []


def test_a_group_of_a_wider_fixture_does_not_answer_for_another_within_it(inner: Inner) -> None:
    inner.write(
        test_a="""
        import anyio
        import pytest

        KEPT = []

        @pytest.fixture(scope="module")
        def anyio_backend():
            return "asyncio"

        @pytest.fixture(scope="module")
        async def group():
            async with anyio.create_task_group() as group:
                yield group
                group.cancel_scope.cancel()

        @pytest.mark.anyio
        async def test_given(group):
            group.start_soon(anyio.sleep, 60)

        @pytest.mark.anyio
        async def test_left(group):
            own = anyio.create_task_group()
            KEPT.append(own)
            await own.__aenter__()
            own.start_soon(anyio.sleep, 60)
            await anyio.sleep(0)
        """
    )
    inner.run("-p", "anyio")
    assert inner.outcomes() == {"test_given": "clean", "test_left": "leaked"}


def test_a_fixture_answers_for_what_its_objects_have_made_and_not_ended(inner: Inner, store: Any) -> None:
    inner.write(test_a=SHAPES.replace("facade.run(facade.stop())", "pass").replace("each.close()", "pass"))
    inner.run("-W", "ignore", "-k", "test_task or test_attribute_from_a_fixture or test_part_of_a_tuple")
    assert set(inner.outcomes().values()) == {"clean"}
    found = {row["name"]: {finding["kind"] for finding in row["findings"]} for row in inner.report["fixtures"]}
    assert found == {"facade": {"tasks"}, "given": {"sockets"}, "apis": {"sockets"}}


def test_a_task_of_a_wider_object_in_the_tests_own_loop_is_the_tests(inner: Inner) -> None:
    pytest.importorskip("pytest_asyncio")
    inner.pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    inner.write(
        test_a="""
        import asyncio
        import pytest

        class Tokens:
            async def get(self):
                self.task = asyncio.create_task(asyncio.Event().wait())

        @pytest.fixture(scope="module")
        def tokens():
            return Tokens()

        @pytest.mark.asyncio
        async def test_leaves_it(tokens):
            await tokens.get()

        @pytest.mark.asyncio
        async def test_ends_it(tokens):
            await tokens.get()
            tokens.task.cancel()
            await asyncio.wait([tokens.task])
        """
    )
    inner.judge("-p", "pytest_asyncio.plugin", test_leaves_it="leaked", test_ends_it="clean")
