"""One call of a library's is one cause: what it has left is listed under the first kind of it."""

from __future__ import annotations

import socketserver
import sys
from pathlib import Path

import pytest
from inner import Inner

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Finding, Held, Site
from pytest_httpleak.model.kinds import Kind, State, Verdict
from pytest_httpleak.session.calls import folded

LIBRARY = str(Path(sys.prefix, "lib", "python3", "site-packages", "sdk", "client.py"))
USER = Site("/home/me/test_a.py", 7, "test_it")
CALLED = Site(LIBRARY, 20, "connect")
STATES = {Kind.TASKS: State.PENDING, Kind.THREADS: State.RUNNING}


def left(kind: Kind, *inside: Site, called: Site = CALLED, user: Site = USER, count: int = 1) -> Finding:
    """What was made by a call of a library's, or within what that has called."""
    stack = (*inside, called, user, Site("/home/me/run.py", 1, "main"))
    holds = (Held(Kind.FDS, "fd 9", 9),) if kind is Kind.SOCKETS else ()
    state = STATES.get(kind, State.OPEN)
    return Finding(kind, "x", "T", state, f"one of {kind.value}", user, stack, count=count, holds=holds)


def test_the_thread_of_a_call_speaks_for_what_that_has_opened() -> None:
    inner = Site(LIBRARY, 99, "open_socket")
    thread, first, second = left(Kind.THREADS), left(Kind.SOCKETS, inner, count=2), left(Kind.FDS)
    assert folded([first, thread, second]) == [
        replace(thread, holds=(Held(Kind.SOCKETS, "one of sockets x2", 9), Held(Kind.FDS, "one of fds")))
    ]


def test_what_is_warned_of_is_one_cause_as_well() -> None:
    thread, sock = left(Kind.THREADS).judged(Verdict.WARNED), left(Kind.SOCKETS).judged(Verdict.WARNED)
    assert folded([sock, thread]) == [replace(thread, holds=(Held(Kind.SOCKETS, "one of sockets", 9),))]


def test_the_first_descriptor_is_shown_where_something_else_is_held_before_it() -> None:
    sock = replace(left(Kind.SOCKETS), holds=(Held(Kind.CONNECTIONS, "a connection"), Held(Kind.FDS, "fd 9", 9)))
    (thread,) = folded([left(Kind.THREADS), sock])
    assert thread.holds == (Held(Kind.SOCKETS, "one of sockets", 9),)


def test_the_call_is_the_librarys_where_the_standard_library_stands_between() -> None:
    thread, sock = (
        replace(each, stack=(CALLED, Site(socketserver.__file__, 1, f"run{at}"), USER))
        for at, each in enumerate((left(Kind.THREADS), left(Kind.SOCKETS)))
    )
    assert [each.kind for each in folded([sock, thread])] == [Kind.THREADS]


@pytest.mark.parametrize(
    "other",
    [
        left(Kind.SOCKETS, called=Site(LIBRARY, 50, "listen")),
        left(Kind.SOCKETS, user=Site("/home/me/test_a.py", 8, "test_it")),
        left(Kind.RESPONSES),
        replace(left(Kind.SOCKETS), state=State.COLLECTED),
        replace(left(Kind.SOCKETS), state=State.PEAK),
        replace(left(Kind.SOCKETS), created=None),
        replace(left(Kind.SOCKETS), stack=(USER,)),
        replace(left(Kind.SOCKETS), stack=(CALLED,)),
        *(left(Kind.SOCKETS).judged(verdict) for verdict in Verdict if verdict is not Verdict.LEAKED),
    ],
    ids=lambda each: f"{each.kind.value}-{each.state.value}-{each.verdict.value}",
)
def test_another_cause_stays_one(other: Finding) -> None:
    thread = left(Kind.THREADS)
    assert folded([other, thread]) == [other, thread]


@pytest.mark.parametrize("verdict", [each for each in Verdict if each not in (Verdict.LEAKED, Verdict.WARNED)])
def test_what_is_forgiven_speaks_for_nothing(verdict: Verdict) -> None:
    forgiven, leaked = left(Kind.THREADS).judged(verdict), left(Kind.SOCKETS)
    assert folded([forgiven, leaked]) == [forgiven, leaked]
    assert folded([forgiven, leaked.judged(verdict)]) == [forgiven, leaked.judged(verdict)]


@pytest.mark.parametrize("package", ["urllib3", "aiohttp", "httpx"])
def test_a_library_that_is_known_by_name_has_told_already_what_is_one(package: str) -> None:
    called = Site(LIBRARY.replace("sdk", package), 20, "request")
    both = [left(Kind.TASKS, called=called), left(Kind.SOCKETS, called=called)]
    assert folded(both) == both


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
    (held,) = (each for each in finding["holds"] if each["kind"] == "sockets")
    assert held["summary"].endswith(f"fd {held['fd']} x2")


@pytest.mark.parametrize(
    ("mark", "kinds"), [("threads=1", ["sockets", "threads"]), ("sockets=2", ["sockets", "threads"])]
)
def test_what_is_tolerated_of_a_client_excuses_nothing_else(
    inner: Inner, monkeypatch: pytest.MonkeyPatch, mark: str, kinds: list[str]
) -> None:
    inner.install(monkeypatch, sdk=SDK)
    marked = TESTS.replace("def test_leaks", f"@pytest.mark.httpleak({mark})\ndef test_leaks")
    inner.write(test_a=f"import pytest\n{marked}")
    inner.run()
    assert inner.outcomes()["test_leaks"] == "leaked"
    findings = inner.report["tests"][0]["findings"]
    assert sorted(each["kind"] for each in findings) == kinds
    assert {each["verdict"] for each in findings} == {"leaked", "tolerated"}


def test_with_a_baseline_each_kind_is_known_by_itself(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the thread is still there is chance, now and then."""
    inner.install(monkeypatch, sdk=SDK)
    inner.write(test_a=TESTS)
    inner.run("--httpleak-baseline=known.json", "--httpleak-update-baseline")
    ended = TESTS.replace("KEPT.append(sdk.Client())", "KEPT.append(sdk.Client()); KEPT[0].ended.set()")
    inner.write(test_a=ended)
    inner.run("--httpleak-baseline=known.json").assert_outcomes(passed=2)
    (finding,) = inner.report["tests"][0]["findings"]
    assert (finding["kind"], finding["verdict"]) == ("sockets", "known")


def test_where_leaks_are_confirmed_each_kind_repeats_by_itself(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.install(monkeypatch, sdk=SDK)
    ending = "KEPT.append(sdk.Client())\n    if len(KEPT) > 1: KEPT[-1].ended.set()"
    inner.write(test_a=TESTS.replace("KEPT.append(sdk.Client())", ending))
    inner.run("--httpleak-confirm=1", "-k", "leaks")
    assert inner.outcomes() == {"test_leaks": "leaked"}
