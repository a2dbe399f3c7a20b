"""Raw sockets: what is a leak, and its clean twin."""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import gc
import os
import re
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest
from inner import Inner
from marked import Marked, wake

from pytest_httpleak.adapters import Hooks, Unsupported, sockets
from pytest_httpleak.session.core import Session
from pytest_httpleak.socketrecords import SocketRecord, is_being_closed

# What is dropped on purpose makes the interpreter warn, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CERTIFICATE = str(Path(__file__).with_name("data") / "localhost.pem")


@pytest.fixture
def address(server: str) -> tuple[str, int]:
    url = urlsplit(server)
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


# -- kinds of sockets --------------------------------------------------------------------------------------------------


def test_a_connected_socket_that_is_kept_leaks(marked: Marked, kept: list[Any], address: tuple[str, int]) -> None:
    def leaking() -> None:
        kept.append(socket.create_connection(address))  # leak: sockets

    def closing() -> None:
        with socket.create_connection(address) as sock:
            kept.append(sock)

    (finding,) = marked(leaking)
    sock = kept[0]
    ours, theirs = sock.getsockname(), sock.getpeername()
    assert finding.summary == f"TCP {ours[0]}:{ours[1]} -> {theirs[0]}:{theirs[1]}, fd {sock.fileno()}"
    assert [(held.kind, held.fd) for held in finding.holds] == [("fds", sock.fileno())]
    marked(closing)


