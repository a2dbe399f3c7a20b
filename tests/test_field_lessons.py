"""What third-party suites taught: each false alarm once raised, in small, beside the leak that must still be found."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from inner import Inner
from resolvers import have_ended

from pytest_httpleak.adapters import pycares as pycares_adapter
from pytest_httpleak.adapters.pycares import ChannelRecord, EndingRecord
from pytest_httpleak.clocks import Real
from pytest_httpleak.model.findings import Finding
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.patches import Wall
from pytest_httpleak.probes.tasks import is_infrastructure
from pytest_httpleak.session.core import Session

Leaks = Callable[..., tuple[Finding, ...]]

urllib3 = pytest.importorskip("urllib3")


@pytest.fixture
def early_manager() -> Iterator[object]:
    """A pool manager that was made before the watch began, as `urllib3.request`'s own is while urllib3 is imported."""
    manager = urllib3.PoolManager()
    yield manager
    manager.clear()


def test_idle_connections_of_a_manager_that_was_made_before_the_watch_are_nobodys(
    early_manager: urllib3.PoolManager, leaks: Leaks, server: str
) -> None:
    assert leaks(lambda: early_manager.request("GET", server + "/ok")) == ()


def test_a_response_of_a_manager_that_was_made_before_the_watch_is_still_the_tests_leak(
    early_manager: urllib3.PoolManager, leaks: Leaks, server: str
) -> None:
    kept = []
    found = leaks(lambda: kept.append(early_manager.request("GET", server + "/big", preload_content=False)))
    assert [finding.kind for finding in found] == [Kind.RESPONSES]
    kept[0].close()


# -- what a thread of the process is just ending: pycares's destroys channels that are closed -----------------------------


def test_what_another_thread_is_just_ending_costs_no_collection(leaks: Leaks, monkeypatch: pytest.MonkeyPatch) -> None:
    over, collections, opened = threading.Event(), [], list[int]()
    thread = threading.Thread(target=over.wait)
    thread.start()
    monkeypatch.setattr(Real, "sleep", lambda seconds: os.close(opened.pop()) if opened else None)
    monkeypatch.setattr(gc, "collect", lambda *generation: collections.append(generation) or 0)
    try:
        assert leaks(lambda: opened.append(os.open(os.devnull, os.O_RDONLY))) == ()
        assert collections == []
    finally:
        over.set()
        thread.join()


# -- garbage that holds a descriptor, as trio's pipes are after each test -------------------------------------------------


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("is_old", "costs"), [(False, [(1,)]), (True, [(1,), (2,)])])
def test_only_old_garbage_costs_a_collection_of_the_whole_heap(
    leaks: Leaks, monkeypatch: pytest.MonkeyPatch, is_old: bool, costs: list[tuple[int, ...]]
) -> None:
    collect, collections = gc.collect, list[tuple[int, ...]]()
    monkeypatch.setattr(gc, "collect", lambda *generation: collections.append(generation) or collect(*generation))

    def drop() -> None:
        cycle: list[Any] = [Path(os.devnull).open(encoding="utf-8")]  # noqa: SIM115  # left to the collector on purpose
        cycle.append(cycle)
        if is_old:
            collect()

    gc.disable()
    try:
        assert leaks(drop) == ()
    finally:
        gc.enable()
    assert collections == costs


# -- a resolver written in C: aiohttp's, through aiodns and pycares ----------------------------------------------------


@pytest.fixture
def aiohttp() -> Any:
    """aiohttp with the resolver that holds descriptors of its own: epoll, inotify and a pipe."""
    pytest.importorskip("aiodns")
    return pytest.importorskip("aiohttp")


def test_the_resolver_of_a_session_that_is_closed_leaves_nothing(aiohttp: Any, leaks: Leaks, server: str) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as session, session.get(server + "/ok") as response:
            await response.read()

    assert leaks(lambda: asyncio.run(main())) == ()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "dropped"])
