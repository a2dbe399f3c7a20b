"""Threads: what is a leak, what a running thread answers for, and whose work it does."""

from __future__ import annotations

import _thread
import argparse
import asyncio
import concurrent.futures
import concurrent.futures.thread
import contextlib
import gc
import logging.handlers
import pickle
import queue
import re
import select
import selectors
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from marked import Leaks, Marked, in_kinds

from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.probes import taskframes
from pytest_httpleak.session.core import Session

# What is left open on purpose makes the interpreter warn, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


# What a thread has is its own, unless somebody else keeps it, too.
kept_or_not = pytest.mark.parametrize(
    ("is_kept", "kinds"), [(False, {Kind.THREADS}), (True, {Kind.THREADS, Kind.SOCKETS})]
)


class Stop:
    """An event that threads wait for; closing it ends them."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.started = threading.Event()
        self.over: list[threading.Thread] = []
        self.kept: list[Any] = []

    def wait(self) -> None:
        self.started.set()
        assert self.event.wait(30)

    def close(self) -> None:
        self.event.set()
        for thread in self.over:
            thread.join(30)


@pytest.fixture
def stop(kept: list[Any]) -> Stop:
    stop = Stop()
    kept.append(stop)
    return stop


@pytest.fixture
def address(server: str) -> tuple[str, int]:
    url = urlsplit(server)
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("daemon", [True, False])
def test_a_thread_that_still_runs_leaks_at_the_line_that_started_it(marked: Marked, stop: Stop, daemon: bool) -> None:
    def leaking() -> None:
        thread = threading.Thread(target=stop.wait, name="poller", daemon=daemon)
        stop.over.append(thread)
        thread.start()  # leak: threads
        assert stop.started.wait(30)

    def joining() -> None:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

    (finding,) = marked(leaking)
    assert finding.summary.startswith(f"'poller' running Stop.wait{', daemon' if daemon else ''}, now in wait (")
    assert (finding.type, finding.state) == ("threading.Thread", State.RUNNING)
    marked(joining)


def test_what_a_thread_is_doing_is_told_from_its_first_function_on(marked: Marked, stop: Stop) -> None:
    def poll() -> None:
        stop.wait()

    def leaking() -> None:
        thread = threading.Thread(target=poll)
        stop.over.append(thread)
        thread.start()  # leak: threads
        assert stop.started.wait(30)

    (finding,) = marked(leaking)
    assert re.search(r", now in poll \(test_threads\.py:\d+\) > wait \(test_threads\.py:\d+\)", finding.summary)


def test_what_a_worker_is_doing_is_told_without_its_executors_functions(
    marked: Marked, stop: Stop, kept: list[Any]
) -> None:
    def leaking() -> None:
        kept.append(ExecutorOf(stop))
        kept[-1].executor.submit(stop.wait)  # leak: threads
        assert stop.started.wait(30)

    (finding,) = marked(leaking)
    assert ", now in wait (test_threads.py:" in finding.summary


def test_a_worker_without_a_job_waits_for_one(marked: Marked, stop: Stop, kept: list[Any]) -> None:
    def leaking() -> None:
        kept.append(ExecutorOf(stop))
        kept[-1].executor.submit(int).result()  # leak: threads

    (finding,) = marked(leaking)
    assert finding.summary.endswith(", now waiting for a job")


class ExecutorOf:
    """An executor that can be closed once what it runs has been stopped."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.executor = concurrent.futures.ThreadPoolExecutor(1)

    def close(self) -> None:
        self.stop.close()
        self.executor.shutdown()


def test_of_a_thread_in_the_standard_library_alone_nothing_more_is_told(
    marked: Marked, stop: Stop, kept: list[Any]
) -> None:
    def leaking() -> None:
        timer = threading.Timer(60, int)
        kept.append(contextlib.ExitStack())
        kept[-1].callback(timer.join)
        kept[-1].callback(timer.cancel)
        timer.start()  # leak: threads

    (finding,) = marked(leaking)
    assert "now in" not in finding.summary


def test_a_subclass_is_named_as_its_user_knows_it(marked: Marked, stop: Stop) -> None:
    class Poller(threading.Thread):
        def run(self) -> None:
            stop.wait()

    def leaking() -> None:
        stop.over.append(Poller())
        stop.over[0].start()  # leak: threads

    (finding,) = marked(leaking)
    assert finding.type.endswith("Poller")


