"""Clients of libraries that are not known by name, which the process has in a place of its own: their connections are theirs."""

from __future__ import annotations

import pytest
from inner import Inner

STORE = """
import collections
import functools
import queue
import socket
import sqlite3
import threading
import weakref

end = threading.Event()


class Connection:
    def __init__(self):
        self.sock = socket.socket()


class Client:
    def __init__(self, path=None):
        self.path = path
        self.connection = self.file = self.thread = None
        self.idle = collections.deque()

    def connect(self):
        self.connection = self.connection or Connection()

    def use_pool(self):
        connection = self.idle.pop() if self.idle else Connection()
        self.idle.append(connection)

    def open(self):
        self.file = self.file or open(self.path)

    def work(self):
        self.thread = threading.Thread(target=threading.Event().wait, daemon=True)
        self.thread.start()


class Database:
    def __init__(self, path):
        self.path = path

    def open(self):
        opened = threading.Event()

        def work():
            self.connection = sqlite3.connect(self.path, check_same_thread=False)
            self.connection.execute("create table if not exists t (n)")
            opened.set()
            threading.Event().wait()

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        opened.wait()
        return self


class Engine:
    def __init__(self, path):
        self.path = path
        self.pool = queue.Queue()

    def connect(self):
        self.pool.put(Database(self.path).open())


class Producer(Client):
    def __init__(self):
        super().__init__(__file__)
        self.connect()
        self.open()
        self.work()


class Collection:
    def __init__(self, driver):
        self.driver = driver

    def watch(self):
        self.driver._run_operation()


class Service:
    def serve(self):
        end.wait()

    def start(self, daemon):
        threading.Thread(target=self.serve, daemon=daemon).start()


default = Service()


class Monitor:
    def open(self, daemon=True):
        thread = threading.Thread(target=self.run, daemon=daemon)
        self.thread = weakref.proxy(thread)
        thread.start()

    def run(self):
        end.wait()


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper


class Driver:
    def __init__(self):
        self.monitors = {}

    def __enter__(self):
        self.ask()

    def _run_operation(self):
        self.ask()

    @decorated
    def start_decorated(self):
        self.ask()

    def startMonitors(self):
        self.ask()

    def collection(self):
        return Collection(self)

    def ask(self, daemon=True):
        if not self.monitors:
            self.monitors["primary"] = Monitor()
            self.monitors["primary"].open(daemon)

    def start_monitors(self):
        self.ask()


class Server:
    def start(self):
        self.sock = socket.create_server(("127.0.0.1", 0))


class Listener:
    def run(self):
        threading.Event().wait()


class Wrapper:
    def __init__(self, sock):
        self.sock = sock

    def ready(self):
        self.sock.recv(1)


class Poller:
    def __init__(self):
        self.handlers = {}
        self.pool = {}

    def watch(self):
        sock = socket.socket()
        self.handlers[sock.fileno()] = (sock, Wrapper(sock).ready)

    def connect(self):
        sock = socket.socket()
        self.pool[sock.fileno()] = (sock, "idle")


def connect():
    return socket.socket()


def wrapped():
    return Wrapper(socket.socket())
"""

APP = """
import functools
import os
import queue
import socket
import sqlite3
import tempfile
import threading

import store

client = store.Client(__file__)
made_later = raw = None
poller = store.Poller()
driver = store.Driver()
drivers = {}
database = store.Database(":memory:")
engine = store.Engine(os.path.join(tempfile.mkdtemp(), "a.db"))
jobs = queue.Queue()
clients = []


class Settings:
    client = store.Client()


@functools.cache
def producer():
    return store.Producer()


def first_asked_for():
    global made_later
    made_later = made_later or store.Producer()
    return made_later


@functools.cache
def raw_socket():
    return socket.socket()


local_database = None
databases = []


def connected_to_database():
    global local_database
    local_database = local_database or sqlite3.connect(__file__ + ".db")


class Data:
    base = None

    @classmethod
    def connect(cls):
        cls.base = cls.base or sqlite3.connect(__file__ + ".db")


@functools.cache
def cached_database():
    return sqlite3.connect(__file__ + ".db")


class Holder:
    def __init__(self):
        self.sock = socket.socket()
        self.file = open(os.devnull)


@functools.cache
def holder():
    return Holder()


@functools.cache
def listener():
    listener = store.Listener()
    threading.Thread(target=listener.run, daemon=True).start()
    return listener


@functools.cache
def silent():
    return store.Listener()


def raw_connection():
    global raw
    raw = socket.socket()


def connected():
    global raw
    raw = store.Client()
    return raw


@functools.cache
def shared():
    return store.Client()


class Cached:
    @functools.cache
    def client(self):
        return store.Connection()


class Service:
    sock = None

    def connect(self):
        self.sock = socket.socket()


service = Service()
"""

