"""gevent or the like in the place of the standard library's sockets and threads: what its hub opens is nobody's leak."""

from __future__ import annotations

import importlib.util

import pytest
from inner import Inner

needs_gevent = pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")

PATCHED = """
from gevent import monkey

monkey.patch_all()
"""
SERVER = """
import pytest
from gevent.pywsgi import WSGIServer


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def serve():
    server = WSGIServer(("127.0.0.1", 0), application, log=None)
    server.start()
    return server


@pytest.fixture(scope="module")
def url():
    server = serve()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.stop()
"""
CLEAN = """


import socket
import threading

import gevent
import requests
from gevent.pool import Pool


def get(url):
    with requests.Session() as session:
        assert session.get(url, timeout=5).text == "hello"


def test_closes_a_socket():
    socket.socket().close()


def test_uses_a_session(url):
    get(url)


def test_spawns(url):
    gevent.joinall([gevent.spawn(get, url) for _ in range(3)], raise_error=True)


def test_uses_a_pool(url):
    Pool(2).map(get, [url] * 3)


def test_starts_a_thread(url):
    thread = threading.Thread(target=get, args=(url,))
    thread.start()
    thread.join()


def test_asks_for_a_name():
    assert socket.getaddrinfo("127.0.0.1", 80)


def test_serves():
    serve().stop()
"""
LEAKING = """


import gc
import socket
import threading
import weakref

import gevent
import requests
from gevent.lock import Semaphore

KEPT = []
NEVER = Semaphore(0)


def test_keeps_a_socket():
    KEPT.append(socket.socket())


def test_drops_a_socket():
    socket.socket().bind(("127.0.0.1", 0))


def test_keeps_a_session(url):
    KEPT.append(requests.Session())
    KEPT[-1].get(url, timeout=5)


def test_keeps_a_response(url):
    KEPT.append(requests.get(url, timeout=5, stream=True))


def test_keeps_a_server():
    KEPT.append(serve())


def test_keeps_a_thread():
    threading.Thread(target=NEVER.acquire, daemon=True).start()
    gevent.sleep(0)
"""


def kinds(inner: Inner) -> dict[str, list[str]]:
    """What was found, by the test."""
    rows = {row["nodeid"].rpartition("test_")[2]: row["findings"] for row in inner.report["tests"]}
    return {name: [finding["kind"] for finding in found] for name, found in rows.items()}


@needs_gevent
def test_the_hub_and_what_closes_later_are_no_leaks(inner: Inner) -> None:
    inner.write(conftest=PATCHED, test_a=SERVER + CLEAN)
    inner.judge(
        **dict.fromkeys(
            (
                *("test_closes_a_socket", "test_uses_a_session", "test_spawns", "test_uses_a_pool"),
                *("test_starts_a_thread", "test_asks_for_a_name", "test_serves"),
            ),
            "clean",
        )
    )
    assert inner.report["fixtures"] == []


@needs_gevent
def test_what_is_left_is_found(inner: Inner) -> None:
    inner.write(conftest=PATCHED, test_a=SERVER + LEAKING)
    inner.run()
    assert kinds(inner) == {
        "keeps_a_socket": ["sockets"],
        "drops_a_socket": ["sockets"],
        "keeps_a_session": ["clients"],
        "keeps_a_response": ["responses"],
        "keeps_a_server": ["sockets"],
        "keeps_a_thread": ["threads"],
    }


@needs_gevent
@pytest.mark.parametrize(
    ("end", "outcome"), [("gevent.get_hub().destroy(destroy_loop=True)", "clean"), ("pass", "leaked")]
)
def test_the_hub_of_another_thread_is_whoevers_thread_it_is(inner: Inner, end: str, outcome: str) -> None:
    inner.write(
        test_a=f"""
        import threading

        import gevent

        HUBS = []

        def run():
            HUBS.append(gevent.get_hub())
            gevent.sleep(0)
            {end}

        def test_it():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        """
    )
    inner.run()
    (row,) = inner.report["tests"]
    assert row["outcome"] == outcome
    assert all(finding["created"]["line"] == 8 for finding in row["findings"])


STRANGE = """
import _socket
import socket

KEPT = []


class Green:
    # As eventlet's: sockets are made and closed in ways that nobody sees.
    def __init__(self):
        self.fd = _socket.socket()


{place}


def test_makes_a_socket_out_of_sight():
    KEPT.append(_socket.socket())


def test_keeps_a_file():
    KEPT.append(open(__file__))
"""


@pytest.mark.parametrize(("place", "outcome"), [("socket.socket = Green", "clean"), ("", "leaked")])
def test_sockets_without_a_line_are_not_judged_where_none_are_seen(inner: Inner, place: str, outcome: str) -> None:
    inner.write(conftest=place and STRANGE.format(place=place), test_a=STRANGE.format(place=""))
    result = inner.run(faulty=bool(place))
    assert inner.outcomes() == {"test_makes_a_socket_out_of_sight": outcome, "test_keeps_a_file": "leaked"}
    (finding,) = inner.report["tests"][-1]["findings"]
    assert finding["created"]["line"] == 21
    told = ["*the adapter for sockets stays off: socket has no socket._real_close*"] if place else []
    result.stdout.fnmatch_lines(told)


POOLS = """
import gevent.monkey

gevent.monkey.patch_socket()

import socket

import gevent
from gevent.threadpool import ThreadPool

KEPT = []


def test_resolves_a_name():
    assert socket.getaddrinfo("localhost", 80)
    assert gevent.get_hub().threadpool.size


def test_keeps_a_pool():
    KEPT.append(ThreadPool(1))
    assert KEPT[-1].apply(len, ("ab",)) == 2
"""


@needs_gevent
def test_the_pool_of_the_main_hub_is_the_process(inner: Inner) -> None:
    inner.write(test_a=POOLS)
    inner.judge(test_resolves_a_name="clean", test_keeps_a_pool="leaked")
