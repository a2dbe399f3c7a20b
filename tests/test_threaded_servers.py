"""A server in the tests' own process: its threads and sockets live as long as its clients do, and are no leak of their own."""

import socket
import textwrap

import pytest
from inner import Inner

SERVER = """
    import http.server, socket, threading, pytest

    hang = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
            if self.path == "/hang":
                hang.wait(20)

        def log_message(self, *args):
            pass

    @pytest.fixture(scope="session")
    def port():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        server.server_close()
        thread.join()

    @pytest.fixture(scope="session")
    def bare_port():
        def serve(connection):
            with connection:
                while connection.recv(100):
                    pass

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
"""

LEAKS = """
    import http.client, socket

    KEPT = []

    def test_leaks_a_connection(port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/")
        connection.getresponse().read()
        KEPT.append(connection)

    def test_leaks_a_socket(bare_port):
        KEPT.append(socket.create_connection(("127.0.0.1", bare_port)))
"""

CLEAN = """
    import http.client, socket

    def test_clean(port, bare_port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/")
        connection.getresponse().read()
        connection.close()
        socket.create_connection(("127.0.0.1", bare_port)).close()
"""

HANGS = """
    import http.client

    def test_whose_handler_never_ends(port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/hang")
        connection.getresponse().read()
        connection.close()
"""


def test_a_servers_thread_that_waits_for_a_leaked_connection_is_not_told_too(inner: Inner) -> None:
    inner.write(conftest=SERVER, test_a=LEAKS)
    inner.run().assert_outcomes(failed=2)
    assert inner.report["fixtures"] == []


def test_a_servers_thread_that_waits_for_a_leaked_descriptor_is_not_told_too(inner: Inner) -> None:
    inner.write(
        conftest=SERVER,
        test_a="""
            import socket

            kept = []

            def test_leaving_a_number(port):
                kept.append(socket.create_connection(("127.0.0.1", port)).detach())
        """,
    )
    inner.run().assert_outcomes(failed=1)
    assert inner.report["fixtures"] == []


def test_a_servers_threads_end_with_its_clients(inner: Inner) -> None:
    inner.write(conftest=SERVER, test_a=CLEAN)
    inner.run().assert_outcomes(passed=1)
    assert inner.report["fixtures"] == []


@pytest.mark.parametrize("beside", ["", LEAKS], ids=["alone", "beside leaks"])
def test_a_handler_that_never_ends_is_its_servers_leak(inner: Inner, beside: str) -> None:
    inner.write(conftest=SERVER, test_a=HANGS, test_b=beside)
    inner.run()
    (fixture,) = inner.report["fixtures"]
    assert fixture["name"] == "port"
    assert [(leak["kind"], leak["count"]) for leak in fixture["findings"]] == [("threads", 1)]


# How a server of each kind is made, and the address that its clients are told.
OTHER_SERVERS = {
    "both families": """
        class Server(http.server.ThreadingHTTPServer):  # as that of `python -m http.server`
            daemon_threads = True
            address_family = socket.AF_INET6

            def server_bind(self):
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                super().server_bind()

        ADDRESS = "::", 0

        def connect(server):
            return socket.create_connection(("127.0.0.1", server.server_port))
    """,
    "unix": """
        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        ADDRESS = "s"  # relative, as the names of such sockets are short

        def connect(server):
            client = socket.socket(socket.AF_UNIX)
            client.connect(server.server_address)
            return client
    """,
}

OTHER_FIXTURE = """
    @pytest.fixture(scope="session")
    def server():
        server = Server(ADDRESS, Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        server.server_close()
        thread.join()
"""

ASK = """
    from conftest import connect

    KEPT = []

    def ask(server, path):
        client = connect(server)
        client.sendall(f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
        while not client.recv(1000).endswith(b"ok"):
            pass
        return client
"""

OTHER_LEAK = (
    ASK
    + """
    def test_leaks(server):
        KEPT.append(ask(server, "/"))
"""
)

OTHER_CLEAN = (
    ASK
    + """
    def test_clean(server):
        ask(server, "/").close()
"""
)

OTHER_HANGS = (
    ASK
    + """
    def test_whose_handler_never_ends(server):
        ask(server, "/hang").close()
"""
)


@pytest.fixture(params=OTHER_SERVERS)
def other_server(inner: Inner, request: pytest.FixtureRequest) -> Inner:
    if request.param == "unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("no unix sockets")
    if request.param == "both families" and not socket.has_dualstack_ipv6():
        pytest.skip("no server for both families")
    server = "import socketserver\n" + "".join(
        map(textwrap.dedent, (SERVER, OTHER_SERVERS[request.param], OTHER_FIXTURE))
    )
    inner.write(conftest=server)
    return inner


@pytest.mark.parametrize("tests", [OTHER_LEAK, OTHER_CLEAN], ids=["leaked", "closed"])
def test_a_client_is_known_to_a_server_by_whatever_address_it_has(other_server: Inner, tests: str) -> None:
    other_server.write(test_a=tests)
    other_server.run().assert_outcomes(**{"failed" if tests == OTHER_LEAK else "passed": 1})
    assert other_server.report["fixtures"] == []


@pytest.mark.parametrize("beside", ["", OTHER_LEAK], ids=["alone", "beside a leak"])
def test_a_handler_whose_client_is_closed_is_its_servers_leak_whatever_the_address(
    other_server: Inner, beside: str
) -> None:
    other_server.write(test_a=OTHER_HANGS, test_b=beside)
    other_server.run()
    (fixture,) = other_server.report["fixtures"]
    assert [(leak["kind"], leak["count"]) for leak in fixture["findings"]] == [("threads", 1)]
