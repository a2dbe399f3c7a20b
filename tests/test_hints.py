"""The hint names the end of what was made, and not only that of the bare thing below it."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import ctypes
import ftplib
import imaplib
import io
import logging.handlers
import mmap
import multiprocessing
import os
import poplib
import queue
import select
import smtplib
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import weakref
import xmlrpc.client
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
import urllib3
from inner import Inner
from loops import Loop
from marked import Leaks

from pytest_httpleak.hints import hint
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Site, Suspect
from pytest_httpleak.model.kinds import Kind, State

# What is left open on purpose makes the interpreter warn, too.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def hints_of(leaks: Leaks) -> Callable[[Callable[[], object]], set[str]]:
    """The hints to what a function leaks."""
    return lambda function: {finding.hint for finding in leaks(function, grace=0)}


def _module(text: str, package: str, *, is_installed: bool) -> dict[str, Any]:
    """The namespace of a package's module, which is an installed one's or the user's by where it says that it lies."""
    folder = f"/usr/lib/python3/site-packages/{package}" if is_installed else str(Path(__file__).parent)
    namespace: dict[str, Any] = {"__name__": f"{package}.client"}
    exec(compile(text, f"{folder}/client.py", "exec"), namespace)
    return namespace


def _port(server: str) -> int:
    return int(server.rpartition(":")[2])


def test_a_stream_is_closed_through_its_writer(hints_of: Any, loop: Loop, server: str) -> None:
    def leaking() -> None:
        loop.kept.append(loop.run(asyncio.open_connection("127.0.0.1", _port(server)))[1])

    assert hints_of(leaking) == {"call `writer.close()`, then `await writer.wait_closed()`, in a `finally`"}


def test_a_connection_is_closed_through_its_transport(hints_of: Any, loop: Loop, server: str) -> None:
    def leaking() -> None:
        loop.kept.append(loop.run(loop.loop.create_connection(asyncio.Protocol, "127.0.0.1", _port(server)))[0])

    assert hints_of(leaking) == {"call `transport.close()` in a `finally`"}


