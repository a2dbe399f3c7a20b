"""What objects of wider fixtures make when a test first needs it, whatever way they are written: the fixture's."""

from __future__ import annotations

import textwrap

import pytest
from inner import Inner

SHAPES = """
import asyncio
import contextvars
import functools
import os
import select
import socket
import threading
import types
import unittest
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

KEPT = []


def udp():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def end(things):
    for each in list(things):
        if {is_ended}:
            each.close()
        else:
            KEPT.append(each)


def lasting(make, things, scope="module"):
    # A fixture of that scope, which gives what `make` makes, and ends what `things` says that this has made.
    @pytest.fixture(scope=scope)
    def fixture():
        thing = make()
        yield thing
        end(things(thing))

    return fixture


# -- in its class ---------------------------------------------------------------------------------------------------------


class OfClass:
    made = {{}}

    def use(self):
        self.made.setdefault("a", None) or self.made.update(a=udp())


class OneOfClass:
    one = None

    def use(self):
        if OneOfClass.one is None:
            OneOfClass.one = udp()


class Base:
    made = []

    @classmethod
    def use(cls):
        cls.made.append(udp())


class Derived(Base):
    pass


class ByContext:
    def __init__(self):
        self.current = contextvars.ContextVar("current")

    def use(self):
        self.current.set(udp())


def remembered(function):
    cache = remembered.cache = {{}}

    @functools.wraps(function)
    def wrapper(*args):
        if args not in cache:
            cache[args] = function(*args)
        return cache[args]

    return wrapper


class Remembering:
    @remembered
    def use(self):
        return udp()


class Cached:
    @property
    @functools.cache
    def own(self):
        return udp()

    @staticmethod
    @functools.cache
    def static():
        return udp()

    @classmethod
    @functools.cache
    def of_class(cls):
        return udp()

    def use(self):
        return [self.own, self.static(), self.of_class()]


class Once:
    def __init__(self, function):
        self.function, self.values = function, weakref.WeakKeyDictionary()

    def __get__(self, instance, owner=None):
        if instance not in self.values:
            self.values[instance] = self.function(instance)
        return self.values[instance]


class WithDescriptor:
    @Once
    def sock(self):
        return udp()

    def use(self):
        return self.sock


def of_closure():
    made = {{}}

    class OfClosure:
        def use(self):
            return made.setdefault("a", None) or made.update(a=udp()) or made["a"]

    return OfClosure()


of_class = lasting(OfClass, lambda thing: thing.made.values())
one_of_class = lasting(OneOfClass, lambda thing: [thing.one])
derived = lasting(lambda: Derived, lambda thing: thing.made)
by_context = lasting(ByContext, lambda thing: [thing.current.get()])
remembering = lasting(Remembering, lambda thing: remembered.cache.values())
cached = lasting(Cached, lambda thing: thing.use())
with_descriptor = lasting(WithDescriptor, lambda thing: [thing.sock])
closure = lasting(of_closure, lambda thing: [thing.use()])


# -- by methods of any name -----------------------------------------------------------------------------------------------


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __get__(self, instance, owner=None):
        return functools.partial(self, instance)

    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)


class Keeping:
    def __init__(self):
        self.made = {{}}


def opened(self):
    self.made["a"] = udp()


def verb(name):
    def call(self):
        self.made[name] = udp()

    return call


class Decorated(Keeping):
    @Counted
    def use(self):
        self.made["a"] = udp()


class ByLambda(Keeping):
    sock = property(lambda self: self.made.setdefault("a", None) or self.made.update(a=udp()))

    def use(self):
        return self.sock


class ByHiddenName(Keeping):
    def __get(self):
        self.made["a"] = udp()

    use = __get


class BySetter(Keeping):
    def __set(self, name):
        self.made[name] = udp()

    name = property(None, __set)

    def use(self):
        self.name = "a"


class ByFunction(Keeping):
    use = opened


class ByVerb(Keeping):
    use = verb("a")


by_decorated = lasting(Decorated, lambda thing: thing.made.values())
by_lambda = lasting(ByLambda, lambda thing: thing.made.values())
by_hidden_name = lasting(ByHiddenName, lambda thing: thing.made.values())
by_setter = lasting(BySetter, lambda thing: thing.made.values())
by_function = lasting(ByFunction, lambda thing: thing.made.values())
by_verb = lasting(ByVerb, lambda thing: thing.made.values())


# -- in tasks and threads -------------------------------------------------------------------------------------------------


def put(made):
    made.append(udp())


async def aput(made):
    await asyncio.sleep(0)
    made.append(udp())


class Facade:
    def __init__(self):
        self.made, self.loop, self.executor = [], asyncio.new_event_loop(), ThreadPoolExecutor(1)

    def by_coroutine(self):
        async def main():
            self.made.append(udp())

        self.loop.run_until_complete(main())

    def by_function(self):
        self.loop.run_until_complete(aput(self.made))

    def by_gather(self):
        async def main():
            await asyncio.gather(aput(self.made), aput(self.made))

        self.loop.run_until_complete(main())

    def by_thread(self):
        thread = threading.Thread(target=put, args=(self.made,))
        thread.start()
        thread.join()

    def by_job(self):
        self.executor.submit(lambda: put(self.made)).result()

    def by_job_of_the_loop(self):
        async def main():
            await self.loop.run_in_executor(self.executor, put, self.made)

        self.loop.run_until_complete(main())

    def close(self):
        self.executor.shutdown()
        self.loop.close()


@pytest.fixture(scope="module")
def facade():
    facade = Facade()
    yield facade
    end(facade.made)
    facade.close()


# -- deep inside, beside much, and beside classes that like no questions ---------------------------------------------------


class Part:
    def __init__(self, **parts):
        self.__dict__.update(parts)


class Deep:
    def __init__(self):
        self.part = []
        for _ in range(9):
            self.part = Part(part=self.part)

    @property
    def made(self):
        part = self.part
        while isinstance(part, Part):
            part = part.part
        return part

    def use(self):
        self.made.append(udp())


class Unhashable(type):
    def __eq__(cls, other):
        raise RuntimeError("not to be asked")

    def __getattr__(cls, name):
        raise RuntimeError("not to be asked")


class Row(metaclass=Unhashable):
    pass


class Proxy:
    def __getattr__(self, name):
        KEPT.append(udp())


class WithRow:
    use_later = Proxy()

    def __init__(self):
        self.made, self.rows = [], [Row(), Row]

    def use(self):
        self.made.append(udp())


deep = lasting(Deep, lambda thing: thing.made)
with_row = lasting(WithRow, lambda thing: thing.made)


# -- bare numbers, and what is none ---------------------------------------------------------------------------------------


class Numbers:
    def __init__(self):
        self.listed, self.by_name = [], {{}}

    def use(self):
        self.listed.append(os.dup(0))
        self.by_name["a"] = os.dup(0)


class Counting(Numbers):
    @Counted
    def use(self):
        self.fd = os.dup(0)


class Poller:
    poller = None

    def use(self):
        self.poller = select.epoll()


@pytest.fixture(scope="module")
def numbers():
    numbers = Numbers()
    yield numbers
    end(os.fdopen(number) for number in [*numbers.listed, *numbers.by_name.values()] if {is_ended})


counting = lasting(Counting, lambda thing: [os.fdopen(thing.fd)] if {is_ended} else [])
poller = lasting(Poller, lambda thing: [thing.poller])


# -- what ends it is somewhere else -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_finalizer(request):
    def make():
        request.addfinalizer(functools.partial(end, [udp()]))

    return types.SimpleNamespace(use=make)


@pytest.fixture(scope="module")
def opened_ones():
    made = []
    yield made
    end(made)


@pytest.fixture(scope="module")
def opener(opened_ones):
    return types.SimpleNamespace(use=lambda: opened_ones.append(udp()))


class Api:
    def __init__(self):
        self.made = []

    def use(self):
        self.made.append(udp())


shared = lasting(dict, lambda things: things["api"].made)


@pytest.fixture(scope="module")
def filled(shared):
    shared["api"] = Api()


@pytest.fixture(scope="module")
def read_only():
    api = Api()
    yield types.MappingProxyType({{"api": api}})
    end(api.made)


@pytest.fixture(scope="session")
def put_into_the_module():
    global API
    API = Api()
    yield
    end(API.made)


class Prepared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        Prepared.api = Api()
        cls.addClassCleanup(lambda: end(cls.api.made))


class TestPrepared(Prepared):
    def test_of_base_class(self):
        self.api.use()


@pytest.mark.parametrize(
    "name",
    [
        "of_class", "one_of_class", "derived", "remembering", "cached", "with_descriptor", "closure",
        "by_decorated", "by_lambda", "by_hidden_name", "by_setter", "by_function", "by_verb",
        "deep", "with_row", "numbers", "counting", "poller", "by_finalizer", "opener", "by_context",
    ],
)
def test_shape(name, request):
    request.getfixturevalue(name).use()


@pytest.mark.parametrize("how", [name for name in vars(Facade) if name.startswith("by_")])
def test_facade(facade, how):
    getattr(facade, how)()


def test_filled(filled, shared):
    shared["api"].use()


def test_read_only(read_only):
    read_only["api"].use()


def test_module(put_into_the_module):
    API.use()
"""