CLEAN = {
    "connection": "app.client.connect()",
    "pool": "app.client.use_pool()",
    "pool by number": "app.poller.connect()",
    "database with a thread, in a queue": "app.engine.connect()",
    "thread of a part that it needs at first use": "app.driver.ask()",
    "thread of a part that what it has given needs": "app.driver.collection().watch()",
    "file": "app.client.open()",
    "of a class": "app.Settings.client.connect()",
    "of a cached function": "app.shared().connect()",
    "with a thread, made by a cached function": "app.producer()",
    "with a thread, made by its module when it is first asked for": "app.first_asked_for()",
    "of the user's own class, made by a cached function": "app.holder()",
    "with a thread that it does not keep, made by a cached function": "app.listener()",
    "database of its module": "app.connected_to_database()",
    "database of its class": "app.Data.connect()",
    "database of a cached function": "app.cached_database()",
    "made by a test": "app.made_later = store.Client(); app.made_later.connect()",
}

LEAKING = {
    "thread": ("app.client.work()", "threads"),
    "thread of a part that a test starts": ("app.driver.start_monitors()", "threads"),
    "thread of a part that a test starts by a name in one word": ("app.driver.startMonitors()", "threads"),
    "thread of a part that a test starts by a decorated method": ("app.driver.start_decorated()", "threads"),
    "thread of a part that a block starts": ("app.driver.__enter__()", "threads"),
    "thread of a part that a test calls itself": (
        "app.driver.monitors[1] = store.Monitor(); app.driver.monitors[1].open()",
        "threads",
    ),
    "thread that a test starts for a library's own": (
        "import threading; threading.Thread(target=store.default.serve, daemon=True).start()",
        "threads",
    ),
    "thread that a library's own starts when asked to": ("store.default.start(False)", "threads"),
    "thread of a part that the end of the program waits for": ("app.driver.ask(daemon=False)", "threads"),
    "thread of a part, in a registry": ("app.drivers[1] = store.Driver(); app.drivers[1].ask()", "threads"),
    "thread of a part, dropped": ("store.Driver().ask()", "threads"),
    "thread that a test starts by what a cached function has": ("app.shared().work()", "threads"),
    "thread that a test starts by what its module has made": ("app.connected().work()", "threads"),
    "thread that a test starts for it": (
        "import threading; threading.Thread(target=app.silent().run, daemon=True).start()",
        "threads",
    ),
    "client of a cached method": ("app.Cached().client()", "sockets"),
    "socket of a cached function": ("app.raw_socket()", "sockets"),
    "database in a registry": ("import sqlite3; app.databases.append(sqlite3.connect(app.__file__ + '.db'))", "fds"),
    "database that a test has made": (
        "import sqlite3; app.local_database = sqlite3.connect(app.__file__ + '.db')",
        "fds",
    ),
    "socket of its module": ("app.raw_connection()", "sockets"),
    "socket of the library's": ("app.raw = store.connect()", "sockets"),
    "wrapped socket of the library's": ("app.raw = store.wrapped()", "sockets"),
    "connection": ("app.raw = store.Connection()", "sockets"),
    "socket that is only registered": ("app.poller.watch()", "sockets"),
    "database with a thread, without an engine": ("app.database.open()", "threads"),
    "database with a thread, in a queue of the user's": ("app.jobs.put(store.Database(':memory:').open())", "threads"),
    "server": ("app.raw = store.Server(); app.raw.start()", "sockets"),
    "client in a registry": ("app.clients.append(store.Client()); app.clients[-1].connect()", "sockets"),
    "dropped client": ("store.Client().connect()", "sockets"),
    "of the user's own class": ("app.service.connect()", "sockets"),
}


def judged(inner: Inner, monkeypatch: pytest.MonkeyPatch, code: str, outcome: str) -> list[str]:
    """The kinds of what a test of that code leaks, which has that outcome."""
    inner.install(monkeypatch, store=STORE)
    conftest = "import store\n\ndef pytest_unconfigure():\n    store.end.set()\n"
    inner.write(conftest=conftest, app=APP, test_it=f"import app\nimport store\n\ndef test_it():\n    {code}\n")
    inner.judge("-W", "ignore::ResourceWarning", test_it=outcome)
    return [finding["kind"] for row in inner.report["tests"] for finding in row["findings"]]


