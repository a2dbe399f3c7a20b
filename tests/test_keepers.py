"""What an object makes when it first needs it belongs to whoever keeps the object: a wider fixture, or its library."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest
from inner import Inner
from marked import Leaks

from pytest_httpleak.clocks import Real

API = """
import socket
import threading
from urllib.parse import urlsplit

import requests


class Api:
    def __init__(self, url):
        self.url = url
        self.session = self.sock = self.thread = None
        self.sessions = []
        self.stop = threading.Event()

    def ask(self):
        if self.session is None:
            self.session = requests.Session()
        assert self.session.get(self.url).ok

    def connect(self):
        if self.sock is None:
            self.sock = socket.create_connection((urlsplit(self.url).hostname, urlsplit(self.url).port))

    def work(self):
        if self.thread is None:
            self.thread = threading.Thread(target=self.stop.wait)
            self.thread.start()

    def collect(self):
        self.sessions.append(requests.Session())
        assert self.sessions[-1].get(self.url).ok

    def close(self):
        self.stop.set()
        for each in (self.session, self.sock, *self.sessions):
            if each is not None:
                each.close()
        if self.thread is not None:
            self.thread.join()
"""

SUITE = """
import pytest
from api import Api


@pytest.fixture(scope="{scope}")
def api():
    api = Api("{server}/ok")
    yield api
    {end}


@pytest.mark.parametrize("way", ["ask", "connect", "work"])
def test_first(api, way):
    getattr(api, way)()


@pytest.mark.parametrize("way", ["ask", "connect", "work"])
def test_second(api, way):
    getattr(api, way)()
"""

NAMES = [f"test_{number}[{way}]" for number in ("first", "second") for way in ("ask", "connect", "work")]


def fixtures(inner: Inner) -> dict[str, set[str]]:
    return {row["name"]: {finding["kind"] for finding in row["findings"]} for row in inner.report["fixtures"]}


@pytest.mark.parametrize("scope", ["session", "module"])
def test_a_wider_fixture_that_closes_what_it_has_made_on_demand_is_clean(inner: Inner, server: str, scope: str) -> None:
    inner.write(api=API, test_a=SUITE.format(scope=scope, server=server, end="api.close()"))
    inner.judge(**dict.fromkeys(NAMES, "clean"))
    assert fixtures(inner) == {}


def test_a_wider_fixture_that_does_not_answers_for_it_at_its_end(inner: Inner, server: str) -> None:
    inner.write(api=API, test_a=SUITE.format(scope="module", server=server, end="KEPT.append(api)") + "\nKEPT = []\n")
    inner.write(conftest="def pytest_unconfigure():\n    import test_a\n    test_a.KEPT[0].close()\n")
    inner.run()
    assert set(inner.outcomes().values()) == {"clean"}
    assert fixtures(inner) == {"api": {"clients", "sockets", "threads"}}


FACTORIES = """
import contextlib
import types

import pytest
import requests
from api import Api

URL = "{server}/ok"
KEPT, LISTED = [], []


@pytest.fixture(scope="module")
def api():
    api = Api(URL)
    yield api
    api.close()


@pytest.fixture(scope="module")
def make():
    made = []

    def make():
        made.append(requests.Session())
        return made[-1]

    yield make
    for each in made:
        {end}


@pytest.fixture(scope="module")
def lazy():
    session = None

    def get():
        nonlocal session
        if session is None:
            session = requests.Session()
        return session

    yield get
    session.close()


@pytest.fixture(scope="module")
def enter():
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(requests.Session())


@pytest.fixture(scope="module")
def namespace(make):
    return types.SimpleNamespace(session=make)


@pytest.fixture(scope="module")
def forgetful():
    def make():
        KEPT.append(requests.Session())
        return KEPT[-1]

    yield make
    for each in KEPT:
        each.close()


@pytest.fixture(scope="module")
def made():
    made = []
    yield made
    for each in made:
        each.close()


def test_collects(api):
    api.collect()


def test_appends(api):
    api.sessions.append(requests.Session())
    api.sessions[-1].get(URL)


class OfItsOwn(requests.Session):
    def __init__(self):
        super().__init__()


def test_appends_one_of_a_class_of_its_own(api):
    api.sessions.append(OfItsOwn())
    api.sessions[-1].get(URL)


