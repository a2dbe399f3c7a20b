"""Random programs of opens, closes, drops, cycles, threads, tasks and checked blocks: a simple model says what leaks."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_httpleak.model.findings import Finding
from pytest_httpleak.probes import references
from pytest_httpleak.session.blocks import Block
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import default_settings, settings_from_keywords

Leaked = Counter[tuple[str, str, str]]  # kind, function, state


class World:
    """What a program has open, what is beside it, and what the model holds to be leaked."""

    def __init__(self, server: str) -> None:
        httpx, urllib3 = pytest.importorskip("httpx"), pytest.importorskip("urllib3")
        self.server = server
        self.httpx, self.urllib3 = httpx.Client(verify=False), urllib3.PoolManager(maxsize=20)
        self.loop = asyncio.new_event_loop()
        self.open: list[tuple[str, Any]] = []
        self.lost: list[Callable[[], object]] = []  # how to end what the program has no handle of any more

    def end(self) -> None:
        for name, thing in self.open:
            CLOSE[name](self, thing)
        for end in self.lost:
            end()
        self.httpx.close()
        self.urllib3.clear()
        self.loop.close()


# What a program can open: each kind at a line of its own.


def a_socket(world: World) -> Any:
    return socket.socket()


def a_file(world: World) -> Any:
    return Path(__file__).open("rb")


def a_temporary_file(world: World) -> Any:
    return tempfile.TemporaryFile()


def a_descriptor(world: World) -> Any:
    return os.open(os.devnull, os.O_RDONLY)


def a_loop(world: World) -> Any:
    return asyncio.new_event_loop()


def a_thread(world: World) -> Any:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()
    return thread, stop


def a_task(world: World) -> Any:
    return world.loop.create_task(asyncio.sleep(30))


def a_response_of_httpx(world: World) -> Any:
    return world.httpx.send(world.httpx.build_request("GET", f"{world.server}/big"), stream=True)


def a_response_of_urllib3(world: World) -> Any:
    return world.urllib3.request("GET", f"{world.server}/big", preload_content=False)


def a_response_of_http_client(world: World) -> Any:
    connection = http.client.HTTPConnection(world.server.removeprefix("http://"))
    connection.request("GET", "/big")
    return connection, connection.getresponse()


def _end_response(world: World, things: Any) -> None:
    things[1].close()
    things[0].close()


def _end_thread(world: World, thing: Any) -> None:
    thing[1].set()
    thing[0].join()


def _end_task(world: World, task: Any) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        world.loop.run_until_complete(task)


def _close(world: World, thing: Any) -> None:
    thing.close()


OPEN: dict[str, Callable[[World], Any]] = {
    each.__name__: each
    for each in (
        a_socket,
        a_file,
        a_temporary_file,
        a_descriptor,
        a_loop,
        a_thread,
        a_task,
        a_response_of_httpx,
        a_response_of_urllib3,
        a_response_of_http_client,
    )
}
CLOSE: dict[str, Callable[[World, Any], None]] = {
    **dict.fromkeys(OPEN, _close),
    "a_descriptor": lambda world, fd: os.close(fd),
    "a_thread": _end_thread,
    "a_task": _end_task,
    "a_response_of_http_client": _end_response,
}
KINDS = {
    "a_socket": ("sockets", "open"),
    "a_file": ("fds", "open"),
    "a_temporary_file": ("fds", "open"),
    "a_descriptor": ("fds", "open"),
    "a_loop": ("loops", "open"),
    "a_thread": ("threads", "running"),
    "a_task": ("tasks", "pending"),
    "a_response_of_httpx": ("responses", "open"),
    "a_response_of_urllib3": ("responses", "open"),
    "a_response_of_http_client": ("responses", "open"),
}
# What becomes of a thing that is dropped: the collector's leak, nothing, or what it was.
COLLECTED = ("a_socket", "a_loop", "a_response_of_httpx", "a_response_of_urllib3", "a_response_of_http_client")
FREED = ("a_file", "a_temporary_file")


class Cycle:
    """Keeps a thing in a reference cycle of its own."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self.me = self