OWN = """



def test_puts_its_own_into_the_class(of_class):
    of_class.made["own"] = udp()


def test_puts_its_own_into_the_dict(filled, shared):
    shared["own"] = udp()


def own_helper(kept):
    kept.append(udp())


def test_lets_the_object_run_its_helper(runner):
    runner.run(own_helper, runner.made)


def test_lets_the_object_run_its_coroutine(facade):
    async def main():
        facade.made.append(udp())

    facade.loop.run_until_complete(main())


def test_lets_the_objects_executor_run_its_function(facade):
    facade.executor.submit(lambda: KEPT.append(udp())).result()
"""

ENDED_BY_NOBODY = {
    *("of_class", "one_of_class", "derived", "remembering", "cached", "with_descriptor", "closure"),
    *("by_decorated", "by_lambda", "by_hidden_name", "by_setter", "by_function", "by_verb"),
    *("deep", "with_row", "numbers", "counting", "poller", "by_finalizer", "opened_ones", "shared", "facade"),
    "by_context",
    "read_only",
    *("put_into_the_module", "setUpClass"),
}


def write(inner: Inner, *, is_ended: bool, more: str = "") -> None:
    inner.write(
        conftest="""
        import pytest

        class Runner:
            def __init__(self):
                self.made = []

            def run(self, function, *args):
                return function(*args)

        @pytest.fixture(scope="session")
        def runner():
            return Runner()
        """,
        test_a=SHAPES.format(is_ended=is_ended) + textwrap.dedent(more),
    )


