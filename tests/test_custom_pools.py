"""Transports, adapters, connectors, proxies, mounts and pools of somebody's own are followed like the stock ones."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loops import Loop
from marked import Leaks
from pooldrivers import Counter

from pytest_httpleak.session.core import Session
from pytest_httpleak.session.poolfigures import pools

Asked = tuple[Any, Callable[[], object]]  # a client after two requests, and what closes it


def lasting(httpx: Any) -> Any:
    """Limits that leave an idle connection alone, however long it takes the machine to look at it: 5 s are the default."""
    return httpx.Limits(keepalive_expiry=None)


def wrapped_transport(url: str, loop: Loop, httpx: Any) -> Asked:
    class Wrapper(httpx.BaseTransport):  # type: ignore[misc]
        def __init__(self) -> None:
            self.layers = {"inner": [httpx.HTTPTransport(limits=lasting(httpx))]}

        def handle_request(self, request: Any) -> Any:
            return self.layers["inner"][0].handle_request(request)

        def close(self) -> None:
            self.layers["inner"][0].close()

    return asked(httpx.Client(transport=Wrapper()), url)


def derived_transport(url: str, loop: Loop, httpx: Any) -> Asked:
    class Derived(httpx.HTTPTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            request.headers["x-signed"] = "yes"
            return super().handle_request(request)

    return asked(httpx.Client(transport=Derived()), url)


def mounted_transport(url: str, loop: Loop, httpx: Any) -> Asked:
    return asked(httpx.Client(mounts={"all://": httpx.HTTPTransport(limits=lasting(httpx))}), url)


def proxied_client(url: str, loop: Loop, httpx: Any) -> Asked:
    return asked(httpx.Client(proxy=url, limits=lasting(httpx)), "http://elsewhere.test/ok")


def wrapped_async_transport(url: str, loop: Loop, httpx: Any) -> Asked:
    class Wrapper(httpx.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self) -> None:
            self.inner = httpx.AsyncHTTPTransport(limits=lasting(httpx))

        async def handle_async_request(self, request: Any) -> Any:
            return await self.inner.handle_async_request(request)

        async def aclose(self) -> None:
            await self.inner.aclose()

    client = httpx.AsyncClient(transport=Wrapper())

    async def ask() -> None:
        for _ in range(2):
            assert (await client.get(f"{url}/ok")).text == "ok"

    loop.run(ask())
    return client, lambda: loop.run(client.aclose())


def asked(client: Any, url: str) -> Asked:
    url = url if url.endswith("/ok") else f"{url}/ok"
    for _ in range(2):
        assert client.get(url).text == "ok"
    return client, client.close


def derived_adapter(url: str, loop: Loop, requests: Any) -> Asked:
    class Derived(requests.adapters.HTTPAdapter):  # type: ignore[misc]
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options, timeout=5)

    session = requests.Session()
    session.mount("http://", Derived(pool_maxsize=3))
    return asked(session, url)


def wrapped_adapter(url: str, loop: Loop, requests: Any) -> Asked:
    class Wrapper(requests.adapters.BaseAdapter):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = requests.adapters.HTTPAdapter()

        def send(self, request: Any, **options: Any) -> Any:
            return self.inner.send(request, **options)

        def close(self) -> None:
            self.inner.close()

    session = requests.Session()
    session.mount("http://", Wrapper())
    return asked(session, url)


def proxied_session(url: str, loop: Loop, requests: Any) -> Asked:
    session = requests.Session()
    session.trust_env = False
    session.proxies = {"http": url}
    return asked(session, "http://elsewhere.test/ok")


def pools_of_a_class_of_its_own(url: str, loop: Loop, urllib3: Any) -> Asked:
    class Connection(urllib3.connection.HTTPConnection):  # type: ignore[misc]
        def connect(self) -> None:  # without the stock one
            self.sock = socket.create_connection((self.host, self.port))

    class Pool(urllib3.HTTPConnectionPool):  # type: ignore[misc]
        ConnectionCls = Connection

    manager = urllib3.PoolManager()
    manager.pool_classes_by_scheme = {"http": Pool}
    for _ in range(2):
        assert manager.request("GET", f"{url}/ok").data == b"ok"
    return manager, manager.clear


def proxy_manager(url: str, loop: Loop, urllib3: Any) -> Asked:
    manager = urllib3.ProxyManager(url)
    for _ in range(2):
        assert manager.request("GET", "http://elsewhere.test/ok").data == b"ok"
    return manager, manager.clear


def derived_connector(url: str, loop: Loop, aiohttp: Any) -> Asked:
    class Derived(aiohttp.TCPConnector):  # type: ignore[misc]
        async def connect(self, *args: Any, **options: Any) -> Any:
            return await super().connect(*args, **options)

    return connected(loop, aiohttp, lambda: Derived(limit=3), f"{url}/ok")


def proxied_connector(url: str, loop: Loop, aiohttp: Any) -> Asked:
    return connected(loop, aiohttp, aiohttp.TCPConnector, "http://elsewhere.test/ok", proxy=url)


def connected(loop: Loop, aiohttp: Any, connector: Callable[[], Any], url: str, **options: Any) -> Asked:
    async def ask() -> Any:
        session = aiohttp.ClientSession(connector=connector())
        for _ in range(2):
            async with session.get(url, **options) as response:
                assert await response.text() == "ok"
        return session

    session = loop.run(ask())

    async def end() -> None:
        await session.close()
        await asyncio.sleep(0)

    return session, lambda: loop.run(end())


WAYS = [
    *((way, name) for name in ("httpx", "httpx2") for way in (
        wrapped_transport, derived_transport, mounted_transport, proxied_client, wrapped_async_transport)),
    (derived_adapter, "requests"),
    (wrapped_adapter, "requests"),
    (proxied_session, "requests"),
    (pools_of_a_class_of_its_own, "urllib3"),
    (proxy_manager, "urllib3"),
    (derived_connector, "aiohttp"),
    (proxied_connector, "aiohttp"),
]  # fmt: skip


@pytest.fixture
def counter(own_server: str) -> Iterator[Counter]:
    counter = Counter(own_server)
    yield counter
    counter.close()


@pytest.mark.parametrize(("way", "name"), WAYS)
def test_what_is_left_open_is_one_client_with_the_figures_of_its_pool(
    session: Session, leaks: Leaks, loop: Loop, own_server: str, counter: Counter, way: Callable[..., Asked], name: str
) -> None:
    library = pytest.importorskip(name)
    left: list[Asked] = []
    (finding,) = leaks(lambda: left.append(way(own_server, loop, library)))
    assert (finding.kind.value, finding.library, finding.count) == ("clients", name, 1)
    (pool,) = (each for each in pools(session.watch) if each.requests)
    assert pool.library == name
    assert (pool.connections_made, pool.requests) == counter.counts()
    if way is not proxied_connector:  # which aiohttp 3.9 connects for each request
        assert (pool.idle, pool.connections_made, pool.requests) == (1, 1, 2)
    left.pop()[1]()


@pytest.mark.parametrize(("way", "name"), WAYS)
def test_what_is_closed_is_clean(
    leaks: Leaks, loop: Loop, own_server: str, way: Callable[..., Asked], name: str
) -> None:
    library = pytest.importorskip(name)

    def closing() -> None:
        _, close = way(own_server, loop, library)
        close()

    assert leaks(closing) == ()


# -- connections that are no TCP ---------------------------------------------------------------------------------------


@pytest.fixture
def unix_server(tmp_path: Path) -> Iterator[str]:
    """The path of a socket that answers two requests of one connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(65536):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=serve)
        thread.start()
        yield str(tmp_path / "s")
        thread.join(5)