Step = tuple[Any, ...]


def dropped(world: World, name: str, thing: Any, leaked: Leaked) -> None:
    kind, state = KINDS[name]
    if name in FREED:
        return
    if name in COLLECTED:
        leaked[kind, name, "collected"] += 1
        return
    leaked[kind, name, state] += 1
    world.lost.append(lambda: CLOSE[name](world, thing))


def run(world: World, steps: list[Step], session: Session, owner: Any) -> Leaked:
    """Run a program; what it has lost, by the model. What is still open at the end, `left_open` says."""
    leaked: Leaked = Counter()
    for step in steps:
        what = step[0]
        if what == "open":
            world.open.append((step[1], OPEN[step[1]](world)))
        elif what == "close" and world.open:
            name, thing = world.open.pop(step[1] % len(world.open))
            CLOSE[name](world, thing)
        elif what in ("drop", "cycle") and world.open:
            name, thing = world.open.pop(step[1] % len(world.open))
            if what == "cycle":
                Cycle(thing)
            dropped(world, name, thing, leaked)
            del thing
        elif what == "block":
            block_of(world, step[1], session, owner)
    return leaked


def block_of(world: World, steps: list[Step], session: Session, parent: Any) -> None:
    """A checked block answers for what was opened inside; its leaks are its own and nobody else's."""
    around, world.open = world.open, []
    block = Block(session, SETTINGS, parent)
    leaked = run(world, steps, session, block.check.owner)
    left = left_open(world)
    agree(block.end().findings, leaked + left)
    for name, thing in world.open:
        CLOSE[name](world, thing)
    world.open = around


def left_open(world: World) -> Leaked:
    return Counter((*KINDS[name][:1], name, KINDS[name][1]) for name, _ in world.open)


def agree(findings: tuple[Finding, ...], leaked: Leaked) -> None:
    """Hold the findings to the model: one for each line, with the number of all that it left, and the state of one of them."""
    seen: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        assert finding.created is not None, finding
        kind, function = finding.kind.value, finding.created.function
        assert (kind, function) not in seen, "one finding for each line"
        assert (kind, function, finding.state.value) in leaked
        seen[kind, function] = finding.count
    expected: Counter[tuple[str, str]] = Counter()
    for (kind, function, _), number in leaked.items():
        expected[kind, function] += number
    assert seen == expected


SETTINGS = settings_from_keywords(default_settings(), {"grace": 0}, "a program")

NAMES = st.sampled_from(sorted(OPEN))
INDEX = st.integers(0, 5)
PLAIN = st.one_of(
    st.tuples(st.just("open"), NAMES),
    st.tuples(st.just("open"), NAMES),
    st.tuples(st.sampled_from(["close", "close", "drop", "cycle"]), INDEX),
)
PROGRAMS = st.lists(
    st.one_of(PLAIN, PLAIN, PLAIN, st.tuples(st.just("block"), st.lists(PLAIN, max_size=4))), max_size=9
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the words for what holds a leak, which take a scan of the heap each."""
    monkeypatch.setattr(references, "held_by", lambda thing: None)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:It looks like `register_random`")  # Hypothesis says so of its own, on Python 3.14
@settings(
    derandomize=True,
    deadline=None,
    max_examples=70,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=PROGRAMS)
def test_the_watch_agrees_with_the_model(quick: None, session: Session, server: str, steps: list[Step]) -> None:
    world = World(server)
    try:
        check = session.begin("a program", "function", SETTINGS)
        leaked = run(world, steps, session, check.owner)
        left = left_open(world)
        session.end(check)
        agree(check.findings, leaked + left)
        again = session.begin("the next one", "function", SETTINGS)
        session.end(again)
        assert again.findings == (), "what was reported once is not reported again"
    finally:
        world.end()
