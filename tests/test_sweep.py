"""`httpleak.sweep()`: each step of some code fails in turn, and what that leaves behind is told with the step."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
import requests
import urllib3
from inner import Inner

from pytest_httpleak import LeakError
from pytest_httpleak.api import LeakCheck
from pytest_httpleak.session.core import Session
from pytest_httpleak.session.sweep import Sweep


@pytest.fixture
def address(server: str) -> str:
    """Host and port of the server."""
    return urlsplit(server).netloc


def get(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/ok")
    return connection.getresponse().read()


# What these tests leak on purpose, Python tells of when it is collected.
UNCLOSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class TestCodeThatIsCalled:
    def test_a_connection_that_only_success_closes_is_told_with_the_step(
        self, leakcheck: LeakCheck, address: str, kept: list[Any]
    ) -> None:
        def fetch() -> None:
            connection = http.client.HTTPConnection(address, timeout=5)
            kept.append(connection)
            get(connection)
            connection.close()

        with pytest.raises(LeakError) as caught:
            leakcheck.sweep(fetch, faults="reset")
        (finding,) = caught.value.findings
        assert finding.created is not None
        assert (finding.kind, finding.created.function) == ("connections", "fetch")
        lines = str(caught.value).splitlines()
        assert lines[1] == "  left by: the code that httpleak.sweep() ran"
        assert lines[2].startswith("  when:    sending at ")
        assert lines[2].endswith("in get failed: the connection was reset or refused")

    def test_one_that_is_closed_in_any_case_is_not(self, leakcheck: LeakCheck, address: str) -> None:
        def fetch() -> None:
            with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                get(connection)

        done = leakcheck.sweep(fetch)
        assert done.steps == {"reset": 4, "timeout": 3, "eof": 1, "cancel": 0}
        assert (done.failed, done.runs) == (4 + 3 + 1, 1 + 4 + 3 + 1)

    @UNCLOSED
    def test_a_response_that_is_closed_only_where_its_reading_succeeds_is_told(
        self, leakcheck: LeakCheck, address: str, kept: list[Any]
    ) -> None:
        def fetch() -> None:
            connection = http.client.HTTPConnection(address, timeout=5)
            connection.request("GET", "/big")
            response = connection.getresponse()
            kept.extend((connection, response))
            response.read(1_000_000)
            response.close()
            connection.close()

        with pytest.raises(LeakError, match="1 HTTP response leaked") as caught:
            leakcheck.sweep(fetch, faults="timeout", grace=0.1)  # at each step, as how many there are varies
        assert "receiving (" in str(caught.value)

    def test_one_that_is_closed_where_it_fails_is_not(self, leakcheck: LeakCheck, address: str) -> None:
        def fetch() -> None:
            with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                connection.request("GET", "/big")
                with connection.getresponse() as response:
                    response.read(1_000_000)

        leakcheck.sweep(fetch, steps=4)

    @pytest.mark.parametrize("library", ["requests", "httpx"])
    def test_a_library_that_cleans_up_passes(self, leakcheck: LeakCheck, server: str, library: str) -> None:
        client: Any = requests.Session() if library == "requests" else httpx.Client()
        with client:
            assert leakcheck.sweep(lambda: client.get(f"{server}/ok", timeout=5)).runs > 5

    def test_code_that_tries_again_passes(self, leakcheck: LeakCheck, server: str) -> None:
        answers = []
        retries = urllib3.Retry(3, backoff_factor=0)

        def fetch() -> None:
            answers.append(pool.request("GET", f"{server}/ok", retries=retries, timeout=5).status)

        with urllib3.PoolManager() as pool:
            done = leakcheck.sweep(fetch)
        assert answers == [200] * done.runs  # each time at the second attempt

    def test_only_what_is_asked_for_fails(self, leakcheck: LeakCheck, address: str) -> None:
        errors: list[str] = []

        def fetch() -> None:
            with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                try:
                    get(connection)
                except Exception as error:
                    errors.append(type(error).__name__)
                    raise

        leakcheck.sweep(fetch, faults=["reset"])
        assert errors == ["gaierror", "ConnectionRefusedError", "BrokenPipeError", "ConnectionResetError"]
        errors.clear()
        leakcheck.sweep(fetch, faults="timeout")
        assert errors == ["TimeoutError"] * 3
        errors.clear()
        leakcheck.sweep(fetch, faults="eof")
        assert errors == ["RemoteDisconnected"]

    def test_a_socket_without_a_timeout_cannot_time_out(self, leakcheck: LeakCheck, address: str) -> None:
        def fetch() -> None:
            with contextlib.closing(http.client.HTTPConnection(address)) as connection:
                get(connection)

        assert leakcheck.sweep(fetch).steps["timeout"] == 0

    def test_the_handshake_is_a_step(self, leakcheck: LeakCheck, tls_server: str) -> None:
        context = ssl.create_default_context(cafile=str(Path(__file__).with_name("data") / "localhost.pem"))
        netloc = urlsplit(tls_server).netloc.replace("127.0.0.1", "localhost")
        seen: list[str] = []

        def fetch() -> None:
            sock = socket.create_connection(("localhost", int(netloc.rpartition(":")[2])), timeout=5)
            try:
                tls = context.wrap_socket(sock, server_hostname="localhost")
            except OSError as error:
                seen.append(type(error).__name__)
                sock.close()
                raise
            with tls:
                tls.sendall(b"GET /ok HTTP/1.0\r\n\r\n")
                tls.recv(10)

        leakcheck.sweep(fetch, faults="reset")
        assert seen == ["ConnectionResetError"]

    def test_the_handshake_of_a_connect_is_one_too(self, leakcheck: LeakCheck, tls_server: str) -> None:
        context = ssl.create_default_context(cafile=str(Path(__file__).with_name("data") / "localhost.pem"))

        def connect() -> None:
            with context.wrap_socket(socket.socket(), server_hostname="localhost") as tls:
                tls.connect(("127.0.0.1", urlsplit(tls_server).port))

        assert leakcheck.sweep(connect, faults="reset").steps == {"reset": 2}

    def test_steps_of_a_thread_that_the_code_starts_count(self, leakcheck: LeakCheck, address: str) -> None:
        def fetch() -> None:
            with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection(address)) as connection:
                get(connection)

        def run() -> None:
            thread = threading.Thread(target=fetch)
            thread.start()
            thread.join()

        assert leakcheck.sweep(run, faults="reset").steps == {"reset": 4}

    def test_those_of_a_server_in_the_same_process_do_not(self, leakcheck: LeakCheck) -> None:
        served: list[int] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.append(self.client_address[1])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that has gone is no news
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def fetch() -> None:
            with contextlib.closing(http.client.HTTPConnection(*server.server_address[:2])) as connection:  # type: ignore[arg-type]
                get(connection)

        try:
            done = leakcheck.sweep(fetch, faults="eof")
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        assert done.steps == {"eof": 2}  # the answer, and its end
        assert len(served) == done.runs

    def test_those_of_a_thread_that_ran_before_do_not(self, leakcheck: LeakCheck, address: str) -> None:
        with contextlib.closing(http.client.HTTPConnection(address)) as other:
            asked, answered = threading.Event(), threading.Event()

            def serve() -> None:
                while asked.wait(5) and not answered.is_set():
                    get(other)
                    asked.clear()
                    answered.set()

            thread = threading.Thread(target=serve)
            thread.start()

            def fetch() -> None:
                answered.clear()
                asked.set()
                assert answered.wait(5)
                with socket.create_connection(other_address, timeout=5):
                    pass

            other_address = urlsplit(f"//{address}").hostname, urlsplit(f"//{address}").port
            done = leakcheck.sweep(fetch)
            asked.set()
            thread.join()
        assert done.steps == {"reset": 2, "timeout": 1, "eof": 0, "cancel": 0}

    def test_a_connection_that_has_failed_stays_so(self, leakcheck: LeakCheck, address: str) -> None:
        seen: list[Any] = []

        def fetch() -> None:
            with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                try:
                    connection.request("GET", "/ok")
                except BrokenPipeError:  # the answer may have come before
                    seen.append(select.select([connection.sock], [], [], 5)[0] == [connection.sock])
                    with pytest.raises(ConnectionResetError):
                        connection.getresponse()
                    seen.append("again")
                else:
                    connection.getresponse().read()

        leakcheck.sweep(fetch, faults="reset")
        assert seen == [True, "again"]

    def test_a_peer_that_was_silent_stays_so(self, leakcheck: LeakCheck, address: str) -> None:
        seen: list[str] = []

        def fetch() -> None:
            with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                connection.connect()
                connection.sock.sendall(b"GET /ok HTTP/1.0\r\n\r\n")
                for _ in range(3):
                    try:
                        connection.sock.recv(10)
                    except TimeoutError as error:
                        seen.append(str(error))

        leakcheck.sweep(fetch, faults="timeout")
        assert seen == ["timed out"] * (3 + 2 + 1)

    def test_a_connection_to_a_path_counts_and_a_pair_does_not(self, leakcheck: LeakCheck, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen(10)

            def send() -> None:
                one, other = socket.socketpair()
                with one, other:
                    one.send(b"x")
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(tmp_path / "s"))
                    sock.send(b"x")

            assert leakcheck.sweep(send, faults="reset").steps == {"reset": 2}

    def test_a_client_that_keeps_its_connection_is_made_to_connect_anew(
        self, leakcheck: LeakCheck, address: str, kept: list[Any]
    ) -> None:
        clients = [http.client.HTTPConnection(address, timeout=5)]

        def fetch(*, is_careful: bool = False) -> None:
            (client,) = clients
            try:
                get(client)
            except Exception as error:
                client.close()
                if isinstance(error, ConnectionRefusedError) and not is_careful:
                    kept.append(socket.socket())
                raise

        with pytest.raises(LeakError, match=r"when: +connecting at .* failed"):
            leakcheck.sweep(fetch)
        done = leakcheck.sweep(lambda: fetch(is_careful=True), faults="reset")
        assert done.failed == sum(done.steps.values())
        clients[0].close()

    def test_of_many_steps_some_at_even_distances_fail(self, leakcheck: LeakCheck, address: str) -> None:
        failed_at: list[int] = []
        host, port = address.split(":")

        def fetch() -> None:
            with socket.create_connection((host, int(port))) as sock:
                for number in range(20):
                    try:
                        sock.send(b"x")
                    except OSError:
                        failed_at.append(number + 1)
                        raise

        done = leakcheck.sweep(fetch, faults="reset", steps=4)
        assert (done.steps, done.failed) == ({"reset": 22}, 1 + 1 + 4)  # the name, the connection, and of what is sent
        assert failed_at == [1, 7, 13, 20]

    def test_it_takes_the_keys_of_the_marker(self, leakcheck: LeakCheck, address: str, kept: list[Any]) -> None:
        def fetch() -> None:
            connection = http.client.HTTPConnection(address, timeout=5)
            kept.append(connection)
            get(connection)
            connection.close()

        leakcheck.sweep(fetch, faults="reset", connections=1)


class TestCodeThatIsAwaited:
    def swept(self, leakcheck: LeakCheck, call: Callable[[], Any], **keywords: Any) -> Sweep:
        async def run() -> Sweep:
            done = await leakcheck.sweep(call, **keywords)
            assert isinstance(done, Sweep)
            return done

        return asyncio.run(run())

    def test_a_task_that_only_success_ends_is_told_with_the_wait(self, leakcheck: LeakCheck) -> None:
        async def work() -> None:
            task = asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
            task.cancel()

        with pytest.raises(LeakError, match=r"when: +waiting \(1 of 2\) at .* in work was cancelled") as caught:
            self.swept(leakcheck, work)
        assert [finding.kind for finding in caught.value.findings] == ["tasks"]

    def test_one_that_a_group_ends_is_not(self, leakcheck: LeakCheck) -> None:
        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
                await asyncio.sleep(0)

        assert self.swept(leakcheck, work) == Sweep({"reset": 0, "timeout": 0, "eof": 0, "cancel": 3}, 3, 4)

    @UNCLOSED
    def test_a_stream_that_only_success_closes_is_told(self, leakcheck: LeakCheck, address: str) -> None:
        async def fetch() -> None:
            reader, writer = await asyncio.open_connection(*address.split(":"))
            writer.write(b"GET /ok HTTP/1.0\r\n\r\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()

        with pytest.raises(LeakError) as caught:
            self.swept(leakcheck, fetch, faults="cancel")
        assert {finding.kind for finding in caught.value.findings} == {"sockets"}

    def test_one_that_is_closed_in_any_case_is_not(self, leakcheck: LeakCheck, address: str) -> None:
        async def fetch() -> None:
            reader, writer = await asyncio.open_connection(*address.split(":"))
            try:
                writer.write(b"GET /ok HTTP/1.0\r\n\r\n")
                await reader.read()
            finally:
                writer.transport.abort()

        assert self.swept(leakcheck, fetch, faults=("reset", "eof")).runs > 4

    def test_a_library_that_cleans_up_passes(self, leakcheck: LeakCheck, server: str) -> None:
        async def main() -> Sweep:
            async with aiohttp.ClientSession() as session:

                async def fetch() -> None:
                    async with session.get(f"{server}/ok") as response:
                        await response.read()

                done = await leakcheck.sweep(fetch)
                assert isinstance(done, Sweep)
                return done

        steps = asyncio.run(main()).steps
        assert min(steps["reset"], steps["eof"], steps["cancel"]) > 0

    def test_a_server_in_the_same_loop_is_left_alone(self, leakcheck: LeakCheck) -> None:
        served: list[int] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(len(await reader.readline()))
            writer.write(b"x")
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        async def main() -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]

            async def fetch() -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(b"hello\n")
                    assert await reader.read() in {b"x", b""}
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()

            async with server:
                done = await leakcheck.sweep(fetch, faults="eof")
            assert served == [6] * done.runs

        asyncio.run(main())

    def test_what_wakes_the_loop_up_is_no_step(self, leakcheck: LeakCheck) -> None:
        async def call() -> None:
            is_waited_for = threading.Event()
            asyncio.get_running_loop().call_soon(is_waited_for.set)
            assert await asyncio.to_thread(is_waited_for.wait, 30)

        assert self.swept(leakcheck, call).steps["reset"] == 0

    def test_a_connection_of_somebody_elses_in_the_same_loop_is_left_alone(
        self, leakcheck: LeakCheck, address: str
    ) -> None:
        """It is read by callbacks of the loop, as the code's own is, and something comes for it in each run."""

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line)
            writer.close()
            await writer.wait_closed()
            ended.set()

        ended = asyncio.Event()

        async def main() -> None:
            async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                lines: asyncio.Queue[bytes] = asyncio.Queue()
                asked = asyncio.Event()

                async def background() -> None:
                    while True:
                        await asked.wait()
                        asked.clear()
                        writer.write(b"tick\n")
                        lines.put_nowait(await reader.readline())

                task = asyncio.create_task(background())

                async def fetch() -> None:
                    asked.set()
                    own_reader, own_writer = await asyncio.open_connection(*address.split(":"))
                    try:
                        own_writer.write(b"GET /ok HTTP/1.0\r\n\r\n")
                        await own_reader.read()
                    finally:
                        own_writer.transport.abort()
                        assert await lines.get() == b"tick\n"

                done = await leakcheck.sweep(fetch, faults=("reset", "eof"))
                assert done.failed == sum(done.steps.values())
                task.cancel()
                writer.close()
                await asyncio.wait_for(ended.wait(), 10)

        asyncio.run(main())

    @pytest.mark.parametrize("place", ["here", "in a thread"])
    def test_a_loop_that_the_code_runs_is_swept_wherever_it_runs(
        self, leakcheck: LeakCheck, address: str, place: str
    ) -> None:
        async def fetch() -> None:
            reader, writer = await asyncio.open_connection(*address.split(":"))
            try:
                writer.write(b"GET /ok HTTP/1.0\r\n\r\n")
                await reader.readline()
            finally:
                writer.transport.abort()

        def run() -> None:
            with contextlib.suppress(OSError):
                asyncio.run(fetch())

        def run_elsewhere() -> None:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

        done = leakcheck.sweep(run if place == "here" else run_elsewhere, faults=("reset", "eof"))
        assert done.steps == {"reset": 3, "eof": 1}

    def test_a_cancellation_from_outside_goes_on(self, leakcheck: LeakCheck) -> None:
        runs: list[int] = []

        async def work() -> None:
            runs.append(1)
            await asyncio.sleep(60 if len(runs) == 3 else 0)
            await asyncio.sleep(0)

        async def main() -> None:
            async with asyncio.timeout(0.05):
                await leakcheck.sweep(work)

        with pytest.raises(TimeoutError):
            asyncio.run(main())

    @pytest.mark.parametrize("way", ["gather", "group", "wait_for", "task"])
    def test_waits_of_tasks_that_the_code_starts_count(self, leakcheck: LeakCheck, way: str, kept: list[Any]) -> None:
        async def child(*, is_careful: bool) -> None:
            await asyncio.sleep(0)
            sock = socket.socket()
            kept.append(sock)
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if is_careful:
                    sock.close()
                raise
            sock.close()

        async def work(*, is_careful: bool) -> None:
            begun = child(is_careful=is_careful)
            if way == "gather":
                await asyncio.gather(begun)
            elif way == "wait_for":
                await asyncio.wait_for(begun, 5)
            elif way == "task":
                await asyncio.create_task(begun)
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(begun)

        with pytest.raises(LeakError, match="1 socket leaked") as caught:
            self.swept(leakcheck, lambda: work(is_careful=False))
        assert "in child was cancelled" in str(caught.value)
        self.swept(leakcheck, lambda: work(is_careful=True))

    def test_code_that_takes_its_cancellation_back_and_hands_it_on_is_swept(self, leakcheck: LeakCheck) -> None:
        async def work() -> None:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
                raise

        assert self.swept(leakcheck, work).failed == 1

    def test_a_wait_of_a_library_is_named_by_its_functions(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        calls: list[int] = []

        def call() -> Any:
            calls.append(1)
            if len(calls) == 3:  # the one in which a step fails
                kept.append(socket.socket())
            return asyncio.sleep(0)

        with pytest.raises(LeakError, match=r"when: +waiting in sleep > __sleep0 was cancelled"):
            self.swept(leakcheck, call)

    def test_a_sweep_that_nobody_awaits_leaves_nothing_patched(self, session: Session, leakcheck: LeakCheck) -> None:
        before, owners = dict(vars(socket.socket)), list(session.watch.stack)
        leakcheck.sweep(lambda: asyncio.sleep(0)).close()
        assert (dict(vars(socket.socket)), session.watch.stack) == (before, owners)

    def test_one_that_is_swallowed_leaves_the_task_as_it_was(self, leakcheck: LeakCheck) -> None:
        async def work() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

        async def main() -> int:
            await leakcheck.sweep(work)
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        assert asyncio.run(main()) == 0

    def test_a_future_that_is_no_coroutine_is_swept_too(self, leakcheck: LeakCheck) -> None:
        async def main() -> Sweep:
            done = await leakcheck.sweep(lambda: asyncio.gather(asyncio.sleep(0), asyncio.sleep(0)), faults="cancel")
            assert isinstance(done, Sweep)
            return done

        assert asyncio.run(main()).steps == {"cancel": 3}

    def test_it_has_to_be_awaited_in_a_loop(self, leakcheck: LeakCheck) -> None:
        sweep = leakcheck.sweep(lambda: asyncio.sleep(0))
        with pytest.raises(RuntimeError, match="in a task of asyncio"):
            sweep.send(None)


class TestWhatIsWrong:
    def test_code_with_nothing_to_fail_is_an_error(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(RuntimeError, match=r"saw no step that could fail \(reset, timeout, eof, cancel\)"):
            leakcheck.sweep(lambda: None)

    def test_what_the_first_run_raises_is_raised(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(ZeroDivisionError):
            leakcheck.sweep(lambda: 1 / 0)

    def test_what_the_first_run_leaks_is_told(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        with pytest.raises(LeakError, match="nothing has failed yet") as caught:
            leakcheck.sweep(lambda: kept.append(socket.socket()))
        assert [finding.kind for finding in caught.value.findings] == ["sockets"]

    def test_a_program_that_ends_itself_where_a_step_fails_is_swept(self, leakcheck: LeakCheck, address: str) -> None:
        def program() -> None:
            try:
                with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                    get(connection)
            except OSError:
                sys.exit("no answer")

        done = leakcheck.sweep(program)
        assert done.failed == sum(done.steps.values())

    def test_code_that_never_stops_using_what_has_failed_is_stopped(self, leakcheck: LeakCheck, address: str) -> None:
        def fetch() -> None:
            with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                connection.connect()
                connection.sock.sendall(b"GET /ok HTTP/1.0\r\n\r\n")
                answer = b""
                while not answer.endswith(b"ok"):
                    answer += connection.sock.recv(1000)

        with pytest.raises(RuntimeError, match=r"does not end: receiving 1 of 1 failed \(eof\)"):
            leakcheck.sweep(fetch, faults="eof")

    def test_there_is_one_sweep_at_a_time(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(RuntimeError, match="running already"):
            leakcheck.sweep(lambda: leakcheck.sweep(lambda: None))

    def test_a_failure_of_the_test_in_a_later_run_is_raised(self, leakcheck: LeakCheck, address: str) -> None:
        def fetch() -> None:
            try:
                with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
                    get(connection)
            except OSError:
                pytest.fail("seen")

        with pytest.raises(pytest.fail.Exception, match="seen") as caught:
            leakcheck.sweep(fetch)
        assert caught.value.__notes__ == ["raised in httpleak.sweep(), where this step failed: resolving a name"]

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"faults": "rest"}, "unknown fault 'rest'; did you mean 'reset'"),
            ({"faults": []}, "no fault. Valid faults: reset, timeout, eof, cancel"),
            ({"steps": 0}, "steps=0"),
            ({"steps": True}, "steps=True"),
        ],
    )
    def test_arguments_that_cannot_be_used(self, leakcheck: LeakCheck, keywords: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            leakcheck.sweep(lambda: None, **keywords)

    def test_an_unknown_key_of_the_marker(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(TypeError, match="did you mean 'sockets'"):
            leakcheck.sweep(lambda: None, socket=1)

    def test_a_call_that_is_none(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(TypeError, match="takes a function"):
            leakcheck.sweep(1)  # type: ignore[arg-type]


class TestPatches:
    """Of somebody else's, which are there before, or come and go meanwhile."""

    def test_a_function_of_somebody_elses_is_failed_in_its_place(
        self, leakcheck: LeakCheck, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect, called = socket.socket.connect, []
        monkeypatch.setattr(socket.socket, "connect", lambda sock, to: (called.append(to), connect(sock, to))[1])

        def fetch() -> None:
            with contextlib.closing(http.client.HTTPConnection(address)) as connection:
                get(connection)

        assert leakcheck.sweep(fetch, faults="reset").steps == {"reset": 4}
        assert len(called) == 1 + 4 - 2  # but where the name cannot be resolved, and where it fails itself

    def test_what_somebody_puts_back_too_late_does_nothing(self, leakcheck: LeakCheck, address: str) -> None:
        found: list[Any] = []

        def send(sock: socket.socket, data: bytes) -> Any:
            return found[0](sock, data)

        def fetch() -> None:
            found.append(socket.socket.send)
            socket.socket.send = send  # type: ignore[method-assign, assignment]
            with contextlib.closing(http.client.HTTPConnection(address)) as connection:
                get(connection)

        try:
            leakcheck.sweep(fetch, faults="reset")
            socket.socket.send = found[-1]  # type: ignore[method-assign]  # as monkeypatch would in the end
            one, other = socket.socketpair()
            with one, other:
                assert (one.send(b"x"), other.recv(1)) == (1, b"x")
        finally:
            del socket.socket.send


@pytest.mark.parametrize("run", [1, 2])
@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_sockets_are_as_before_afterwards(
    leakcheck: LeakCheck, address: str, error: type[BaseException] | None, run: int
) -> None:
    before = dict(vars(socket.socket)), socket.getaddrinfo, dict(vars(ssl.SSLSocket))
    runs: list[int] = []

    def fetch() -> None:
        runs.append(1)
        with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
            get(connection)
            if error is not None and len(runs) == run:
                raise error

    with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt):
        leakcheck.sweep(fetch)
    assert (dict(vars(socket.socket)), socket.getaddrinfo, dict(vars(ssl.SSLSocket))) == before


class TestARun:
    @pytest.fixture(autouse=True)
    def address_for_the_run(self, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVER", urlsplit(server).netloc)

    def test_a_leak_fails_its_test_with_its_own_line(self, inner: Inner) -> None:
        inner.write(
            test_a="""
import contextlib, http.client, os

def fetch(connection):
    connection.request("GET", "/ok")
    connection.getresponse().read()

def test_careless(httpleak):
    def careless():
        connection = http.client.HTTPConnection(os.environ["SERVER"], timeout=5)
        fetch(connection)
        connection.close()
    httpleak.sweep(careless, faults="reset")

def test_careful(httpleak):
    def careful():
        with contextlib.closing(http.client.HTTPConnection(os.environ["SERVER"], timeout=5)) as connection:
            fetch(connection)
    httpleak.sweep(careful)
"""
        )
        result = inner.run()
        assert inner.outcomes() == {"test_careless": "leaked", "test_careful": "clean"}
        result.stdout.fnmatch_lines(["*when:    sending at test_a.py:4 in fetch failed: *"])

    def test_where_leaks_only_warn_each_is_listed_once(self, inner: Inner) -> None:
        inner.write(
            test_a="""
import http.client, os

def test_careless(httpleak):
    def careless():
        connection = http.client.HTTPConnection(os.environ["SERVER"], timeout=5)
        connection.connect()
        connection.request("GET", "/ok")
    httpleak.sweep(careless)
"""
        )
        inner.run("-W", "ignore", plugin=("-p", "httpleak", "--httpleak=warn")).assert_outcomes(passed=1)
        (row,) = inner.report["tests"]
        assert [finding["kind"] for finding in row["findings"]] == ["connections"]

    def test_where_nothing_is_checked_the_code_runs_once(self, inner: Inner) -> None:
        inner.write(
            test_a="""
import asyncio

def test_called(httpleak):
    runs = []
    assert httpleak.sweep(lambda: runs.append(1)).runs == len(runs) == 1

def test_awaited(httpleak):
    async def main():
        return await httpleak.sweep(lambda: asyncio.sleep(0))
    assert asyncio.run(main()).runs == 1
"""
        )
        inner.run(plugin=("-p", "httpleak", "--httpleak=off")).assert_outcomes(passed=2)
