"""Twelve ways to leak, in blocking code, each followed by its mended twin.

Every test passes under plain pytest. With `pytest -p httpleak` the first of each pair fails, and the failure
names the line marked `planted`, here or in the package `orders`.
"""

import asyncio
import contextlib
import http.client
import socket

import httpx
import pytest
import requests

from orders import OrdersClient, Poller, close_sessions, export_header, get_with_retries, is_alive, session_for

DEBUG_LOG: list[object] = []  # "we may want to look at it later": keeps alive what should be gone


# In Go: the caller of a function that returns *http.Response forgets resp.Body.Close().
def test_export_never_closed(orders):
    export = orders.export()  # the leak is born within export(), at the line marked there
    assert export.status_code == 200


def test_export_never_closed_mended(orders):
    with contextlib.closing(orders.export()) as export:
        assert export.status_code == 200


# In Go: reading the head of resp.Body and returning early, before the line with Close.
def test_export_read_in_part(pool, server):
    export = pool.request("GET", f"{server.url}/export", preload_content=False)  # planted: responses
    DEBUG_LOG.append(export)
    assert export.read(6) == b"number"


def test_export_read_in_part_mended(pool, server):
    assert export_header(pool, server.url) == ["number", "state", "customer", "total"]


# In Go: if resp.StatusCode != 200 { return err } above defer resp.Body.Close().
def test_status_checked_before_with(orders):
    request = orders.http.build_request("GET", "/orders/unknown")
    with pytest.raises(httpx.HTTPStatusError):
        response = orders.http.send(request, stream=True)  # planted: responses
        response.raise_for_status()
        with contextlib.closing(response):
            response.read()


def test_status_checked_before_with_mended(orders):
    request = orders.http.build_request("GET", "/orders/unknown")
    with (
        pytest.raises(httpx.HTTPStatusError),
        contextlib.closing(orders.http.send(request, stream=True)) as response,
    ):
        response.raise_for_status()


# In Go: a retry loop with defer resp.Body.Close() in it, which runs when the function ends and not at each turn.
def test_retry_keeps_each_answer(session, server):
    answers = [session.get(f"{server.url}/busy", stream=True, timeout=5) for _ in range(3)]  # planted: responses x3
    DEBUG_LOG.append(answers)
    assert not any(answer.ok for answer in answers)


def test_retry_keeps_each_answer_mended(session, server):
    assert get_with_retries(session, f"{server.url}/busy", tries=3) is None


# In Go: &http.Client{Transport: &http.Transport{}} for each call: nothing is reused, and descriptors grow.
def test_client_for_each_call(server):
    for number in (1, 2, 3):
        client = httpx.Client(base_url=server.url)  # planted: clients x3
        DEBUG_LOG.append(client)
        assert client.get(f"/orders/{number}").json()["number"] == number


def test_client_for_each_call_mended(server):
    with contextlib.closing(OrdersClient(server.url)) as orders:
        assert [orders.state(number) for number in (1, 2, 3)] == ["shipped"] * 3


# In Go: map[string]*http.Client without expiry: a cache that only grows.
def test_session_for_each_tenant(server):
    for tenant in ("blue", "green"):
        assert session_for(tenant).get(f"{server.url}/orders/1", timeout=5).ok


def test_session_for_each_tenant_mended(server):
    try:
        for tenant in ("blue", "green"):
            assert session_for(tenant).get(f"{server.url}/orders/1", timeout=5).ok
    finally:
        close_sessions()


# In Go: a health check with a Transport of its own, whose CloseIdleConnections nobody calls.
def test_health_check_left_connected(server):
    connection = http.client.HTTPConnection(server.host, server.port)  # planted: connections
    DEBUG_LOG.append(connection)
    connection.request("GET", "/orders/1")
    assert connection.getresponse().read()


def test_health_check_left_connected_mended(server):
    assert is_alive(server.host, server.port)


# In Go: net.Dial without defer conn.Close().
def test_socket_left_open(server):
    sock = socket.create_connection((server.host, server.port))  # planted: sockets
    DEBUG_LOG.append(sock)
    assert sock.getpeername() == (server.host, server.port)


def test_socket_left_open_mended(server):
    with socket.create_connection((server.host, server.port)) as sock:
        assert sock.getpeername() == (server.host, server.port)


# In Go: os.Create in a loop, until "too many open files"; ls /proc/PID/fd grows by one at each turn.
def test_file_for_each_order(orders, tmp_path):
    for number in range(1, 6):
        file = open(tmp_path / f"{number}.txt", "w")  # planted: fds x5
        DEBUG_LOG.append(file)
        file.write(orders.state(number))


def test_file_for_each_order_mended(orders, tmp_path):
    for number in range(1, 6):
        (tmp_path / f"{number}.txt").write_text(orders.state(number))


# In Go: go poll(ticker) without a done channel: the goroutine outlives whoever started it.
def test_poller_never_stopped(orders):
    Poller(lambda: orders.state(1)).start()  # the leak is born within start(), at the line marked there


def test_poller_never_stopped_mended(orders):
    poller = Poller(lambda: orders.state(1))
    poller.start()
    poller.stop()


# In Go the runtime keeps the only event loop; the nearest mistake is a server that nobody shuts down.
def test_loop_never_closed():
    loop = asyncio.new_event_loop()  # planted: loops
    DEBUG_LOG.append(loop)
    assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"


def test_loop_never_closed_mended():
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"


# In Go: the error path. The connection is closed after the happy path only, and a panic never gets there.
def test_exception_before_close(server):
    session = requests.Session()  # planted: clients
    DEBUG_LOG.append(session)
    with pytest.raises(KeyError):
        order = session.get(f"{server.url}/orders/1", timeout=5).json()
        assert order["invoice"]
        session.close()


def test_exception_before_close_mended(server):
    with pytest.raises(KeyError), requests.Session() as session:
        order = session.get(f"{server.url}/orders/1", timeout=5).json()
        assert order["invoice"]