def test_what_a_subclass_has_in_a_place_of_threading_is_its_own(marked: Marked, stop: Stop) -> None:
    class Worker(threading.Thread):
        def __init__(self) -> None:
            super().__init__(daemon=True)
            self._args = argparse.Namespace(verbose=True)

        def run(self) -> None:
            stop.wait()

    def leaking() -> None:
        stop.over.append(Worker())
        stop.over[-1].start()  # leak: threads

    marked(leaking)


def test_a_timer_leaks_until_it_is_cancelled(marked: Marked, kept: list[Any]) -> None:
    timers = []

    def leaking() -> None:
        timers.append(threading.Timer(30, int))
        timers[0].start()  # leak: threads

    def cancelling() -> None:
        timer = threading.Timer(30, int)
        timer.start()
        timer.cancel()
        timer.join()

    marked(leaking)
    timers[0].cancel()
    timers[0].join()
    marked(cancelling)


def test_threads_of_one_line_are_one_finding(marked: Marked, stop: Stop) -> None:
    def leaking() -> None:
        for _ in range(5):
            stop.over.append(threading.Thread(target=stop.wait))
            stop.over[-1].start()  # leak: threads x5

    (finding,) = marked(leaking)
    assert finding.count == 5


def test_a_thread_that_ends_within_the_grace_is_nothing(leaks: Leaks, stop: Stop) -> None:
    def waiting() -> None:
        stop.over.append(threading.Thread(target=stop.wait))
        stop.over[0].start()
        threading.Timer(0.05, stop.event.set).start()

    assert leaks(waiting, grace=5.0) == ()


def test_a_thread_that_was_started_by_a_thread_is_the_tests(marked: Marked, stop: Stop) -> None:
    def leaking() -> None:
        def start() -> None:
            stop.over.append(threading.Thread(target=stop.wait))
            stop.over[0].start()  # leak: threads

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()

    marked(leaking)


def test_a_thread_that_never_starts_is_nothing(marked: Marked) -> None:
    made = []

    def leaving() -> None:
        made.append(threading.Thread(target=int))

    marked(leaving)


@pytest.mark.parametrize("pattern", ["threads:worker-*", "threads:Stop.wait", "created:*test_threads.py"])
def test_a_pattern_ignores_a_thread_by_its_name_its_function_or_its_file(
    leaks: Leaks, stop: Stop, pattern: str
) -> None:
    def leaking() -> None:
        stop.over.append(threading.Thread(target=stop.wait, name="worker-7"))
        stop.over[0].start()

    assert [finding.verdict for finding in leaks(leaking, ignore=[pattern])] == ["ignored"]


def test_a_pattern_ignores_no_other_thread(leaks: Leaks, stop: Stop) -> None:
    def leaking() -> None:
        stop.over.append(threading.Thread(target=stop.wait, name="other"))
        stop.over[0].start()

    assert [finding.verdict for finding in leaks(leaking, ignore=["threads:worker-*"])] == ["leaked"]


@pytest.mark.parametrize("name", ["pytest_timeout item", "pydevd.Writer"])
def test_threads_of_tools_are_never_a_leak(leaks: Leaks, stop: Stop, name: str) -> None:
    def starting() -> None:
        stop.over.append(threading.Thread(target=stop.wait, name=name))
        stop.over[0].start()

    assert leaks(starting) == ()


CACHED = {
    "AnyIO worker thread": "anyio._backends._asyncio",
    "Trio thread 3": "trio._core._thread_cache",
    "asyncio-waitpid-7": "asyncio.unix_events",
    "asyncio_0": "concurrent.futures.thread",
}


@pytest.mark.parametrize("name", CACHED)
def test_cached_workers_are_never_a_leak(leaks: Leaks, stop: Stop, name: str) -> None:
    def work() -> None:
        stop.wait()

    def starting() -> None:
        stop.over.append(threading.Thread(target=work, name=name))
        stop.over[0].start()

    work.__module__ = CACHED[name]
    assert leaks(starting) == ()


