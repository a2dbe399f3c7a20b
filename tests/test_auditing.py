"""Audit notes: what allows a leak in production."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from inner import Inner

from pytest_httpleak.model import AuditNote
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import default_settings

Noted = Callable[[Callable[[], object]], dict[str, AuditNote]]


@pytest.fixture
def noted(request: pytest.FixtureRequest) -> Any:
    """Runs a function as if it were a test, and gives its audit notes by name."""
    session = Session(rootdir=str(request.path.parent), audit=True)
    session.start()

    def run(function: Callable[[], object]) -> dict[str, AuditNote]:
        check = session.begin("test_x", "function", default_settings())
        function()
        session.end(check)
        return {note.name: note for note in check.notes}

    yield run
    session.stop()
    assert session.errors() == []


def test_a_request_without_a_timeout_is_noted_with_its_line(noted: Noted, server: str) -> None:
    requests = pytest.importorskip("requests")

    def careless() -> None:
        requests.get(f"{server}/ok")

    note = noted(careless)["no-timeout"]
    assert note.created is not None
    assert note.created.function == "careless"


def test_a_request_with_a_timeout_is_not(noted: Noted, server: str) -> None:
    requests = pytest.importorskip("requests")
    assert noted(lambda: requests.get(f"{server}/ok", timeout=5)) == {}


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_client_without_timeout_and_limit_is_noted(noted: Noted, library: str) -> None:
    httpx = pytest.importorskip(library)

    def careless() -> None:
        httpx.Client(timeout=None, limits=httpx.Limits(max_connections=None)).close()

    assert set(noted(careless)) == {"no-timeout", "unbounded-pool"}


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_client_with_the_defaults_is_not(noted: Noted, library: str) -> None:
    httpx = pytest.importorskip(library)
    assert noted(lambda: httpx.Client().close()) == {}


def test_a_session_of_aiohttp_without_timeout_and_limit_is_noted(noted: Noted) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    import asyncio

    async def careless() -> None:
        timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector):
            pass

    async def careful() -> None:
        async with aiohttp.ClientSession():
            pass

    assert set(noted(lambda: asyncio.run(careless()))) >= {"unbounded-pool"}
    assert noted(lambda: asyncio.run(careful())) == {}


def test_a_pool_that_throws_connections_away_is_noted(noted: Noted, server: str) -> None:
    urllib3 = pytest.importorskip("urllib3")

    def crowded(size: int) -> None:
        with urllib3.PoolManager(maxsize=size) as pool:
            both = [pool.request("GET", f"{server}/ok", preload_content=False) for _ in range(2)]
            for response in both:
                response.read()

    assert set(noted(lambda: crowded(1))) == {"pool-overflow"}
    assert noted(lambda: crowded(2)) == {}


@pytest.mark.parametrize(("number", "names"), [(4, set()), (5, {"client-per-request"})])
def test_many_clients_from_one_line_are_noted(noted: Noted, number: int, names: set[str]) -> None:
    httpx = pytest.importorskip("httpx")

    def each_its_own() -> None:
        for _ in range(number):
            httpx.Client().close()

    assert set(noted(each_its_own)) == names


def test_a_changed_global_default_is_noted_and_one_that_was_put_back_is_not(noted: Noted) -> None:
    def changed() -> None:
        socket.setdefaulttimeout(5)

    def put_back() -> None:
        opener = urllib.request.build_opener()
        before = urllib.request._opener  # type: ignore[attr-defined]
        urllib.request.install_opener(opener)
        urllib.request._opener = before  # type: ignore[attr-defined]

    assert noted(put_back) == {}
    assert set(noted(changed)) == {"global-default-changed"}
    socket.setdefaulttimeout(None)


SUITE = """
import socket
def test_changes():
    socket.setdefaulttimeout(5)
def test_clean():
    assert socket.getdefaulttimeout() == 5
"""


def test_notes_inform_and_fail_only_where_that_is_asked_for(inner: Inner) -> None:
    inner.write(test_a=SUITE)
    result = inner.run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["note: *socket's default timeout was changed*global-default-changed*", "*fix:*"])

    result = inner.run("-o", "httpleak_audit=global-default-changed")
    result.assert_outcomes(passed=1, failed=1)
    assert inner.outcomes() == {"test_changes": "leaked", "test_clean": "clean"}

    result = inner.run("-o", "httpleak_audit=off")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("note:*")
