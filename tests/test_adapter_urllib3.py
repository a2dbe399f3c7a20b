"""urllib3: what is a leak, and its clean twin."""

from __future__ import annotations

import contextlib
import functools
import gc
import http.client
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
from finalizers import never_finalized
from inner import Inner
from marked import Marked, in_kinds, wake

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.adapters import urllib3 as adapter
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.session.core import Session

urllib3 = pytest.importorskip("urllib3")

# What is dropped on purpose makes the interpreter warn, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CERTIFICATE = str(Path(__file__).with_name("data") / "localhost.pem")
STREAM = {"preload_content": False}


class Shared:
    """A manager of a module's fixture; what it has open at the end of the test is closed then."""

    def __init__(self, marked: Marked, **options: Any) -> None:
        self.marked = marked
        self.options = options

    def __enter__(self) -> Any:
        self.block = self.marked.fixture()
        self.life = self.block.__enter__()
        self.manager = self.life.make(lambda: urllib3.PoolManager(**self.options))
        return self.manager

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            with self.life.during():
                self.manager.clear()
        self.block.__exit__(*error)


@pytest.fixture
def shared(marked: Marked) -> Iterator[Any]:
    with Shared(marked) as manager:
        yield manager


@pytest.fixture
def blocking(marked: Marked) -> Iterator[Any]:
    with Shared(marked, block=True, maxsize=3) as manager:
        yield manager


# -- responses ---------------------------------------------------------------------------------------------------------


