"""`http.client`, `urllib.request` and `xmlrpc.client`: what is a leak, and its clean twin."""

from __future__ import annotations

import contextlib
import functools
import gc
import http.client
import io
import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
import xmlrpc.client
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from marked import Leaks, Marked, wake

from pytest_httpleak.adapters import Hooks, Unsupported, http_client
from pytest_httpleak.session.core import Session

# What is dropped on purpose makes the interpreter warn, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CERTIFICATE = str(Path(__file__).with_name("data") / "localhost.pem")


@pytest.fixture
def connect(server: str) -> Callable[[], http.client.HTTPConnection]:
    address = urlsplit(server)
    return lambda: http.client.HTTPConnection(str(address.hostname), address.port)


@pytest.fixture
def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(CERTIFICATE)
    return context


def _get(connection: http.client.HTTPConnection, path: str = "/ok", method: str = "GET") -> http.client.HTTPResponse:
    connection.request(method, path)
    return connection.getresponse()


# -- urllib.request ----------------------------------------------------------------------------------------------------


def test_a_response_that_is_kept_unread_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        kept.append(urllib.request.urlopen(f"{server}/big"))  # leak: responses

    (finding,) = marked(leaking)
    assert finding.summary == f"GET {server}/big [200]"
    assert finding.library == "http.client"


def test_a_response_that_is_kept_half_read_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        response = urllib.request.urlopen(f"{server}/big")  # leak: responses
        assert len(response.read(1000)) == 1000
        kept.append(response)

    marked(leaking)


def test_a_response_that_is_dropped_unread_leaks(marked: Marked, server: str) -> None:
    def leaking() -> None:
        assert urllib.request.urlopen(f"{server}/ok").status == 200  # leak: responses collected

    marked(leaking)


def test_a_response_that_is_dropped_half_read_leaks(marked: Marked, server: str) -> None:
    def leaking() -> None:
        assert urllib.request.urlopen(f"{server}/chunked").read(5) == b"chunk"  # leak: responses collected

    marked(leaking)


def test_a_response_in_a_reference_cycle_leaks(marked: Marked, server: str) -> None:
    def leaking() -> None:
        cycle: dict[str, Any] = {"response": urllib.request.urlopen(f"{server}/big")}  # leak: responses collected
        cycle["self"] = cycle

    gc.disable()
    try:
        marked(leaking)
    finally:
        gc.enable()


def test_responses_of_one_line_are_one_finding(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        for _ in range(3):
            response = urllib.request.urlopen(f"{server}/big")  # leak: responses x3
            kept.append(response)

    (finding,) = marked(leaking)
    assert finding.count == 3


def test_a_response_that_a_helper_opens_is_the_helpers_line(marked: Marked, kept: list[Any], server: str) -> None:
    def fetch(path: str) -> http.client.HTTPResponse:
        return urllib.request.urlopen(server + path)  # type: ignore[no-any-return]  # leak: responses

    def leaking() -> None:
        kept.append(fetch("/big"))

    marked(leaking, fetch)


def test_a_response_that_an_error_lets_go_leaks(marked: Marked, server: str) -> None:
    def leaking() -> None:
        with contextlib.suppress(ValueError):
            response = urllib.request.urlopen(f"{server}/ok")  # leak: responses collected
            json.loads(response.headers["Content-Length"] + "{")
            response.close()

    marked(leaking)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/204", "/ok"])
def test_a_response_without_a_body_is_open_until_it_is_read(
    marked: Marked, kept: list[Any], server: str, method: str, path: str
) -> None:
    request = urllib.request.Request(server + path, method=method)

    def leaking() -> None:
        kept.append(urllib.request.urlopen(request))  # leak: responses

    def reading() -> None:
        kept.append(urllib.request.urlopen(request))
        kept[-1].read()

    marked(leaking)
    marked(reading)


def test_a_response_that_ends_with_its_connection_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        kept.append(urllib.request.urlopen(f"{server}/close"))  # leak: responses

    def reading() -> None:
        kept.append(urllib.request.urlopen(f"{server}/close"))
        assert kept[-1].read() == b"bye"

    marked(leaking)
    marked(reading)


@pytest.mark.parametrize("read", [lambda response: response.read(), list, json.load])
def test_a_body_that_was_read_to_its_end_is_nothing(
    marked: Marked, kept: list[Any], server: str, read: Callable[[Any], object]
) -> None:
    def reading() -> None:
        kept.append(urllib.request.urlopen(f"{server}/count"))
        read(kept[-1])

    marked(reading)


def test_a_body_that_was_read_by_its_length_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def reading() -> None:
        kept.append(urllib.request.urlopen(f"{server}/ok"))
        assert kept[-1].read(2) == b"ok"

    marked(reading)


def test_a_response_in_a_with_block_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def closing() -> None:
        with urllib.request.urlopen(f"{server}/big") as response:
            kept.append(response)

    marked(closing)


def test_a_response_closed_by_an_exit_stack_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def closing() -> None:
        with contextlib.ExitStack() as stack:
            kept.append(stack.enter_context(urllib.request.urlopen(f"{server}/chunked")))

    marked(closing)


def test_a_body_that_breaks_off_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def reading() -> None:
        kept.append(urllib.request.urlopen(f"{server}/reset"))
        with pytest.raises(http.client.IncompleteRead):
            kept[-1].read()

    marked(reading)


def test_a_followed_redirect_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def reading() -> None:
        kept.append(urllib.request.urlopen(f"{server}/redirect"))
        assert kept[-1].read() == b"ok"

    marked(reading)


def test_a_redirect_leads_to_one_leak_under_its_last_address(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        kept.append(urllib.request.urlopen(f"{server}/redirect"))  # leak: responses

    (finding,) = marked(leaking)
    assert finding.summary == f"GET {server}/ok [200]"


def test_an_http_error_that_is_kept_unread_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server}/status/404")  # leak: responses
        kept.append(caught.value)

    marked(leaking)


def test_an_http_error_that_is_dropped_unread_leaks(marked: Marked, server: str) -> None:
    def leaking() -> None:
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{server}/status/404")  # leak: responses collected

    marked(leaking)


def test_an_http_error_that_is_passed_over_leaks(marked: Marked, server: str) -> None:
    def leaking() -> None:
        for _ in range(2):
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"{server}/status/503")  # leak: responses x2 collected

    marked(leaking)


