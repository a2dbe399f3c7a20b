"""No descriptor left, no `/proc`, descriptors closed by the range, sockets that come and go: what is found stays the same."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from inner import Inner
from marked import Leaks

from pytest_httpleak.opennumbers import native
from pytest_httpleak.owners import Owner
from pytest_httpleak.probes import references
from pytest_httpleak.session.core import Session
from pytest_httpleak.session.looking import Looking

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and listings of Linux")

# -- no descriptor left ------------------------------------------------------------------------------------------------

FEW = """
import os
import resource
import socket

import pytest

KEPT = []


@pytest.fixture(autouse=True, scope="module")
def few():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    yield
    for each in KEPT:
        close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


"""

EXHAUSTED = (
    FEW
    + """
def close(each):
    each.close()


def exhaust(kept):
    with pytest.raises(OSError, match="Too many open files"):
        while True:
            kept.append(socket.socket())


def test_leaks_all():
    exhaust(KEPT)


def test_is_clean_while_none_is_left():
    pass


def test_closes_all():
    while KEPT:
        KEPT.pop().close()
    mine = []
    exhaust(mine)
    for each in mine:
        each.close()


def test_leaks_one():
    KEPT.append(socket.socket())


def test_fails_with_none_left():
    mine = []
    while True:
        mine.append(socket.socket())
"""
)


def test_a_test_that_takes_the_last_descriptor_is_judged_like_any_other(inner: Inner) -> None:
    inner.write(test_a=EXHAUSTED)
    result = inner.run()
    assert inner.outcomes() == {
        "test_leaks_all": "leaked",
        "test_is_clean_while_none_is_left": "clean",
        "test_closes_all": "clean",
        "test_leaks_one": "leaked",
        "test_fails_with_none_left": "leaked",
    }
    rows = {row["nodeid"].rpartition("::")[2]: row for row in inner.report["tests"]}
    (finding,) = rows["test_leaks_all"]["findings"]
    assert finding["count"] > 10
    assert (finding["created"]["function"], finding["kind"]) == ("exhaust", "sockets")
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(["*Too many open files*"])
    result.stdout.no_fnmatch_line("*switched off*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


HAS_A_LOOP = """
def test_has_a_loop():
    import asyncio

    asyncio.new_event_loop().close()
"""


@pytest.mark.parametrize("before", ["", HAS_A_LOOP], ids=["first test", "after a loop"])
def test_what_judges_the_first_leak_can_still_be_imported(fresh: Inner, before: str) -> None:
    fresh.write(test_a=before + EXHAUSTED.partition("def test_is_clean_while")[0])
    result = fresh.run()
    result.assert_outcomes(failed=1, passed=1 if before else 0)
    result.stdout.no_fnmatch_line("*switched off*")
    (finding,) = fresh.report["tests"][-1]["findings"]
    assert (finding["created"]["function"], finding["kind"]) == ("exhaust", "sockets")


def test_a_line_that_leaks_hundreds_asks_for_few_scans_of_the_heap(
    leaks: Leaks, kept: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    for name in ("process_wide", "held_by"):
        monkeypatch.setattr(references, name, lambda thing, *_, **__: asked.append(thing))

    def leaking() -> None:
        kept.extend(socket.socket() for _ in range(300))

    (finding,) = leaks(leaking)
    assert finding.count == 300
    assert 0 < len(asked) <= 40


BARE = (
    FEW
    + """
def close(each):
    os.close(each)


def exhaust(kept):
    with pytest.raises(OSError, match="Too many open files"):
        while True:
            kept.append(os.dup(1))


def test_is_clean():
    mine = []
    exhaust(mine)
    for fd in mine:
        os.close(fd)


def test_leaks_all():
    exhaust(KEPT)
"""
)


def test_the_last_descriptor_may_be_a_bare_one(inner: Inner) -> None:
    inner.write(test_a=BARE)
    result = inner.run()
    assert inner.outcomes() == {"test_is_clean": "clean", "test_leaks_all": "leaked"}
    (finding,) = inner.report["tests"][-1]["findings"]
    assert finding["count"] > 10
    assert (finding["created"]["function"], finding["kind"]) == ("exhaust", "fds")
    result.stdout.no_fnmatch_line("*switched off*")


# -- a listing that cannot be read -------------------------------------------------------------------------------------

KINDS = """
import os
import socket
import threading

