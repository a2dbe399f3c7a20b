"""What all tests share: a local HTTP server in a process of its own, and a watch to run leaking code under."""

from __future__ import annotations

import asyncio
import gc
import http.cookiejar  # noqa: F401  # a run in this process that is the first to import it takes it away again
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from marked import Leaks, Marked, closed
from resolvers import have_ended

from pytest_httpleak.api import LeakCheck
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.probes import nativethreads
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import default_settings, settings_from_keywords

pytest_plugins = ["pytester", "inner", "loops"]

_DATA = Path(__file__).with_name("data")
# Each client of httpx's reads all authorities that the process trusts, and so do aiohttp and requests when they are imported:
# the hundred and more of the system's take a fifth of the time of all tests.
os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = str(_DATA / "authority.pem")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The base URL of `tests/server.py`, which runs in a process of its own."""
    with _running() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def own_server() -> Iterator[str]:
    """The base URL of a server that only this module's tests use, so that its `/count` counts nobody else's requests."""
    with _running() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def tls_server() -> Iterator[str]:
    """The base URL of the same server behind TLS; `data/localhost.pem` vouches for it."""
    with _running(str(_DATA / "localhost.pem")) as port:
        yield f"https://127.0.0.1:{port}"


@contextmanager
def _running(*arguments: str) -> Iterator[int]:
    command = [sys.executable, str(Path(__file__).with_name("server.py")), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()
        process.wait(10)


@pytest.fixture(scope="session")
def once_for_the_process() -> None:
    """What a library starts at first use, and keeps: aiohttp's resolver has a thread. It is there before the first watch.

    That thread closes, a little later, what the resolver has opened: not while a test counts.
    """
    try:
        import aiohttp
    except ImportError:
        return

    async def use() -> None:
        async with aiohttp.ClientSession():
            pass

    asyncio.run(use())
    pycares = sys.modules.get("pycares")
    if hasattr(pycares, "_shutdown_manager"):
        have_ended(pycares)


@pytest.fixture
def small_heap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a watch in this process pass over what was there before, as all that there is is searched for each leak."""
    gc.freeze()
    if "whole_heap" not in request.fixturenames:
        monkeypatch.setattr(gc, "unfreeze", lambda: None)


@pytest.fixture
def session(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, small_heap: None, once_for_the_process: None
) -> Iterator[Session]:
    """A watch of its own, in this process."""
    monkeypatch.setattr(nativethreads, "are_running", lambda: False)  # those of other tests' libraries may be
    session = Session(rootdir=str(request.path.parent))
    session.start()
    yield session
    session.stop()
    gc.collect()  # what a test drops in a cycle warns here, where its own filters hold, and not in whichever test comes next
    assert session.errors() == []


@pytest.fixture
def whole_heap() -> None:
    """For tests in which something that was there before keeps what leaks: a module, a class."""


@pytest.fixture
def leaks(session: Session) -> Callable[..., tuple[Finding, ...]]:
    """Runs a function as if it were a test, and gives what it leaked: `leaks(function, sockets=1, grace=0.1)`."""

    def run(function: Callable[[], object], **keywords: Any) -> tuple[Finding, ...]:
        settings = settings_from_keywords(default_settings(), {"grace": 0.02, **keywords}, "leaks()")
        check = session.begin(function.__name__, "function", settings)
        try:
            function()
        finally:
            session.end(check)
        return check.findings

    return run


@pytest.fixture
def leakcheck(session: Session) -> Iterator[LeakCheck]:
    """The interface as a test has it; what it leaves is no business of the tests that use this."""
    check = session.begin("test_x", "function", settings_from_keywords(default_settings(), {"grace": 0.02}, "check"))
    yield LeakCheck(session, check)
    session.drop(check)


@pytest.fixture
def kept() -> Iterator[list[Any]]:
    """What outlives the leaking functions of a test; closed at the test's end."""
    things: list[Any] = []
    yield things
    closed(things)


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """Ends what a test has left, after it was judged."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def marked(session: Session, leaks: Leaks, kept: list[Any]) -> Marked:
    """Runs functions whose comments say what they leak."""
    return Marked(session, leaks, kept)
