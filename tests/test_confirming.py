"""`--httpleak-confirm`: only a leak that repeats fails."""

from __future__ import annotations

import sys

import pytest
from inner import Inner

SUITE = """
import socket
import pytest

KEPT, RUNS = [], []

@pytest.fixture
def fresh():
    RUNS.append(1)
    yield len(RUNS)

def test_always(fresh): KEPT.append(socket.socket())

@pytest.mark.parametrize("number", [1, 2])
def test_parametrised(number): KEPT.append(socket.socket())

def test_once(made=[]):
    if not made:
        made.append(KEPT.append(socket.socket()))

def test_fresh_fixture(fresh):
    assert fresh == 3, "once more than test_always had it"

def test_clean(): socket.socket().close()
"""


def test_only_leaks_that_repeat_fail(inner: Inner) -> None:
    inner.write(test_a=SUITE)
    inner.run("--httpleak-confirm=2").assert_outcomes(passed=3, failed=3, warnings=1)
    outcomes = inner.outcomes()
    assert (outcomes["test_always"], outcomes["test_parametrised[1]"]) == ("leaked", "leaked")
    assert (outcomes["test_once"], outcomes["test_clean"]) == ("warned", "clean")
    rows = {row["nodeid"].rpartition("::")[2]: row for row in inner.report["tests"]}
    assert rows["test_once"]["findings"][0]["summary"].endswith("in 1 of 3 runs")
    assert rows["test_always"]["findings"][0]["summary"].endswith("in 2 of 2 runs")


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone")
def test_descriptors_of_code_in_c_repeat_under_other_numbers(inner: Inner) -> None:
    inner.write(
        test_a="""
        import ctypes

        LIBC, MADE = ctypes.CDLL(None), []

        def test_always(): LIBC.eventfd(0, 0)

        def test_once():
            if not MADE:
                MADE.append(LIBC.eventfd(0, 0))
        """
    )
    result = inner.run("--httpleak-confirm=1", "-rf")
    assert inner.outcomes() == {"test_always": "leaked", "test_once": "warned"}
    result.stdout.fnmatch_lines(["FAILED test_a.py::test_always - 1 file descriptor leaked: *"])