def test_makes(make):
    make().get(URL)


def test_makes_many(make):
    for _ in range(30):
        make().get(URL)


def test_makes_lazily(lazy):
    lazy().get(URL)


def test_enters(enter):
    enter().get(URL)


def test_makes_by_attribute(namespace):
    namespace.session().get(URL)


class Helper:
    def make(self, made=KEPT):
        made.append(requests.Session())
        return made[-1]


class Harness:
    def __init__(self):
        self.helper, self.history = Helper(), []

    def run(self, function):
        self.history.append(function())
        return self.history[-1]


@pytest.fixture(scope="module")
def harness():
    harness = Harness()
    yield harness
    for each in harness.history:
        each.close()


def test_is_run_and_makes_it_itself(harness):
    harness.run(lambda: requests.Session()).get(URL)


def test_makes_it_with_a_helper_of_its_own(harness):
    session = Helper().make()
    session.get(URL)


class TestOfClass:
    @pytest.fixture(scope="class")
    def itself(self):
        self.made = []
        yield self
        for each in self.made:
            each.close()

    def test_makes_it_in_a_method_of_the_class(self, itself):
        itself.made.append(requests.Session())
        itself.made[-1].get(URL)


class Registering:
    def __init__(self, request):
        self.request, self.kept = request, LISTED

    def session(self):
        return requests.Session()

    def registered(self):
        self.kept.append(self.session())
        return self.kept[-1]


@pytest.fixture(scope="module")
def registering(request):
    yield Registering(request)
    for each in LISTED:
        each.close()


def test_makes_it_for_a_list_of_the_module(registering):
    registering.registered().get(URL)


def test_hangs_it_on_the_test_item(registering, request):
    request.node.made = registering.session()
    request.node.made.get(URL)


def test_enters_what_is_made_then(stack):
    stack.enter_context(one_session()).get(URL)


@contextlib.contextmanager
def one_session():
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="module")
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def test_is_made_and_kept_elsewhere(forgetful):
    forgetful().get(URL)


def test_puts_it_into_a_plain_list(made):
    made.append(requests.Session())
    made[-1].get(URL)
"""


def test_what_a_factory_of_a_wider_fixture_makes_and_keeps_is_the_fixtures(inner: Inner, server: str) -> None:
    pytest.importorskip("requests")
    inner.write(api=API, test_a=FACTORIES.format(server=server, end="each.close()"))
    inner.judge(
        test_collects="clean",
        test_appends="leaked",
        test_appends_one_of_a_class_of_its_own="leaked",
        test_makes="clean",
        test_makes_many="clean",
        test_makes_lazily="clean",
        test_enters="clean",
        test_makes_by_attribute="clean",
        test_is_run_and_makes_it_itself="leaked",
        test_makes_it_with_a_helper_of_its_own="leaked",
        test_makes_it_in_a_method_of_the_class="leaked",
        test_makes_it_for_a_list_of_the_module="clean",
        test_hangs_it_on_the_test_item="leaked",
        test_enters_what_is_made_then="clean",
        test_is_made_and_kept_elsewhere="leaked",
        test_puts_it_into_a_plain_list="leaked",
    )
    assert fixtures(inner) == {}


def test_a_factory_of_a_wider_fixture_answers_for_what_it_has_made_and_not_closed(inner: Inner, server: str) -> None:
    pytest.importorskip("requests")
    inner.write(api=API, test_a=FACTORIES.format(server=server, end="KEPT.append(each)"))
    inner.write(conftest="def pytest_unconfigure():\n    import test_a\n    [each.close() for each in test_a.KEPT]\n")
    inner.run("-k", "test_makes and not test_makes_it")
    assert set(inner.outcomes().values()) == {"clean"}
    assert fixtures(inner) == {"make": {"clients"}}


LOOPS = """
import asyncio
import socket

import pytest


class Loop:
    def __init__(self):
        self.loop = asyncio.new_event_loop()

    def serve(self):
        return self.loop.run_until_complete(asyncio.start_server(print, "127.0.0.1", 0))


@pytest.fixture(scope="module")
def loop():
    loop = Loop()
    yield loop
    loop.loop.close()


def test_leaves_its_server(loop):
    loop.serve()