@pytest.mark.parametrize("name", [*CACHED, "asyncio_loop"])
def test_a_thread_that_only_has_such_a_name_leaks(marked: Marked, stop: Stop, name: str) -> None:
    def leaking() -> None:
        stop.over.append(threading.Thread(target=stop.wait, name=name))
        stop.over[0].start()  # leak: threads

    marked(leaking)


def test_the_workers_of_an_executor_leak_whatever_they_are_called(marked: Marked) -> None:
    executors: list[concurrent.futures.ThreadPoolExecutor] = []

    def leaking() -> None:
        executors.append(concurrent.futures.ThreadPoolExecutor(1, "asyncio_jobs"))
        executors[0].submit(int).result()  # leak: threads

    marked(leaking)
    executors[0].shutdown()


# -- bare threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["start_new_thread", "start_new"])
def test_a_bare_thread_that_still_runs_leaks(marked: Marked, stop: Stop, name: str) -> None:
    def leaking() -> None:
        getattr(_thread, name)(stop.wait, ())  # leak: threads
        assert stop.started.wait(30)

    (finding,) = marked(leaking)
    assert finding.library == "_thread"
    assert finding.summary.startswith("running Stop.wait, now in wait (test_threads.py:")


def test_a_bare_thread_that_runs_no_python_leaks(marked: Marked) -> None:
    lock = _thread.allocate_lock()
    lock.acquire()

    def leaking() -> None:
        _thread.start_new_thread(lock.acquire, ())  # leak: threads

    marked(leaking)
    lock.release()


def test_a_bare_thread_that_has_ended_is_nothing(leaks: Leaks) -> None:
    assert leaks(lambda: _thread.start_new_thread(int, ()), grace=5.0) == ()


def test_a_bare_thread_gets_its_arguments(session: Session) -> None:
    got: queue.Queue[Any] = queue.Queue()
    _thread.start_new_thread(lambda *args, **keywords: got.put((args, keywords)), (1, 2), {"three": 3})
    assert got.get(timeout=30) == ((1, 2), {"three": 3})
    with pytest.raises(TypeError):
        _thread.start_new_thread(1, ())  # type: ignore[arg-type]


def test_what_a_bare_thread_makes_is_the_tests(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        done = threading.Event()

        def work() -> None:
            kept.append(socket.socket())  # leak: sockets
            done.set()

        _thread.start_new_thread(work, ())
        assert done.wait(30)

    marked(leaking)


# -- what a running thread answers for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start", [lambda work: threading.Thread(target=work).start(), lambda work: _thread.start_new_thread(work, ())]
)
def test_a_socket_in_the_frame_of_a_running_thread_is_held_by_it(
    leaks: Leaks, stop: Stop, address: tuple[str, int], start: Callable[[Any], Any]
) -> None:
    def work() -> None:
        with socket.create_connection(address):
            stop.wait()

    def leaking() -> None:
        start(work)
        assert stop.started.wait(30)

    (finding,) = leaks(leaking)
    assert finding.kind is Kind.THREADS
    assert [held.kind for held in finding.holds] == [Kind.SOCKETS, Kind.FDS]


def test_a_file_in_the_frame_of_a_running_thread_is_held_by_it(leaks: Leaks, stop: Stop, tmp_path: Path) -> None:
    def leaking() -> None:
        def work() -> None:
            with (tmp_path / "a").open("w"):
                stop.wait()

        threading.Thread(target=work).start()
        assert stop.started.wait(30)

    (finding,) = leaks(leaking)
    assert (finding.kind, [held.kind for held in finding.holds]) == (Kind.THREADS, [Kind.FDS])


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="of Linux alone")
def test_a_selector_in_the_frame_of_a_running_thread_is_held_by_it(leaks: Leaks, stop: Stop) -> None:
    def leaking() -> None:
        def work() -> None:
            with selectors.EpollSelector():
                stop.wait()

        threading.Thread(target=work).start()
        assert stop.started.wait(30)

    (finding,) = leaks(leaking)
    assert (finding.kind, [held.kind for held in finding.holds]) == (Kind.THREADS, [Kind.FDS])


