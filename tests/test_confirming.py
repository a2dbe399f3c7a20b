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


def test_without_it_every_leak_fails(inner: Inner) -> None:
    inner.write(test_a=SUITE.replace("== 3", "== 2"))
    inner.run().assert_outcomes(passed=2, failed=4)


def test_with_xdist_each_test_has_one_row(inner: Inner) -> None:
    inner.write(test_a=SUITE.replace("assert fresh == 3", "assert fresh"))
    inner.run("-p", "xdist", "-n", "2", "--httpleak-confirm=1").assert_outcomes(passed=3, failed=3, warnings=1)
    assert len(inner.report["tests"]) == 6
