"""A server in the tests' own process: its threads and sockets live as long as its clients do, and are no leak of their own."""

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