def test_an_http_error_that_is_read_or_closed_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def reading() -> None:
        for end in ("read", "close"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{server}/status/404")
            getattr(caught.value, end)()
            kept.append(caught.value)

    marked(reading)


def test_a_request_that_times_out_is_nothing(marked: Marked, server: str) -> None:
    def waiting() -> None:
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"{server}/hang", timeout=0.02)

    marked(waiting)


def test_a_refused_connection_is_nothing(marked: Marked) -> None:
    def failing() -> None:
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen("http://127.0.0.1:1/")

    marked(failing)


def test_a_leak_over_tls_is_found(marked: Marked, kept: list[Any], tls_server: str, trusting: ssl.SSLContext) -> None:
    def leaking() -> None:
        kept.append(urllib.request.urlopen(f"{tls_server}/big", context=trusting))  # leak: responses

    def reading() -> None:
        kept.append(urllib.request.urlopen(f"{tls_server}/ok", context=trusting))
        kept[-1].read()

    (finding,) = marked(leaking)
    assert finding.summary.startswith("GET https://127.0.0.1:")
    marked(reading)


def test_a_file_that_was_fetched_is_nothing(marked: Marked, server: str, tmp_path: Path) -> None:
    def fetching() -> None:
        urllib.request.urlretrieve(f"{server}/ok", tmp_path / "ok")

    marked(fetching)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_a_leak_in_a_thread_is_that_threads_line(marked: Marked, kept: list[Any], server: str) -> None:
    def work() -> None:
        kept.append(urllib.request.urlopen(f"{server}/big"))  # leak: responses

    def leaking() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    marked(leaking, work)


def test_a_leak_in_a_thread_without_code_of_the_users_is_the_line_that_started_it(
    marked: Marked, kept: list[Any], server: str
) -> None:
    def leaking() -> None:
        with ThreadPoolExecutor(1) as executor:
            job = executor.submit(urllib.request.urlopen, f"{server}/big")  # leak: responses
        kept.append(job.result())

    marked(leaking)


def test_what_a_thread_has_read_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def reading() -> None:
        with ThreadPoolExecutor(2) as executor:
            for response in executor.map(urllib.request.urlopen, [f"{server}/ok"] * 2):
                response.read()
                kept.append(response)

    marked(reading)


def test_a_thread_that_waits_for_an_answer_is_one_leak(marked: Marked, server: str) -> None:
    def leaking() -> None:
        fetch = functools.partial(_quietly, urllib.request.urlopen, f"{server}/hang")
        threads.append(threading.Thread(target=fetch, daemon=True))
        threads[0].start()  # leak: threads
        while not any(record.sent for record in connections):
            pass

    threads: list[threading.Thread] = []
    connections = marked.session.watch.table("http.client connections")
    marked(leaking)
    for record in connections:
        record.ref().sock.shutdown(socket.SHUT_RDWR)
    threads[0].join()