def test_a_connector_to_a_unix_socket_is_followed(session: Session, leaks: Leaks, loop: Loop, unix_server: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    left: list[Asked] = []
    ask = lambda: left.append(  # noqa: E731  # one line for what is leaked
        connected(loop, aiohttp, lambda: aiohttp.UnixConnector(unix_server), "http://localhost/ok")
    )
    (finding,) = leaks(ask)
    assert (finding.kind.value, finding.library) == ("clients", "aiohttp")
    (pool,) = pools(session.watch)
    assert (pool.idle, pool.connections_made, pool.requests) == (1, 1, 2)
    left.pop()[1]()


def test_a_transport_to_a_unix_socket_is_followed(session: Session, leaks: Leaks, unix_server: str) -> None:
    httpx = pytest.importorskip("httpx")
    left: list[Asked] = []

    def leaking() -> None:
        client = httpx.Client(transport=httpx.HTTPTransport(uds=unix_server))
        left.append(asked(client, "http://localhost"))

    (finding,) = leaks(leaking)
    assert (finding.kind.value, finding.library) == ("clients", "httpx")
    (pool,) = pools(session.watch)
    assert (pool.idle, pool.connections_made, pool.requests) == (1, 1, 2)
    left.pop()[1]()


# -- tunnels -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def network(tmp_path: Path) -> Iterator[dict[str, int]]:
    """The ports of a proxy and of a server behind TLS."""
    command = [sys.executable, str(Path(__file__).with_name("network.py")), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait(10)


def through_httpx(url: str, proxy: str, trusting: ssl.SSLContext, loop: Loop) -> Asked:
    httpx = pytest.importorskip("httpx")
    return asked(httpx.Client(transport=httpx.HTTPTransport(proxy=proxy, verify=trusting)), url)


def through_urllib3(url: str, proxy: str, trusting: ssl.SSLContext, loop: Loop) -> Asked:
    manager = pytest.importorskip("urllib3").ProxyManager(proxy, ssl_context=trusting)
    for _ in range(2):
        assert manager.request("GET", f"{url}/ok").data == b"ok"
    return manager, manager.clear


def through_aiohttp(url: str, proxy: str, trusting: ssl.SSLContext, loop: Loop) -> Asked:
    aiohttp = pytest.importorskip("aiohttp")
    return connected(loop, aiohttp, aiohttp.TCPConnector, f"{url}/ok", proxy=proxy, ssl=trusting)


@pytest.mark.parametrize("way", [through_httpx, through_urllib3, through_aiohttp])
def test_a_tunnel_is_one_connection_with_what_goes_through_it(
    session: Session, loop: Loop, network: dict[str, int], way: Callable[..., Asked]
) -> None:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(Path(__file__).with_name("data") / "localhost.pem")
    url, proxy = f"https://localhost:{network['tls']}", f"http://127.0.0.1:{network['proxy']}"
    _, close = way(url, proxy, trusting, loop)
    (pool,) = (each for each in pools(session.watch) if each.requests)
    assert (pool.idle, pool.connections_made, pool.requests) == (1, 1, 2)
    close()