LISTENER = """
import socket
class Listener:
    def __init__(self, address, stop):
        self.address, self.stop = address, stop
    def run(self):
        self.sock = socket.create_connection(self.address)
        with self.sock:
            self.stop.wait()
    def close(self):
        self.sock.close()
"""


@kept_or_not
def test_a_socket_that_a_librarys_function_has_made_in_a_running_thread_is_held_by_it(
    whole_heap: None,
    leaks: Leaks,
    kept: list[Any],
    stop: Stop,
    address: tuple[str, int],
    is_kept: bool,
    kinds: set[Kind],
) -> None:
    sdk: dict[str, Any] = {"__name__": "sdk"}
    exec(compile(LISTENER, "/usr/lib/python3/site-packages/sdk.py", "exec"), sdk)

    def leaking() -> None:
        listener = sdk["Listener"](address, stop)
        kept.extend([listener] * is_kept)
        threading.Thread(target=listener.run).start()
        assert stop.started.wait(30)

    assert {finding.kind for finding in leaks(leaking)} == kinds


def test_a_socket_in_an_attribute_of_a_running_thread_is_held_by_it(
    leaks: Leaks, stop: Stop, address: tuple[str, int]
) -> None:
    class Poller(threading.Thread):
        def run(self) -> None:
            self.sock = socket.create_connection(address)
            with self.sock:
                stop.wait()

    def leaking() -> None:
        stop.over.append(Poller())
        stop.over[0].start()
        assert stop.started.wait(30)

    (finding,) = leaks(leaking)
    assert finding.kind is Kind.THREADS


@kept_or_not
def test_a_socket_that_a_running_thread_was_made_with_is_held_by_it(
    whole_heap: None,
    leaks: Leaks,
    kept: list[Any],
    stop: Stop,
    address: tuple[str, int],
    is_kept: bool,
    kinds: set[Kind],
) -> None:
    class Poller(threading.Thread):
        def __init__(self) -> None:
            super().__init__()
            self.sock = socket.create_connection(address)
            self.start()

        def run(self) -> None:
            with self.sock:
                stop.wait()

    def leaking() -> None:
        stop.over.append(Poller())
        if is_kept:
            kept.append(stop.over[0].sock)  # type: ignore[attr-defined]
        assert stop.started.wait(30)

    assert {finding.kind for finding in leaks(leaking)} == kinds


@pytest.mark.parametrize("is_made_before", [False, True])
@pytest.mark.parametrize(("is_kept", "kinds"), [(False, {Kind.THREADS}), (True, {Kind.THREADS, Kind.FDS})])
def test_a_database_in_an_attribute_of_a_running_thread_is_held_by_it(
    whole_heap: None,
    leaks: Leaks,
    kept: list[Any],
    stop: Stop,
    tmp_path: Path,
    is_made_before: bool,
    is_kept: bool,
    kinds: set[Kind],
) -> None:
    class Worker(threading.Thread):  # of this form are those of aiosqlite
        def __init__(self) -> None:
            super().__init__()
            if is_made_before:
                self.connect()

        def connect(self) -> None:
            self.connection = sqlite3.connect(tmp_path / "a.db", check_same_thread=False)
            if is_kept:
                kept.append(self.connection)

        def run(self) -> None:
            if not is_made_before:
                self.connect()
            stop.wait()
            self.connection.close()

    def leaking() -> None:
        stop.over.append(Worker())
        stop.over[0].start()
        assert stop.started.wait(30)

    assert {finding.kind for finding in leaks(leaking)} == kinds


def test_a_socket_in_a_context_of_a_running_thread_is_held_by_it(
    marked: Marked, stop: Stop, address: tuple[str, int]
) -> None:
    @contextlib.contextmanager
    def connected() -> Iterator[socket.socket]:
        with socket.create_connection(address) as sock:
            yield sock

    def work() -> None:
        with connected():
            stop.wait()

    def leaking() -> None:
        threading.Thread(target=work).start()  # leak: threads
        assert stop.started.wait(30)

    (finding,) = marked(leaking)
    assert [held.kind for held in finding.holds] == [Kind.SOCKETS, Kind.FDS]