def test_what_a_test_lets_them_make_and_they_end_is_no_leak(inner: Inner) -> None:
    write(inner, is_ended=True)
    result = inner.run()
    assert {name: outcome for name, outcome in inner.outcomes().items() if outcome != "clean"} == {}, (
        result.stdout.str()
    )
    assert inner.report["fixtures"] == []
    result.stdout.no_fnmatch_line("*switched off*")


def test_what_they_do_not_end_is_their_leak(inner: Inner) -> None:
    write(inner, is_ended=False)
    inner.run()
    assert {name: outcome for name, outcome in inner.outcomes().items() if outcome != "clean"} == {}
    assert {row["name"] for row in inner.report["fixtures"]} == ENDED_BY_NOBODY


def test_what_a_test_makes_itself_is_its_leak(inner: Inner) -> None:
    write(inner, is_ended=True, more=OWN)
    inner.run()
    leaked = {name for name, outcome in inner.outcomes().items() if outcome == "leaked"}
    assert leaked == {
        "test_puts_its_own_into_the_class",
        "test_puts_its_own_into_the_dict",
        "test_lets_the_object_run_its_helper",
        "test_lets_the_object_run_its_coroutine",
        "test_lets_the_objects_executor_run_its_function",
    }


CONNECTED = """
import asyncio
import sys

import aiohttp
import aiohttp.web
import pytest
import pytest_asyncio

KEPT = []
MODULE = pytest.mark.asyncio(loop_scope="module")


class Realtime:
    # Connects its websocket, starts its process and opens its streams when a test first needs them, and keeps them.
    session = websocket = process = server = None

    def __init__(self, address):
        self.address = address

    async def echo(self):
        if self.websocket is None:
            self.session = aiohttp.ClientSession()
            self.websocket = await self.session.ws_connect(self.address)
        await self.websocket.send_str("a")
        return (await self.websocket.receive()).data

    async def connect(self):
        self.session = self.session or aiohttp.ClientSession()
        return await self.session.ws_connect(self.address)

    async def run(self):
        if self.process is None:
            pipe = asyncio.subprocess.PIPE
            self.process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=pipe, stdout=pipe)

    async def open(self):
        if self.server is None:
            self.server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
            self.streams = {{"a": await asyncio.open_connection(*self.server.sockets[0].getsockname())}}

    async def close(self):
        if {is_ended}:
            await self.websocket.close()
            self.process.stdin.write(b"\\n")
            await self.process.communicate()
            self.streams["a"][1].close()
            self.server.close()
            await self.server.wait_closed()
            await self.session.close()
        else:
            KEPT.append(self)


async def repeat(request):
    websocket = aiohttp.web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_str(message.data)
    return websocket


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address():
    application = aiohttp.web.Application()
    application.router.add_get("/", repeat)
    runner = aiohttp.web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://127.0.0.1:%d/" % runner.addresses[0][1]
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def realtime(address):
    realtime = Realtime(address)
    yield realtime
    await realtime.close()


@MODULE
async def test_websocket(realtime):
    assert await realtime.echo() == "a"


@MODULE
async def test_process(realtime):
    await realtime.run()


@MODULE
async def test_streams(realtime):
    await realtime.open()
"""

