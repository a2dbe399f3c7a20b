"""The suites whose running time is compared: a conftest, a test file, and what they need installed."""

from __future__ import annotations

from typing import NamedTuple

SERVER = """
import http.server, threading, pytest

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "200")
        self.end_headers()
        self.wfile.write(b"x" * 200)

    def log_message(self, *args):
        pass

@pytest.fixture(scope="session")
def url():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()
"""

EMPTY = "import pytest\n@pytest.mark.parametrize('number', range({tests}))\ndef test_empty(number): pass\n"

DESCRIPTORS = """
import os, pytest

@pytest.fixture(scope="session", autouse=True)
def many():
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range({fds})]
    yield
    for fd in fds:
        os.close(fd)
"""

HTTPX = """
import httpx, pytest

@pytest.fixture(scope="module")
def client():
    with httpx.Client() as client:
        yield client

@pytest.mark.parametrize("number", range(200))
def test_get(number, url, client):
    for _ in range(3):
        assert client.get(url).status_code == 200
"""

URLLIB3 = """
import pytest, urllib3

@pytest.fixture(scope="module")
def pool():
    with urllib3.PoolManager() as pool:
        yield pool

@pytest.mark.parametrize("number", range(200))
def test_get(number, url, pool):
    for _ in range(5):
        assert pool.request("GET", url).status == 200
"""

ASYNCIO = """
import asyncio, pytest

@pytest.mark.parametrize("number", range(300))
@pytest.mark.asyncio
async def test_tasks(number):
    await asyncio.gather(*[asyncio.create_task(asyncio.sleep(0)) for _ in range(20)])
"""

FIXTURES = "\n".join(
    ["import pytest"]
    + [
        f"@pytest.fixture(scope={('function', 'class', 'module', 'package', 'session')[number % 5]!r})\n"
        f"def fixture_{number}(): yield {number}"
        for number in range(50)
    ]
    + [
        "@pytest.mark.parametrize('number', range(100))",
        f"def test_fixtures(number, {', '.join(f'fixture_{number}' for number in range(50))}): pass",
    ]
)

HEAP = "KEPT = [[number] for number in range(1_000_000)]\n"


class Workload(NamedTuple):
    """One suite; `needs` is what must be importable for it."""

    conftest: str
    test: str
    needs: tuple[str, ...] = ()


WORKLOADS = {
    "start": Workload("", EMPTY.format(tests=1)),
    "empty": Workload("", EMPTY.format(tests=1000)),
    "empty-4000": Workload("", EMPTY.format(tests=4000)),
    "fds-2000": Workload(DESCRIPTORS.format(fds=2000), EMPTY.format(tests=1000)),
    "httpx": Workload(SERVER, HTTPX, ("httpx",)),
    "urllib3": Workload(SERVER, URLLIB3, ("urllib3",)),
    "asyncio": Workload("", ASYNCIO, ("pytest_asyncio",)),
    "fixtures": Workload("", FIXTURES),
    "heap": Workload(HEAP, EMPTY.format(tests=1000)),
}
