"""What all tests share: a local HTTP server in a process of its own, and a watch to run leaking code under."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_httpleak.model import Finding
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import default_settings, settings_from_keywords

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The base URL of `tests/server.py`, which runs in a process of its own."""
    program = Path(__file__).with_name("server.py")
    with subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()
        process.wait(10)


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A watch of its own, in this process."""
    session = Session(rootdir=str(request.path.parent))
    session.start()
    yield session
    session.stop()
    assert session.errors() == []


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