KEPT = []


def test_leaks_a_socket():
    KEPT.append(socket.socket())


def test_leaks_a_file():
    KEPT.append(open(__file__))


def test_leaks_a_pipe():
    KEPT.extend(os.pipe())


def test_closes_what_it_opens():
    socket.socket().close()
    open(__file__).close()
    for fd in os.pipe():
        os.close(fd)
"""

UNREADABLE = """
import os

def refused(*args, **kwargs):
    raise PermissionError(13, "Permission denied")

def pytest_configure(config):
    from pytest_httpleak.probes import descriptors
    listdir = os.listdir
    for name in ("listdir", "readlink"):
        real = getattr(os, name)
        def guarded(path=".", *args, real=real):
            return refused() if str(path).startswith("/proc/") else real(path, *args)
        setattr(os, name, guarded)
        if hasattr(descriptors, "_" + name):
            setattr(descriptors, "_" + name, guarded)
    {count}
"""


@pytest.mark.parametrize(
    "count",
    [
        "descriptors._stat = refused; descriptors._open = refused",
        "descriptors._HAS_COUNT = False",
        "descriptors._HAS_COUNT = descriptors._HAS_LISTING = False",
        "pass",
    ],
    ids=["refused", "no count", "no listing", "counted"],
)
def test_leaks_are_found_where_proc_cannot_be_read(inner: Inner, count: str) -> None:
    inner.write(conftest=UNREADABLE.replace("{count}", count), test_a=KINDS)
    result = inner.run()
    assert inner.outcomes() == {
        "test_leaks_a_socket": "leaked",
        "test_leaks_a_file": "leaked",
        "test_leaks_a_pipe": "leaked",
        "test_closes_what_it_opens": "clean",
    }
    result.stdout.no_fnmatch_line("*switched off*")


# -- descriptors that are closed by the range --------------------------------------------------------------------------

RANGES = """
import os
import socket

KEPT = []


def high():
    \"\"\"Descriptors far above those of the test runner.\"\"\"
    fds = [os.dup2(1, 200 + number) for number in range(5)]
    one, other = socket.socketpair()
    sock = socket.socket(fileno=os.dup2(one.fileno(), 210))
    one.close()
    other.close()
    return [*fds, sock]


def close_all():
    \"\"\"Whatever is not the test runner's: it says which these are.\"\"\"
    os.closerange(COUNTED, COUNTED + 1)
    os.closerange(200, 4096)


