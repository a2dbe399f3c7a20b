"""The server in its own process, and clients that live as long as the session and are closed at its end."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
import requests
import urllib3

from orders import AsyncOrders, OrdersClient

os.environ["NO_PROXY"] = "127.0.0.1"  # a proxy of the machine has no business here


class Server(NamedTuple):
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    program = Path(__file__).with_name("server.py")
    with subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Server("127.0.0.1", int(process.stdout.readline()))
        process.stdin.close()  # the server's sign to end


@pytest.fixture(scope="session")
def orders(server: Server) -> Iterator[OrdersClient]:
    client = OrdersClient(server.url)
    yield client
    client.close()


@pytest.fixture(scope="session")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="session")
def pool() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager() as pool:
        yield pool


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def async_orders(server: Server) -> AsyncIterator[AsyncOrders]:
    client = AsyncOrders(server.url)
    yield client
    await client.close()
