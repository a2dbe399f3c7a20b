"""The orders service of the examples, and a client of it that lives as long as the session."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

os.environ["NO_PROXY"] = "127.0.0.1"  # a proxy of the machine has no business here


@pytest.fixture(scope="session")
def address() -> Iterator[tuple[str, int]]:
    program = Path(__file__).resolve().parent.parent / "server.py"
    with subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield "127.0.0.1", int(process.stdout.readline())
        process.stdin.close()  # the server's sign to end


@pytest.fixture(scope="session")
def server(address: tuple[str, int]) -> str:
    return "http://{}:{}".format(*address)


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, limits=httpx.Limits(max_connections=100)) as client:
        yield client
