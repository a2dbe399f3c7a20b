"""What libraries in C or Rust open for a runtime of the process, and keep, is no leak of the test that first used one."""

from __future__ import annotations

import sys

import pytest
from inner import Inner

from pytest_httpleak.probes import nativethreads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the calls are Linux's")

RUNTIME = """
import ctypes
import socket

LIBC = ctypes.CDLL(None)
KEPT = []


def start_a_thread():
    thread = ctypes.c_ulong()
    assert LIBC.pthread_create(ctypes.byref(thread), None, LIBC.pause, None) == 0


def pair():
    ends = (ctypes.c_int * 2)()
    assert LIBC.socketpair(socket.AF_UNIX, socket.SOCK_STREAM, 0, ends) == 0


def test_uses_a_runtime_first():
    {start}
    LIBC.eventfd(0, 0)
    LIBC.epoll_create1(0)
    pair()


def test_keeps_a_connection():
    LIBC.socket(socket.AF_INET, socket.SOCK_STREAM, 0)


def test_keeps_a_pair_of_its_own():
    KEPT.extend(socket.socketpair())
"""


@pytest.mark.parametrize(("start", "outcome"), [("start_a_thread()", "clean"), ("pass", "leaked")])
def test_what_wakes_threads_that_are_not_pythons_is_theirs(inner: Inner, start: str, outcome: str) -> None:
    inner.write(test_a=RUNTIME.format(start=start))
    inner.run()
    assert inner.outcomes() == {
        "test_uses_a_runtime_first": outcome,
        "test_keeps_a_connection": "leaked",
        "test_keeps_a_pair_of_its_own": "leaked",
    }


def test_a_watcher_of_files_is_no_runtimes(inner: Inner) -> None:
    """As watchfiles opens one with each of its objects, beside a thread of its own and what that waits with."""
    inner.write(
        test_a="""
        import ctypes
        import os

        LIBC = ctypes.CDLL(None)

        def begin():
            thread = ctypes.c_ulong()
            assert LIBC.pthread_create(ctypes.byref(thread), None, LIBC.pause, None) == 0
            LIBC.eventfd(0, 0)
            LIBC.epoll_create1(0)
            return LIBC.inotify_init()

        def test_watches(): begin()
        def test_ends_its_watch(): os.close(begin())
        """
    )
    inner.run()
    assert inner.outcomes() == {"test_watches": "leaked", "test_ends_its_watch": "clean"}
    (finding,) = next(row["findings"] for row in inner.report["tests"] if row["nodeid"].endswith("test_watches"))
    assert finding["summary"].endswith("anon_inode:inotify")


def test_threads_of_pythons_are_none(inner: Inner) -> None:
    inner.write(
        test_a="""
        import _thread
        import threading

        from pytest_httpleak.probes import nativethreads

        def test_threads():
            begun, end = threading.Semaphore(0), threading.Event()

            def run():
                begun.release()
                end.wait()

            thread = threading.Thread(target=run)
            thread.start()
            _thread.start_new_thread(run, ())
            begun.acquire()
            begun.acquire()
            assert not nativethreads.are_running()
            end.set()
            thread.join()
        """
    )
    inner.run().assert_outcomes(passed=1)


def test_where_the_system_lists_no_threads_psutil_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = nativethreads._number()
    monkeypatch.setattr(nativethreads, "_LISTING", "/nowhere")
    assert nativethreads._number() == listed >= 1