def test_closes_its_server(loop):
    loop.serve().close()


class Stream:
    def __init__(self, loop):
        self.sock = socket.socket()
        loop.add_reader(self.sock, self.ready)

    def ready(self):
        self.sock.recv(1)


@pytest.fixture(scope="module")
def bare():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def client(bare):
    class Client:
        stream = None

        def connect(self):
            self.stream = Stream(bare)

    client = Client()
    yield client
    bare.remove_reader(client.stream.sock)
    client.stream.sock.close()


def test_leaves_a_socket_there(bare):
    Stream(bare)


def test_connects_a_client(client):
    client.connect()
"""


def test_what_only_a_wider_fixtures_loop_has_in_its_books_is_the_tests(inner: Inner) -> None:
    inner.write(test_a=LOOPS)
    inner.judge(
        test_leaves_its_server="leaked",
        test_closes_its_server="clean",
        test_leaves_a_socket_there="leaked",
        test_connects_a_client="clean",
    )


@pytest.mark.parametrize("library", ["urllib3", "http.client"])
def test_a_connection_that_a_test_has_taken_from_a_pool_is_its_leak_wherever_it_is_kept(
    inner: Inner, server: str, library: str
) -> None:
    inner.write(
        test_a=f"""
        import http.client
        from urllib.parse import urlsplit

        import pytest
        import urllib3

        HOST, PORT = urlsplit("{server}").hostname, urlsplit("{server}").port

        class Holder:
            connection = None

        @pytest.fixture(scope="module")
        def holder():
            holder = Holder()
            with urllib3.HTTPConnectionPool(HOST, PORT) as holder.pool:
                yield holder
            holder.connection.close()

        def test_takes_one(holder):
            if "{library}" == "urllib3":
                holder.connection = holder.pool._get_conn()
            else:
                holder.connection = http.client.HTTPConnection(HOST, PORT)
            holder.connection.request("GET", "/ok")
            holder.connection.getresponse().read()
        """
    )
    inner.judge(test_takes_one="leaked" if library == "urllib3" else "clean")


def test_a_fixture_of_the_tests_own_scope_takes_nothing_over(inner: Inner, server: str) -> None:
    inner.write(api=API, test_a=SUITE.format(scope="function", server=server, end="KEPT.append(api)") + "\nKEPT = []\n")
    inner.write(conftest="def pytest_unconfigure():\n    import test_a\n    [each.close() for each in test_a.KEPT]\n")
    inner.run()
    assert set(inner.outcomes().values()) == {"leaked"}


POOL = """
import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

KEPT = []

@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(1, get_context("{method}")) as pool:
        yield pool

def test_first(pool):
    assert pool.submit(abs, -1).result() == 1

def test_in_a_loop(pool):
    async def main():
        return await asyncio.get_running_loop().run_in_executor(pool, abs, -1)

    assert asyncio.run(main()) == 1

def test_leaks_its_own():
    pool = ProcessPoolExecutor(1, get_context("{method}"))
    assert pool.submit(abs, -1).result() == 1
    KEPT.append(pool)
"""


@pytest.mark.parametrize("method", ["spawn"])
def test_processes_of_a_wider_pool_are_no_leak_of_the_first_to_use_it(inner: Inner, method: str) -> None:
    inner.write(test_a=POOL.format(method=method))
    inner.write(conftest="def pytest_unconfigure():\n    import test_a\n    test_a.KEPT[0].shutdown()\n")
    inner.run()
    assert inner.outcomes() == {"test_first": "clean", "test_in_a_loop": "clean", "test_leaks_its_own": "leaked"}
    assert fixtures(inner) == {}


# What a library makes itself and keeps in a list or dict of its own is a part of it.
LIBRARY = """
import asyncio
import threading

import urllib3

LOOP = [None]


class Node:
    def __init__(self, host, port):
        self.pool = urllib3.HTTPConnectionPool(host, port)


class Client:
    def __init__(self, url):
        self.url = urllib3.util.parse_url(url)
        self.nodes = {url: Node(self.url.host, self.url.port)}
        self.extra = {}

    def get(self):
        for node in self.nodes.values():
            assert node.pool.request("GET", "/ok").status == 200


def shared_loop():
    if LOOP[0] is None:
        LOOP[0] = asyncio.new_event_loop()
    return LOOP[0]