@pytest.mark.usefixtures("whole_heap")
def test_a_socket_that_is_kept_elsewhere_too_is_a_leak_of_its_own(
    marked: Marked, kept: list[Any], stop: Stop, address: tuple[str, int]
) -> None:
    places: dict[str, socket.socket] = globals()["_places"]

    def leaking() -> None:
        def work() -> None:
            sock = socket.create_connection(address)  # leak: sockets
            places["a"] = sock
            stop.wait()

        stop.over.append(threading.Thread(target=work))
        stop.over[0].start()  # leak: threads
        assert stop.started.wait(30)

    marked(leaking)
    places.pop("a").close()


_places: dict[str, socket.socket] = {}


class Worker:
    """Has a thread work for it, with a connection of its own, from when it is first asked."""

    def __init__(self, stop: Stop, address: tuple[str, int]) -> None:
        self.stop = stop
        self.address = address
        self.sock: Any = None

    def work(self) -> None:
        self.sock = socket.create_connection(self.address)
        self.stop.wait()

    def begin(self) -> None:
        self.stop.over.append(threading.Thread(target=self.work))
        self.stop.over[0].start()
        assert self.stop.started.wait(30)


def test_what_threads_have_is_not_searched_for_where_a_fixture_answers_for_all(
    marked: Marked, stop: Stop, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[Any] = []
    monkeypatch.setattr(taskframes, "is_kept_elsewhere", lambda thing, *rest: bool(searches.append(thing)))
    with marked.fixture() as life:
        worker = life.make(lambda: Worker(stop, address))
        life.keep(worker)
        assert marked.found(worker.begin) == ()
        with life.during():
            stop.close()
            worker.sock.close()
    assert searches == []


class Loops:
    """What threads run: loops of their own, which end with the test."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.loop: Any = None
        self.over: Any = None
        self.thread: Any = None
        self.kept: list[Any] = []

    async def wait(self) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        self.started.set()
        await self.over.wait()

    def start(self, run: Callable[[Loops], None]) -> None:
        self.thread = threading.Thread(target=run, args=(self,))
        self.thread.start()  # leak: threads
        assert self.started.wait(30)

    def close(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(30)


@pytest.fixture
def loops(kept: list[Any]) -> Loops:
    loops = Loops()
    kept.append(loops)
    return loops


def _run(loops: Loops) -> None:
    asyncio.run(loops.wait())


def _run_by_hand(loops: Loops) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(loops.wait())
    loop.close()


def _run_with_a_forgotten_task(loops: Loops) -> None:
    async def main() -> None:
        loops.kept.append(asyncio.create_task(asyncio.sleep(60)))
        await loops.wait()

    asyncio.run(main())


def _run_a_server(loops: Loops) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        loops.kept.append(server)
        async with server:
            await loops.wait()

    asyncio.run(main())


@pytest.mark.parametrize("run", [_run, _run_by_hand, _run_with_a_forgotten_task, _run_a_server])
def test_a_loop_that_a_running_thread_has_made_is_held_by_it(
    marked: Marked, loops: Loops, run: Callable[[Loops], None]
) -> None:
    def leaking() -> None:
        loops.start(run)

    (finding,) = marked(leaking, Loops.start)
    assert {Kind.LOOPS, Kind.TASKS} <= {held.kind for held in finding.holds}


def test_a_loop_that_ends_with_its_thread_is_nothing(marked: Marked, loops: Loops) -> None:
    def using() -> None:
        loops.start(_run_a_server)
        loops.close()

    marked(using)


def test_a_thread_does_not_own_what_was_sent_to_its_loop(marked: Marked, loops: Loops) -> None:
    def leaking() -> None:
        loops.start(_run)
        loops.kept.append(asyncio.run_coroutine_threadsafe(asyncio.sleep(60), loops.loop))  # leak: tasks
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, 1), loops.loop).result() == 1

    marked(leaking, Loops.start)


def test_a_thread_does_not_own_the_loop_and_the_socket_that_it_was_given(marked: Marked, stop: Stop) -> None:
    def leaking() -> None:
        sock = socket.create_server(("127.0.0.1", 0))  # leak: sockets
        loop = asyncio.new_event_loop()  # leak: loops running
        stop.kept += [sock, loop]
        loop.add_reader(sock, sock.accept)
        thread = threading.Thread(target=loop.run_forever)
        stop.over.append(thread)
        thread.start()  # leak: threads
        loop.call_soon_threadsafe(stop.started.set)
        assert stop.started.wait(30)

    marked(leaking)
    sock, loop = stop.kept
    loop.call_soon_threadsafe(loop.stop)
    stop.close()
    loop.close()
    sock.close()


def test_a_thread_does_not_own_what_the_test_gave_it(marked: Marked, stop: Stop, address: tuple[str, int]) -> None:
    def leaking() -> None:
        sock = socket.create_connection(address)  # leak: sockets
        thread = threading.Thread(target=lambda sock: stop.wait(), args=(sock,))
        stop.over.append(thread)
        thread.start()  # leak: threads

    marked(leaking)


def test_what_a_thread_leaves_behind_is_the_tests(marked: Marked, kept: list[Any]) -> None:
    def leaking() -> None:
        thread = threading.Thread(target=lambda: kept.append(socket.socket()))  # leak: sockets
        thread.start()
        thread.join()

    marked(leaking)


def test_what_the_thread_of_a_wider_fixture_makes_is_the_fixtures(marked: Marked, kept: list[Any]) -> None:
    jobs: queue.Queue[Any] = queue.Queue()

    def work() -> None:
        for job in iter(jobs.get, None):
            job()

    def asking() -> None:
        done = threading.Event()
        jobs.put(lambda: (kept.append(socket.socket()), done.set()))
        assert done.wait(30)

    with marked.fixture() as life:
        thread = life.make(lambda: threading.Thread(target=work))
        with life.during():
            thread.start()
        marked(asking)
        kept[-1].close()
        jobs.put(None)
        thread.join()


# -- executors ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def executor(kept: list[Any]) -> Iterator[Callable[..., concurrent.futures.ThreadPoolExecutor]]:
    made = []

    def make(workers: int = 2) -> concurrent.futures.ThreadPoolExecutor:
        made.append(concurrent.futures.ThreadPoolExecutor(workers))
        return made[-1]

    yield make
    for each in made:
        each.shutdown()


def test_the_worker_of_an_executor_that_is_kept_leaks(marked: Marked, executor: Callable[..., Any]) -> None:
    def leaking() -> None:
        executor().submit(int).result()  # leak: threads

    marked(leaking)


def test_an_executor_that_is_shut_down_is_nothing(marked: Marked) -> None:
    def blocks() -> None:
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            assert list(executor.map(int, "123")) == [1, 2, 3]

    marked(blocks)


@pytest.mark.parametrize("end", ["dropped", "shut down without waiting"])
def test_an_executor_whose_workers_end_by_themselves_is_nothing(leaks: Leaks, end: str) -> None:
    def using() -> None:
        executor = concurrent.futures.ThreadPoolExecutor(2)
        executor.submit(int)
        if end != "dropped":
            executor.shutdown(wait=False)

    assert leaks(using, grace=5.0) == ()


class Prefetching:
    """Has its executor in a cycle, which what the executor is doing keeps."""

    def __init__(self) -> None:
        self.executor = concurrent.futures.ThreadPoolExecutor(1)
        self.myself = self

    def fetch(self, wait: Callable[[], object]) -> None:
        wait()


def test_a_worker_that_is_done_before_its_executor_is_garbage_in_a_cycle_is_nothing(leaks: Leaks) -> None:
    def using() -> None:
        prefetching = Prefetching()
        prefetching.executor.submit(prefetching.fetch, int).result()

    assert leaks(using, grace=5.0) == ()


def test_so_is_one_that_is_done_only_after_the_first_collection(
    leaks: Leaks,
) -> None:
    is_collected = threading.Event()

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == _OLDEST:
            is_collected.set()

    def using() -> None:
        prefetching = Prefetching()
        prefetching.executor.submit(prefetching.fetch, is_collected.wait)

    gc.callbacks.append(note)
    try:
        assert leaks(using, grace=0.1) == ()
    finally:
        gc.callbacks.remove(note)


_OLDEST = 2  # generation of objects, which all are collected with


def test_a_worker_that_is_stuck_when_its_executor_is_shut_down_leaks(marked: Marked, stop: Stop) -> None:
    def leaking() -> None:
        executor = concurrent.futures.ThreadPoolExecutor(1)
        executor.submit(stop.wait)  # leak: threads
        executor.shutdown(wait=False)

    marked(leaking)


def test_workers_of_a_wider_executor_are_its_owners(marked: Marked, executor: Callable[..., Any]) -> None:
    def using() -> None:
        assert list(wide.map(int, "123")) == [1, 2, 3]

    with marked.fixture() as life:
        wide = life.make(executor)
        marked(using)
        wide.shutdown()


def test_a_wider_executor_that_is_never_shut_down_is_its_owners_leak(
    marked: Marked, executor: Callable[..., Any]
) -> None:
    def using() -> None:
        assert wide.submit(int).result() == 0  # leak: threads

    with marked.fixture(using) as life:
        wide = life.make(lambda: executor(1))
        assert marked.found(using) == ()


def test_workers_of_an_executor_that_was_made_before_the_watch_are_the_processs(
    executor: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    early = executor()
    leaks: Leaks = request.getfixturevalue("leaks")
    assert leaks(lambda: early.submit(int).result()) == ()


def test_what_a_worker_makes_is_that_of_who_submitted(
    marked: Marked, kept: list[Any], executor: Callable[..., Any]
) -> None:
    def leaking() -> None:
        wide.submit(lambda: kept.append(socket.socket())).result()  # leak: sockets

    def clean() -> None:
        assert wide.submit(int).result() == 0

    with marked.fixture() as life:
        wide = life.make(lambda: executor(1))
        marked(leaking)
        marked(clean)
        wide.shutdown()


def test_a_plain_function_that_runs_in_a_thread_for_asyncio_is_nothing(marked: Marked) -> None:
    async def main() -> int:
        return await asyncio.to_thread(int)

    def using() -> None:
        assert asyncio.run(main()) == 0

    marked(using)


# -- what is put in the place of others' functions ---------------------------------------------------------------------


def test_the_functions_keep_their_names_and_are_put_back() -> None:
    before = (_thread.start_new_thread, threading.Thread.start, concurrent.futures.ThreadPoolExecutor.__init__)
    session = Session(rootdir="/")
    session.start()
    try:
        assert _thread.start_new_thread is not before[0]
        assert _thread.start_new_thread.__name__ == "start_new_thread"
        assert pickle.loads(pickle.dumps(_thread.start_new_thread)) is _thread.start_new_thread
    finally:
        session.stop()
    assert before == (_thread.start_new_thread, threading.Thread.start, concurrent.futures.ThreadPoolExecutor.__init__)


def test_an_error_in_a_bare_thread_names_the_function_that_was_started(session: Session) -> None:
    def failing() -> None:
        raise RuntimeError

    seen: queue.Queue[Any] = queue.Queue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.unraisablehook", seen.put)
        _thread.start_new_thread(failing, ())
        said = seen.get(timeout=30)
    text = f"{said.err_msg} {said.object!r}"
    del said
    gc.collect()
    assert "failing" in text


def test_what_a_thread_runs_is_told_where_threads_are_not_watched(session: Session) -> None:
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(over.set))
        await over.wait()

    def leaking() -> None:
        threads.append(threading.Thread(target=asyncio.run, args=(main(),), daemon=True))
        threads[0].start()
        while not stop:
            pass

    threads: list[threading.Thread] = []
    found = in_kinds(session, leaking, Kind.LOOPS, Kind.TASKS)
    assert Kind.LOOPS in {finding.kind for finding in found}
    stop[0]()
    threads[0].join()


def test_the_thread_behind_a_loggers_queue_is_the_process(marked: Marked, kept: list[Any]) -> None:
    logger = logging.getLogger("test_threads")

    def listening() -> logging.handlers.QueueHandler:
        handler = logging.handlers.QueueHandler(queue.SimpleQueue())
        handler.listener = logging.handlers.QueueListener(handler.queue, logging.NullHandler())
        handler.listener.start()
        return handler

    def attached() -> None:
        logger.addHandler(listening())

    def leaking() -> None:
        kept.append(listening())

    assert marked.found(attached) == ()
    (finding,) = marked.found(leaking)
    assert finding.kind is Kind.THREADS
    for handler in (*logger.handlers, kept[-1]):
        handler.listener.stop()
    logger.handlers.clear()