HANDED_OUT = """

@MODULE
async def test_websocket_that_is_handed_out(realtime):
    KEPT.append(await realtime.connect())


@MODULE
async def test_process_of_its_own():
    pipe = asyncio.subprocess.PIPE
    KEPT.append(await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=pipe))


@MODULE
async def test_ends_its_process():
    KEPT[-1].stdin.write(b"\\n")
    await KEPT[-1].communicate()
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("is_ended", [True, False])
def test_what_they_connect_is_theirs(inner: Inner, loop: str, is_ended: bool) -> None:
    pytest.importorskip("pytest_asyncio")
    pytest.importorskip("aiohttp")
    policy = ""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
        policy = "import pytest, uvloop\n@pytest.fixture(scope='session')\ndef event_loop_policy():\n"
        policy += "    return uvloop.EventLoopPolicy()\n"
    handed_out = HANDED_OUT if is_ended else ""
    inner.write(conftest=policy, test_a=CONNECTED.format(is_ended=is_ended) + handed_out)
    result = inner.run("-p", "pytest_asyncio.plugin", "-W", "ignore")
    leaked = {name for name, outcome in inner.outcomes().items() if outcome != "clean"}
    expected = {"test_websocket_that_is_handed_out", "test_process_of_its_own"} if is_ended else set()
    assert leaked == expected, result.stdout.str()
    rows = [row["name"] for row in inner.report["fixtures"] if row["name"] == "realtime"]
    assert rows == ([] if is_ended else ["realtime"])


FACTORY = """
import socket

import pytest


def udp():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


class Api:
    def __init__(self):
        self.made = []

    def use(self):
        self.made.append(udp())


@pytest.fixture(scope="module")
def opened():
    opened = []
    yield opened
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def opener(opened):
    def make():
        opened.append(udp())

    return make


def test_opens(opener):
    opener()


@pytest.fixture(scope="module")
def services():
    services = {}
    yield services
    for service in services.values():
        for each in service.made:
            each.close()


@pytest.fixture(scope="module")
def other(services):
    services["other"] = Api()


def test_puts_its_own(services):
    services["own"] = Api()


def test_uses_the_fixtures(services, other):
    services["other"].use()


def test_uses_its_own(services):
    services["own"].use()
"""


def test_what_is_put_into_a_list_or_dict_of_a_fixture_is_whose_hands_have_put_it_there(inner: Inner) -> None:
    inner.write(test_a=FACTORY)
    inner.judge(
        test_opens="clean", test_puts_its_own="clean", test_uses_the_fixtures="clean", test_uses_its_own="leaked"
    )
    assert inner.report["fixtures"] == []


DEFAULTS = """
import collections
import functools
import socket

import pytest

KEPT = collections.defaultdict(socket.socket)


def lasting(make, is_ended=True):
    @pytest.fixture(scope="module")
    def fixture():
        things = make()
        yield things
        for each in things.values() if is_ended else ():
            each.close()

    return fixture