COUNTED = max(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


def test_closes_a_range():
    KEPT.extend(high())
    close_all()


def test_closes_a_range_that_is_empty():
    os.closerange(300, 70000)


def test_leaks_after_it():
    KEPT.append(os.dup2(1, 220))


def test_is_clean():
    pass
"""


def test_descriptors_that_are_closed_by_the_range_are_closed(inner: Inner) -> None:
    inner.write(test_a=RANGES)
    result = inner.run("--capture=sys", "-W", "ignore::ResourceWarning")
    assert inner.outcomes() == {
        "test_closes_a_range": "clean",
        "test_closes_a_range_that_is_empty": "clean",
        "test_leaks_after_it": "leaked",
        "test_is_clean": "clean",
    }
    result.stdout.no_fnmatch_line("*switched off*")


# -- sockets that come and go meanwhile --------------------------------------------------------------------------------

COMING_AND_GOING = """
import os
import socket
import sys
import threading

import pytest

KEPT = []


@pytest.fixture(scope="session", autouse=True)
def traffic():
    sys.setswitchinterval(1e-5)  # as if there were many processors
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            {traffic}

    thread = threading.Thread(target=come_and_go)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.parametrize("number", range(25))
def test_clean(number):
    socket.socket().close()
    os.close(os.open(os.devnull, os.O_RDONLY))


@pytest.mark.parametrize("number", range(3))
def test_leaks(number):
    KEPT.append(socket.socket())


@pytest.mark.parametrize("number", range(3))
def test_leaks_a_descriptor(number):
    KEPT.append(os.open(os.devnull, os.O_RDONLY))
"""


def test_what_is_recorded_for_another_between_the_list_and_the_telling_is_not_told(session: Session) -> None:
    """A thread of a wider fixture's has its descriptor a moment before that is known to be its own."""
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        listed = {fd: (os.fstat(fd).st_dev, os.fstat(fd).st_ino)}
        owners = [Owner("test_a", "function"), Owner("server", "session")]
        session.watch.give(fd, None, owners[1])
        assert [len(session.ledger.suspects(listed, set(), owner)) for owner in owners] == [0, 1]
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", [None, __file__], ids=["closed", "another file"])
def test_what_is_closed_between_the_list_and_the_telling_is_nothing(session: Session, name: str | None) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        listed = {fd: (os.fstat(fd).st_dev, os.fstat(fd).st_ino)}
        assert len(session.ledger.suspects(listed, set(), session.watch.root)) == 1
        if name is None:
            os.close(fd)
        else:
            other = os.open(name, os.O_RDONLY)
            os.dup2(other, fd)
            os.close(other)
        assert session.ledger.suspects(listed, set(), session.watch.root) == []
    finally:
        if name is not None:
            os.close(fd)


@pytest.mark.parametrize(
    "traffic",
    [
        "socket.socket().close()",
        "os.close(os.open(os.devnull, os.O_RDONLY))",
        "open(os.devnull).close()",
        "[each.close() for each in socket.socketpair()]",
    ],
)
def test_what_another_thread_opens_and_closes_meanwhile_is_nobodys_leak(inner: Inner, traffic: str) -> None:
    inner.write(test_a=COMING_AND_GOING.replace("{traffic}", traffic))
    result = inner.run("-W", "ignore::ResourceWarning", "-p", "no:unraisableexception")
    wrong = {
        name: outcome
        for name, outcome in inner.outcomes().items()
        if outcome != ("leaked" if "leaks" in name else "clean")
    }
    assert wrong == {}, result.stdout.str()
    result.stdout.no_fnmatch_line("*switched off*")
    for row in inner.report["tests"]:
        assert [finding["count"] for finding in row["findings"]] == [1] * len(row["findings"])
        assert len(row["findings"]) <= 1
    result.assert_outcomes(passed=25, failed=6)


@pytest.mark.parametrize("changes", [True, False])
def test_what_code_in_c_has_open_for_a_moment_in_another_thread_is_not_told_beside_a_leak(
    leaks: Leaks, session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: bool
) -> None:
    """A leak is looked at until the grace is over: what is there at the last look alone was not left by the test."""
    stop, paths = threading.Event(), [tmp_path / "one", tmp_path / "another"]
    for path in paths:
        path.touch()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    fd, kept, look, looks = 250, [], Looking.look, 0  # a number that nobody else gets

    def looking(self: Looking, *args: Any, **keywords: Any) -> Any:
        nonlocal looks
        looks += 1
        other = native.open(paths[int(changes and looks > 1)], os.O_RDONLY)
        os.dup2(other, fd)
        native.close(other)
        session.watch.fds.pop(fd, None)  # as nobody sees what C does
        return look(self, *args, **keywords)

    monkeypatch.setattr(Looking, "look", looking)
    findings = leaks(lambda: kept.append(socket.socket()))
    kept.pop().close()
    stop.set()
    thread.join()
    native.close(fd)
    assert looks > 2
    assert [each.kind.value for each in findings] == (["sockets"] if changes else ["sockets", "fds"])


def test_what_a_thread_of_the_tests_own_opens_late_is_told(leaks: Leaks, session: Session, tmp_path: Path) -> None:
    """In C, so that nobody sees it, and when the test is looked at already."""
    is_looked_at, stop, look = threading.Event(), threading.Event(), Looking.look
    beside = threading.Thread(target=stop.wait)
    beside.start()

    def late() -> None:
        is_looked_at.wait()
        opened.append(native.open(tmp_path, os.O_RDONLY))

    def looking(self: Looking, *args: Any, **keywords: Any) -> Any:
        found = look(self, *args, **keywords)
        is_looked_at.set()
        return found

    opened: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Looking, "look", looking)
        (finding,) = leaks(lambda: threading.Thread(target=late).start())
    stop.set()
    beside.join()
    os.close(opened.pop())
    assert (finding.kind.value, finding.created) == ("fds", None)