"""

USING = """
import functools

import requests
import sdk

URL = "{server}"
client = None

def test_global():
    global client
    client = client or sdk.Client(URL)
    client.get()

@functools.cache
def cached():
    return sdk.Client(URL)

def test_cached():
    cached().get()

def test_loop():
    sdk.shared_loop()

def test_puts_one_of_its_own_into_it():
    session = requests.Session()
    assert session.get(URL + "/ok").ok
    cached().extra["session"] = session

CLIENTS = {{}}

def test_registers_it():
    CLIENTS["a"] = sdk.Client(URL)
    CLIENTS["a"].get()
"""


def test_what_a_library_keeps_in_its_own_containers_is_a_part_of_it(
    inner: Inner, server: str, monkeypatch: Any
) -> None:
    inner.install(monkeypatch, sdk=LIBRARY)
    inner.write(test_a=USING.format(server=server))
    inner.run()
    assert inner.outcomes() == {
        "test_global": "clean",
        "test_cached": "clean",
        "test_loop": "clean",
        "test_puts_one_of_its_own_into_it": "leaked",
        "test_registers_it": "leaked",
    }


WORKERS = """
import threading
from concurrent.futures import ThreadPoolExecutor

ALL = []
ONE = [None]
BY_NAME = {}


def wait():
    threading.Event().wait(30)


class Worker(threading.Thread):
    def __init__(self):
        super().__init__(target=wait, daemon=True)
        ALL.append(self)
        self.start()


def new():
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def start():
    ONE[0] = ONE[0] or new()


def start_by_name():
    BY_NAME["worker"] = BY_NAME.get("worker") or new()


def submit():
    global POOL
    POOL = ThreadPoolExecutor(2)
    POOL.submit(int).result()
"""

WORKING = """
import sdk


def test_starts_one():
    sdk.Worker()


def test_starts_another():
    sdk.Worker()


def test_needs_the_one():
    sdk.start()


def test_needs_the_one_by_name():
    sdk.start_by_name()


def test_needs_the_pool():
    sdk.submit()
"""


def test_a_list_of_all_threads_of_a_library_keeps_none(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.install(monkeypatch, sdk=WORKERS)
    inner.write(test_a=WORKING)
    inner.judge(
        test_starts_one="leaked",
        test_starts_another="leaked",
        test_needs_the_one="clean",
        test_needs_the_one_by_name="clean",
        test_needs_the_pool="clean",
    )


POOLED = """
from concurrent.futures import ThreadPoolExecutor

POOL = None


def submit(function):
    global POOL
    POOL = POOL or ThreadPoolExecutor(2)
    return POOL.submit(function)
"""

SUBMITTING = """
import http.client
import socket
import threading

import sdk

SERVER = socket.create_server(("127.0.0.1", 0))
WAITS = threading.Event()


def ask():
    connection = http.client.HTTPConnection(*SERVER.getsockname())
    connection.request("GET", "/")
    WAITS.set()
    connection.getresponse()


def test_waits_for_ever():
    sdk.submit(ask)
    assert WAITS.wait(10)


def test_is_done_with_it():
    assert sdk.submit(WAITS.is_set).result()