def test_a_session_answers_for_its_resolver(aiohttp: Any, leaks: Leaks, keep: bool) -> None:
    kept = []

    async def main() -> None:
        session = aiohttp.ClientSession()
        if keep:
            kept.append(session)

    # The resolver of one that is dropped is ended by a thread of pycares, which may have other things to wait for.
    found = leaks(lambda: asyncio.run(main()), grace=0.1 if keep else 0.5)
    assert [(finding.kind, finding.count) for finding in found] == [(Kind.CLIENTS, 1)]
    for session in kept:
        asyncio.run(session.close())


def test_a_connector_that_never_connected_answers_for_its_resolver(aiohttp: Any, leaks: Leaks) -> None:
    kept = []

    async def main() -> None:
        kept.append(aiohttp.TCPConnector())

    (found,) = leaks(lambda: asyncio.run(main()))
    assert (found.kind, found.type) == (Kind.CLIENTS, "aiohttp.TCPConnector")
    assert found.summary == "not closed, with 4 descriptors of its DNS resolver"
    asyncio.run(kept[0].close())


def test_resolvers_that_are_made_in_several_threads_disturb_neither_each_other_nor_the_test(
    aiohttp: Any, leaks: Leaks, session: Session
) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession():
            pass

    def many() -> None:
        with ThreadPoolExecutor(4) as executor:
            for done in [executor.submit(asyncio.run, main()) for _ in range(40)]:
                done.result()

    assert leaks(many, grace=0.5) == ()
    assert session.errors() == []


def test_the_resolver_of_a_connector_that_was_dropped_is_one_finding_with_its_line(aiohttp: Any, leaks: Leaks) -> None:
    async def main() -> None:
        aiohttp.TCPConnector()

    (found,) = leaks(lambda: asyncio.run(main()))
    assert (found.kind, found.count) == (Kind.FDS, 4)
    assert found.created is not None
    assert found.created.function == "main"


@pytest.fixture
def waiting() -> Iterator[list[Any]]:
    """The channels that were closed or dropped; they are destroyed when the test is over, as 4.9 lets a second pass for each."""
    pycares = pytest.importorskip("pycares", minversion="4.9")
    have_ended(pycares)
    channels: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pycares._shutdown_manager, "destroy_channel", lambda *channel: channels.append(channel[0]))
        yield channels
    for channel in channels:
        pycares._lib.ares_destroy(channel[0])


@pytest.fixture
def late(waiting: list[Any]) -> Iterator[Any]:
    """pycares, whose thread destroys no channel during the test."""
    yield pytest.importorskip("pycares")
    assert waiting


def test_a_channel_that_is_closed_leaves_nothing_while_it_waits_for_its_end(late: Any, leaks: Leaks) -> None:
    assert leaks(lambda: late.Channel().close()) == ()


def test_a_channel_that_is_dropped_leaves_nothing_while_it_waits_for_its_end(late: Any, leaks: Leaks) -> None:
    def drop() -> None:
        late.Channel()

    assert leaks(drop) == ()


def test_a_channel_that_is_never_closed_leaks_beside_one_that_waits_for_its_end(late: Any, leaks: Leaks) -> None:
    kept = []

    def one_of_two() -> None:
        late.Channel().close()
        kept.append(late.Channel())

    (found,) = leaks(one_of_two)
    assert (found.kind, found.count) == (Kind.FDS, 4)
    assert found.created is not None
    assert found.created.function == "one_of_two"
    kept[0].close()