def test_a_thread_that_is_doing_another_thing_at_each_run_repeats(
    inner: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no line of the user's: a library's plugin has started it."""
    inner.install(monkeypatch, plugin_of_lib=STARTING)
    inner.write(test_a="def test_with_worker(worker): pass")
    inner.run("-p", "plugin_of_lib", "--httpleak-confirm=1")
    assert inner.outcomes() == {"test_with_worker": "leaked"}


STARTING = """
import threading, pytest

RUNS, STOP = [], threading.Event()

def first(begun):
    begun.set()
    STOP.wait()

def second(begun):
    begun.set()
    STOP.wait()

def work(begun):
    RUNS.append(1)
    (first if len(RUNS) == 1 else second)(begun)

@pytest.fixture
def worker():
    begun = threading.Event()
    threading.Thread(target=work, args=(begun,), name="worker").start()
    begun.wait(30)

def pytest_unconfigure():
    STOP.set()
"""


def test_without_it_every_leak_fails(inner: Inner) -> None:
    inner.write(test_a=SUITE.replace("== 3", "== 2"))
    inner.run().assert_outcomes(passed=2, failed=4)


def test_with_xdist_each_test_has_one_row(inner: Inner) -> None:
    inner.write(test_a=SUITE.replace("assert fresh == 3", "assert fresh"))
    inner.run("-p", "xdist", "-n", "2", "--httpleak-confirm=1").assert_outcomes(passed=3, failed=3, warnings=1)
    assert len(inner.report["tests"]) == 6


BLOCKS = """
import socket
import unittest
import pytest
from pytest_httpleak import no_leaks

KEPT, RUNS = [], []

def leak(): KEPT.append(socket.socket())

@pytest.fixture
def first(request):
    RUNS.append(request.node.name)
    return RUNS.count(request.node.name) == 1

def test_block_once(httpleak, first):
    with httpleak.check():
        if first: leak()

def test_block_always(httpleak):
    with httpleak.check(): leak()

def test_group_once(httpleak, first):
    try:
        with httpleak.check():
            if first: leak()
    except AssertionError as error:
        raise ExceptionGroup("both", [error])

def test_group_of_more(httpleak, first):
    try:
        with httpleak.check():
            if first: leak()
    except AssertionError as error:
        raise ExceptionGroup("both", [error, ValueError()])

@pytest.mark.xfail(strict=True, reason="leaks once")
def test_expected_once(httpleak, first):
    with httpleak.check():
        if first: leak()

@pytest.fixture
def leaking():
    KEPT.append(socket.socket())

def test_block_once_in_a_leaking_test(httpleak, first, leaking):
    with httpleak.check():
        if first: leak()

def test_fails_after_block(httpleak, first):
    with httpleak.check():
        if first: leak()
    assert False, "own reason, not reached in the first run"

def test_one_block_after_the_other(httpleak, first):
    with httpleak.check():
        if first: leak()
    with httpleak.check():
        KEPT.append(socket.socket())

class TestCase(unittest.TestCase):
    runs = []

    def test_case_once(self):
        self.runs.append(1)
        with no_leaks():
            if len(self.runs) == 1: leak()
"""


def test_a_leak_that_a_block_has_raised_is_confirmed_like_the_tests_own(inner: Inner) -> None:
    inner.write(test_a=BLOCKS)
    result = inner.run("--httpleak-confirm=1", "-rA")
    assert inner.outcomes() == {
        "test_block_once": "warned",
        "test_block_always": "leaked",
        "test_group_once": "warned",
        "test_group_of_more": "leaked",
        "test_expected_once": "warned",
        "test_block_once_in_a_leaking_test": "leaked",
        "test_fails_after_block": "warned",
        "test_one_block_after_the_other": "leaked",
        "test_case_once": "warned",
    }
    verdicts = {
        row["nodeid"].rpartition("::")[2]: [finding["verdict"] for finding in row["findings"]]
        for row in inner.report["tests"]
    }
    assert sorted(verdicts["test_block_once_in_a_leaking_test"]) == ["leaked", "warned"]
    assert verdicts["test_block_always"] == ["leaked"]
    assert verdicts["test_one_block_after_the_other"] == ["leaked"]
    failed = (
        "block_always",
        "group_of_more",
        "expected_once",
        "block_once_in_a_leaking_test",
        "one_block_after_the_other",
    )
    result.stdout.fnmatch_lines_random([f"FAILED test_a.py::test_{name}*" for name in failed])
    result.stdout.fnmatch_lines(["FAILED test_a.py::test_fails_after_block - AssertionError: own reason*"])
    result.assert_outcomes(failed=6, passed=3, warnings=6)


def test_a_leak_is_confirmed_also_where_it_is_what_a_mark_expects(inner: Inner) -> None:
    inner.write(
        test_a="""
        import socket
        import unittest
        import pytest

        KEPT, RUNS = [], []

        def leak_once(name):
            RUNS.append(name)
            if RUNS.count(name) == 1: KEPT.append(socket.socket())

        @pytest.mark.xfail(strict=True, reason="leaks once")
        def test_strict(): leak_once("strict")

        class TestCase(unittest.TestCase):
            @unittest.expectedFailure
            def test_once(self): leak_once("once")

            @unittest.expectedFailure
            def test_always(self): KEPT.append(socket.socket())
        """
    )
    result = inner.run("--httpleak-confirm=1")
    assert inner.outcomes() == {"test_strict": "warned", "test_once": "warned", "test_always": "leaked"}
    result.assert_outcomes(failed=2, xfailed=1, warnings=2)


def test_what_is_tolerated_in_the_repetition_is_no_leak_that_repeats(inner: Inner) -> None:
    inner.write(
        test_a="""
        import socket
        import pytest

        KEPT, RUNS = [], []

        @pytest.mark.httpleak(sockets=1)
        def test_fewer():
            RUNS.append(1)
            for _ in range(2 if len(RUNS) == 1 else 1): KEPT.append(socket.socket())

        @pytest.mark.httpleak(sockets=1)
        def test_as_many():
            for _ in range(2): KEPT.append(socket.socket())
        """
    )
    inner.run("--httpleak-confirm=1").assert_outcomes(passed=1, failed=1, warnings=1)
    assert inner.outcomes() == {"test_fewer": "warned", "test_as_many": "leaked"}
    summaries = [row["findings"][0]["summary"] for row in inner.report["tests"]]
    assert [each.rpartition(", ")[2] for each in summaries] == ["in 1 of 2 runs", "in 2 of 2 runs"]


def test_a_wider_fixture_that_the_repetition_sets_up_again_has_one_row(inner: Inner) -> None:
    inner.write(
        test_a="""
        import socket
        import pytest

        KEPT = []

        @pytest.fixture(scope="module")
        def wide(): KEPT.append(socket.socket())

        @pytest.fixture(scope="module")
        def wide_and_clean(): socket.socket().close()

        def test_last(wide, wide_and_clean): KEPT.append(socket.socket())
        """
    )
    inner.run("--httpleak-confirm=1").assert_outcomes(failed=1, errors=1)
    assert [(row["name"], len(row["findings"])) for row in inner.report["fixtures"]] == [("wide", 1)]


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n1")], ids=["here", "in a worker"])
def test_where_another_plugin_runs_the_tests_it_is_said_that_nothing_is_confirmed(
    inner: Inner, workers: tuple[str, ...]
) -> None:
    pytest.importorskip("flaky")
    if workers:
        pytest.importorskip("xdist")
    line = "httpleak: --httpleak-confirm has no effect on tests that another plugin runs (*flaky*): *"
    inner.write(test_a=SUITE)
    plugins = ("-p", "flaky.flaky_pytest_plugin", *workers)
    result = inner.run("--httpleak-confirm=2", *plugins)
    result.stdout.fnmatch_lines([line])
    assert result.stdout.str().count("no effect on tests") == 1
    for arguments in (plugins, ("--httpleak-confirm=2", *plugins, "-k", "clean"), ("--httpleak-confirm=2", *workers)):
        inner.run(*arguments).stdout.no_fnmatch_line(line)