def test_a_loop_that_a_thread_runs_is_stopped_before_it_is_closed(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        ending.callback(loop.close)
        ending.callback(thread.join)
        ending.callback(loop.call_soon_threadsafe, loop.stop)

    assert {hint.partition(",")[0] for hint in hints_of(leaking)} == {
        "stop it with `loop.call_soon_threadsafe(loop.stop)`",
        "tell the thread to stop and `join()` it before the test ends",
    }


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_task_that_was_cancelled_and_goes_on_is_told_so(
    hints_of: Any, loop: Loop, held: list[Any], *, is_cancelled: bool
) -> None:
    going_on = [True]

    async def goes_on() -> None:
        while going_on:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    async def main() -> None:
        held.append(asyncio.create_task(goes_on()))
        await asyncio.sleep(0)
        if is_cancelled:
            held[-1].cancel()

    expected = (
        "it was cancelled, and has not ended: await it, and let its coroutine pass `CancelledError` on"
        if is_cancelled
        else "await the task, or cancel it and await it; `asyncio.TaskGroup` does both"
    )
    assert hints_of(lambda: loop.run(main())) == {expected}
    going_on.clear()


def test_a_task_that_its_runner_has_cancelled_meanwhile_was_not_cancelled_by_its_user(inner: Inner) -> None:
    inner.write(
        test_a="""
        import asyncio
        import pytest

        KEPT = []

        @pytest.mark.asyncio
        async def test_x():
            KEPT.append(asyncio.create_task(asyncio.Event().wait()))
            await asyncio.sleep(0)
        """
    )
    inner.run("-p", "pytest_asyncio.plugin", "-W", "ignore")
    (finding,) = inner.report["tests"][0]["findings"]
    assert finding["hint"].startswith("await the task, or cancel it")


def test_a_loop_that_stands_still_is_closed(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        loop = asyncio.new_event_loop()
        ending.callback(loop.close)

    (hint,) = hints_of(leaking)
    assert hint.startswith("call `loop.close()`")


@pytest.mark.parametrize("way", ["streams", "loop"])
def test_a_server_of_asyncio_is_closed_itself(hints_of: Any, loop: Loop, way: str) -> None:
    def leaking() -> None:
        if way == "streams":
            made = asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        else:
            made = loop.loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        loop.kept.append(loop.run(made))

    (hint,) = hints_of(leaking)
    assert hint.startswith("use `async with server:`")


def test_a_server_in_threads_is_closed_itself(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        ending.push(socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler))

    assert hints_of(leaking) == {"use `with` on the server, or call `server.server_close()` in a `finally`"}


def test_a_worker_is_ended_with_its_executor(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        ending.push(ThreadPoolExecutor()).submit(len, "").result()

    (hint,) = hints_of(leaking)
    assert "executor.shutdown()" in hint


@pytest.mark.parametrize("is_waited_for", [False, True])
def test_a_worker_whose_executor_was_shut_down_is_waited_for(
    hints_of: Any, ending: contextlib.ExitStack, is_waited_for: bool
) -> None:
    stop = threading.Event()

    def leaking() -> None:
        executor = ending.push(ThreadPoolExecutor())
        ending.callback(stop.set)
        executor.submit(stop.wait)
        if not is_waited_for:
            executor.shutdown(wait=False)

    (hint,) = hints_of(leaking)
    assert hint.startswith("let what it runs come to an end, and wait for it") is not is_waited_for


def test_a_worker_whose_executor_was_dropped_is_waited_for(hints_of: Any, ending: contextlib.ExitStack) -> None:
    stop = threading.Event()
    ending.callback(stop.set)
    (hint,) = hints_of(lambda: ThreadPoolExecutor().submit(stop.wait))
    assert hint.startswith("let what it runs come to an end, and wait for it")


def test_a_thread_that_was_given_a_weak_reference_is_no_worker(hints_of: Any, ending: contextlib.ExitStack) -> None:
    class Poller:
        """What the thread knows, and does not keep."""

    stop = threading.Event()
    ending.callback(stop.set)

    def leaking() -> None:
        threading.Thread(target=lambda poller: stop.wait(), args=(weakref.ref(Poller()),)).start()

    assert hints_of(leaking) == {"tell the thread to stop and `join()` it before the test ends"}


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_socket_that_was_closed_before_its_file_says_so(
    hints_of: Any, ending: contextlib.ExitStack, is_closed: bool
) -> None:
    def leaking() -> None:
        made = socket.socket()
        ending.push(made.makefile("rb"))
        if is_closed:
            made.close()
        else:
            ending.push(made)

    (hint,) = hints_of(leaking)
    assert ("`makefile()`" in hint) is is_closed


def test_a_socket_of_which_only_the_number_is_left_is_closed_by_it(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        ending.callback(socket.close, socket.socket().detach())

    (hint,) = hints_of(leaking)
    assert "call `socket.close()` with it" in hint


def test_a_bare_pool_is_closed_itself(hints_of: Any, ending: contextlib.ExitStack, server: str) -> None:
    def leaking() -> None:
        pool = ending.push(urllib3.HTTPConnectionPool("127.0.0.1", _port(server)))
        assert pool.request("GET", "/").data is not None

    (hint,) = hints_of(leaking)
    assert hint.startswith("use `with urllib3.HTTPConnectionPool(...) as pool:`")


def test_a_pool_of_a_users_class_is_not_cleared(hints_of: Any, ending: contextlib.ExitStack, server: str) -> None:
    class Mine(urllib3.HTTPConnectionPool):
        """A pool by another name."""

    def leaking() -> None:
        pool = ending.push(Mine("127.0.0.1", _port(server)))
        assert pool.request("GET", "/").data is not None

    (hint,) = hints_of(leaking)
    assert hint.endswith("or call `pool.close()` in a `finally`")


def test_a_timer_is_cancelled(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        timer = threading.Timer(60, len, ("",))
        timer.start()
        ending.callback(timer.cancel)

    assert hints_of(leaking) == {"call `timer.cancel()` before the test ends"}


def test_a_pool_is_closed_and_joined(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        ending.push(ThreadPool(1))

    assert "use `with` on the pool, or call its `close()` and `join()` in a `finally`" in hints_of(leaking)


def test_a_runner_is_closed_itself(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        runner = asyncio.Runner()
        ending.callback(runner.close)
        runner.run(asyncio.sleep(0))

    assert hints_of(leaking) == {"use `with asyncio.Runner() as runner:`, or call `runner.close()` in a `finally`"}


def test_a_listener_is_stopped(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        listener = logging.handlers.QueueListener(queue.Queue())
        ending.callback(listener.stop)
        listener.start()

    assert hints_of(leaking) == {"call `listener.stop()` in a `finally`"}


def test_a_handler_that_sends_is_closed_itself(hints_of: Any, ending: contextlib.ExitStack, server: str) -> None:
    def leaking() -> None:
        handler = logging.handlers.SocketHandler("127.0.0.1", _port(server))
        ending.callback(handler.close)
        handler.createSocket()

    assert hints_of(leaking) == {
        "call `handler.close()` in a `finally`, after `logger.removeHandler(handler)` where a logger has it"
    }


def test_a_proxy_of_xml_rpc_is_closed_by_its_block(
    hints_of: Any, ending: contextlib.ExitStack, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xmlrpc.client.Transport, "parse_response", lambda _, response: response.read())

    def leaking() -> None:
        proxy = ending.push(xmlrpc.client.ServerProxy(f"{server}/ok"))
        proxy.method()

    assert hints_of(leaking) == {"use `with xmlrpc.client.ServerProxy(...) as proxy:`"}


def test_a_queue_is_closed(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        queue: Any = multiprocessing.Queue()
        ending.callback(queue.close)

    assert hints_of(leaking) == {"call `queue.close()` and `queue.join_thread()` in a `finally`"}


def test_a_simple_queue_is_closed_alone(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        queue: Any = multiprocessing.SimpleQueue()
        ending.callback(queue.close)

    assert hints_of(leaking) == {"call `queue.close()` in a `finally`"}


def test_shared_memory_is_closed_and_unlinked(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        memory = SharedMemory(create=True, size=10)
        ending.callback(memory.close)
        ending.callback(memory.unlink)

    (hint,) = hints_of(leaking)
    assert hint.startswith("call `memory.close()` in a `finally`, and `memory.unlink()`")


def test_a_mapped_file_is_closed_by_its_map(hints_of: Any, ending: contextlib.ExitStack, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def leaking() -> None:
        with (tmp_path / "file").open("r+b") as file:
            ending.callback(mmap.mmap(file.fileno(), 0).close)

    (hint,) = hints_of(leaking)
    assert hint.startswith("call `close()` of the `mmap`")


class Keeper:
    """Has something for as long as the process lives."""

    thing: Any = None
    things: list[Any] = []  # noqa: RUF012


@pytest.mark.usefixtures("whole_heap")
@pytest.mark.parametrize("is_one", [True, False])
def test_what_has_an_attribute_of_its_own_may_be_meant_to_last(
    hints_of: Any, ending: contextlib.ExitStack, is_one: bool
) -> None:
    ending.callback(Keeper.things.clear)

    def leaking() -> None:
        sock = socket.socket()
        ending.callback(sock.close)
        if is_one:
            Keeper.thing = sock
        else:
            Keeper.things.append(sock)

    (hint,) = hints_of(leaking)
    Keeper.thing = None
    assert hint.endswith("allowed by `httpleak_ignore`") is is_one


def test_a_thread_of_the_lowest_level_cannot_be_joined(hints_of: Any, ending: contextlib.ExitStack) -> None:
    stop = _stopped_by(ending)
    (hint,) = hints_of(lambda: _thread.start_new_thread(stop.wait, ()))
    assert hint.startswith("let its function return before the test ends")


def connected_to_ftp(port: int) -> Any:
    ftp = ftplib.FTP()
    ftp.connect("127.0.0.1", port)
    return ftp


@pytest.mark.parametrize(
    ("connected", "greeting", "expected"),
    [
        (connected_to_ftp, b"220 welcome", "use `with ftplib.FTP(...) as ftp:`"),
        (lambda port: imaplib.IMAP4("127.0.0.1", port), b"* PREAUTH welcome", "use `with imaplib.IMAP4(...) as imap:`"),
        (lambda port: poplib.POP3("127.0.0.1", port), b"+OK welcome", "call `pop.close()`"),
        (lambda port: smtplib.SMTP("127.0.0.1", port), b"220 welcome", "use `with smtplib.SMTP(...) as smtp:`"),
    ],
    ids=["ftp", "imap", "pop", "smtp"],
)
def test_a_client_of_the_standard_library_is_closed_by_its_own_means(
    hints_of: Any, ending: contextlib.ExitStack, connected: Callable[[int], Any], greeting: bytes, expected: str
) -> None:
    listener = ending.enter_context(socket.create_server(("127.0.0.1", 0)))

    def greet() -> None:
        with listener.accept()[0] as connection, connection.makefile("rwb") as lines:
            connection.settimeout(10)
            lines.write(greeting + b"\r\n")
            lines.flush()
            for line in lines:  # of IMAP, which asks for what there is
                lines.write(b"* CAPABILITY IMAP4REV1\r\n" + line.split()[0] + b" OK done\r\n")
                lines.flush()

    server = threading.Thread(target=greet)
    server.start()
    ending.callback(server.join)

    def leaking() -> None:
        client = connected(listener.getsockname()[1])
        ending.callback(client.sock.close)
        for file in vars(client).values():  # imaplib's has another name in each version
            if isinstance(file, io.IOBase):
                ending.callback(file.close)

    (hint,) = hints_of(leaking)
    assert hint.startswith(expected)


def test_what_is_connected_again_within_its_block_is_closed_before(hints_of: Any, ending: contextlib.ExitStack) -> None:
    listener = ending.enter_context(socket.create_server(("127.0.0.1", 0)))

    def greet() -> None:
        for _ in range(2):
            connection = listener.accept()[0]
            ending.callback(connection.close)
            connection.sendall(b"220 welcome\r\n")
        ending.callback(connection.close)
        connection.recv(100)
        connection.sendall(b"221 bye\r\n")

    server = threading.Thread(target=greet)
    server.start()

    def connecting(*, closes: bool) -> None:
        address = listener.getsockname()
        with smtplib.SMTP(*address[:2]) as client:
            if closes:
                client.close()
            client.connect(*address[:2])

    (hint,) = hints_of(lambda: connecting(closes=False))
    server.join()
    assert "within the block it was connected again" in hint
    server = threading.Thread(target=greet)
    server.start()
    assert hints_of(lambda: connecting(closes=True)) == set()
    server.join()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/big", "use `with urlopen(...) as"),
        ("/status/503", "the `HTTPError` is"),
        ("/status/304", "the `HTTPError` is"),
    ],
)
def test_a_response_of_urllibs_is_closed_by_what_the_user_has(
    hints_of: Any, ending: contextlib.ExitStack, server: str, path: str, expected: str
) -> None:
    def leaking() -> None:
        try:
            response: Any = urllib.request.urlopen(server + path)  # left open on purpose
        except urllib.error.HTTPError as error:
            response = error
        ending.callback(response.close)

    (hint,) = hints_of(leaking)
    assert hint.startswith(expected)


@pytest.mark.parametrize(("status", "is_of_handlers"), [(401, True), (407, True), (403, False)])
def test_what_a_handler_for_passwords_drops_is_not_there_where_the_password_is_sent_at_once(
    hints_of: Any, server: str, status: int, *, is_of_handlers: bool
) -> None:
    def leaking() -> None:
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{server}/status/{status}")

    (hint,) = hints_of(leaking)
    assert hint.startswith("the `HTTPError` is")
    assert ("HTTPPasswordMgrWithPriorAuth" in hint) is is_of_handlers


def test_a_task_of_another_threads_loop_is_ended_by_its_future(hints_of: Any, ending: contextlib.ExitStack) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    ending.callback(loop.close)
    ending.callback(thread.join)
    ending.callback(loop.call_soon_threadsafe, loop.stop)

    def leaking() -> None:
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(60), loop)
        ending.callback(lambda: asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result())
        ending.callback(future.cancel)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()  # by then the other is a task

    (hint,) = hints_of(leaking)
    assert hint.startswith("`cancel()` the future that `run_coroutine_threadsafe()` has returned")


def test_an_executor_is_named_by_its_own_class(hints_of: Any, ending: contextlib.ExitStack) -> None:
    class OwnExecutor(ThreadPoolExecutor):
        """Somebody's own."""

    def leaking() -> None:
        ending.push(OwnExecutor()).submit(len, "").result()

    (hint,) = hints_of(leaking)
    assert hint.startswith("use `with OwnExecutor() as executor:`")


@pytest.mark.parametrize("library", ["httpx", "requests"])
def test_a_client_is_made_by_its_own_class(
    hints_of: Any, ending: contextlib.ExitStack, server: str, library: str
) -> None:
    module = pytest.importorskip(library)
    stock = module.Session if library == "requests" else module.Client

    class Api(stock):  # type: ignore[misc]
        """Somebody's own."""

    (own,) = hints_of(lambda: ending.push(Api()).get(f"{server}/ok"))
    (librarys,) = hints_of(lambda: ending.push(stock()).get(f"{server}/ok"))
    assert own.startswith("use `with Api(...) as ")
    assert librarys.startswith(f"use `with {library}.{stock.__name__}() as ")


def test_a_manager_is_shut_down(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        ending.push(multiprocessing.Manager())

    assert hints_of(leaking) == {
        "use `with multiprocessing.Manager() as manager:`, or call `manager.shutdown()` in a `finally`"
    }


def test_the_pipe_of_a_program_is_read_to_its_end(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        program = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
        ending.push(program)

    (hint,) = hints_of(leaking)
    assert "process.communicate()" in hint


def test_the_pipe_of_a_command_is_closed_through_what_has_it(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        ending.push(os.popen("cd ."))

    (hint,) = hints_of(leaking)
    assert "os.popen(...)" in hint


def test_a_bare_file_is_closed(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        ending.push(Path(__file__).open())  # noqa: SIM115  # left open on purpose

    assert hints_of(leaking) == {"close it, best with a `with` block"}


def test_a_handler_is_taken_off_its_logger(hints_of: Any, ending: contextlib.ExitStack, tmp_path: Path) -> None:
    def leaking() -> None:
        handler = logging.FileHandler(tmp_path / "log")
        ending.callback(handler.close)

    (hint,) = hints_of(leaking)
    assert "`logger.removeHandler(handler)`" in hint


def test_so_is_one_that_opens_its_file_late(hints_of: Any, ending: contextlib.ExitStack, tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "log", delay=True)
    ending.callback(handler.close)
    (hint,) = hints_of(lambda: handler.emit(logging.makeLogRecord({})))
    assert "`logger.removeHandler(handler)`" in hint


def test_a_bare_number_is_closed_by_that(hints_of: Any, ending: contextlib.ExitStack) -> None:
    assert hints_of(lambda: ending.callback(os.close, os.dup(0))) == {"close it by `os.close(fd)` in a `finally`"}


def test_a_database_is_not_closed_by_its_own_block(hints_of: Any, ending: contextlib.ExitStack, tmp_path: Path) -> None:
    def leaking() -> None:
        with sqlite3.connect(tmp_path / "a.db") as connection:
            ending.callback(connection.close)

    (hint,) = hints_of(leaking)
    assert "contextlib.closing(sqlite3.connect(...))" in hint


def test_a_cursor_that_keeps_a_closed_database_open_is_closed(
    hints_of: Any, ending: contextlib.ExitStack, tmp_path: Path
) -> None:
    def leaking() -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            connection.execute("create table things (name)")
            connection.execute("insert into things values (1), (2)")
            ending.callback([connection.execute("select * from things")].clear)

    (hint,) = hints_of(leaking)
    assert hint.startswith("`close()` its cursors before it")


def test_a_librarys_database_is_closed_through_the_library(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.install(monkeypatch, store="import sqlite3\ndef open_store(path):\n    return sqlite3.connect(path)\n")
    inner.write(
        test_a="""
        import store

        KEPT = []

        def test_a(tmp_path):
            KEPT.append(store.open_store(tmp_path / "a.db"))
        """
    )
    inner.run()
    ((finding,),) = [row["findings"] for row in inner.report["tests"]]
    assert finding["hint"].startswith("close or dispose of the object of store that opened it")


@pytest.mark.parametrize(("request_line", "verb"), [("HEAD http://a/", "head"), ("GET http://a/", "get"), ("", "get")])
def test_a_response_is_asked_for_with_the_verb_that_was_used(request_line: str, verb: str) -> None:
    made = Suspect(Kind.RESPONSES, "requests", "requests.Response", State.OPEN, request_line, 1, None, ())
    assert hint(made).startswith(f"use `with session.{verb}(..., stream=True) as response:`")


def test_what_a_session_sends_is_told_as_sent(hints_of: Any, ending: contextlib.ExitStack, server: str) -> None:
    session = ending.enter_context(requests.Session())

    def leaking() -> None:
        prepared = session.prepare_request(requests.Request("GET", f"{server}/big"))
        ending.callback(session.send(prepared, stream=True).close)

    (hint,) = hints_of(leaking)
    assert hint.startswith("use `with session.send(..., stream=True) as response:`")


class OwnAdapter(requests.adapters.HTTPAdapter):
    """One that its user closes, if no session does."""

    def __init__(self) -> None:
        super().__init__()


@pytest.mark.parametrize("adapter_class", [OwnAdapter, requests.adapters.HTTPAdapter])
def test_an_adapter_that_its_session_has_let_go_of_is_closed_by_itself(
    hints_of: Any, ending: contextlib.ExitStack, server: str, adapter_class: Any
) -> None:
    session = ending.enter_context(requests.Session())

    def leaking() -> None:
        adapter = adapter_class()
        ending.callback(adapter.close)
        session.mount("http://", adapter)
        session.get(f"{server}/ok")
        session.mount("http://", requests.adapters.HTTPAdapter())

    (hint,) = hints_of(leaking)
    assert hint.startswith("call `adapter.close()`")


class SendingAdapter(requests.adapters.HTTPAdapter):
    """One that stands between a session and its connections."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super().send(*args, **kwargs)


class SendingSession(requests.Session):
    """One that has a word in what is sent."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super().send(*args, **kwargs)


@pytest.mark.parametrize(
    ("session_class", "adapter_class"),
    [(requests.Session, SendingAdapter), (SendingSession, requests.adapters.HTTPAdapter)],
)
def test_what_only_passes_through_the_users_send_is_told_as_it_was_asked_for(
    hints_of: Any,
    ending: contextlib.ExitStack,
    server: str,
    session_class: type[requests.Session],
    adapter_class: type[requests.adapters.HTTPAdapter],
) -> None:
    session = ending.enter_context(session_class())
    session.mount("http://", adapter_class())

    def leaking() -> None:
        ending.callback(session.get(f"{server}/big", stream=True).close)

    (hint,) = hints_of(leaking)
    assert hint.startswith("use `with session.get(..., stream=True) as response:`")


def test_what_an_opener_opens_is_told_as_its(hints_of: Any, ending: contextlib.ExitStack, server: str) -> None:
    def leaking() -> None:
        ending.callback(urllib.request.build_opener().open(f"{server}/big").close)

    (hint,) = hints_of(leaking)
    assert hint.startswith("use `with opener.open(...) as response:`")


def test_what_urlopen_has_ftplib_open_is_closed_by_what_urlopen_returns() -> None:
    test = Site("/a/test_a.py", 1, "test")
    stack = (Site("/usr/lib/ftplib.py", 1, "connect"), Site("/usr/lib/urllib/request.py", 1, "urlopen"), test)
    made = Suspect(Kind.SOCKETS, "socket", "socket.socket", State.OPEN, "TCP", 1, test, stack)
    assert hint(made).startswith("use `with urlopen(...) as response:`")


def test_a_response_that_requests_itself_was_asked_for_is_told_as_its() -> None:
    test = Site("/a/test_a.py", 1, "test")
    stack = (Site("/venv/lib/python3/site-packages/requests/api.py", 1, "post"), test)
    made = Suspect(Kind.RESPONSES, "requests", "requests.Response", State.OPEN, "POST http://a/", 1, test, stack)
    assert hint(made).startswith("use `with requests.post(..., stream=True) as response:`")


def test_a_database_is_none_of_an_http_librarys_own(ending: contextlib.ExitStack) -> None:
    folder, test = "/venv/lib/python3/site-packages/", Site("/a/test_a.py", 1, "test")
    stack = (Site(f"{folder}cache/storage.py", 1, "open"), Site(f"{folder}httpx/_client.py", 1, "send"), test)
    made = Suspect(Kind.FDS, "os", "file descriptor", State.OPEN, "fd 5: a.db", -6, test, stack)
    holder = ending.enter_context(contextlib.closing(sqlite3.connect(":memory:")))
    assert "the object of cache that opened it" in hint(made, holder)


@pytest.mark.parametrize(
    ("asking", "expected"),
    [
        ("aiohttp/client.py", "this is the library's own doing: upgrade aiohttp"),
        ("aiohttp/connector.py", "close the connection in a `finally`, or use `contextlib.closing(connection)`"),
    ],
)
def test_what_a_client_has_dropped_is_its_librarys_doing(asking: str, expected: str) -> None:
    test = Site("/a/test_a.py", 1, "test")
    stack = (Site(f"/venv/lib/python3/site-packages/{asking}", 1, "call"), test)
    made = Suspect(Kind.CONNECTIONS, "aiohttp", "aiohttp.connector.Connection", State.COLLECTED, "", 1, test, stack)
    assert hint(made) == expected
    assert hint(replace(made, hint="use one loop")) == "use one loop"


@pytest.mark.parametrize(
    ("asking", "library"),
    [
        ([("requests/adapters.py", "send")], "requests"),  # until 2.28, for a body that is sent in parts
        ([("urllib3/connectionpool.py", "urlopen"), ("requests/adapters.py", "send")], "urllib3"),
    ],
)
def test_a_connection_that_requests_has_lost_is_the_doing_of_whoever_has_taken_it(
    asking: list[tuple[str, str]], library: str
) -> None:
    pytest.importorskip("urllib3")
    test = Site("/a/test_a.py", 1, "test")
    stack = (*(Site(f"/venv/lib/python3/site-packages/{file}", 1, function) for file, function in asking), test)
    made = Suspect(
        Kind.CONNECTIONS, "urllib3", "urllib3.connection.HTTPConnection", State.COLLECTED, "", 1, test, stack
    )
    assert hint(replace(made, hint="give it back to its pool")) == f"this is the library's own doing: upgrade {library}"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("urlopen", "this is the library's own doing: upgrade recorder"),
        ("_get_conn", "give it back to its pool"),  # which somebody has called by hand
    ],
)
def test_a_connection_that_a_request_has_lost_is_the_doing_of_the_library_that_its_class_is_of(
    monkeypatch: pytest.MonkeyPatch, function: str, expected: str
) -> None:
    module = ModuleType("recorder.patch")
    module.__file__ = "/venv/lib/python3/site-packages/recorder/patch.py"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    test = Site("/a/test_a.py", 1, "test")
    stack = (Site("/venv/lib/python3/site-packages/urllib3/connectionpool.py", 1, function), test)
    made = Suspect(Kind.CONNECTIONS, "urllib3", "recorder.patch.Connection", State.COLLECTED, "", 1, test, stack)
    assert hint(replace(made, hint="give it back to its pool")) == expected
    assert hint(replace(made, hint="give it back to its pool", type="test_hints.Connection")).startswith("give it back")


@pytest.mark.parametrize(
    ("asking", "expected"),
    [
        (("aiohttp/web_runner.py",), "call `await runner.cleanup()` in a `finally`"),
        (("aiohttp/web_runner.py", "aiohttp/test_utils.py"), "use `async with` on the server or client for tests"),
        (("aiohttp/connector.py",), "close the object of aiohttp that opened it"),
    ],
)
def test_a_server_of_aiohttps_is_ended_by_its_runner(asking: tuple[str, ...], expected: str) -> None:
    test = Site("/a/test_a.py", 1, "test")
    stack = (*(Site(f"/venv/lib/python3/site-packages/{file}", 1, "call") for file in asking), test)
    made = Suspect(Kind.SOCKETS, "socket", "socket.socket", State.OPEN, "", 1, test, stack)
    assert hint(made).startswith(expected)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="of Linux alone")
def test_a_poller_closes_itself(hints_of: Any, ending: contextlib.ExitStack) -> None:
    assert hints_of(lambda: ending.push(select.epoll())) == {"close it, best with a `with` block"}


def test_the_pipe_of_an_asynchronous_program_is_read_to_its_end(hints_of: Any, loop: Loop) -> None:
    async def run() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(sys.executable, "-c", "", stdout=asyncio.subprocess.PIPE)

    processes: list[asyncio.subprocess.Process] = []
    hints = hints_of(lambda: processes.append(loop.run(run())))
    loop.run(processes[0].communicate())
    assert any("await process.communicate()" in hint for hint in hints)


WRAPPER = """
def export(pool, url):
    return pool.request("GET", url, preload_content=False)
"""


@pytest.mark.parametrize("is_blocking", [False, True])
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_what_a_library_has_made_of_a_response_is_ended_by_its_own_means(
    hints_of: Any, ending: contextlib.ExitStack, server: str, *, is_wrapped: bool, is_blocking: bool
) -> None:
    namespace = _module(WRAPPER, "storage", is_installed=is_wrapped)
    pool = ending.enter_context(urllib3.PoolManager(block=True))

    def leaking() -> None:
        response = namespace["export"](pool, f"{server}/big")
        ending.callback(response.release_conn)
        if is_blocking:
            response.close()  # after which its slot is lost

    (hint,) = hints_of(leaking)
    assert (("response.release_conn()" if is_blocking else "response.drain_conn()") in hint) is not is_wrapped
    assert ("what storage has returned" in hint) is is_wrapped
    assert ("slot" in hint) is is_blocking


def test_a_task_of_a_group_ends_with_that(hints_of: Any, loop: Loop) -> None:
    groups: list[asyncio.TaskGroup] = []

    async def run() -> None:
        groups.append(asyncio.TaskGroup())
        await groups[0].__aenter__()
        groups[0].create_task(asyncio.sleep(60))

    (hint,) = hints_of(lambda: loop.run(run()))
    assert hint.startswith("leave the `async with` block of its group")


def test_what_code_in_c_has_opened_may_be_a_librarys_for_good(hints_of: Any, ending: contextlib.ExitStack) -> None:
    def leaking() -> None:
        ending.callback(os.close, ctypes.CDLL(None).dup(0))

    (hint,) = hints_of(leaking)
    assert "`--httpleak-confirm=1`" in hint


SDK = """
import asyncio, os, socket, threading
def connect():
    return socket.socket()
def drop():
    connect()
def opened():
    return os.dup(0)
def started(stop):
    threading.Thread(target=stop.wait).start()
def scheduled():
    return asyncio.create_task(asyncio.sleep(60))
"""


@pytest.mark.parametrize(
    ("call", "of_library", "of_user"),
    [
        (
            lambda sdk, ending: ending.push(sdk["connect"]()),
            "close the object of sdk that opened it, in a `finally` or by a `with` block; "
            "if that is done already, the library itself has left it behind",
            "close the socket, best with a `with` block",
        ),
        (
            lambda sdk, ending: sdk["drop"](),
            "close the object of sdk that opened it, in a `finally` or by a `with` block; "
            "if that is done already, the library itself has dropped it",
            "close the socket, best with a `with` block",
        ),
        (
            lambda sdk, ending: ending.callback(os.close, sdk["opened"]()),
            "close the object of sdk that opened it, in a `finally` or by a `with` block; "
            "if that is done already, the library itself has left it behind",
            "close it by `os.close(fd)` in a `finally`",
        ),
        (
            lambda sdk, ending: sdk["started"](_stopped_by(ending)),
            "stop the object of sdk that started it (a client, a pool, a server) before the test ends; "
            "if that is done already, the library itself has left it behind",
            "tell the thread to stop and `join()` it before the test ends",
        ),
    ],
    ids=["socket", "dropped socket", "number", "thread"],
)
@pytest.mark.parametrize("is_installed", [True, False])
def test_what_a_library_has_made_for_the_user_is_ended_through_the_library(
    hints_of: Any,
    ending: contextlib.ExitStack,
    call: Callable[[dict[str, Any], contextlib.ExitStack], object],
    of_library: str,
    of_user: str,
    *,
    is_installed: bool,
) -> None:
    sdk = _module(SDK, "sdk", is_installed=is_installed)
    assert hints_of(lambda: call(sdk, ending)) == {of_library if is_installed else of_user}


@pytest.mark.parametrize(
    ("is_installed", "expected"),
    [
        (
            True,
            "end the object of sdk that started it (a client, a connection, a group of tasks) before the test ends; "
            "if that is done already, the library itself has left it behind",
        ),
        (False, "await the task, or cancel it and await it; `asyncio.TaskGroup` does both"),
    ],
)
def test_so_is_a_task_that_it_has_started(hints_of: Any, loop: Loop, *, is_installed: bool, expected: str) -> None:
    sdk = _module(SDK, "sdk", is_installed=is_installed)
    tasks: list[asyncio.Task[None]] = []

    async def run() -> None:
        tasks.append(sdk["scheduled"]())

    assert hints_of(lambda: loop.run(run())) == {expected}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("sdk/client.py", "pytest_asyncio/plugin.py"), "end the object of sdk that started it"),
        (("anyio/_backends/_asyncio.py", "pytest_asyncio/plugin.py"), "await the task"),
    ],
)
def test_so_is_a_task_that_it_has_started_in_a_callback(files: tuple[str, ...], expected: str) -> None:
    stack = tuple(Site(f"/usr/lib/python3/site-packages/{file}", 3, "make") for file in files)
    made = Suspect(Kind.TASKS, "asyncio", "asyncio.Task", State.PENDING, "", 1, None, stack)
    assert hint(made).startswith(expected)


@pytest.mark.parametrize("door", ["httpx/_transports/asgi.py", "httpx2/_transports/wsgi.py", "werkzeug/test.py"])
def test_so_is_what_an_application_has_made_that_a_client_has_called_in_the_same_process(door: str) -> None:
    files = (
        "lib/python3/site-packages/sdk/app.py",
        f"lib/python3/site-packages/{door}",
        "lib/python3/site-packages/httpx/_client.py",
    )
    stack = (*(Site(f"/usr/{file}", 3, "make") for file in files), Site("/src/test_app.py", 9, "test_app"))
    made = Suspect(Kind.TASKS, "asyncio", "asyncio.Task", State.PENDING, "", 1, stack[-1], stack)
    assert hint(made).startswith("end the object of sdk that started it")


def test_of_what_a_client_has_made_before_it_calls_an_application_the_client_is_the_maker() -> None:
    files = ("sdk/hooks.py", "httpx/_client.py")
    stack = (
        *(Site(f"/usr/lib/python3/site-packages/{file}", 3, "make") for file in files),
        Site("/src/test_app.py", 9, "test_app"),
    )
    made = Suspect(Kind.TASKS, "asyncio", "asyncio.Task", State.PENDING, "", 1, stack[-1], stack)
    assert hint(made).startswith("end the object of httpx that started it")


TRANSPORT = """
import httpx
class Retry(httpx.BaseTransport):
    def __init__(self, inner):
        self.inner = inner
    def handle_request(self, request):
        self.dropped = self.inner.handle_request(request)
        return httpx.Response(200)
    def close(self):
        self.inner.close()
class AsyncRetry(httpx.AsyncBaseTransport):
    def __init__(self, inner):
        self.inner = inner
    async def handle_async_request(self, request):
        self.dropped = await self.inner.handle_async_request(request)
        return httpx.Response(200)
    async def aclose(self):
        await self.inner.aclose()
"""
BETWEEN = "sdk is between the client and its connections: it has to close each response that it does not return"
STREAM = "use `with client.stream(...) as response:`, or call `response.close()` in a `finally`"


@pytest.mark.parametrize(
    ("is_installed", "ask", "expected"),
    [
        (True, lambda client, url: client.get(url), BETWEEN),
        (False, lambda client, url: client.get(url), "close each response that this transport does not return: {}"),
        (True, lambda client, url: client.send(client.build_request("GET", url), stream=True), STREAM),
    ],
    ids=["a library's", "the user's", "streamed, which may be the user's"],
)
def test_what_a_transport_around_httpxs_keeps_open_is_told_by_its_place(
    hints_of: Any, server: str, *, is_installed: bool, ask: Callable[[Any, str], object], expected: str
) -> None:
    httpx = pytest.importorskip("httpx")
    sdk = _module(TRANSPORT, "sdk", is_installed=is_installed)
    transport = sdk["Retry"](httpx.HTTPTransport())
    with httpx.Client(transport=transport) as client:
        assert hints_of(lambda: ask(client, server + "/big")) == {expected.format("`response.close()`")}


def test_so_it_is_by_an_asynchronous_one(hints_of: Any, loop: Loop, server: str) -> None:
    httpx = pytest.importorskip("httpx")
    sdk = _module(TRANSPORT, "sdk", is_installed=False)
    client = httpx.AsyncClient(transport=sdk["AsyncRetry"](httpx.AsyncHTTPTransport()))
    expected = "close each response that this transport does not return: `await response.aclose()`"
    assert hints_of(lambda: loop.run(client.get(server + "/big"))) == {expected}
    loop.run(client.aclose())


HTTP_SDK = """
import http.client, urllib.parse
import httpx
def client(url):
    client = httpx.Client()
    client.get(url + "/ok")
    return client
def answer(url):
    return httpx.Client().send(httpx.Request("GET", url + "/big"), stream=True)
def drop(url):
    answer(url)
def connection(url):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)
    connection.connect()
    return connection
class Client(httpx.Client):
    def __init__(self, url):
        super().__init__()
        self.get(url + "/ok")
class Service:
    def __init__(self, url):
        self.close = Client(url).close
"""


@pytest.mark.parametrize(
    ("name", "of_library", "of_user"),
    [
        (
            "client",
            "close the object of sdk that made it, in a `finally` or by a `with` block",
            "use `with httpx.Client() as client:`",
        ),
        (
            "answer",
            "read what sdk has returned to its end, or close it, in a `finally`; if that is done already, the library",
            "use `with client.stream(",
        ),
        (
            "drop",
            "read what sdk has returned to its end, or close it, in a `finally`; if that is done already, the library",
            "use `with client.stream(",
        ),
        (
            "connection",
            "close the object of sdk that opened it, in a `finally` or by a `with` block",
            "close the connection",
        ),
        ("Client", "use `with Client(...) as client:`", "use `with Client(...) as client:`"),
        (
            "Service",
            "close the object of sdk that made it, in a `finally` or by a `with` block",
            "use `with Client(...) as client:`",
        ),
    ],
)
@pytest.mark.parametrize("is_installed", [True, False])
def test_so_is_what_it_has_an_http_library_make(
    hints_of: Any,
    ending: contextlib.ExitStack,
    server: str,
    name: str,
    of_library: str,
    of_user: str,
    *,
    is_installed: bool,
) -> None:
    sdk = _module(HTTP_SDK, "sdk", is_installed=is_installed)

    def leaking() -> None:
        made = sdk[name](server)
        if made is not None:
            ending.callback(made.close)

    hints = hints_of(leaking)
    expected = of_library if is_installed else of_user
    assert [hint for hint in hints if hint.startswith(expected)], hints


def _stopped_by(ending: contextlib.ExitStack) -> threading.Event:
    stop = threading.Event()
    ending.callback(stop.set)
    return stop
