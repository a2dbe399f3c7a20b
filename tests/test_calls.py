"""One call of a library's is one cause: what it has left is listed under the first kind of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from inner import Inner

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Held, Site, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.session.calls import folded

LIBRARY = str(Path(sys.prefix, "lib", "python3", "site-packages", "sdk", "client.py"))
ALL = tuple(Kind)
USER = Site("/home/me/test_a.py", 7, "test_it")
CALLED = Site(LIBRARY, 20, "connect")
STATES = {Kind.TASKS: State.PENDING, Kind.THREADS: State.RUNNING}


def left(kind: Kind, *inside: Site, called: Site = CALLED, user: Site = USER) -> Suspect:
    """What was made by a call of a library's, or within what that has called."""
    stack = (*inside, called, user, Site("/home/me/run.py", 1, "main"))
    state = STATES.get(kind, State.OPEN)
    return Suspect(kind, "x", "T", state, f"one of {kind.value}", id(stack), user, stack)


def test_the_thread_of_a_call_speaks_for_what_that_has_opened() -> None:
    inner = Site(LIBRARY, 99, "open_socket")
    thread, first, second = left(Kind.THREADS), left(Kind.SOCKETS, inner), left(Kind.FDS)
    assert folded([first, thread, second], ALL) == [
        replace(thread, holds=(Held(Kind.SOCKETS, "one of sockets"), Held(Kind.FDS, "one of fds")))
    ]


@pytest.mark.parametrize(
    "other",
    [
        left(Kind.SOCKETS, called=Site(LIBRARY, 50, "listen")),
        left(Kind.SOCKETS, user=Site("/home/me/test_a.py", 8, "test_it")),
        left(Kind.THREADS),
        left(Kind.RESPONSES),
        replace(left(Kind.SOCKETS), state=State.COLLECTED),
        replace(left(Kind.SOCKETS), created=None),
        replace(left(Kind.SOCKETS), stack=(USER,)),
    ],
    ids=["function", "line", "alike", "response", "collected", "no line", "no library"],
)
def test_another_cause_stays_one(other: Suspect) -> None:
    thread = left(Kind.THREADS)
    assert folded([other, thread], ALL) == [other, thread]


@pytest.mark.parametrize("package", ["urllib3", "aiohttp", "httpx"])
def test_a_library_that_is_known_by_name_has_told_already_what_is_one(package: str) -> None:
    called = Site(LIBRARY.replace("sdk", package), 20, "request")
    both = [left(Kind.TASKS, called=called), left(Kind.SOCKETS, called=called)]
    assert folded(both, ALL) == both


def test_a_kind_that_is_not_watched_speaks_for_nothing() -> None:
    both = [left(Kind.THREADS), left(Kind.SOCKETS)]
    assert folded(both, (Kind.SOCKETS,)) == both


SDK = """
import socket, threading

class Client:
    def __init__(self):
        self.ended = threading.Event()
        self.sock, self.other = socket.socketpair()
        self.thread = threading.Thread(target=self.ended.wait, daemon=True)
        self.thread.start()

    def close(self):
        self.ended.set()
        self.thread.join()
        self.sock.close()
        self.other.close()
"""
TESTS = """
import sdk

KEPT = []

def test_leaks():
    KEPT.append(sdk.Client())

def test_is_clean():
    client = sdk.Client()
    client.close()
    KEPT.append(client)
"""


def test_a_client_that_is_left_open_is_one_finding(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.install(monkeypatch, sdk=SDK)
    inner.write(test_a=TESTS)
    inner.judge(test_leaks="leaked", test_is_clean="clean")
    (finding,) = inner.report["tests"][0]["findings"]
    assert finding["kind"] == "threads"
    assert [held["kind"] for held in finding["holds"]] == ["sockets", "sockets"]
    assert all(f"fd {held['fd']}" in held["summary"] for held in finding["holds"])
