"""Event loops that outlive the leaking functions of a test, and what those keep."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from pytest_httpleak.session.core import Session


class Loop:
    """An event loop that is someone else's: it outlives the leaking functions, and stands still between them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.kept: list[Any] = []  # transports and servers, which must be closed before the loop

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def end(self) -> None:
        if self.loop.is_closed():
            return
        while self.kept:
            self.kept.pop().close()
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        self.run(asyncio.wait(left, timeout=1)) if left else None
        self.run(self.loop.shutdown_asyncgens())
        self.loop.close()


@pytest.fixture
def loop(session: Session) -> Iterator[Loop]:
    loop = Loop(asyncio.new_event_loop())
    yield loop
    loop.end()


@pytest.fixture
def held() -> Iterator[list[Any]]:
    """What outlives the leaking functions of a test, and needs no closing."""
    things: list[Any] = []
    yield things
    things.clear()
    gc.collect()


@pytest.fixture
def address(server: str) -> tuple[str, int]:
    parts = urlsplit(server)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