by_class = lasting(lambda: collections.defaultdict(socket.socket))
by_partial = lasting(lambda: collections.defaultdict(functools.partial(socket.socket, socket.AF_INET)))
by_function = lasting(lambda: collections.defaultdict(lambda: socket.socket()))
unended = lasting(lambda: collections.defaultdict(socket.socket), is_ended=False)
plain = lasting(dict)
of_others = lasting(lambda: collections.defaultdict(list))


@pytest.mark.parametrize("name", ["by_class", "by_partial", "by_function", "unended"])
@pytest.mark.parametrize("key", [1, 2])
def test_asks(name, key, request):
    request.getfixturevalue(name)[key]


def test_puts_its_own(plain):
    plain["own"] = socket.socket()


def test_puts_its_own_beside_others(of_others):
    of_others["own"] = socket.socket()


def test_asks_a_registry_of_the_process():
    KEPT["more"]
"""


def test_what_a_default_dict_of_a_fixture_makes_is_the_fixtures(inner: Inner) -> None:
    inner.write(test_a=DEFAULTS)
    inner.judge(
        **{
            f"test_asks[{key}-{name}]": "clean"
            for key in (1, 2)
            for name in "by_class by_partial by_function unended".split()
        },
        test_puts_its_own="leaked",
        test_puts_its_own_beside_others="leaked",
        test_asks_a_registry_of_the_process="leaked",
    )
    assert [row["name"] for row in inner.report["fixtures"]] == ["unended"]


def test_the_connection_of_a_client_of_the_standard_library_is_its_fixtures(inner: Inner) -> None:
    inner.write(
        test_a="""
        import socketserver
        import threading
        import xmlrpc.client
        import xmlrpc.server

        import pytest

        KEPT = []

        class Server(socketserver.ThreadingMixIn, xmlrpc.server.SimpleXMLRPCServer):
            daemon_threads = True

        @pytest.fixture(scope="module")
        def url():
            server = Server(("127.0.0.1", 0), logRequests=False)
            server.RequestHandlerClass.protocol_version = "HTTP/1.1"
            server.register_function(lambda: 1, "one")
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield "http://127.0.0.1:%d/" % server.server_address[1]
            server.shutdown()
            thread.join()
            server.server_close()

        @pytest.fixture(scope="module")
        def proxy(url):
            with xmlrpc.client.ServerProxy(url) as proxy:
                yield proxy

        def test_asks(proxy):
            assert proxy.one() == 1

        def test_asks_again(proxy):
            assert proxy.one() == 1

        def test_asks_through_its_own(url):
            KEPT.append(xmlrpc.client.ServerProxy(url))
            assert KEPT[0].one() == 1
        """
    )
    inner.judge(test_asks="clean", test_asks_again="clean", test_asks_through_its_own="leaked")
    assert inner.report["fixtures"] == []


FIELDS = """
import contextlib
import functools
import queue
import socket
import types

import pytest

KEPT = queue.SimpleQueue()
STACK = contextlib.ExitStack()


class Kept:
    made = None


def lasting(make, end):
    @pytest.fixture(scope="module")
    def fixture():
        thing = make()
        yield thing
        end(thing)

    return fixture


method = lasting(Kept, lambda kept: kept.made.__self__.close())
partial = lasting(Kept, lambda kept: kept.made.func.__self__.close())
pair = lasting(Kept, lambda kept: kept.made[0].close())
unended = lasting(Kept, lambda kept: None)


@pytest.fixture(scope="module")
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def test_bound_method(method):
    method.made = types.MethodType(lambda sock: None, socket.socket())


def test_partial(partial):
    partial.made = functools.partial(types.MethodType(lambda sock: None, socket.socket()))


def test_pair(pair):
    pair.made = socket.socket(), "a name"


def test_stack(stack):
    stack.enter_context(socket.socket())


def test_is_not_ended(unended):
    unended.made = socket.socket(), "a name"


def test_queue():
    KEPT.put(socket.socket())


def test_stack_of_the_process():
    STACK.enter_context(socket.socket())
"""


def test_what_a_field_of_a_fixtures_object_keeps_is_the_fixtures(inner: Inner) -> None:
    inner.write(test_a=FIELDS)
    inner.judge(
        test_bound_method="clean",
        test_partial="clean",
        test_pair="clean",
        test_stack="clean",
        test_is_not_ended="clean",
        test_queue="leaked",
        test_stack_of_the_process="leaked",
    )
    assert [row["name"] for row in inner.report["fixtures"]] == ["unended"]