"""


def test_what_a_librarys_worker_has_at_work_is_no_part_of_the_library(
    inner: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner.install(monkeypatch, sdk=POOLED)
    inner.write(conftest="def pytest_unconfigure():\n    import test_a\n    test_a.SERVER.close()\n", test_a=SUBMITTING)
    inner.judge(test_waits_for_ever="leaked", test_is_done_with_it="clean")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the program under test."""
    module: Any = types.ModuleType("program")
    monkeypatch.setitem(sys.modules, "program", module)
    return module


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The pauses, in seconds, in which another thread might have put right what looks leaked."""
    pauses: list[float] = []
    monkeypatch.setattr(Real, "sleep", staticmethod(pauses.append))
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield pauses
    end.set()
    thread.join()


def test_what_lives_as_long_as_the_process_is_not_waited_for(
    leaks: Leaks, server: str, program: Any, waited: list[float]
) -> None:
    requests = pytest.importorskip("requests")

    def clean() -> None:
        program.session = requests.Session()
        program.session.get(f"{server}/ok")

    assert leaks(clean, grace=5) == ()
    program.session.close()
    assert 0 < sum(waited) < 0.1


def test_what_is_kept_elsewhere_is_waited_for(
    leaks: Leaks, server: str, program: Any, waited: list[float], kept: list[Any]
) -> None:
    requests = pytest.importorskip("requests")

    def leaking() -> None:
        program.session = requests.Session()
        program.session.get(f"{server}/ok")
        kept.append(requests.Session())
        kept[0].get(f"{server}/ok")

    assert leaks(leaking, grace=5) != ()
    program.session.close()
    assert sum(waited) > 0.2  # at least ten pauses, however long the searches between them take


@pytest.mark.parametrize("client", ["httpx.Client", "socket.create_connection"])
def test_what_an_object_of_a_wider_fixture_drops_unclosed_is_told_at_its_end(
    inner: Inner, server: str, client: str
) -> None:
    pytest.importorskip("httpx")
    inner.write(
        test_a=f"""
        import socket
        from urllib.parse import urlsplit

        import httpx
        import pytest

        pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
        URL = "{server}/ok"

        class Api:
            client = None

            def connect(self):
                if "{client}" == "httpx.Client":
                    self.client = httpx.Client()
                    self.client.get(URL)
                else:
                    self.client = socket.create_connection((urlsplit(URL).hostname, urlsplit(URL).port))

        @pytest.fixture(scope="module")
        def api():
            api = Api()
            yield api
            api.client.close()

        def test_connects(api):
            api.connect()

        def test_connects_again(api):
            api.connect()
        """
    )
    inner.run()
    assert inner.outcomes() == {"test_connects": "clean", "test_connects_again": "clean"}
    assert fixtures(inner) == {"api": {"clients" if client == "httpx.Client" else "sockets"}}


EXECUTORS = """
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

GO_ON = threading.Event()
EXECUTORS = []
_executor = _busy = None

@pytest.fixture(scope="module", autouse=True)
def ending():
    yield
    GO_ON.set()
    for each in EXECUTORS:
        each.shutdown()

class Jobs:
    executor = None

    @classmethod
    def run(cls, job):
        if cls.executor is None:
            cls.executor = ThreadPoolExecutor(1)
        return cls.executor.submit(job).result()

@functools.cache
def cached():
    return ThreadPoolExecutor(1)

def test_of_its_module():
    global _executor
    _executor = _executor or ThreadPoolExecutor(2)
    assert list(_executor.map(int, "12")) == [1, 2]

def test_of_its_class():
    assert Jobs.run(int) == 0

def test_of_a_cached_function():
    assert cached().submit(int).result() == 0

def test_in_a_list():
    EXECUTORS.append(ThreadPoolExecutor(1))
    EXECUTORS[-1].submit(int).result()

def test_with_a_job_that_does_not_end():
    global _busy
    _busy = ThreadPoolExecutor(1)
    _busy.submit(GO_ON.wait)
"""


def test_the_processs_own_executor_may_be_made_when_it_is_first_used(inner: Inner) -> None:
    inner.write(test_a=EXECUTORS)
    inner.run()
    assert inner.outcomes() == {
        "test_of_its_module": "clean",
        "test_of_its_class": "clean",
        "test_of_a_cached_function": "clean",
        "test_in_a_list": "leaked",
        "test_with_a_job_that_does_not_end": "leaked",
    }


BESIDE = """
import socket

import pytest

@pytest.fixture(scope="session")
def address():
    return ("127.0.0.1", 0)

@pytest.fixture
def client(request, address):
    request.node.client = socket.socket()

@pytest.fixture
def file(request, tmp_path):
    request.node.file = (tmp_path / "a").open("w")

def test_leaves_a_socket(client):
    pass

def test_leaves_a_file(file):
    pass

def test_nothing(address, tmp_path):
    pass
"""


def test_what_a_test_leaves_at_its_own_node_is_not_that_of_a_wider_fixture_it_uses(inner: Inner) -> None:
    inner.write(test_a=BESIDE)
    inner.run()
    assert inner.outcomes() == {
        "test_leaves_a_socket": "leaked",
        "test_leaves_a_file": "leaked",
        "test_nothing": "clean",
    }
    assert inner.report["fixtures"] == []