def test_a_socket_that_never_connected_leaks(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        kept.append(socket.socket())  # leak: sockets

    def failing() -> None:
        with contextlib.suppress(ConnectionRefusedError):
            kept.append(socket.create_connection(("127.0.0.1", 1)))

    (finding,) = marked(leaking)
    assert finding.summary == f"TCP, not connected, fd {kept[0].fileno()}"
    marked(failing)


def test_a_listening_socket_leaks(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        kept.append(socket.create_server(("127.0.0.1", 0)))  # leak: sockets

    (finding,) = marked(leaking)
    assert finding.summary.startswith("TCP 127.0.0.1:")
    assert ", listening, fd" in finding.summary


def test_a_socket_that_is_dropped_leaks_also_where_its_warning_is_recorded(marked: Marked) -> None:
    """The warning has the socket, which its finalizer has closed, as its source."""

    def dropping() -> None:
        socket.socket()  # leak: sockets collected

    def closing() -> None:
        socket.socket().close()

    with pytest.warns(ResourceWarning, match="unclosed") as recorded:
        marked(dropping)
    assert recorded[0].source.fileno() == -1
    marked(closing)


def test_a_socket_that_is_closed_behind_its_back_is_not_taken_for_a_dropped_one(
    marked: Marked, kept: list[Any]
) -> None:
    def closing() -> None:
        sock = socket.socket()
        kept.append(sock)
        os.close(sock.fileno())

    marked(closing)
    kept[0].detach()


ACCEPT = """
    import socket
    import pytest
    from conftest import ACCEPT

    KEPT = []

    @pytest.fixture
    def listener():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener

    def test_server_side(listener):
        with socket.create_connection(listener.getsockname()):
            ACCEPT(listener)

    def test_client_side(listener):
        KEPT.append(socket.create_connection(listener.getsockname()))
        ACCEPT(listener)[0].close()

    def test_made_of_a_number():
        KEPT.append(socket.socket(fileno=socket.socket().detach()))
"""


def test_what_a_kept_accept_gives_is_the_servers_side_too(inner: Inner) -> None:
    """As trio keeps it, where that is imported before the sockets are watched."""
    inner.write(conftest="import socket\nACCEPT = socket.socket.accept\n", test_a=ACCEPT)
    inner.run()
    assert inner.outcomes() == {
        "test_server_side": "clean",
        "test_client_side": "leaked",
        "test_made_of_a_number": "leaked",
    }


def test_a_datagram_socket_leaks(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # leak: sockets
        sock.bind(("127.0.0.1", 0))
        kept.append(sock)

    (finding,) = marked(leaking)
    assert finding.summary.startswith("UDP 127.0.0.1:")
    assert ", not connected, fd" in finding.summary


@pytest.mark.skipif(not socket.has_ipv6, reason="the machine has no IPv6")
def test_a_socket_of_ipv6_leaks(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)  # leak: sockets
        kept.append(sock)
        with contextlib.suppress(OSError):  # no address to bind
            sock.bind(("::1", 0))

    (finding,) = marked(leaking)
    assert finding.summary.startswith(("TCP [::1]:", "TCP, not connected"))


def test_both_ends_of_a_pair_leak(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        kept.extend(socket.socketpair())  # leak: sockets x2

    def closing() -> None:
        for sock in socket.socketpair():
            kept.append(sock)
            sock.close()

    marked(leaking)
    marked(closing)


def test_one_end_of_a_pair_leaks(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        ours, theirs = socket.socketpair()  # leak: sockets
        theirs.close()
        kept.append(ours)

    (finding,) = marked(leaking)
    assert finding.summary.startswith("unix socket, not connected")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no Unix sockets")
def test_a_unix_socket_leaks(marked: Marked, kept: list[Any], tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "s")  # an address has room for about a hundred characters

    def leaking() -> None:
        sock = socket.socket(socket.AF_UNIX)  # leak: sockets
        sock.bind(path)
        kept.append(sock)

    (finding,) = marked(leaking)
    assert finding.summary == f"unix socket {path}, not connected, fd {kept[0].fileno()}"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no Unix sockets")
def test_a_unix_socket_that_has_no_name_of_its_own_is_told_by_that_of_the_other_end(
    marked: Marked, kept: list[Any], tmp_path: Path
) -> None:
    path = os.path.relpath(tmp_path / "s")

    def leaking() -> None:
        sock = socket.socket(socket.AF_UNIX)  # leak: sockets
        sock.connect(path)
        kept.append(sock)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        (finding,) = marked(leaking)
    assert finding.summary == f"unix socket -> {path}, fd {kept[0].fileno()}"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no Unix sockets")
def test_a_unix_socket_between_two_ends_without_a_name_is_told_as_connected(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        kept.extend(socket.socketpair())  # leak: sockets x2

    (finding,) = marked(leaking)
    assert finding.summary == f"unix socket, connected, fd {kept[0].fileno()}"


def test_sockets_of_one_line_are_one_finding(marked: Marked, kept: list[Any], address: tuple[str, int]) -> None:
    def leaking() -> None:
        for _ in range(3):
            sock = socket.create_connection(address)  # leak: sockets x3
            kept.append(sock)

    (finding,) = marked(leaking)
    assert finding.count == 3


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_socket_that_is_dropped_open_leaks(marked: Marked, address: tuple[str, int]) -> None:
    numbers = []

    def leaking() -> None:
        sock = socket.create_connection(address)  # leak: sockets collected
        numbers.append(sock.fileno())

    (finding,) = marked(leaking)
    assert (finding.type, finding.summary) == ("socket.socket", f"fd {numbers[0]}")


def test_a_socket_in_a_reference_cycle_leaks(marked: Marked) -> None:
    def leaking() -> None:
        holder: Any = SimpleNamespace(sock=socket.socket())  # leak: sockets collected
        holder.itself = holder

    gc.disable()
    try:
        marked(leaking)
    finally:
        gc.enable()


class Closing:
    """Closes its socket when it is finalized; a cycle, which is left to the garbage collector."""

    def __init__(self) -> None:
        self.itself = self
        self.sock = socket.socket()

    def __del__(self) -> None:
        self.sock.close()


def test_a_socket_that_the_finalizer_of_its_owner_closes_is_nothing(marked: Marked) -> None:
    def clean() -> None:
        Closing()
        gc.collect()

    marked(clean)


class Reading:
    """Has a socket that is closed and a file of it that is not, in a cycle, which is left to the garbage collector.

    Which of the two is finalized first is decided by which was made first.
    """

    def __init__(self, *, is_file_first: bool = True) -> None:
        self.itself = self
        if is_file_first:
            self.file: Any = socket.SocketIO.__new__(socket.SocketIO)
            self.sock = socket.socket()
            self.file.__init__(self.sock, "rb")
            self.sock._io_refs += 1  # type: ignore[attr-defined]
        else:
            self.sock = socket.socket()
            self.file = self.sock.makefile("rb", buffering=0)
        self.sock.close()


class Ending(Reading):
    """Closes the file when it is finalized."""

    def __del__(self) -> None:
        self.file.close()


def until_it_is_ended() -> Iterator[None]:
    """Closes such a file once the generator is ended."""
    reading = Reading()
    try:
        yield
    finally:
        reading.file.close()


@pytest.mark.parametrize("is_file_first", [True, False])
def test_a_closed_socket_leaks_with_its_file_in_whatever_order_these_are_finalized(
    marked: Marked, is_file_first: bool
) -> None:
    def leaking() -> None:
        Reading(is_file_first=is_file_first)

    (finding,) = marked.found(leaking)
    assert (finding.kind.value, finding.state.value) == ("sockets", "collected")


def test_a_closed_socket_whose_file_a_finalizer_closes_is_nothing(marked: Marked) -> None:
    def clean() -> None:
        Ending()
        gc.collect()

    marked(clean)


def test_a_closed_socket_whose_file_the_end_of_a_generator_closes_is_nothing(marked: Marked) -> None:
    def clean() -> None:
        cycle: list[Any] = [until_it_is_ended()]
        next(cycle[0])
        cycle.append(cycle)
        del cycle
        gc.collect()

    marked(clean)


def test_nothing_is_collected_while_a_socket_is_looked_at(marked: Marked, monkeypatch: pytest.MonkeyPatch) -> None:
    suspect = SocketRecord.suspect
    thresholds = gc.get_threshold()

    def suspect_and_make_garbage(record: SocketRecord, *args: Any, **kwargs: Any) -> Any:
        gc.set_threshold(1, 1, 1)
        try:
            [[] for _ in range(1000)]  # more than enough for the collector to begin, if it may
        finally:
            gc.set_threshold(*thresholds)
        return suspect(record, *args, **kwargs)

    monkeypatch.setattr(SocketRecord, "suspect", suspect_and_make_garbage)

    def leaking() -> None:
        Reading()

    (finding,) = marked.found(leaking)
    assert (finding.kind.value, finding.state.value) == ("sockets", "collected")
    assert gc.isenabled()


def test_a_socket_leaks_though_a_loops_own_takes_its_place(marked: Marked) -> None:
    async def nothing() -> None:
        pass

    def leaking() -> None:
        earlier, dropped = socket.socket(), socket.socket()  # leak: sockets collected
        earlier.close()
        del dropped
        asyncio.run(nothing())

    marked(leaking)


def test_a_socket_that_an_error_lets_go_leaks(marked: Marked, address: tuple[str, int]) -> None:
    def leaking() -> None:
        with contextlib.suppress(ValueError):
            sock = socket.create_connection(address)  # leak: sockets collected
            sock.settimeout(-1)
            sock.close()

    marked(leaking)


def test_a_socket_that_was_only_shut_down_leaks(marked: Marked, kept: list[Any], address: tuple[str, int]) -> None:
    def leaking() -> None:
        kept.append(socket.create_connection(address))  # leak: sockets
        kept[-1].shutdown(socket.SHUT_RDWR)

    marked(leaking)


def test_a_file_of_a_closed_socket_keeps_it_open(marked: Marked, kept: list[Any], address: tuple[str, int]) -> None:
    def leaking() -> None:
        sock = socket.create_connection(address)  # leak: sockets
        kept.append(sock.makefile("rb"))
        sock.close()

    def closing() -> None:
        with socket.create_connection(address) as sock, sock.makefile("rb") as file:
            kept.extend((sock, file))

    def dropping() -> None:
        with socket.create_connection(address) as sock:
            sock.makefile("rb")

    for each in (leaking, closing, dropping):
        marked(each)


def test_a_double_is_a_socket_of_its_own(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        with socket.socket() as sock:
            kept.append(sock.dup())  # leak: sockets

    def leaking_by_number() -> None:
        with socket.socket() as sock:
            kept.append(socket.fromfd(sock.fileno(), sock.family, sock.type))  # leak: sockets

    marked(leaking)
    marked(leaking_by_number)


@pytest.mark.parametrize("family", ["internet", "unix"])
def test_a_socket_of_c_code_is_told_by_its_addresses(marked: Marked, kept: list[Any], family: str) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = listener.getsockname()

        def leaking() -> None:
            if family == "unix":
                kept.extend(_socket.socketpair())
            else:
                kept.append(_socket.socket())
                kept[-1].connect(address)

        findings = marked.found(leaking)
        for sock in kept:
            sock.close()
    (finding,) = findings
    what = {"unix": "unix socket", "internet": f"TCP 127.0.0.1:{{}} -> 127.0.0.1:{address[1]}"}[family]
    assert re.sub(r"1:\d+ ->", "1:{} ->", finding.summary.partition(": ")[2]) == what


def test_a_bare_number_of_a_socket_is_its_sockets_leak(marked: Marked, kept: list[Any]) -> None:
    numbers = []

    def leaking() -> None:
        sock = socket.socket()  # leak: sockets
        numbers.append(sock.detach())

    def closing() -> None:
        socket.close(socket.socket().detach())

    def taking_over() -> None:
        with socket.socket(fileno=socket.socket().detach()) as sock:
            kept.append(sock)

    def wrapping() -> None:
        number = socket.socket().detach()  # leak: sockets
        kept.append(socket.socket(fileno=number))

    def wrapping_another() -> None:
        socket.close(socket.socket().detach())
        kept.append(socket.socket(fileno=_socket.socket().detach()))  # leak: sockets

    marked(leaking)
    socket.close(numbers.pop())
    marked(wrapping)
    marked(wrapping_another)
    marked(closing)
    marked(taking_over)


def test_a_number_that_was_closed_behind_its_sockets_back_is_nothing(marked: Marked, kept: list[Any]) -> None:
    def closing() -> None:
        sock = socket.socket()
        kept.append(SimpleNamespace(close=sock.detach))
        socket.close(sock.fileno())

    marked(closing)


def test_a_socket_with_strange_methods_is_nothing(marked: Marked, kept: list[Any]) -> None:
    class Fake(socket.socket):
        def fileno(self) -> int:
            raise LookupError

    def using() -> None:
        kept.append(Fake())
        socket.socket.close(kept[-1])

    marked(using)


def test_a_socket_that_is_older_than_the_watch_is_the_process(marked: Marked, kept: list[Any]) -> None:
    marked.session.watch.silence()
    older = [socket.socket(), socket.socket(), socket.socket()]
    wake(marked.session)

    def using() -> None:
        older[0].close()
        socket.close(older[1].detach())
        older[2].dup().close()

    marked(using)
    older[2].close()


def test_whether_one_was_closed_is_not_known_while_the_adapter_is_off(marked: Marked, kept: list[Any]) -> None:
    (wall,) = (each for each in marked.session.watch.walls if each.name == "the adapter for sockets")

    def closing() -> None:
        with socket.socket():
            wall.fall(ValueError("broken"))

    def keeping() -> None:
        kept.append(socket.socket())  # leak: sockets
        wall.fall(ValueError("broken"))

    for each in (closing, keeping):
        marked(each)
        wall.on, wall.error = True, None


def test_what_is_over_is_forgotten(marked: Marked) -> None:
    with marked.fixture() as fixture:
        owner = fixture.check.owner
        fixture.make(lambda: [socket.socket().close() for _ in range(5)])
        owner.prune_at = 1
        sock = fixture.make(socket.socket)
        assert len(owner.records) == 1
        sock.close()


# -- servers -----------------------------------------------------------------------------------------------------------


def test_the_servers_side_of_a_connection_is_nothing(marked: Marked, kept: list[Any], listener: socket.socket) -> None:
    def accepting() -> None:
        with socket.create_connection(listener.getsockname()):
            kept.append(listener.accept()[0])
            kept.append(kept[0].dup())

    def leaking() -> None:
        kept.append(socket.create_connection(listener.getsockname()))  # leak: sockets
        kept.append(listener.accept()[0])

    marked(accepting)
    marked(leaking)


def test_the_servers_side_that_was_dropped_is_nothing(marked: Marked, listener: socket.socket) -> None:
    def accepting() -> None:
        with socket.create_connection(listener.getsockname()):
            listener.accept()

    marked(accepting)


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(100):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def test_a_server_that_was_closed_is_nothing(marked: Marked, kept: list[Any]) -> None:
    def serving() -> None:
        with Server(("127.0.0.1", 0), Echo) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            with socket.create_connection(server.server_address) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            server.shutdown()
            thread.join()

    marked(serving)


def test_a_server_that_is_left_open_leaks(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        kept.append(Server(("127.0.0.1", 0), Echo))  # leak: sockets

    marked(leaking)
    kept[:] = [SimpleNamespace(close=kept[0].server_close)]


def test_what_a_wider_fixtures_server_accepts_is_nothing(marked: Marked, kept: list[Any]) -> None:
    with marked.fixture() as fixture, fixture.make(lambda: Server(("127.0.0.1", 0), Echo)) as server:
        thread = fixture.make(lambda: threading.Thread(target=server.serve_forever, args=(0.01,)))
        fixture.make(thread.start)

        def calling() -> None:
            with socket.create_connection(server.server_address) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"

        def leaking() -> None:
            kept.append(socket.create_connection(server.server_address))  # leak: sockets
            kept[-1].sendall(b"x")
            assert kept[-1].recv(1) == b"x"

        marked(calling)
        marked(leaking)
        kept.pop().close()
        with fixture.during():
            server.shutdown()
            thread.join()
            server.server_close()


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.load_cert_chain(CERTIFICATE)
    ours.load_verify_locations(CERTIFICATE)
    return theirs, ours


def test_a_tls_socket_is_one_leak(
    marked: Marked, kept: list[Any], tls_server: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    url = urlsplit(tls_server)

    def leaking() -> None:
        sock = socket.create_connection((url.hostname, url.port))
        kept.append(contexts[1].wrap_socket(sock, server_hostname="localhost"))  # leak: sockets

    def dropping() -> None:
        sock = socket.create_connection((url.hostname, url.port))
        contexts[1].wrap_socket(sock, server_hostname="localhost")  # leak: sockets collected

    def closing() -> None:
        sock = socket.create_connection((url.hostname, url.port))
        with contexts[1].wrap_socket(sock, server_hostname="localhost") as tls:
            kept.extend((sock, tls))

    (finding,) = marked(leaking)
    assert finding.type == "ssl.SSLSocket"
    (finding,) = marked(dropping)
    assert finding.type == "ssl.SSLSocket"
    marked(closing)


def test_a_handshake_that_fails_is_nothing(marked: Marked, tls_server: str) -> None:
    url = urlsplit(tls_server)

    def failing() -> None:
        with socket.create_connection((url.hostname, url.port)) as sock, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")

    marked(failing)


@pytest.mark.parametrize("wrapped", ["listener", "accepted"])
def test_the_servers_side_of_a_tls_connection_is_nothing(
    marked: Marked, kept: list[Any], contexts: tuple[ssl.SSLContext, ssl.SSLContext], wrapped: str
) -> None:
    def accept(listener: socket.socket) -> None:
        sock = listener.accept()[0]
        if wrapped == "accepted":
            sock = contexts[0].wrap_socket(sock, server_side=True)
        kept.append(sock)

    def listening() -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        return contexts[0].wrap_socket(listener, server_side=True) if wrapped == "listener" else listener

    def accepting() -> None:
        with listening() as listener:
            thread = threading.Thread(target=accept, args=(listener,))
            thread.start()
            sock = socket.create_connection(listener.getsockname())
            with contexts[1].wrap_socket(sock, server_hostname="localhost"):
                thread.join()

    marked(accepting)


# -- whose it is -------------------------------------------------------------------------------------------------------


def test_a_wider_fixtures_socket_is_judged_with_it(marked: Marked, kept: list[Any], address: tuple[str, int]) -> None:
    def make() -> None:
        kept.append(socket.create_connection(address))  # leak: sockets

    def using() -> None:
        kept[-1].sendall(b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept[-1].recv(8) == b"HTTP/1.1"

    with marked.fixture(make) as fixture:
        fixture.make(make)
        marked(using)


def test_a_socket_of_a_module_attribute_leaks(
    marked: Marked, kept: list[Any], monkeypatch: pytest.MonkeyPatch, address: tuple[str, int]
) -> None:
    module: Any = ModuleType("lazy")
    monkeypatch.setitem(sys.modules, "lazy", module)

    def leaking() -> None:
        module.sock = socket.create_connection(address)  # leak: sockets

    (finding,) = marked(leaking)
    assert finding.held_by == "module attribute lazy.sock"
    module.sock.close()


def test_a_socket_of_a_thread_is_the_tests(marked: Marked, kept: list[Any], address: tuple[str, int]) -> None:
    def work() -> None:
        kept.append(socket.create_connection(address))  # leak: sockets

    def leaking() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    marked(leaking, work)


def test_a_socket_that_asyncio_is_about_to_close_is_nothing(marked: Marked, address: tuple[str, int]) -> None:
    async def call() -> None:
        _, writer = await asyncio.open_connection(*address)
        writer.close()

    def running() -> None:
        asyncio.run(call())

    marked(running)


def test_sockets_count_for_the_limit(marked: Marked) -> None:
    def at_once() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(socket.socket())

    def one_by_one() -> None:
        for _ in range(3):
            socket.socket().close()

    (finding,) = marked.found(at_once, peak_sockets=2)
    assert finding.summary == "3 sockets open at once, and the limit is 2"
    assert marked.found(one_by_one, peak_sockets=1) == ()


def test_unknown_internals_keep_the_adapter_off(session: Session) -> None:
    hooks = Hooks(session.watch, session.watch.patches, session.watch.wall("sockets"))
    with pytest.raises(Unsupported, match=r"^socket has no socket\._real_close$"):
        sockets.attach(ModuleType("socket"), hooks)


class Core(_socket.socket):
    """A socket that can be weakly referred to."""


class Around:
    """An object around a socket, as gevent has in the place of `socket.socket`."""

    def __init__(self) -> None:
        self._sock = Core()

    def close(self) -> None:
        self._real_close()
        self._sock.close()

    def _real_close(self) -> None:
        pass

    def fileno(self) -> int:
        return self._sock.fileno()

    detach = accept = dup = fileno


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ("kept", "open"),
        ("core kept", "open"),
        ("core kept and closed", None),
        ("core kept, closed and dropped", None),
        ("dropped", "collected"),
        ("closed", None),
        ("closed and dropped", None),
    ],
)
def test_a_socket_around_another_is_open_as_long_as_that_one(session: Session, how: str, state: str | None) -> None:
    module: Any = ModuleType("socket")
    module.socket = Around
    hooks = Hooks(session.watch, session.watch.patches, session.watch.wall("sockets"))
    sockets.attach(module, hooks)
    around = Around()
    record = session.watch.table("sockets").get(around)
    core = around._sock if "core kept" in how else None
    if how.startswith("closed"):
        around.close()
    if how not in {"kept", "closed"}:
        del around
    if core is not None and "closed" in how:
        core.close()
    if how.endswith("and dropped"):
        del core
    suspect = record.look()
    assert (None if suspect is None else suspect.state) == state


class Closed:
    def is_closed(self) -> bool:
        return True


@pytest.mark.parametrize(("loop", "is_to_come"), [(mock.MagicMock(), True), (Closed(), False), (None, True)])
def test_a_transport_closes_its_socket_unless_its_loop_is_closed(loop: Any, is_to_come: bool) -> None:
    transport = SimpleNamespace(is_closing=lambda: True, _loop=loop)
    assert is_being_closed(transport) is is_to_come


# -- of a library whose adapter is off ---------------------------------------------------------------------------------


@pytest.fixture
def unseen(session: Session) -> Iterator[Callable[[], socket.socket]]:
    """Makes a socket in the code of a library whose own books nobody can read."""
    wall = session.watch.wall("the adapter for blind", frozenset({"blind"}))
    wall.error = "off"
    library: dict[str, Any] = {"__name__": "blind.core", "socket": socket}
    source = "def connect():\n    return socket.socket()\n"
    exec(compile(source, "/usr/lib/python3/site-packages/blind/core.py", "exec"), library)
    yield library["connect"]
    wall.error = None


def test_a_socket_that_a_library_out_of_sight_has_open_may_be_idle_in_its_pool(
    marked: Marked, kept: list[Any], unseen: Callable[[], socket.socket]
) -> None:
    marked(lambda: kept.append(unseen()))


def test_a_socket_that_a_library_out_of_sight_drops_leaks(marked: Marked, unseen: Callable[[], socket.socket]) -> None:
    def leaking() -> None:
        unseen()  # leak: sockets collected

    marked(leaking)


def test_one_that_it_drops_in_a_cycle_leaks(marked: Marked, unseen: Callable[[], socket.socket]) -> None:
    def leaking() -> None:
        holder = SimpleNamespace(socket=unseen())  # leak: sockets collected
        holder.itself = holder

    marked(leaking)