def test_a_worker_of_its_own_executor_that_waits_for_an_answer_is_one_leak(marked: Marked, server: str) -> None:
    def leaking() -> None:
        executor = ThreadPoolExecutor(1)
        executor.submit(_quietly, urllib.request.urlopen, f"{server}/hang")  # leak: threads
        while not any(record.sent for record in connections):
            pass
        executor.shutdown(wait=False)

    connections = marked.session.watch.table("http.client connections")
    marked(leaking)
    for record in connections:
        record.ref().sock.shutdown(socket.SHUT_RDWR)


def test_what_a_worker_has_left_that_waits_for_its_next_job_is_a_leak_beside_it(
    marked: Marked, kept: list[Any], server: str
) -> None:
    def leave() -> None:
        connection = http.client.HTTPConnection(urlsplit(server).netloc)  # leak: connections
        connection.request("GET", "/ok")
        kept.append(connection)

    def leaking() -> None:
        executors.append(ThreadPoolExecutor(1))
        executors[0].submit(leave).result()  # leak: threads

    executors: list[ThreadPoolExecutor] = []
    marked(leaking, leave)
    executors[0].shutdown()


def _quietly(function: Callable[[str], object], url: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        function(url)


# -- connections -------------------------------------------------------------------------------------------------------


def test_a_connection_that_is_kept_open_leaks(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        connection = http.client.HTTPConnection(connect().host, connect().port)  # leak: connections
        kept.append(connection)
        _get(connection).read()

    (finding,) = marked(leaking)
    assert finding.summary == f"http://127.0.0.1:{connect().port}"
    assert [held.kind for held in finding.holds] == ["sockets"]


def test_a_connection_that_was_closed_is_nothing(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def closing() -> None:
        kept.append(connect())
        with contextlib.closing(kept[-1]) as connection:
            _get(connection).read()
            kept.append(_get(connection, "/big"))
            kept[-1].read(10)

    marked(closing)


def test_a_connection_that_never_connected_is_nothing(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def idling() -> None:
        kept.append(connect())

    marked(idling)


def test_a_connection_without_a_request_leaks(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        kept.append(http.client.HTTPConnection(connect().host, connect().port))  # leak: connections
        kept[-1].connect()

    marked(leaking)


def test_a_connection_that_waits_for_its_answer_leaks(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        kept.append(http.client.HTTPConnection(connect().host, connect().port, timeout=0.02))  # leak: connections
        with pytest.raises(TimeoutError):
            _get(kept[-1], "/hang")

    marked(leaking)


def test_a_connection_that_is_dropped_open_leaks(
    marked: Marked, connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        connection = http.client.HTTPConnection(connect().host, connect().port)  # leak: connections collected
        assert _get(connection).read() == b"ok"

    (finding,) = marked(leaking)
    assert finding.type == "http.client.HTTPConnection"


def test_a_connection_in_a_reference_cycle_leaks(
    marked: Marked, connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        connection: Any = http.client.HTTPConnection(connect().host, connect().port)  # leak: connections collected
        assert _get(connection).read() == b"ok"
        connection.itself = connection

    gc.disable()
    try:
        marked(leaking)
    finally:
        gc.enable()


def test_an_unread_response_answers_for_its_connection(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        connection = connect()
        connection.request("GET", "/big")  # leak: responses
        kept.append(connection)
        connection.getresponse()

    (finding,) = marked(leaking)
    assert [held.kind for held in finding.holds] == ["connections", "sockets"]


def test_an_unread_response_whose_connection_was_dropped_leaks(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        connection = connect()
        connection.request("GET", "/big")  # leak: responses
        kept.append(connection.getresponse())

    marked(leaking)


def test_an_unread_response_that_was_dropped_with_its_connection_is_one_leak(
    marked: Marked, connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        connection = connect()
        connection.request("GET", "/big")  # leak: responses collected
        connection.getresponse()

    marked(leaking)


def test_a_response_that_was_closed_leaves_its_connection_open(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        connection = http.client.HTTPConnection(connect().host, connect().port)  # leak: connections
        kept.append(connection)
        _get(connection, "/big").close()

    marked(leaking)


def test_a_connection_that_the_server_ended_is_nothing(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def reading() -> None:
        kept.append(connect())
        assert _get(kept[-1], "/close").read() == b"bye"

    marked(reading)


def test_the_call_that_sent_the_request_is_the_line_of_its_response(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        connection = connect()
        kept.append(connection)
        connection.putrequest("POST", "/big")
        connection.putheader("Content-Length", "0")
        connection.endheaders()  # leak: responses
        connection.getresponse()

    (finding,) = marked(leaking)
    assert finding.summary.startswith("POST ")


def test_a_connection_that_was_opened_again_is_one_leak(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def leaking() -> None:
        connection = http.client.HTTPConnection(connect().host, connect().port)  # leak: connections
        for _ in range(2):
            connection.close()
            _get(connection).read()
        kept.append(connection)

    marked(leaking)


def test_a_tls_connection_that_is_kept_open_leaks(
    marked: Marked, kept: list[Any], tls_server: str, trusting: ssl.SSLContext
) -> None:
    address = urlsplit(tls_server)

    def leaking() -> None:
        kept.append(http.client.HTTPSConnection(address.netloc, context=trusting))  # leak: connections
        _get(kept[-1]).read()

    (finding,) = marked(leaking)
    assert finding.summary == tls_server
    assert finding.type == "http.client.HTTPSConnection"


# -- wider fixtures, the process ---------------------------------------------------------------------------------------


def test_a_wider_fixtures_connection_is_its_own_and_an_unread_response_the_tests(
    marked: Marked, connect: Callable[[], http.client.HTTPConnection]
) -> None:
    with marked.fixture() as fixture:
        connection = fixture.make(connect)

        def reading() -> None:
            assert _get(connection).read() == b"ok"

        def leaking() -> None:
            connection.request("GET", "/big")  # leak: responses
            connection.getresponse()

        marked(reading)
        marked(leaking)
        with fixture.during():
            connection.close()


def test_a_wider_fixture_that_leaves_its_connection_open_leaks(
    marked: Marked, kept: list[Any], connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def make() -> http.client.HTTPConnection:
        return http.client.HTTPConnection(connect().host, connect().port)  # leak: connections

    def reading() -> None:
        assert _get(kept[-1]).read() == b"ok"

    with marked.fixture(make) as fixture:
        kept.append(fixture.make(make))
        marked(reading)


def test_a_wider_fixture_that_drops_its_connection_leaks(
    marked: Marked, connect: Callable[[], http.client.HTTPConnection]
) -> None:
    def make() -> http.client.HTTPConnection:
        return http.client.HTTPConnection(connect().host, connect().port)  # leak: connections collected

    def reading() -> None:
        assert _get(connections[-1]).read() == b"ok"

    with marked.fixture(make) as fixture:
        connections = [fixture.make(make)]
        marked(reading)
        connections.clear()


def test_a_connection_of_a_module_attribute_is_the_process(
    marked: Marked, connect: Callable[[], http.client.HTTPConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("lazy")
    module.connection = None
    monkeypatch.setitem(__import__("sys").modules, "lazy", module)

    def using() -> None:
        module.connection = connect()
        assert _get(module.connection).read() == b"ok"

    marked(using)
    module.connection.close()


def test_a_connection_that_is_older_than_the_watch_is_the_process(
    marked: Marked, connect: Callable[[], http.client.HTTPConnection], session: Session
) -> None:
    session.watch.silence()
    older = connect()
    wake(session)

    def using() -> None:
        assert _get(older).read() == b"ok"

    def leaking() -> None:
        older.request("GET", "/big")  # leak: responses
        older.getresponse()

    marked(using)
    marked(leaking)
    older.close()


# -- xmlrpc.client -----------------------------------------------------------------------------------------------------


def test_a_server_proxy_that_is_kept_open_leaks(marked: Marked, kept: list[Any], server: str) -> None:
    def leaking() -> None:
        proxy = xmlrpc.client.ServerProxy(f"{server}/xmlrpc")
        kept.append(SimpleNamespace(close=proxy("close")))
        proxy.ping()  # leak: connections

    marked(leaking)


def test_a_server_proxy_in_a_with_block_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def closing() -> None:
        with xmlrpc.client.ServerProxy(f"{server}/xmlrpc") as proxy:
            assert proxy.ping() == "pong"
            kept.append(SimpleNamespace(close=proxy("close")))

    marked(closing)


def test_a_server_proxy_that_is_dropped_leaks(marked: Marked, server: str) -> None:
    def leaking() -> None:
        xmlrpc.client.ServerProxy(f"{server}/xmlrpc").ping()  # leak: connections collected

    marked(leaking)


def test_a_request_that_was_sent_unseen_is_known_by_its_answer(
    marked: Marked, connect: Callable[[], http.client.HTTPConnection]
) -> None:
    with marked.fixture() as fixture:
        connection = fixture.make(connect)

        def leaking() -> None:
            marked.session.watch.silence()
            connection.request("GET", "/big")
            wake(marked.session)
            connection.getresponse()  # leak: responses

        marked(leaking)
        with fixture.during():
            connection.close()


# -- odd ones ----------------------------------------------------------------------------------------------------------


class _Recorded:
    """What tests of HTTP code put in the place of a socket."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def sendall(self, data: bytes) -> None:
        pass

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.answer)

    def close(self) -> None:
        pass


def test_a_stand_in_for_a_socket_is_nothing(marked: Marked, kept: list[Any]) -> None:
    def using() -> None:
        connection = http.client.HTTPConnection("test.invalid")
        connection.sock = _Recorded(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # type: ignore[assignment]
        kept.append(connection)
        kept.append(_get(connection))

    marked(using)
    kept.pop().read()


def test_a_finished_wrapper_that_closes_is_nothing(marked: Marked, server: str) -> None:
    class Wrapper:
        def __init__(self) -> None:
            self.response = urllib.request.urlopen(f"{server}/big")

        def __del__(self) -> None:
            self.response.close()

    def wrapping() -> None:
        Wrapper()

    marked(wrapping)


def test_a_response_that_a_thread_closes_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def closing() -> None:
        kept.append(urllib.request.urlopen(f"{server}/big"))
        thread = threading.Thread(target=kept[-1].close)
        thread.start()
        thread.join()

    marked(closing)


def test_a_response_whose_socket_is_closed_is_nothing(marked: Marked, kept: list[Any], server: str) -> None:
    def closing() -> None:
        kept.append(urllib.request.urlopen(f"{server}/big"))
        kept[-1].fp.raw._sock._real_close()

    marked(closing)


def test_what_is_over_is_forgotten(marked: Marked, server: str, connect: Callable[[], Any]) -> None:
    def reading() -> None:
        urllib.request.urlopen(f"{server}/ok").read()
        with contextlib.closing(connect()) as connection:
            _get(connection).read()

    with marked.fixture() as fixture:
        owner = fixture.check.owner
        fixture.make(reading)
        assert len(owner.records) > 5
        owner.prune_at = 1
        fixture.make(connect)
        assert len(owner.records) == 1


def test_connections_count_for_the_limit(marked: Marked, kept: list[Any], connect: Callable[[], Any]) -> None:
    def at_once() -> None:
        connections = [connect() for _ in range(3)]
        for connection in connections:
            _get(connection).read()
        for connection in connections:
            connection.close()

    def one_by_one() -> None:
        for _ in range(3):
            with contextlib.closing(connect()) as connection:
                _get(connection).read()

    (finding,) = marked.found(at_once, peak_connections=2)
    assert (finding.state, finding.summary) == ("peak", "3 connections open at once, and the limit is 2")
    assert marked.found(one_by_one, peak_connections=1) == ()


def test_a_response_that_has_its_connection_alone_counts_it_for_the_limit(marked: Marked, server: str) -> None:
    def at_once() -> None:
        for response in [urllib.request.urlopen(f"{server}/ok") for _ in range(2)]:
            response.read()

    def one_by_one() -> None:
        for _ in range(2):
            urllib.request.urlopen(f"{server}/ok").read()

    assert [finding.state for finding in marked.found(at_once, peak_connections=1)] == ["peak"]
    assert marked.found(one_by_one, peak_connections=1, peak_responses=1) == ()


def test_unknown_internals_keep_the_adapter_off(session: Session) -> None:
    hooks = Hooks(session.watch, session.watch.patches, session.watch.wall("http.client"))
    with pytest.raises(Unsupported, match=r"^http\.client has no HTTPConnection\.__init__$"):
        http_client.attach(ModuleType("http.client"), hooks)


def test_a_response_class_of_somebodys_own_is_let_through(leaks: Leaks, server: str, session: Session) -> None:
    class Odd:
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            self.will_close = True

        def begin(self) -> None:
            pass

        def isclosed(self) -> bool:
            return False

        def close(self) -> None:
            pass

    class Connection(http.client.HTTPConnection):
        response_class = Odd  # type: ignore[assignment]

    def odd() -> None:
        connection = Connection(server.removeprefix("http://"))
        connection.request("GET", "/ok")
        assert isinstance(connection.getresponse(), Odd)
        connection.close()

    assert leaks(odd) == ()
    assert session.errors() == []
