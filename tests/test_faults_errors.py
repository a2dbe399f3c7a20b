"""Errors of the plugin's own, and no memory left: no run ends, no outcome but that of a leak that cannot be known changes."""

from __future__ import annotations

import re

import pytest
from inner import Inner

LEAK = "KEPT.append(socket.socket())"


BROKEN = """
import pytest

class Unshowable(MemoryError):
    def __str__(self):
        raise MemoryError

def failing(*args, **kwargs):
    raise {error}

def pytest_configure(config):
    pytest.MonkeyPatch().setattr("pytest_httpleak.{target}", failing)
"""

BESIDE = f"""
import socket

KEPT = []

def test_leaks():
    {LEAK}

def test_is_clean():
    socket.socket().close()

def test_fails():
    assert False, "own reason"
"""


@pytest.mark.parametrize("error", ["MemoryError", "Unshowable"])
@pytest.mark.parametrize(
    "target",
    [
        "socketrecords.SocketRecord.__init__",
        "socketrecords.SocketRecord.look",
        "ownership.Watch.add",
        "session.looking.Looking.look",
        "probes.descriptors.listing",
        "probes.references.held_by",
        "session.ledger.Ledger.has_moved",
        "rules.findings",
    ],
)
def test_no_memory_left_changes_no_outcome_but_the_leaks_that_cannot_be_known(
    inner: Inner, target: str, error: str
) -> None:
    inner.write(conftest=BROKEN.replace("{target}", target).replace("{error}", error), test_a=BESIDE)
    result = inner.run(faulty=True)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.fnmatch_lines(["*own reason*"])
    text = result.stdout.str()
    assert len(re.findall("was switched off for|nothing was switched off", text)) == 1, text
    is_judged = not target.endswith(".look")
    assert inner.outcomes().get("test_is_clean", "clean") == ("clean" if is_judged else "unchecked")
    assert result.ret == 1


@pytest.mark.parametrize(
    "target",
    [
        "verdict.judge",
        "verdict.leak_error",
        "reports.text.leak_text",
        "testrows.rows",
        "hints.hint",
        "probes.references.held_by",
    ],
)
def test_a_leak_that_cannot_be_put_into_words_still_fails_its_test(inner: Inner, target: str) -> None:
    broken = BROKEN.replace("{target}", target).replace("{error}", "RuntimeError('broken')")
    inner.write(conftest=broken, test_a=BESIDE)
    result = inner.run(faulty=True)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*own reason*", "FAILED test_a.py::test_leaks*", "FAILED test_a.py::test_fails*"])


@pytest.mark.parametrize("leaking", [True, False])
@pytest.mark.parametrize(
    "target", ["finish.closing_lines", "results.Results.run", "reports.text.grouped_text", "gate.close"]
)
def test_an_end_that_fails_shows_the_runs_own_result(inner: Inner, target: str, leaking: bool) -> None:
    broken = BROKEN.replace("{target}", target).replace("{error}", "RuntimeError('broken')")
    inner.write(conftest=broken, test_a=BESIDE if leaking else "def test_is_clean(): pass")
    result = inner.run()
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    if leaking:
        result.assert_outcomes(passed=1, failed=2)
    else:
        result.assert_outcomes(passed=1)
    if leaking or "grouped" not in target:
        result.stdout.fnmatch_lines(["httpleak: *broken*"])
    assert result.ret == (1 if leaking else 4 if target in ("results.Results.run", "gate.close") else 0)


DEEP = """
import asyncio, http.client, inspect, os, socket, sys, threading

import pytest

KEPT = []


def deep(make):
    made = []

    def endless():
        made.append(make())
        endless()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)
    try:
        with pytest.raises(RecursionError):
            endless()
    finally:
        sys.setrecursionlimit(limit)
    return made


def started():
    thread = threading.Thread(target=int)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (socket.socket, "close"),
        (lambda: open(os.devnull), "close"),
        (lambda: os.fdopen(os.open(os.devnull, os.O_RDONLY)), "close"),
        (asyncio.new_event_loop, "close"),
        (lambda: http.client.HTTPConnection("127.0.0.1", 9), "close"),
        (started, "join"),
    ],
    ids=["socket", "file", "fd", "loop", "connection", "thread"],
)
def test_ended(make, end):
    for each in deep(make):
        getattr(each, end)()


def test_closed_on_the_way():
    def nested():
        with socket.socket(), open(os.devnull):
            nested()

    deep(nested)


@pytest.mark.parametrize(
    "make", [socket.socket, lambda: open(os.devnull), asyncio.new_event_loop], ids=["socket", "file", "loop"]
)
def test_left(make):
    KEPT.append(make())
"""


def test_a_recursion_that_ends_within_a_wrapper_hides_nothing_and_invents_nothing(inner: Inner) -> None:
    inner.write(test_a=DEEP)
    inner.run().assert_outcomes(passed=7, failed=3)
    of = ("socket", "file", "fd", "loop", "connection", "thread")
    assert inner.outcomes() == {
        **{f"test_ended[{name}]": "clean" for name in of},
        "test_closed_on_the_way": "clean",
        **{f"test_left[{name}]": "leaked" for name in ("socket", "file", "loop")},
    }
    assert "disabled" not in inner.report
