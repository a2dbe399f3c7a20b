"""Fakes in the place of modules, modules that are loaded again: leaks are found once, the clean twin is clean."""

from __future__ import annotations

import pytest
from inner import Inner

AGAIN = """
import importlib
import os
import socket
import sys

import pytest

{name} = pytest.importorskip("{name}")
MODULE = "{name}"
URL = "{server}"
KEPT = []


@pytest.fixture(scope="module", autouse=True)
def again():
    module = importlib.import_module(MODULE)
    importlib.reload(module)
    importlib.reload(module)
    yield
    importlib.reload(module)


def opened():
    {opened}


def closed(kept):
    {closed}


def test_leaks():
    KEPT.append(opened())


def test_is_clean():
    kept = opened()
    closed(kept)


def test_leaks_again():
    KEPT.append(opened())
"""

CASES = {
    "httpx": (
        "client = httpx.Client(); return client, client.send(client.build_request('GET', URL + '/big'), stream=True)",
        "kept[1].close(); kept[0].close()",
        "responses",
    ),
    "httpcore": (
        "pool, headers = httpcore.ConnectionPool(), {'Host': 'localhost'}; "
        "return pool, pool.handle_request(httpcore.Request('GET', URL + '/big', headers=headers))",
        "kept[1].close(); kept[0].close()",
        "responses",
    ),
    "requests": (
        "session = requests.Session(); return session, session.get(URL + '/big', stream=True)",
        "kept[1].close(); kept[0].close()",
        "responses",
    ),
    "urllib3": (
        "pool = urllib3.PoolManager(); return pool, pool.request('GET', URL + '/big', preload_content=False)",
        "kept[1].close(); kept[0].clear()",
        "responses",
    ),
    "http.client": (
        "import http.client; c = http.client.HTTPConnection(URL[7:]); c.request('GET', '/big'); return c, c.getresponse()",
        "kept[1].close(); kept[0].close()",
        "responses",
    ),
    "socket": ("import socket; return socket.socket()", "kept.close()", "sockets"),
    "os": ("return os.open(os.devnull, os.O_RDONLY)", "os.close(kept)", "fds"),
    "threading": (
        "import threading; stop = threading.Event(); threading.Thread(target=stop.wait, daemon=True).start(); return stop",
        "kept.set()",
        "threads",
    ),
    "selectors": ("import selectors; return selectors.EpollSelector()", "kept.close()", "fds"),
    "asyncio": ("import asyncio; return asyncio.new_event_loop()", "kept.close()", "loops"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_module_that_is_loaded_again_is_watched_as_before(inner: Inner, server: str, name: str) -> None:
    opened, closed, kind = CASES[name]
    source = AGAIN.replace("{name} =", "_ =").replace("{name}", name).replace("{server}", server)
    if "." not in name:
        source = source.replace("_ =", f"{name} =")
    inner.write(test_a=source.replace("{opened}", opened).replace("{closed}", closed))
    result = inner.run("-W", "ignore")
    assert inner.outcomes() == {"test_leaks": "leaked", "test_is_clean": "clean", "test_leaks_again": "leaked"}, (
        result.stdout.str()
    )
    for row in inner.report["tests"]:
        wanted = [] if row["outcome"] == "clean" else [(kind, 1, "opened")]
        found = [(each["kind"], each["count"], each["created"]["function"]) for each in row["findings"]]
        assert [each for each in found if each[0] != "clients"] == wanted
    result.stdout.no_fnmatch_line("*switched off*")


FORGOTTEN = """
import sys

import pytest

KEPT = []
URL = "{server}"


@pytest.fixture
def without(monkeypatch):
    for name in [each for each in sys.modules if each.partition(".")[0] in ("httpx", "httpcore")]:
        monkeypatch.delitem(sys.modules, name)


def stream():
    import httpx
    client = httpx.Client()
    return client, client.send(client.build_request("GET", URL + "/big"), stream=True)


def closed(client, response):
    response.close()
    client.close()


def test_leaks():
    KEPT.append(stream())


def test_is_clean():
    closed(*stream())


def test_leaks_of_a_second_copy(without):
    KEPT.append(stream())


def test_is_clean_with_a_second_copy(without):
    closed(*stream())


def test_leaks_of_the_first_again():
    KEPT.append(stream())
"""


def test_a_second_copy_of_a_library_is_watched_like_the_first(inner: Inner, server: str) -> None:
    pytest.importorskip("httpx")
    inner.write(test_a=FORGOTTEN.replace("{server}", server))
    result = inner.run("-W", "ignore")
    assert {name: outcome == "leaked" for name, outcome in inner.outcomes().items()} == {
        name: "leaks" in name for name in inner.outcomes()
    }, result.stdout.str()
    for row in inner.report["tests"]:
        counts = [finding["count"] for finding in row["findings"] if finding["kind"] == "responses"]
        assert counts == ([1] if row["outcome"] == "leaked" else [])
    result.stdout.no_fnmatch_line("*switched off*")


IN_PARTS = """
import importlib
import sys

import pytest

{name} = pytest.importorskip("{name}")
KEPT = []
URL = "{server}"


def opened():
    {opened}


def closed(kept):
    {closed}


def test_loads_the_package_without_its_parts(monkeypatch):
    monkeypatch.delitem(sys.modules, "{name}")
    assert importlib.import_module("{name}") is not {name}


def test_loads_a_stand_in(monkeypatch, tmp_path):
    (tmp_path / "{name}.py").write_text("def get(url): return 200")
    monkeypatch.delitem(sys.modules, "{name}")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("{name}").get("") == 200


def test_leaks():
    KEPT.append(opened())


def test_is_clean():
    kept = opened()
    closed(kept)
"""


@pytest.mark.parametrize("name", ["requests", "urllib3", "httpx"])
def test_a_copy_that_no_adapter_understands_leaves_the_first_one_watched(inner: Inner, server: str, name: str) -> None:
    """The parts of a package that is loaded again are no attributes of it, as they are loaded already."""
    opened, closed, _ = CASES[name]
    source = IN_PARTS.replace("{name}", name).replace("{server}", server)
    inner.write(test_a=source.replace("{opened}", opened).replace("{closed}", closed))
    result = inner.run("-W", "ignore")
    assert {name: outcome for name, outcome in inner.outcomes().items() if outcome != "clean"} == {
        "test_leaks": "leaked"
    }
    (leaking,) = (row for row in inner.report["tests"] if row["outcome"] == "leaked")
    assert "responses" in [each["kind"] for each in leaking["findings"]]
    result.stdout.no_fnmatch_line("*switched off*")
    result.stdout.no_fnmatch_line("*stays off*")


# -- modules -----------------------------------------------------------------------------------------------------------

FAKES = """
import sys
import types
from unittest.mock import MagicMock, Mock

class Raising:
    def __getattr__(self, name):
        raise RuntimeError("must not be asked for " + name)

FAKE = {fake}
for name in ("httpx", "httpcore", "requests", "urllib3", "aiohttp", "pycares", "trio", "uvloop", "requests.adapters"):
    sys.modules[name] = FAKE
"""

BESIDE_FAKES = """
import socket
import sys

KEPT = []

class Client(socket.socket):
    __module__ = "httpx.fake"

def test_the_fake_is_untouched():
    import conftest
    import httpx
    assert httpx is conftest.FAKE

def test_leaks():
    KEPT.append(socket.socket())

def test_leaks_a_class_of_that_name():
    KEPT.append(Client())

def test_is_clean():
    Client().close()
"""


@pytest.mark.parametrize(
    "fake", ["Mock()", "MagicMock()", "types.SimpleNamespace()", "object()", "Raising()", "types.ModuleType('httpx')"]
)
def test_a_fake_in_the_place_of_a_library_before_it_is_imported(inner: Inner, fake: str) -> None:
    inner.write(conftest=FAKES.replace("{fake}", fake), test_a=BESIDE_FAKES)
    inner.judge(
        test_the_fake_is_untouched="clean",
        test_leaks="leaked",
        test_leaks_a_class_of_that_name="leaked",
        test_is_clean="clean",
    )


BLOCKED = """
import socket
import sys

import pytest

KEPT = []

class Client(socket.socket):
    __module__ = "httpx.fake"

@pytest.mark.parametrize("value", [None, 1, "text", object()], ids=["none", "number", "text", "object"])
def test_a_library_that_is_blocked(monkeypatch, value):
    for name in ("httpx", "httpcore", "trio", "uvloop"):
        monkeypatch.setitem(sys.modules, name, value)
    if value is None:
        with pytest.raises(ImportError):
            import httpx

@pytest.fixture(scope="module")
def blocked():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("httpx", "trio", "uvloop", "multiprocessing.resource_tracker"):
            patch.setitem(sys.modules, name, None)
        yield

def test_leaks_while_it_is_blocked(blocked):
    KEPT.append(Client())

def test_is_clean_while_it_is_blocked(blocked):
    Client().close()
"""


def test_a_library_that_is_blocked_or_replaced_while_tests_run(inner: Inner) -> None:
    inner.write(test_a=BLOCKED)
    blocked = {f"test_a_library_that_is_blocked[{name}]": "clean" for name in ("none", "number", "text", "object")}
    inner.judge(**blocked, test_leaks_while_it_is_blocked="leaked", test_is_clean_while_it_is_blocked="clean")


# -- what a module makes while a test imports it -------------------------------------------------------------------------

IMPORTED = """
import concurrent.futures
import queue
import socket
import threading

POOL = concurrent.futures.ThreadPoolExecutor(2)
JOBS = queue.Queue()


def serve():
    sock = None
    while (done := JOBS.get()) is not None:
        sock = sock or socket.socket()
        done.set()


threading.Thread(target=serve, daemon=True).start()
"""


def test_what_a_module_begins_while_a_test_imports_it_is_the_processs(inner: Inner) -> None:
    inner.write(
        imported=IMPORTED,
        test_a="""
        import concurrent.futures
        import threading

        KEPT = []

        def test_executor():
            import imported
            imported.POOL.submit(int).result()

        def test_thread():
            import imported
            done = threading.Event()
            imported.JOBS.put(done)
            assert done.wait(10)

        def test_leaks():
            KEPT.append(concurrent.futures.ThreadPoolExecutor(2))
            KEPT[0].submit(int).result()
        """,
    )
    inner.judge(test_executor="clean", test_thread="clean", test_leaks="leaked")