def test_a_response_that_is_kept_unread_leaks(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def leaking() -> None:
        kept.append(shared.request("GET", f"{server}/big", preload_content=False))  # leak: responses

    (finding,) = marked(leaking)
    assert finding.summary == f"GET {server}/big [200]"
    assert (finding.library, finding.type) == ("urllib3", "urllib3.HTTPResponse")
    assert finding.holds[0].summary == f"a connection of the pool of {server} (1 checked out, 0 idle, room for 1)"
    assert [held.kind for held in finding.holds] == ["connections", "sockets"]


def test_a_connection_for_which_the_pool_has_no_room_is_counted_as_out(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def leaking() -> None:
        kept.extend(shared.request("GET", f"{server}/ok", preload_content=False) for _ in range(2))  # leak: responses
        kept[0].read()

    (finding,) = marked(leaking)
    assert finding.holds[0].summary == f"a connection of the pool of {server} (1 checked out, 1 idle, room for 1)"


class OwnWay(urllib3.HTTPConnectionPool):
    """A pool of the user's that has a way of its own to get a connection."""

    def _get_conn(self, timeout: Any = None) -> Any:
        return super()._get_conn(timeout)


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_response_leaks_at_its_request_whatever_way_its_connection_was_got(
    marked: Marked, kept: list[Any], server: str, earlier: int
) -> None:
    pool = OwnWay("127.0.0.1", urlsplit(server).port)

    def leaking() -> None:
        for _ in range(earlier):
            pool.request("GET", "/ok")
        kept.append(pool.request("GET", "/big", preload_content=False))  # leak: responses

    marked(leaking)
    pool.close()


def test_a_response_that_is_kept_half_read_leaks(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def leaking() -> None:
        response = shared.request("GET", f"{server}/big", preload_content=False)  # leak: responses
        assert len(response.read(1000)) == 1000
        kept.append(response)

    marked(leaking)


@pytest.mark.parametrize("path", ["/big", "/ok", "/204", "/close", "/chunked"])
def test_a_response_that_is_dropped_unread_leaks(marked: Marked, shared: Any, server: str, path: str) -> None:
    def leaking() -> None:
        shared.request("GET", server + path, preload_content=False)  # leak: responses collected

    marked(leaking)


def test_a_response_in_a_reference_cycle_leaks(marked: Marked, shared: Any, server: str) -> None:
    def leaking() -> None:
        response = shared.request("GET", f"{server}/big", preload_content=False)  # leak: responses collected
        response.itself = response

    gc.disable()
    try:
        marked(leaking)
    finally:
        gc.enable()


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/ok"), ("GET", "/204"), ("GET", "/304")])
def test_a_response_without_a_body_holds_its_slot_until_it_is_read(
    marked: Marked, kept: list[Any], shared: Any, server: str, method: str, path: str
) -> None:
    def leaking() -> None:
        kept.append(shared.request(method, server + path, preload_content=False))  # leak: responses

    def reading() -> None:
        kept.append(shared.request(method, server + path, preload_content=False))
        kept[-1].read()

    marked(leaking)
    marked(reading)


def test_a_response_that_ends_with_its_connection_leaks(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def leaking() -> None:
        kept.append(shared.request("GET", f"{server}/close", preload_content=False))  # leak: responses

    def reading() -> None:
        kept.append(shared.request("GET", f"{server}/close", preload_content=False))
        assert kept[-1].read() == b"bye"

    (finding,) = marked(leaking)
    assert [held.kind for held in finding.holds] == ["connections", "sockets"]
    marked(reading)


def test_an_endless_response_leaks(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def leaking() -> None:
        kept.append(shared.request("GET", f"{server}/chunked", preload_content=False))  # leak: responses
        kept[-1].read(5)

    marked(leaking)


def test_responses_of_one_line_are_one_finding(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def leaking() -> None:
        for _ in range(4):
            response = shared.request("GET", f"{server}/big", preload_content=False)  # leak: responses x4
            kept.append(response)

    (finding,) = marked(leaking)
    assert finding.count == 4


def test_responses_of_two_lines_are_two_findings(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def leaking() -> None:
        kept.append(shared.request("GET", f"{server}/big", preload_content=False))  # leak: responses
        kept.append(shared.urlopen("GET", f"{server}/big", preload_content=False))  # leak: responses

    marked(leaking)


def test_a_redirect_leads_to_one_leak_under_its_last_address(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def leaking() -> None:
        kept.append(shared.request("GET", f"{server}/redirect", preload_content=False))  # leak: responses

    (finding,) = marked(leaking)
    assert finding.summary == f"GET {server}/ok [200]"


def test_only_the_last_try_of_a_retried_request_can_leak(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    retries = urllib3.Retry(2, status_forcelist=[503], backoff_factor=0, raise_on_status=False)

    def leaking() -> None:
        url = f"{server}/status/503"
        kept.append(shared.request("GET", url, retries=retries, preload_content=False))  # leak: responses

    def failing() -> None:
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            shared.request("GET", f"{server}/status/503", retries=retries.new(raise_on_status=True), **STREAM)

    marked(leaking)
    marked(failing)


def test_a_response_that_an_error_lets_go_leaks(marked: Marked, shared: Any, server: str) -> None:
    def leaking() -> None:
        with contextlib.suppress(ZeroDivisionError):
            response = shared.request("GET", f"{server}/status/500", preload_content=False)  # leak: responses collected
            assert response.status / 0
            response.release_conn()

    marked(leaking)


def test_a_loop_that_breaks_off_leaks(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def leaking() -> None:
        kept.append(shared.request("GET", f"{server}/big", preload_content=False))  # leak: responses
        for chunk in kept[-1].stream(100):
            assert chunk
            break

    marked(leaking)


def test_a_loop_over_chunks_that_breaks_off_gives_the_connection_back(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def breaking() -> None:  # the generator's end closes the connection
        kept.append(shared.request("GET", f"{server}/chunked", preload_content=False))
        for chunk in kept[-1].stream(100):
            assert chunk
            break

    marked(breaking)


def test_a_response_that_was_kept_when_its_manager_was_cleared_leaks(
    marked: Marked, kept: list[Any], server: str
) -> None:
    def leaking() -> None:
        with urllib3.PoolManager() as manager:
            kept.append(manager.request("GET", f"{server}/big", preload_content=False))  # leak: responses

    marked(leaking)


@pytest.mark.parametrize("end", ["read", "drain_conn", "release_conn", "close"])
def test_a_response_that_was_ended_is_nothing(
    marked: Marked, kept: list[Any], shared: Any, server: str, end: str
) -> None:
    def ending() -> None:
        kept.append(shared.request("GET", f"{server}/ok", preload_content=False))
        getattr(kept[-1], end)()

    def ending_half_way() -> None:
        kept.append(shared.request("GET", f"{server}/big", preload_content=False))
        kept[-1].read(10)
        getattr(kept[-1], end)()

    marked(ending)
    marked(ending_half_way)


def test_a_response_in_a_with_block_is_nothing(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def closing() -> None:
        with shared.request("GET", f"{server}/big", preload_content=False) as response:
            kept.append(response)

    marked(closing)


def test_a_body_that_was_read_bit_by_bit_is_nothing(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def reading() -> None:
        for ask in (lambda r: r.data, lambda r: list(r.stream(1)), lambda r: r.read(2), list):
            kept.append(shared.request("GET", f"{server}/ok", preload_content=False))
            ask(kept[-1])

    marked(reading)


def test_a_preloaded_body_is_nothing(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def reading() -> None:
        for method, path in (("GET", "/ok"), ("HEAD", "/ok"), ("GET", "/redirect"), ("GET", "/close"), ("GET", "/204")):
            kept.append(shared.request(method, server + path))

    marked(reading)


def test_a_body_that_breaks_off_is_nothing(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def reading() -> None:
        kept.append(shared.request("GET", f"{server}/reset", preload_content=False))
        with contextlib.suppress(urllib3.exceptions.ProtocolError):
            kept[-1].read()

    marked(reading)


def test_a_request_that_fails_is_nothing(marked: Marked, shared: Any, server: str) -> None:
    def failing() -> None:
        for url in (f"{server}/hang", "http://127.0.0.1:1/"):
            with pytest.raises(urllib3.exceptions.MaxRetryError):
                shared.request("GET", url, timeout=0.02, retries=1, preload_content=False)

    marked(failing)


def test_a_leak_over_tls_is_found(marked: Marked, kept: list[Any], tls_server: str) -> None:
    with Shared(marked, ca_certs=CERTIFICATE) as manager:

        def leaking() -> None:
            kept.append(manager.request("GET", f"{tls_server}/big", preload_content=False))  # leak: responses

        def reading() -> None:
            kept.append(manager.request("GET", f"{tls_server}/ok"))

        marked(leaking)
        marked(reading)


def test_a_certificate_that_is_refused_is_nothing(marked: Marked, tls_server: str) -> None:
    def refusing() -> None:
        with urllib3.PoolManager(retries=False) as manager, pytest.raises(urllib3.exceptions.SSLError):
            manager.request("GET", tls_server)

    marked(refusing)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_a_leak_in_a_thread_is_that_threads_line(marked: Marked, kept: list[Any], shared: Any, server: str) -> None:
    def work() -> None:
        kept.append(shared.request("GET", f"{server}/big", preload_content=False))  # leak: responses

    def leaking() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    marked(leaking, work)


def test_a_leak_in_an_executor_is_the_line_that_submitted_it(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def leaking() -> None:
        with ThreadPoolExecutor(2) as executor:
            job = executor.submit(shared.request, "GET", f"{server}/big", **STREAM)  # leak: responses
        kept.append(job.result())

    marked(leaking)


def test_a_thread_that_waits_for_an_answer_is_one_leak(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def work() -> None:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            shared.request("GET", f"{server}/hang", retries=False)

    def leaking() -> None:
        threads.append(threading.Thread(target=work, daemon=True))
        threads[0].start()  # leak: threads
        _wait_for_requests(marked)

    threads: list[threading.Thread] = []
    marked(leaking)
    _hang_up(marked)
    threads[0].join()


def test_an_executor_of_a_wider_fixture_that_waits_for_an_answer_leaks_a_connection(
    marked: Marked, shared: Any, server: str
) -> None:
    with marked.fixture() as fixture, fixture.make(lambda: ThreadPoolExecutor(1)) as executor:

        def leaking() -> None:
            executor.submit(shared.request, "GET", f"{server}/hang", retries=False)  # leak: connections
            _wait_for_requests(marked)

        marked(leaking)
        _hang_up(marked)


def test_an_executor_of_its_own_that_waits_for_an_answer_is_one_leak(marked: Marked, shared: Any, server: str) -> None:
    def leaking() -> None:
        executor = ThreadPoolExecutor(1)
        executor.submit(shared.request, "GET", f"{server}/hang", retries=False)  # leak: threads
        _wait_for_requests(marked)
        executor.shutdown(wait=False)

    marked(leaking)
    _hang_up(marked)


class Application:
    """Makes its executor when it first needs it."""

    @functools.cached_property
    def executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)


def test_an_executor_that_a_wider_fixture_makes_when_it_needs_it_leaks_the_connection_it_waits_for(
    marked: Marked, shared: Any, server: str
) -> None:
    wide = Application()

    def leaking() -> None:
        wide.executor.submit(shared.request, "GET", f"{server}/hang", retries=False)  # leak: connections
        _wait_for_requests(marked)

    with marked.fixture() as fixture:
        fixture.keep(wide)
        marked(leaking)
        _hang_up(marked)
        with fixture.during():
            wide.executor.shutdown()


def test_an_executor_leaks_the_connection_it_waits_for_where_threads_are_not_watched(
    marked: Marked, shared: Any, server: str
) -> None:
    executors: list[ThreadPoolExecutor] = []

    def leaking() -> None:
        executors.append(ThreadPoolExecutor(1))
        executors[0].submit(shared.request, "GET", f"{server}/hang", retries=False)
        _wait_for_requests(marked)

    found = in_kinds(marked.session, leaking, Kind.CONNECTIONS)
    assert [finding.kind for finding in found] == [Kind.CONNECTIONS]
    _hang_up(marked)
    executors[0].shutdown()


def _wait_for_requests(marked: Marked) -> None:
    while not any(record.socket is not None for record in _connections(marked)):
        pass


def _connections(marked: Marked) -> list[Any]:
    return list(marked.session.watch.table("urllib3 connections"))


def _hang_up(marked: Marked) -> None:
    for record in _connections(marked):
        record.ref().sock.shutdown(socket.SHUT_RDWR)


# -- slots -------------------------------------------------------------------------------------------------------------


def test_a_slot_that_a_closed_response_took_with_it_is_lost(
    marked: Marked, kept: list[Any], blocking: Any, server: str
) -> None:
    def leaking() -> None:
        with blocking.request("GET", f"{server}/big", preload_content=False) as response:  # leak: connections
            kept.append(response)

    (finding,) = marked(leaking)
    assert finding.summary == (
        f"slot of GET {server}/big [200], a response closed unread, "
        f"in the pool of {server} (1 checked out, 0 idle, max 3)"
    )
    assert "release_conn()" in finding.hint


def test_a_slot_is_lost_though_nothing_is_kept(marked: Marked, blocking: Any, server: str) -> None:
    def leaking() -> None:
        for _ in range(2):
            blocking.request("GET", f"{server}/big", preload_content=False).close()  # leak: connections x2

    marked(leaking)


def test_a_slot_that_was_given_back_is_nothing(marked: Marked, kept: list[Any], blocking: Any, server: str) -> None:
    def closing() -> None:
        for first, then in (("close", "release_conn"), ("release_conn", "close"), ("drain_conn", "close")):
            response = blocking.request("GET", f"{server}/big", preload_content=False)
            getattr(response, first)()
            getattr(response, then)()
            kept.append(response)

    marked(closing)


def test_a_slot_of_a_pool_that_was_closed_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def closing() -> None:
        with urllib3.PoolManager(block=True) as manager:
            kept.append(manager.request("GET", f"{server}/big", preload_content=False))
            kept[-1].close()

    address = urlsplit(server)

    def closing_a_pool() -> None:
        pool = urllib3.HTTPConnectionPool(address.hostname, address.port, block=True)
        kept.append(pool.request("GET", "/big", preload_content=False))
        kept[-1].close()
        pool.close()

    marked(closing)
    marked(closing_a_pool)


def test_an_empty_pool_is_one_leak(marked: Marked, kept: list[Any], server: str) -> None:
    with Shared(marked, block=True, maxsize=1) as manager:

        def leaking() -> None:
            kept.append(manager.request("GET", f"{server}/big", preload_content=False))  # leak: responses
            with pytest.raises(urllib3.exceptions.EmptyPoolError):
                manager.urlopen("GET", f"{server}/ok", pool_timeout=0.01)

        marked(leaking)


def test_a_connection_that_was_taken_and_not_given_back_leaks(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def reading() -> None:
        shared.request("GET", f"{server}/ok")

    def leaking() -> None:
        connection = shared.connection_from_url(server)._get_conn()  # leak: connections
        kept.append(connection)

    marked(reading)
    (finding,) = marked(leaking)
    assert finding.summary == f"{server}, checked out of its pool with no response to explain it"


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_slot_that_was_taken_and_not_given_back_leaks_though_no_socket_was_opened(
    marked: Marked, kept: list[Any], blocking: Any, server: str, is_kept: bool
) -> None:
    def dropping() -> None:
        blocking.connection_from_url(server)._get_conn()  # leak: connections collected

    def keeping() -> None:
        kept.append(blocking.connection_from_url(server)._get_conn())  # leak: connections

    (finding,) = marked(keeping if is_kept else dropping)
    assert finding.summary == f"{server}, checked out of its pool and never given back"
    assert finding.hint == "give it back to its pool in a `finally`"


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_slot_that_was_taken_and_given_back_without_a_socket_is_nothing(
    marked: Marked, kept: list[Any], blocking: Any, server: str, is_closed: bool
) -> None:
    def clean() -> None:
        pool = blocking.connection_from_url(server)
        connection = pool._get_conn()
        kept.append(connection)
        pool._put_conn(None if is_closed else connection)

    marked(clean)


def test_a_slot_that_was_given_back_empty_beside_one_in_use_is_nothing(
    marked: Marked, kept: list[Any], blocking: Any, server: str
) -> None:
    pool = blocking.connection_from_url(server)
    taken = pool._get_conn()

    def clean() -> None:
        kept.append(pool._get_conn())
        pool._put_conn(None)

    marked(clean)
    pool._put_conn(taken)


def test_a_slot_of_a_pool_that_does_not_block_is_missed_by_nobody(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    marked(lambda: kept.append(shared.connection_from_url(server)._get_conn()))


@pytest.mark.parametrize("is_pooled", [True, False])
def test_of_connections_in_a_place_of_the_process_those_leak_that_are_checked_out(
    inner: Inner, server: str, is_pooled: bool
) -> None:
    inner.write(
        test_a=f"""
        import pytest
        import urllib3

        HOST, PORT = "127.0.0.1", {urlsplit(server).port}
        connection = None

        @pytest.fixture(scope="module")
        def pool():
            with urllib3.HTTPConnectionPool(HOST, PORT, block=True) as pool:
                yield pool
            connection.close()

        def test_x(pool):
            global connection
            connection = pool._get_conn() if {is_pooled} else urllib3.connection.HTTPConnection(HOST, PORT)
            connection.request("GET", "/ok")
            connection.getresponse().read()
        """
    )
    inner.judge(test_x="leaked" if is_pooled else "clean")


def test_a_request_that_fails_takes_no_slot_by_hand(marked: Marked, server: str) -> None:
    pool = OwnWay("127.0.0.1", urlsplit(server).port, maxsize=2, block=True)

    def failing() -> None:
        with pytest.raises(urllib3.exceptions.HTTPError):
            pool.request("GET", "/hang", timeout=0.01, retries=False)

    taken = pool._get_conn()
    marked(failing)
    pool._put_conn(taken)
    pool.close()


def test_a_request_whose_pool_is_spied_on_takes_no_slot_by_hand(marked: Marked, server: str) -> None:
    pool_class = urllib3.HTTPConnectionPool
    pool = pool_class("127.0.0.1", urlsplit(server).port, maxsize=2, block=True)

    def failing() -> None:
        asking = mock.patch.object(pool_class, "_get_conn", autospec=True, side_effect=pool_class._get_conn)
        with asking, contextlib.suppress(urllib3.exceptions.HTTPError):
            pool.request("GET", "/hang", timeout=0.01, retries=False)

    taken = pool._get_conn()
    marked(failing)
    pool._put_conn(taken)
    pool.close()


class Losing(urllib3.HTTPConnectionPool):
    """A pool with the error of losing what could not be used."""

    def lose(self) -> None:
        self.ConnectionCls = type("Sticky", (self.ConnectionCls,), {"close": lambda connection: None})

    def _put_conn(self, connection: Any) -> None:
        if connection is not None:
            super()._put_conn(connection)


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_connection_that_is_lost_with_a_request_that_fails_leaks_at_that_request(
    session: Session, marked: Marked, kept: list[Any], server: str, is_alone: bool
) -> None:
    pool = Losing("127.0.0.1", urlsplit(server).port)
    pool.lose()
    if not is_alone:  # what others note of a request makes the wrapper a plain one
        session.watch.patches.before(
            session.watch.wall("another"), Losing.__base__, "_make_request", lambda *a, **k: None
        )

    def leaking() -> None:
        pool.request("GET", "/ok")
        kept.extend(pool.pool.queue)
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            pool.request("GET", "/hang", timeout=0.01, retries=False)  # leak: connections

    marked(leaking)
    pool.close()


@pytest.mark.skipif(urllib3.__version__.startswith("1."), reason="urllib3 1 makes the response itself")
def test_a_connection_leaks_at_its_last_request_where_a_stand_in_makes_that(
    marked: Marked, kept: list[Any], server: str
) -> None:
    pool = urllib3.HTTPConnectionPool("127.0.0.1", urlsplit(server).port)

    def stand_in(connection: Any, *args: Any, **kwargs: Any) -> Any:
        kept.append(connection)
        return urllib3.HTTPResponse(b"recorded")

    def leaking() -> None:
        pool.request("GET", "/ok")
        with mock.patch.object(pool, "_make_request", stand_in):
            pool.request("GET", "/ok", preload_content=False, release_conn=False)  # leak: connections

    marked(leaking)
    kept.pop().close()
    pool.close()


def test_a_connection_that_no_place_is_left_for_is_nothing(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    def overflowing() -> None:
        for response in [shared.request("GET", f"{server}/ok", preload_content=False) for _ in range(3)]:
            kept.append(response)
            response.read()

    marked(overflowing)
    (record,) = marked.session.watch.table("urllib3 pools")
    assert record.state().overflow == 2
    assert record.state().created is not None
    figures = "0 active, 1 idle, 0 waiting | max none | 3 requests on 3 connections, 2 thrown away"
    assert repr(record.state()) == f"<PoolState urllib3 {server} [{figures}]>"


# -- clients -----------------------------------------------------------------------------------------------------------


def test_a_manager_that_is_left_open_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        manager = urllib3.PoolManager()  # leak: clients
        manager.request("GET", f"{server}/ok")
        kept.append(manager)

    (finding,) = marked(leaking)
    assert finding.type == "urllib3.PoolManager"
    assert finding.summary == "not closed, with 1 idle connection"
    assert [held.kind for held in finding.holds] == ["sockets"]


def test_managers_of_one_line_are_one_finding(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        for _ in range(3):
            kept.append(urllib3.PoolManager())  # leak: clients x3
            kept[-1].request("GET", f"{server}/ok")

    marked(leaking)


def test_a_manager_with_an_unread_response_is_that_responses_leak(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        manager = urllib3.PoolManager()
        kept.append(manager)
        kept.append(manager.request("GET", f"{server}/big", preload_content=False))  # leak: responses

    marked(leaking)


def test_a_bare_pool_that_is_left_open_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    address = urlsplit(server)

    def leaking() -> None:
        pool = urllib3.HTTPConnectionPool(address.hostname, address.port)  # leak: clients
        pool.request("GET", "/ok")
        kept.append(pool)

    def leaking_from_url() -> None:
        pool = urllib3.connection_from_url(server)  # leak: clients
        pool.request("GET", "/ok")
        kept.append(pool)

    def closing() -> None:
        with urllib3.HTTPConnectionPool(address.hostname, address.port) as pool:
            pool.request("GET", "/ok")
            kept.append(pool)

    (finding,) = marked(leaking)
    assert finding.type == "urllib3.HTTPConnectionPool"
    marked(leaking_from_url)
    marked(closing)


def test_a_manager_that_was_closed_dropped_or_never_used_is_nothing(
    marked: Marked, kept: list[Any], server: str
) -> None:
    def clearing() -> None:
        with urllib3.PoolManager() as manager:
            manager.request("GET", f"{server}/ok")
            kept.append(manager)

    def dropping() -> None:
        urllib3.PoolManager().request("GET", f"{server}/ok")

    def idling() -> None:
        kept.append(urllib3.PoolManager())
        kept[-1].connection_from_url(server)

    for each in (clearing, dropping, idling):
        marked(each)


def test_a_manager_that_is_dropped_where_nothing_closes_its_pools_leaks(
    marked: Marked, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As until 1.26.15."""
    never_finalized(monkeypatch)

    def leaking() -> None:
        urllib3.PoolManager().request("GET", f"{server}/ok")  # leak: clients collected

    def leaking_a_pool() -> None:
        urllib3.connection_from_url(server).request("GET", "/ok")  # leak: clients collected

    def closing() -> None:
        with urllib3.connection_from_url(server) as pool:
            pool.request("GET", "/ok")

    (finding,) = marked(leaking)
    assert finding.type == "urllib3.PoolManager"
    (finding,) = marked(leaking_a_pool)
    assert finding.type == "urllib3.HTTPConnectionPool"
    marked(closing)


def test_a_connection_that_was_checked_out_of_a_dropped_pool_is_no_client(
    marked: Marked, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_finalized(monkeypatch)

    def leaking() -> None:
        pool = urllib3.connection_from_url(server)
        pool.request("GET", "/ok")
        connection = pool._get_conn()  # leak: connections collected
        assert connection.sock is not None

    marked(leaking)


def test_an_idle_connection_that_somebody_throws_away_is_not_its_dead_managers(marked: Marked, server: str) -> None:
    """As vcrpy did until 6.0.0."""

    def leaking() -> None:
        with urllib3.PoolManager() as manager:
            manager.request("GET", f"{server}/ok")  # leak: connections collected
            pool = manager.connection_from_url(server)
            assert pool.pool.get().sock is not None

    marked(leaking)


def test_a_manager_in_a_reference_cycle_is_nothing(marked: Marked, server: str) -> None:
    def dropping() -> None:
        manager = urllib3.PoolManager()
        manager.request("GET", f"{server}/ok")
        manager.itself = manager

    gc.disable()
    try:
        marked(dropping)
    finally:
        gc.enable()


def test_a_read_response_that_outlives_its_manager_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def closing() -> None:
        with urllib3.PoolManager() as manager:
            kept.append(manager.request("GET", f"{server}/ok", preload_content=False))
            kept[-1].read()

    def dropping() -> None:
        kept.append(urllib3.PoolManager().request("GET", f"{server}/ok"))

    marked(closing)
    marked(dropping)


def test_what_was_read_after_its_manager_was_cleared_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def reading() -> None:
        with urllib3.PoolManager() as manager:
            kept.append(manager.request("GET", f"{server}/big", preload_content=False))
        kept[-1].read()

    marked(reading)


@pytest.mark.skipif(urllib3.__version__.startswith("1."), reason="`urllib3.request` is new in urllib3 2")
def test_the_librarys_own_manager_is_the_process(marked: Marked, kept: list[Any], server: str) -> None:
    def reading() -> None:
        kept.append(urllib3.request("GET", f"{server}/ok"))

    def leaking() -> None:
        kept.append(urllib3.request("GET", f"{server}/big", preload_content=False))  # leak: responses

    marked(reading)
    marked(leaking)


def test_a_manager_that_is_older_than_the_watch_is_the_process(marked: Marked, kept: list[Any], server: str) -> None:
    marked.session.watch.silence()
    manager, pool = urllib3.PoolManager(), urllib3.connection_from_url(server)
    pool.request("GET", "/ok")
    kept += [manager, pool]
    wake(marked.session)

    def using() -> None:
        manager.request("GET", f"{server}/ok")
        pool.request("GET", "/ok")

    def leaking() -> None:
        kept.append(pool.request("GET", "/big", preload_content=False))  # leak: responses

    marked(using)
    marked(leaking)


def test_a_manager_of_a_module_attribute_is_the_process(
    marked: Marked, kept: list[Any], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("lazy")
    monkeypatch.setitem(sys.modules, "lazy", module)

    def using() -> None:
        module.manager = urllib3.PoolManager()
        module.manager.request("GET", f"{server}/ok")

    def leaking() -> None:
        kept.append(module.manager.request("GET", f"{server}/big", preload_content=False))  # leak: responses

    marked(using)
    marked(leaking)
    module.manager.clear()


def test_a_registry_of_managers_leaks(
    marked: Marked, kept: list[Any], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("lazy")
    module.managers = {}
    monkeypatch.setitem(sys.modules, "lazy", module)

    def leaking() -> None:
        module.managers[server] = urllib3.PoolManager()  # leak: clients
        module.managers[server].request("GET", f"{server}/ok")

    marked(leaking)
    module.managers[server].clear()


def test_a_wider_fixture_that_leaves_its_manager_open_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def make() -> Any:
        return urllib3.PoolManager()  # leak: clients

    def using() -> None:
        kept[0].request("GET", f"{server}/ok")

    with marked.fixture(make) as fixture:
        kept.append(fixture.make(make))
        marked(using)
        marked(using)


def test_a_pool_of_a_subclass_that_makes_its_own_belongs_to_its_manager(
    marked: Marked, kept: list[Any], server: str
) -> None:
    class Pool(urllib3.HTTPConnectionPool):  # type: ignore[misc]
        def _new_conn(self) -> Any:
            return urllib3.connection.HTTPConnection(self.host, self.port)

    class Manager(urllib3.PoolManager):  # type: ignore[misc]
        def _new_pool(self, scheme: str, host: str, port: int, request_context: Any = None) -> Any:
            return Pool(host, port)

    with marked.fixture() as fixture:
        manager = fixture.make(Manager)

        def using() -> None:
            manager.request("GET", f"{server}/ok")

        def leaking() -> None:
            kept.append(manager.request("GET", f"{server}/big", preload_content=False))  # leak: responses

        marked(using)
        marked(leaking)
        with fixture.during():
            manager.clear()


def test_what_was_idle_before_the_watch_is_the_process(marked: Marked, kept: list[Any], server: str) -> None:
    marked.session.watch.silence()
    pool = urllib3.connection_from_url(server)
    pool.request("GET", "/ok")
    kept.append(pool)
    wake(marked.session)

    def reconnecting() -> None:
        for connection in pool.pool.queue:
            connection.close()
        pool.request("GET", "/ok")

    def overflowing() -> None:
        for response in [pool.request("GET", "/ok", preload_content=False) for _ in range(2)]:
            response.read()

    marked(reconnecting)
    marked(overflowing)


def test_what_is_over_is_forgotten(marked: Marked, server: str) -> None:
    def reading() -> None:
        with urllib3.PoolManager() as manager:
            manager.request("GET", f"{server}/ok", preload_content=False).read()
            manager.request("GET", f"{server}/big", preload_content=False).close()

    with marked.fixture() as fixture:
        owner = fixture.check.owner
        fixture.make(reading)
        assert len(owner.records) > 5
        owner.prune_at = 1
        fixture.make(socket.socket).close()
        assert len(owner.records) == 1


# -- proxies, bare connections -----------------------------------------------------------------------------------------


def test_a_proxy_manager_that_is_left_open_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        manager = urllib3.ProxyManager(server)  # leak: clients
        assert manager.request("GET", "http://service.invalid/ok").status == 200
        kept.append(manager)

    (finding,) = marked(leaking)
    assert finding.type == "urllib3.ProxyManager"


def test_a_response_through_a_proxy_leaks_under_its_own_address(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        with urllib3.ProxyManager(server) as manager:
            kept.append(manager.request("GET", "http://service.invalid/big", preload_content=False))  # leak: responses

    (finding,) = marked(leaking)
    assert finding.summary == "GET http://service.invalid/big [200]"


def test_a_bare_connection_that_is_left_open_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    address = urlsplit(server)

    def leaking() -> None:
        connection = urllib3.connection.HTTPConnection(address.hostname, address.port)  # leak: connections
        connection.request("GET", "/ok")
        connection.getresponse().read()
        kept.append(connection)

    def dropping() -> None:
        connection = urllib3.connection.HTTPConnection(address.hostname, address.port)  # leak: connections collected
        connection.request("GET", "/ok")
        connection.getresponse().read()

    def closing() -> None:
        with contextlib.closing(urllib3.connection.HTTPConnection(address.hostname, address.port)) as connection:
            connection.request("GET", "/ok")
            kept.append(connection)

    (finding,) = marked(leaking)
    assert (finding.type, finding.summary) == ("urllib3.connection.HTTPConnection", server)
    marked(dropping)
    marked(closing)


@pytest.mark.skipif(urllib3.__version__.startswith("1."), reason="urllib3 1 has no answer of its own there")
def test_an_unread_response_of_a_bare_connection_answers_for_it(marked: Marked, kept: list[Any], server: str) -> None:
    address = urlsplit(server)

    def leaking() -> None:
        connection = urllib3.connection.HTTPConnection(address.hostname, address.port)
        connection.request("GET", "/big", preload_content=False)
        kept.append(connection)
        kept.append(connection.getresponse())  # leak: responses

    def reading() -> None:
        with contextlib.closing(urllib3.connection.HTTPConnection(address.hostname, address.port)) as connection:
            connection.request("GET", "/ok", preload_content=False)
            connection.getresponse().read()
            connection.request("GET", "/big", preload_content=False)
            connection.getresponse().close()

    marked(leaking)
    marked(reading)


class Wrapping:
    """Has a connection of urllib3's, as vcrpy's have, and is none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.__dict__["real"] = [urllib3.connection.HTTPConnection(*args, **kwargs)]  # leak: connections

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real[0], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.real[0], name, value)


def test_a_connection_inside_one_that_waits_in_its_pool_is_nothing(
    marked: Marked, kept: list[Any], server: str
) -> None:
    class Pool(urllib3.HTTPConnectionPool):  # type: ignore[misc]
        ConnectionCls = Wrapping

    address = urlsplit(server)

    def asking() -> None:
        pool.request("GET", "/ok")

    def taking() -> None:
        pool.request("GET", "/ok")
        kept.append(pool.pool.get())

    with marked.fixture() as fixture, fixture.make(lambda: Pool(address.hostname, address.port)) as pool:
        marked(asking)
        pool.pool.get().close()
        marked(taking, Wrapping)


@pytest.mark.skipif(urllib3.__version__.startswith("1."), reason="urllib3 1 makes the response itself")
def test_an_answer_that_was_recorded_earlier_is_nothing(marked: Marked, kept: list[Any]) -> None:
    class Replaying(urllib3.connection.HTTPConnection):  # type: ignore[misc]
        def request(self, *args: Any, **kwargs: Any) -> None:
            pass

        def getresponse(self) -> Any:
            return SimpleNamespace(status=200, headers={}, version_string="HTTP/1.1", length_remaining=0, version=11)

    class Pool(urllib3.HTTPConnectionPool):  # type: ignore[misc]
        ConnectionCls = Replaying

    def replaying() -> None:
        with Pool("service.invalid") as pool:
            pool.urlopen("GET", "/", redirect=False, retries=False, preload_content=False)

    marked(replaying)


def test_an_adapter_that_is_off_tells_of_nothing_that_it_has_not_seen_end(
    marked: Marked, kept: list[Any], shared: Any, server: str
) -> None:
    (wall,) = (each for each in marked.session.watch.walls if each.name == "the adapter for urllib3")

    def closing() -> None:
        kept.append(shared.request("GET", f"{server}/big", preload_content=False))
        wall.fall(ValueError("broken"))
        kept.pop().close()

    def leaving() -> None:
        kept.append(socket.socket())  # leak: sockets
        kept.append(http.client.HTTPConnection(*address))  # leak: connections
        kept[-1].connect()
        kept.append(stopped := threading.Event())
        threading.Thread(target=stopped.wait).start()  # leak: threads

    address = urlsplit(server).netloc.split(":")
    marked(closing)
    marked(leaving)
    kept.pop().set()
    wall.error = None


# -- limits, versions --------------------------------------------------------------------------------------------------


def test_connections_count_for_the_limit_in_each_test_that_uses_them(marked: Marked, server: str) -> None:
    with Shared(marked, maxsize=3) as manager:

        def at_once() -> None:
            for response in [manager.request("GET", f"{server}/ok", preload_content=False) for _ in range(3)]:
                response.read()

        def one_by_one() -> None:
            for _ in range(3):
                manager.request("GET", f"{server}/ok")

        for _ in range(2):
            (finding,) = marked.found(at_once, peak_connections=2)
            assert (finding.state, finding.kind) == ("peak", "connections")
        assert marked.found(one_by_one, peak_connections=1) == ()


def test_connections_that_wait_for_their_answer_count_for_the_limit(marked: Marked, server: str) -> None:
    with Shared(marked) as manager:

        def waiting() -> None:
            with pytest.raises(urllib3.exceptions.ReadTimeoutError):
                manager.request("GET", f"{server}/hang", timeout=0.01, retries=False)

        for _ in range(2):
            (finding,) = marked.found(waiting, peak_connections=0)
            assert (finding.state, finding.kind) == ("peak", "connections")
        assert marked.found(waiting, peak_connections=1) == ()


def test_a_connection_that_ends_with_its_response_counts_while_that_is_read(marked: Marked, server: str) -> None:
    with Shared(marked) as manager:

        def at_once() -> None:
            for response in [manager.request("GET", f"{server}/close", preload_content=False) for _ in range(2)]:
                response.read()

        def one_by_one() -> None:
            for _ in range(2):
                manager.request("GET", f"{server}/close", preload_content=False).read()

        assert [finding.state for finding in marked.found(at_once, peak_connections=1)] == ["peak"]
        assert marked.found(one_by_one, peak_connections=1, peak_responses=1) == ()


def test_a_manager_with_its_pools_is_one_client(marked: Marked, server: str) -> None:
    def one() -> None:
        with urllib3.PoolManager() as manager:
            manager.request("GET", f"{server}/ok")

    def two() -> None:
        one()
        one()

    assert marked.found(one, max_clients=1) == ()
    (finding,) = marked.found(two, max_clients=1)
    assert finding.summary == "2 clients made, and the limit is 1"


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("2.13.903", "urllib3 2.13.903 is urllib3-future, which has taken urllib3's place"),
        ("3.0.0", "urllib3 3.0.0 is not one of the versions known, 1.26 and 2"),
        ("", "urllib3 of an unknown version is not one of the versions known, 1.26 and 2"),
        ("2.9.0", "urllib3 2.9.0 has no poolmanager.PoolManager._new_pool"),
    ],
)
def test_unknown_internals_keep_the_adapter_off(session: Session, version: str, reason: str) -> None:
    strange: Any = ModuleType("urllib3")
    strange.__version__ = version
    hooks = Hooks(session.watch, session.watch.patches, session.watch.wall("urllib3"))
    with pytest.raises(Unsupported) as caught:
        adapter.attach(strange, hooks)
    assert str(caught.value) == reason