@pytest.mark.parametrize("code", CLEAN.values(), ids=CLEAN)
def test_what_a_client_of_the_process_opens_is_no_tests_leak(
    inner: Inner, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    assert judged(inner, monkeypatch, code, "clean") == []


@pytest.mark.parametrize(("code", "kind"), LEAKING.values(), ids=LEAKING)
def test_what_no_client_of_the_process_has_leaks(
    inner: Inner, monkeypatch: pytest.MonkeyPatch, code: str, kind: str
) -> None:
    assert judged(inner, monkeypatch, code, "leaked") == [kind]


WORKERS = """
import asyncio
import concurrent.futures
import functools
import multiprocessing
import multiprocessing.pool
import threading

queue = multiprocessing.Queue()
runner = asyncio.Runner()
gate = threading.Event()
lock = threading.Lock()
lock.acquire()
kept = []


class Service:
    def __init__(self):
        self.runner = asyncio.Runner()


service = Service()


def worker():
    lock.acquire()


@functools.cache
def executor():
    return concurrent.futures.ProcessPoolExecutor(1)


@functools.cache
def threads():
    return multiprocessing.pool.ThreadPool(1)


@functools.cache
def manager():
    return multiprocessing.Manager()


@functools.cache
def processes():
    return multiprocessing.Pool(1)
"""

AT_REST = {
    "executor of processes": "app.executor().submit(abs, 1).result()",
    "pool of threads": "app.threads().map(abs, [1])",
    "pool of processes": "app.processes().map(abs, [1])",
    "queue": "app.queue.put(1); app.queue.get()",
    "manager": "app.manager().dict()[1] = 2",
    "runner": "app.runner.run(asyncio.sleep(0))",
    "runner of an object": "app.service.runner.run(asyncio.sleep(0))",
}

AT_WORK = {
    "executor of processes": "app.executor().submit(time.sleep, 20)",
    "pool of threads": "app.threads().apply_async(app.gate.wait)",
    "pool of processes": "app.processes().apply_async(time.sleep, (20,))",
    "queue that nobody reads": "app.queue.put('x' * 1_000_000)",
    "executor in a registry": "app.kept.append(app.executor.__wrapped__()); app.kept[0].submit(abs, 1).result()",
    "queue in a registry": "app.kept.append(multiprocessing.Queue()); app.kept[0].put(1); app.kept[0].get()",
}

# Ends what is at work, as the process would wait for it.
KILL = """
import multiprocessing

import app


def pytest_unconfigure():
    app.gate.set()
    app.lock.release()
    app.queue.cancel_join_thread()
    if app.processes.cache_info().currsize:
        app.processes().terminate()
    for child in multiprocessing.active_children():
        child.kill()
"""


def kinds(inner: Inner, code: str) -> set[str]:
    """The kinds of what a test of that code leaks, which does nothing else wrong."""
    inner.write(
        app=WORKERS,
        conftest=KILL,
        test_it=f"import app, asyncio, multiprocessing, time\n\ndef test_it():\n    {code}\n",
    )
    result = inner.run("-W", "ignore::DeprecationWarning")
    result.stdout.no_fnmatch_line("E  *")  # of an error of its own
    (row,) = inner.report["tests"]
    return {finding["kind"] for finding in row["findings"]}


@pytest.mark.parametrize("code", AT_REST.values(), ids=AT_REST)
def test_what_waits_for_jobs_in_a_place_of_the_process_is_no_leak(inner: Inner, code: str) -> None:
    assert kinds(inner, code) == set()


@pytest.mark.parametrize("code", AT_WORK.values(), ids=AT_WORK)
def test_what_is_at_work_there_leaks_and_so_does_what_a_registry_has(inner: Inner, code: str) -> None:
    assert kinds(inner, code) == {"threads"}


def test_a_worker_is_at_work_though_its_job_has_the_name_of_its_own_function(inner: Inner) -> None:
    assert kinds(inner, "app.threads().apply_async(app.worker)") == {"threads"}
    counts = [finding["count"] for row in inner.report["tests"] for finding in row["findings"]]
    assert counts == [4]  # with those that hand out the jobs


REPLACED = """
import functools
import os
import sqlite3

import store

client = None


@functools.cache
def cached(name):
    return store.Producer()


class Holder:
    def __init__(self):
        self.fd = os.open(os.devnull, os.O_RDONLY)


@functools.cache
def holder():
    return Holder()


def cached_anew():
    cached.cache_clear()
    cached("a")


database = None
earlier = []


def open_database(closes):
    global database
    if database is not None:
        database.close() if closes else earlier.append(database)
    database = sqlite3.connect(__file__ + ".db")


def reset():
    global client
    client = store.Producer()
"""


@pytest.mark.parametrize(
    ("calls", "outcome"),
    [
        (("app.reset()", "app.reset()"), "leaked"),
        (("app.cached_anew()", "app.cached_anew()"), "leaked"),
        (("app.cached('a')", "app.cached('b')"), "clean"),
        (("app.open_database(False)", "app.open_database(False)"), "leaked"),
        (("app.open_database(True)", "app.open_database(True)"), "clean"),
    ],
    ids=["module", "cache", "another argument", "database", "database that was closed"],
)
def test_what_takes_the_place_of_what_is_still_open_leaks(
    inner: Inner, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, str], outcome: str
) -> None:
    inner.install(monkeypatch, store=STORE)
    inner.write(app=REPLACED, test_it="import app\n\ndef test_first(): {}\n\ndef test_again(): {}\n".format(*calls))
    inner.run("-W", "ignore::ResourceWarning")
    assert inner.outcomes() == {"test_first": "clean", "test_again": outcome}