def test_a_channel_that_has_the_numbers_of_one_destroyed_meanwhile_has_all_its_descriptors(
    late: Any, waiting: list[Any], leaks: Leaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, ended = [], list[Any]()
    listing = pycares_adapter._listing

    def listing_just_before_an_end() -> dict[int, tuple[int, int]]:
        found = listing()
        if waiting and not ended:
            ended.append(waiting.pop())
            late._lib.ares_destroy(ended[0][0])
        return found

    def one_after_the_other() -> None:
        late.Channel().close()
        kept.append(late.Channel())

    monkeypatch.setattr(pycares_adapter, "_listing", listing_just_before_an_end)
    (found,) = leaks(one_after_the_other)
    assert (found.kind, found.count) == (Kind.FDS, 4)
    assert found.created is not None
    assert found.created.function == "one_after_the_other"
    kept[0].close()


def test_a_descriptor_that_has_the_number_of_a_destroyed_channels_is_its_makers() -> None:
    births, dropped = dict[int, object](), weakref.ref(type("Channel", (), {})())
    ending = EndingRecord(births.get)
    with Path(os.devnull).open(
        "rb"
    ) as file:  # as the source of random numbers that channels of 4.9 open, it is one for all
        fd, status = file.fileno(), os.fstat(file.fileno())
        channel = ChannelRecord({fd: (status.st_dev, status.st_ino)})
        channel.ref = dropped
        births[fd] = channel.births[fd] = object()
        ending.channels[id(channel)] = channel
        assert list(ending.descriptors()) == [fd]
        births[fd] = object()
        assert list(ending.descriptors()) == []


# -- standard output, which pytest's capturing puts elsewhere for each part of a test ----------------------------------


def test_captured_output_is_not_a_wider_fixtures_descriptor(inner: Inner) -> None:
    inner.write(
        test_a="""
        import os, pytest

        @pytest.fixture(scope="session")
        def pipe():
            ends = os.pipe()
            yield ends
            for end in ends:
                os.close(end)

        def test_it(pipe):
            print("to be captured")
        """
    )
    inner.run("--capture=fd").assert_outcomes(passed=1)
    assert inner.report["fixtures"] == []


def test_a_descriptor_that_a_wider_fixture_keeps_is_its_leak(inner: Inner) -> None:
    inner.write(
        test_a="""
        import os, pytest

        @pytest.fixture(scope="session")
        def pipe():
            yield os.pipe()

        def test_it(pipe):
            pass
        """
    )
    inner.run("--capture=fd").assert_outcomes(passed=1, errors=1)
    (fixture,) = inner.report["fixtures"]
    assert [(finding["kind"], finding["count"]) for finding in fixture["findings"]] == [("fds", 2)]


# -- an executor that is dropped in a reference cycle, as an exception's traceback makes one: its workers end with it --


def test_workers_that_end_when_the_collector_frees_their_executor_are_waited_for(leaks: Leaks) -> None:
    def run() -> None:
        executor = ThreadPoolExecutor()
        try:
            executor.submit(int, "no number").result()
        except ValueError as error:
            cycle = [error]
            cycle.append(cycle)

    for _ in range(20):  # the moment in which such a thread is alive and counted no more is short
        assert leaks(run) == ()


def test_workers_of_an_executor_that_somebody_keeps_are_a_leak(leaks: Leaks) -> None:
    kept: list[ThreadPoolExecutor] = []

    def run() -> None:
        kept.append(ThreadPoolExecutor())
        kept[0].submit(int).result()

    assert [finding.kind for finding in leaks(run)] == [Kind.THREADS]
    kept[0].shutdown()


# -- what libuv opens with the first loop of a process, and keeps ------------------------------------------------------


def test_the_first_loop_of_uvloop_leaves_nothing_behind(inner: Inner) -> None:
    pytest.importorskip("uvloop")
    inner.write(
        test_a="""
        import threading

        def run():
            import uvloop
            uvloop.new_event_loop().close()

        def test_in_a_thread():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

        def test_here():
            run()

        def test_leaking():
            import uvloop
            globals()["kept"] = [uvloop.new_event_loop()]
        """
    )
    inner.run()
    assert inner.outcomes() == {"test_in_a_thread": "clean", "test_here": "clean", "test_leaking": "leaked"}


# -- a suite that counts the garbage which only the collector finds ----------------------------------------------------


def test_records_of_what_is_gone_are_no_garbage_for_the_collector(leaks: Leaks, server: str) -> None:
    def run() -> None:
        with socket.socket(), socket.socket():
            pass
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        with ThreadPoolExecutor() as executor:
            executor.submit(int).result()
        with urllib3.PoolManager() as manager:
            manager.request("GET", server + "/ok")

    run()  # what is made at first use
    gc.collect()
    gc.disable()
    try:
        assert leaks(run) == ()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [thing for thing in gc.garbage if type(thing).__module__.startswith("pytest_httpleak")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert ours == []


# -- a task that never ran, and whose coroutine was closed because the loop will not run again -------------------------


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("close", [True, False], ids=["closed", "left"])
def test_a_task_whose_coroutine_is_closed_is_no_leak(leaks: Leaks, close: bool) -> None:
    async def work() -> None: ...

    def run() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(work())
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if close:
            task.cancel()
            task.get_coro().close()  # type: ignore[union-attr]
        loop.close()

    assert [finding.kind for finding in leaks(run)] == ([] if close else [Kind.TASKS])


# -- mocks in the place of a library's objects -------------------------------------------------------------------------


def test_a_mock_for_a_connection_does_not_switch_the_adapter_off(leaks: Leaks, server: str) -> None:
    def run() -> None:
        with urllib3.HTTPConnectionPool("127.0.0.1") as pool:
            connection = mock.Mock(spec=pool._new_conn())
            with contextlib.suppress(Exception):
                pool._make_request(connection, "GET", "/")

    assert leaks(run) == ()
    kept: list[Any] = []
    manager = urllib3.PoolManager()
    found = leaks(lambda: kept.append(manager.request("GET", server + "/big", preload_content=False)))
    assert [finding.kind for finding in found] == [Kind.RESPONSES]
    kept[0].close()
    manager.clear()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_mock_for_a_pools_key_does_not_switch_the_adapter_off(aiohttp: Any, leaks: Leaks) -> None:
    async def main() -> None:
        connector = aiohttp.BaseConnector()
        key, protocol = mock.Mock(), mock.Mock(should_close=False)
        connection = aiohttp.connector.Connection(connector, key, protocol, asyncio.get_running_loop())
        connection.close()
        await connector.close()
        aiohttp.ClientSession()

    found = leaks(lambda: asyncio.run(main()))
    assert [(finding.kind, finding.type) for finding in found] == [(Kind.CLIENTS, "aiohttp.ClientSession")]


@pytest.mark.parametrize("thing", [mock.Mock(), object()], ids=["mock", "object"])
def test_what_the_interpreter_refuses_to_do_with_a_mock_is_no_error_of_the_adapters(thing: Any) -> None:
    wall = Wall("the adapter for a library")
    try:
        print(":" in thing)
    except TypeError as error:
        wall.fall(error)
    assert wall.on is isinstance(thing, mock.Mock)


def test_sockets_of_a_library_whose_adapter_is_off_are_not_guessed_about(inner: Inner, server: str) -> None:
    inner.write(
        test_a=f"""
        import socket, urllib3

        manager = urllib3.PoolManager()
        pool = manager.connection_from_url({server!r})

        def test_idle_in_a_pool_of_the_module():
            pool.urlopen("GET", "/ok")

        def test_leaking():
            globals()["kept"] = [socket.create_connection(("127.0.0.1", pool.port))]
        """,
        conftest="""
        import pytest

        @pytest.hookimpl(trylast=True)
        def pytest_sessionstart(session):
            import pytest_httpleak.urllib3records as records

            def broken(*args):
                raise RuntimeError("an error of the plugin's own")

            records.ConnectionRecord.__init__ = broken
        """,
    )
    result = inner.run(faulty=True)
    assert inner.outcomes() == {"test_idle_in_a_pool_of_the_module": "clean", "test_leaking": "leaked"}
    result.stdout.fnmatch_lines(
        "*the adapter for urllib3 was switched off for the rest of this run: RuntimeError: an error of the plugin's own*"
    )


# -- a task of a library's that lasts as long as the loop, and is there to be cancelled with it: anyio's process pool --


def test_a_librarys_task_that_waits_for_the_end_of_its_loop_is_no_leak(inner: Inner) -> None:
    pytest.importorskip("anyio")
    inner.write(
        test_a="""
        import asyncio, os
        import anyio.to_process, pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_pool():
            assert await anyio.to_process.run_sync(os.getpid) != os.getpid()

        @pytest.mark.anyio
        async def test_left():
            globals()["kept"] = asyncio.create_task(anyio.sleep_forever())

        @pytest.mark.anyio
        async def test_process_left():
            globals()["process"] = await anyio.open_process("sleep 1")
        """
    )
    inner.run("-p", "anyio.pytest_plugin")
    assert inner.outcomes() == {"test_pool": "clean", "test_left": "leaked", "test_process_left": "leaked"}


# -- what stands in a socket's place: a recorded answer's stand-in, which calls itself descriptor 0, and wrappers -------


class _Wrapper:
    """A socket's wrapper with little of a socket, as urllib3 makes one for TLS in TLS and for pyOpenSSL."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def fileno(self) -> int:
        return self.socket.fileno()

    def __getattr__(self, name: str) -> Any:
        if name in ("family", "type", "getsockname", "getpeername"):
            raise AttributeError(name)
        return getattr(self.socket, name)


@pytest.mark.parametrize("stdin_is_socket", [False, True], ids=["", "stdin-is-a-socket"])
@pytest.mark.parametrize("stand_in", [True, False], ids=["stand-in", "wrapper"])
def test_what_stands_in_a_sockets_place_holds_a_connection_only_with_a_socket_in_it(
    leaks: Leaks, server: str, monkeypatch: pytest.MonkeyPatch, stand_in: bool, stdin_is_socket: bool
) -> None:
    if stdin_is_socket:
        ends = socket.socketpair()
        monkeypatch.setattr("pytest_httpleak.opennumbers._fstat", lambda fd: os.fstat(fd or ends[0].fileno()))
    kept: list[HTTPConnection] = []

    class Playback:
        def fileno(self) -> int:
            return 0  # standard input, where one has to say something

        def close(self) -> None: ...

    def run() -> None:
        connection = HTTPConnection("127.0.0.1", int(server.rpartition(":")[2]))
        kept.append(connection)
        if stand_in:
            connection.sock = Playback()  # type: ignore[assignment]
        else:
            connection.connect()
            connection.sock = _Wrapper(connection.sock)  # type: ignore[assignment]

    found = leaks(run)
    assert [finding.kind for finding in found] == ([] if stand_in else [Kind.CONNECTIONS])
    assert all("TCP 127.0.0.1:" in held.summary for finding in found for held in finding.holds)
    kept[0].close()
    if stdin_is_socket:
        for end in ends:
            end.close()


# -- shared memory of multiprocessing's, which the first `Value` of a process makes and the process keeps ---------------


def test_the_heap_below_a_shared_value_is_the_processs(inner: Inner) -> None:
    inner.write(
        test_a="""
        import mmap, multiprocessing, tempfile

        def test_value():
            multiprocessing.Value("B").value = 1

        def test_mapping():
            with tempfile.TemporaryFile() as file:
                file.truncate(mmap.PAGESIZE)
                globals()["kept"] = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        """
    )
    inner.run()
    assert inner.outcomes() == {"test_value": "clean", "test_mapping": "leaked"}


# -- what holds a thread that runs: the interpreter's own list of them says nothing --------------------------------------


_kept: list[threading.Thread] = []


def test_a_running_thread_is_not_said_to_be_held_by_the_interpreters_list_of_threads(leaks: Leaks) -> None:
    end = threading.Event()
    (found,) = leaks(lambda: threading.Thread(target=end.wait).start())
    assert (found.kind, found.held_by) == (Kind.THREADS, None)
    end.set()


@pytest.mark.usefixtures("whole_heap")
def test_what_else_holds_a_running_thread_is_told(leaks: Leaks) -> None:
    end = threading.Event()

    def run() -> None:
        _kept.append(threading.Thread(target=end.wait))
        _kept[0].start()

    (found,) = leaks(run)
    assert found.held_by == f"module attribute {__name__}._kept[0]"
    end.set()
    _kept.clear()


# -- what pytest keeps of a test's log, and of nobody else's ---------------------------------------------------------------


def test_what_only_a_logged_traceback_keeps_is_nothing(inner: Inner) -> None:
    inner.write(
        test_a="""
        import logging

        KEPT = []

        def fetch(path, keep=None):
            file = open(path)
            try:
                1 / 0
            except ZeroDivisionError as error:
                logging.warning("failed with %s", file, exc_info=True)
                if keep is not None:
                    keep.append(error)

        def test_clean():
            fetch(__file__)

        def test_leaks():
            fetch(__file__, KEPT)

        def test_log_is_there(caplog):
            fetch(__file__)
            assert "failed with" in caplog.text and caplog.records[0].exc_info

        class Array:
            def __eq__(self, other):
                raise ValueError("ambiguous")

        class Uncopied(logging.LogRecord):
            def __copy__(self):
                raise ValueError("one of a kind")

        def test_extra():
            logging.warning("computed", extra={"rows": Array()})
            fetch(__file__)

        def test_record_of_a_class_of_its_own(caplog):
            caplog.handler.emit(Uncopied("own", 30, __file__, 1, "about %s", (caplog,), None))
            fetch(__file__)
            assert "about" in caplog.text

        def test_log_is_there_after_a_block(caplog, httpleak):
            with httpleak.check(fds=1):
                fetch(__file__, KEPT)
            assert caplog.records[0].exc_info
        """
    )
    result = inner.run("-W", "ignore::ResourceWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning")
    assert inner.outcomes() == {
        "test_clean": "clean",
        "test_leaks": "leaked",
        "test_log_is_there": "clean",
        "test_extra": "clean",
        "test_record_of_a_class_of_its_own": "clean",
        "test_log_is_there_after_a_block": "tolerated",
    }
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.no_fnmatch_line("*switched off*")


@pytest.mark.parametrize("runner", ["", "rerunfailures"])
def test_so_is_what_the_traceback_of_a_unittest_keeps_where_somebody_keeps_that(inner: Inner, runner: str) -> None:
    if runner:
        pytest.importorskip("pytest_rerunfailures")
    inner.write(
        conftest="""
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            item.kept = [*getattr(item, "kept", ()), call.excinfo]  # as for a picture of the screen
            return report
        """,
        test_a="""
        import unittest

        KEPT = []

        class Tests(unittest.TestCase):
            def test_fails(self):
                file = open(__file__)
                self.fail(file.name)

            @unittest.expectedFailure
            def test_fails_as_expected(self):
                file = open(__file__)
                self.fail(file.name)

            def test_skips(self):
                file = open(__file__)
                self.skipTest(file.name)

            def test_keeps_a_file(self):
                file = open(__file__)
                KEPT.append(file)
                self.fail(file.name)
        """,
    )
    if runner:  # which makes the plugin listen to all reports
        inner.write(
            test_b="""
            import unittest

            class Tests(unittest.TestCase):
                def test_fails_in_part(self):
                    with self.subTest("part"):
                        file = open(__file__)
                        self.fail(file.name)
            """
        )
    arguments = ("-p", "pytest_rerunfailures", "--reruns=0") if runner else ()
    result = inner.run(*arguments)
    assert inner.outcomes() == {
        "test_fails": "clean",
        "test_fails_as_expected": "clean",
        "test_skips": "clean",
        "test_keeps_a_file": "leaked",
    } | ({"test_fails_in_part": "clean"} if runner else {})
    result.stdout.fnmatch_lines(["*1 skipped*1 xfailed*"])


def test_a_generator_that_only_the_traceback_of_a_failed_test_keeps_leaves_its_block_when_it_is_dropped(
    inner: Inner,
) -> None:
    inner.write(
        test_a="""
        import asyncio
        import socket

        KEPT = []

        def in_a_block():
            with socket.socket() as sock:
                yield sock

        def without_a_block():
            sock = socket.socket()
            yield sock
            sock.close()

        def in_a_try():
            sock = socket.socket()
            try:
                yield sock
            finally:
                sock.close()

        async def later():
            with socket.socket() as sock:
                yield sock

        def test_in_a_try():
            lines = in_a_try()
            next(lines)
            assert not lines

        def test_in_a_try_that_is_kept():
            KEPT.append(in_a_try())
            next(KEPT[-1])
            assert not KEPT

        def test_in_a_block():
            lines = in_a_block()
            next(lines)
            assert not lines

        def test_in_a_block_that_is_kept():
            lines = in_a_block()
            KEPT.append(lines)
            next(lines)
            assert not lines

        def test_in_a_block_of_which_another_is_kept():
            lines, others = in_a_block(), in_a_block()
            KEPT.append(others)
            next(lines), next(others)
            assert not lines

        def test_without_a_block():
            lines = without_a_block()
            next(lines)
            assert not lines

        def test_in_an_async_block():
            async def main():
                lines = later()
                await anext(lines)
                assert not lines
            asyncio.run(main())

        def test_that_passes():
            lines = in_a_block()
            next(lines)
        """
    )
    inner.run("-W", "ignore")
    assert inner.outcomes() == {
        "test_in_a_try": "clean",
        "test_in_a_try_that_is_kept": "leaked",
        "test_in_a_block": "clean",
        "test_in_a_block_that_is_kept": "leaked",
        "test_in_a_block_of_which_another_is_kept": "leaked",
        "test_without_a_block": "leaked",
        "test_in_an_async_block": "clean",
        "test_that_passes": "clean",
    }


def test_what_only_the_traceback_of_a_failed_test_keeps_is_dropped_with_it(inner: Inner) -> None:
    inner.write(
        test_a="""
        import atexit
        import contextvars
        import socket
        import sqlite3
        import unittest

        KEPT = []
        VARIABLE = contextvars.ContextVar("file")

        def read(path):
            file = open(path)
            raise ValueError(file.name)

        def test_file():
            read(__file__)

        def test_file_of_the_cause():
            try:
                read(__file__)
            except ValueError as error:
                raise KeyError("no") from error

        def test_database(tmp_path):
            connection = sqlite3.connect(tmp_path / "a.db")
            assert connection.execute("select 1").fetchone() == (2,)

        def test_number():
            number = open(__file__, opener=lambda path, flags: KEPT.append(number_of(path)) or KEPT[0]).fileno()
            assert not number

        def number_of(path):
            import os
            return os.dup(os.open(path, os.O_RDONLY))

        def test_file_that_is_kept():
            KEPT.append(open(__file__))
            assert not KEPT

        def test_socket():
            sock = socket.socket()
            assert not sock

        class Box:
            def __init__(self, inside):
                self.inside = inside

        def test_deep_inside():
            box = open(__file__)
            for _ in range(12):
                box = Box([box])
            assert not box

        def test_in_many():
            file = open(__file__)
            boxes = [Box(file) for _ in range(100)]
            assert not boxes

        def test_registered_in_c():
            file = open(__file__)
            atexit.register(file.close)
            assert not file

        def test_in_a_context():
            VARIABLE.set(open(__file__))
            assert not VARIABLE.get()

        class TestCase(unittest.TestCase):
            def test_file_of_unittest(self):
                file = open(__file__)
                self.fail(file.name)

        def test_passes():
            pass
        """
    )
    inner.run("-W", "ignore")
    assert inner.outcomes() == {
        "test_file": "clean",
        "test_file_of_the_cause": "clean",
        "test_database": "clean",
        "test_number": "leaked",
        "test_file_that_is_kept": "leaked",
        "test_socket": "leaked",
        "test_deep_inside": "clean",
        "test_in_many": "clean",
        "test_registered_in_c": "leaked",
        "test_in_a_context": "leaked",
        "test_file_of_unittest": "clean",
        "test_passes": "clean",
    }


def test_what_only_an_error_of_a_group_or_of_a_fixture_keeps_is_dropped_with_it(inner: Inner) -> None:
    inner.write(
        test_a="""
        import asyncio
        import pytest

        KEPT = []

        def read(path, error):
            file = open(path)
            raise error

        def test_group():
            async def main():
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.to_thread(read, __file__, ValueError("no")))
            asyncio.run(main())

        @pytest.fixture
        def failing():
            read(__file__, ValueError("no"))

        def test_setup(failing):
            pass

        @pytest.fixture
        def skipping():
            file = open(__file__)
            pytest.skip("gives up after it has opened a file, which is judged")

        def test_skipped(skipping):
            pass

        @pytest.fixture
        def failing_late():
            yield
            read(__file__, ValueError("no"))

        def test_teardown(failing_late):
            pass

        @pytest.fixture
        def skipping_and_keeping():
            KEPT.append(open(__file__))
            pytest.skip("gives up after it has opened a file, which is judged")

        def test_skipped_and_kept(skipping_and_keeping):
            pass

        class TestSetup:
            def setup_method(self):
                file = open(__file__)
                pytest.skip("gives up after it has opened a file, which is judged")

            def test_of_class(self):
                pass
        """,
        test_b="""
        import pytest

        @pytest.fixture(scope="module")
        def wide():
            file = open(__file__)
            pytest.skip("gives up after it has opened a file, which is judged")

        def test_first(wide):
            pass

        def test_second(wide):
            pass
        """,
    )
    inner.run("-W", "ignore")
    leaked = [row["nodeid"].rpartition("::")[2] for row in inner.report["tests"] if row["outcome"] != "clean"]
    assert leaked == ["test_skipped_and_kept"]
    assert inner.report["fixtures"] == []


def test_the_log_of_a_test_that_leaves_nothing_stays_as_it_is(inner: Inner) -> None:
    inner.write(
        conftest="""
        import threading
        import pytest

        ENDS = threading.Event()

        @pytest.fixture(scope="session", params=[1, 2])
        def service(request):
            thread = threading.Timer(0.01, lambda: None)  # may end after its fixture
            thread.start()
            yield request.param

        @pytest.hookimpl(wrapper=True, trylast=True)
        def pytest_runtest_teardown(item):
            caplog = item.funcargs["caplog"]
            yield
            print([record.getMessage() for phase in ("setup", "call", "teardown") for record in caplog.get_records(phase)])
        """,
        test_a="""
        import logging
        import threading
        import pytest

        @pytest.fixture
        def prepared(service, caplog):
            logging.error("prepared %s", service)
            yield
            logging.error("torn down")

        def test_settles(prepared, caplog, service):
            assert [record.getMessage() for record in caplog.get_records("setup")] == [f"prepared {service}"]
            logging.error("called with %s", threading)
            threading.Timer(0.01, lambda: None).start()
        """,
    )
    result = inner.run("-s")
    assert inner.outcomes() == {"test_settles[1]": "clean", "test_settles[2]": "clean"}
    said = [line for line in result.outlines if "torn down" in line]
    assert [line.count("called with") for line in said] == [1, 1]
    assert ["prepared 1" in said[0], "prepared 2" in said[1]] == [True, True]


def test_a_watcher_that_a_library_never_ends_is_nobodys() -> None:
    code = "async def _shutdown_watcher(): pass"
    for module, is_the_librarys in (("sse_starlette.sse", True), ("mine", False)):
        names: dict[str, Any] = {"__name__": module}
        exec(code, names)  # a module of that name
        coroutine = names["_shutdown_watcher"]()
        task = types.SimpleNamespace(get_coro=lambda coroutine=coroutine: coroutine)
        assert is_infrastructure(task) is is_the_librarys
        coroutine.close()


# -- a library's own runner, whose loop it also makes the current one: falcon's -----------------------------------------

RUNNER = """
import asyncio

class Active:
    def __init__(self):
        self.runner = asyncio.Runner()


class Simulation:
    active = None

    def run(self, coroutine):
        if self.active is None:
            self.active = Active()
        return self.active.runner.run(coroutine)


run = Simulation().run
"""


def test_the_loop_of_a_runner_of_a_librarys_is_the_processs(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.install(monkeypatch, simulating=RUNNER)
    inner.write(
        test_a="""
import asyncio
import simulating

def test_first():
    simulating.run(asyncio.sleep(0))

def test_second():
    simulating.run(asyncio.sleep(0))

def test_own():
    asyncio.set_event_loop(asyncio.new_event_loop())
"""
    )
    inner.judge(test_first="clean", test_second="clean", test_own="leaked")