WITH_A_KNOWN_CLIENT = """
import functools
import socket

import httpx

KEPT = []


class Sdk:
    def __init__(self):
        self.client = httpx.Client()
        self.client.get(URL)
        self.sock = socket.create_connection(URL.rpartition("/")[2].split(":"))


@functools.cache
def sdk():
    return Sdk()


def again(closes):
    earlier = sdk()
    earlier.sock.close()
    if closes:
        earlier.client.close()
    else:
        KEPT.append(earlier.client)
    sdk.cache_clear()
    del earlier
    sdk()
"""


@pytest.mark.parametrize(("closes", "outcome"), [(False, "leaked"), (True, "clean")])
def test_a_place_remembers_the_clients_of_known_libraries_that_it_has_kept(
    inner: Inner, server: str, outcome: str, *, closes: bool
) -> None:
    tests = f"import app\n\ndef test_first(): app.sdk()\n\ndef test_again(): app.again({closes})\n"
    inner.write(app=f"URL = {server!r}\n{WITH_A_KNOWN_CLIENT}", test_it=tests)
    inner.run("-W", "ignore::ResourceWarning")
    assert inner.outcomes() == {"test_first": "clean", "test_again": outcome}


SETUPS = {
    "fixture": "@pytest.fixture(autouse=True)\ndef fixture():\n    global CLIENT\n    CLIENT = store.Connection()\n",
    "function": "def setup_function():\n    global CLIENT\n    CLIENT = store.Connection()\n",
}


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
def test_what_sets_a_test_up_makes_no_client_of_the_process(
    inner: Inner, monkeypatch: pytest.MonkeyPatch, setup: str
) -> None:
    inner.install(monkeypatch, store=STORE)
    inner.write(test_it=f"import pytest, store\nCLIENT = None\n\n{setup}\n\ndef test_it(): pass\n")
    inner.judge(test_it="leaked")


KEEPS_NOTHING = """
import gc
import weakref

import app


def test_first():
    global KEPT
    KEPT = weakref.ref(app.holder())


def test_again():
    app.holder.cache_clear()
    gc.collect()
    assert KEPT() is None
"""


def test_what_is_left_to_the_process_is_not_kept_for_it(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.install(monkeypatch, store=STORE)
    inner.write(app=REPLACED, test_it=KEEPS_NOTHING)
    inner.run("-W", "ignore::ResourceWarning").assert_outcomes(passed=2)


UNSEEN = """
import asyncio
import contextvars
import ctypes
import functools

KEPT = contextvars.ContextVar("KEPT", default=None)


def loop():
    if KEPT.get() is None:
        KEPT.set(asyncio.new_event_loop())
    return KEPT.get()


def loop_for_the_caller():
    return asyncio.new_event_loop()


class Font:
    # As a class in C that does not tell the collector what it refers to.

    def __init__(self, path):
        file = open(path, "rb")
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))


@functools.cache
def font(path):
    return Font(path)


def font_for_the_caller(path):
    return Font(path)


@functools.cache
def checked(path):
    file = open(path)
    if not path.endswith(".py"):
        raise ValueError(path)
    file.close()
    return path
"""


ERROR_OF = """
import contextvars

import sdk

KEPT = contextvars.ContextVar("KEPT")


def error_of(path):
    try:
        sdk.checked(path)
    except ValueError as error:
        return error
"""


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("sdk.loop()", "clean"),
        ("KEPT.set(sdk.loop_for_the_caller())", "leaked"),
        ("sdk.font(__file__)", "clean"),
        ("sdk.font(__file__); sdk.font.cache_clear()", "leaked"),
        ("sdk.font_for_the_caller(__file__)", "leaked"),
        ("sdk.checked(__file__); KEPT.set(error_of('/etc/hosts'))", "leaked"),
    ],
    ids=["context variable", "another's context variable", "cache", "that was cleared", "no cache", "an error's frame"],
)
def test_what_a_library_keeps_where_no_reference_leads_is_no_leak(
    inner: Inner, monkeypatch: pytest.MonkeyPatch, code: str, outcome: str
) -> None:
    inner.install(monkeypatch, sdk=UNSEEN)
    inner.write(test_it=f"{ERROR_OF}\n\ndef test_it(): {code}\n")
    inner.judge(test_it=outcome)
