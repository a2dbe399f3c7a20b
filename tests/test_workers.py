"""Jobs in the workers of pools, anyio and trio: what they leave is that of whoever handed them in, at that line."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import multiprocessing.pool
import multiprocessing.process
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from marked import Leaks, Marked, in_kinds

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner
from pytest_httpleak.session.core import Session

# What is left open on purpose makes the interpreter warn, too.
# What forks beside a thread is warned of, which from Python 3.15 on may fail it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

anyio = pytest.importorskip("anyio")
trio = pytest.importorskip("trio")
backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@backends
def test_a_file_that_a_library_opens_in_a_worker_leaks_at_the_awaiting_line(
    marked: Marked, kept: list[Any], tmp_path: Path, backend: str
) -> None:
    async def main() -> None:
        kept.append((await anyio.open_file(tmp_path / "a", "w")).wrapped)  # leak: fds
        kept.append(await anyio.to_thread.run_sync(open, tmp_path / "b", "w"))  # leak: fds

    def leaking() -> None:
        anyio.run(main, backend=backend)

    marked(leaking, main)


def test_a_file_that_trio_opens_in_a_worker_leaks_at_the_awaiting_line(
    marked: Marked, kept: list[Any], tmp_path: Path
) -> None:
    async def main() -> None:
        kept.append((await trio.open_file(tmp_path / "a", "w")).wrapped)  # leak: fds

    def leaking() -> None:
        trio.run(main)

    marked(leaking, main)


@backends
def test_what_a_job_in_a_worker_makes_and_closes_is_nothing(leaks: Leaks, tmp_path: Path, backend: str) -> None:
    async def main() -> None:
        async with await anyio.open_file(tmp_path / "a", "w") as file:
            await file.write("text")
        assert await anyio.to_thread.run_sync(abs, -1) == 1

    assert leaks(lambda: anyio.run(main, backend=backend)) == ()


@backends
def test_the_line_of_users_own_code_in_a_worker_comes_first(marked: Marked, kept: list[Any], backend: str) -> None:
    def work() -> None:
        kept.append(socket.socket())  # leak: sockets

    async def main() -> None:
        await anyio.to_thread.run_sync(work)

    def leaking() -> None:
        anyio.run(main, backend=backend)

    marked(leaking, work)


def test_a_worker_of_a_wider_fixtures_loop_works_for_the_test(marked: Marked, kept: list[Any], tmp_path: Path) -> None:
    with marked.fixture() as wide:
        with wide.during():
            runner = asyncio.Runner()
            assert runner.run(anyio.to_thread.run_sync(abs, -1)) == 1

        async def main() -> None:
            kept.append(await anyio.to_thread.run_sync(open, tmp_path / "a", "w"))  # leak: fds

        def leaking() -> None:
            runner.run(main())

        marked(leaking, main)
        with wide.during():
            runner.close()


def test_what_is_asked_of_a_wider_fixtures_portal_leaks_at_the_asking_line(marked: Marked, server: str) -> None:
    url = urlsplit(server)
    with marked.fixture() as wide, contextlib.ExitStack() as stack:
        portal = wide.make(lambda: stack.enter_context(anyio.from_thread.start_blocking_portal()))

        def leaking() -> None:
            stream = portal.call(anyio.connect_tcp, url.hostname, url.port)  # leak: sockets
            streams.append(stream)
            tasks.append(portal.start_task_soon(anyio.sleep, 60))  # leak: tasks
            portal.call(anyio.sleep, 0)

        def asking() -> None:
            portal.call(portal.call(anyio.connect_tcp, url.hostname, url.port).aclose)

        streams: list[Any] = []
        tasks: list[Any] = []
        marked(leaking)
        marked(asking)
        tasks[0].cancel()
        portal.call(streams[0].aclose)
        with wide.during():
            stack.close()


@backends
def test_an_error_in_a_worker_reaches_who_awaits_it(leaks: Leaks, backend: str) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await anyio.to_thread.run_sync(open, "/no such folder/file")

    assert leaks(lambda: anyio.run(main, backend=backend)) == ()


# -- the pools of multiprocessing ---------------------------------------------------------------------------------------


def test_a_job_of_a_wider_pool_of_threads_is_done_for_the_test(marked: Marked, kept: list[Any], tmp_path: Path) -> None:
    with marked.fixture() as wide:
        pool = wide.make(lambda: multiprocessing.pool.ThreadPool(1))

        def leaking() -> None:
            kept.append(pool.apply(open, (tmp_path / "a", "w")))  # leak: fds
            kept.extend(pool.map(lambda _: socket.socket(), range(2)))  # leak: sockets x2
            kept.extend(pool.imap(socket.socket, [socket.AF_INET]))  # leak: sockets

        def clean() -> None:
            assert pool.map(abs, [-1]) == [1]

        marked(leaking)
        marked(clean)
        wide.make(pool.terminate)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_the_pipes_of_a_pool_that_has_ended_and_is_kept_are_nothing(marked: Marked, kept: list[Any], kind: str) -> None:
    def make() -> multiprocessing.pool.Pool:
        if kind == "threads":
            return multiprocessing.pool.ThreadPool(1)
        return multiprocessing.get_context("fork").Pool(1)

    def using() -> None:
        pool = make()
        assert pool.map(abs, [-1]) == [1]
        pool.close()
        pool.join()
        kept.append(Kept(pool))

    marked(using)


def test_a_pool_of_threads_that_is_left_leaks_its_threads_alone(leaks: Leaks, kept: list[Any]) -> None:
    def leaking() -> None:
        pool = multiprocessing.pool.ThreadPool(1)
        kept.append(Kept(pool))

    assert {finding.kind for finding in leaks(leaking)} == {Kind.THREADS}


def test_a_process_leaks_until_it_has_ended(leaks: Leaks, kept: list[Any]) -> None:
    def start(target: Callable[..., Any], *args: Any) -> multiprocessing.process.BaseProcess:
        process = multiprocessing.get_context("fork").Process(target=target, args=args, daemon=True)
        process.start()
        kept.append(Kept(process))
        return process

    assert {finding.kind for finding in leaks(lambda: start(time.sleep, 60))} == {Kind.FDS}
    assert leaks(lambda: start(int).join()) == ()


def test_a_queue_at_work_leaks_by_its_thread_alone(leaks: Leaks) -> None:
    queues: list[Any] = [multiprocessing.Queue() for _ in range(2)]

    def work(queue: Any) -> None:
        queue.put(1)
        queue.get()

    (finding,) = leaks(lambda: (queues.append(multiprocessing.Queue()), work(queues[-1])))
    assert (finding.kind, finding.hint[:20]) == (Kind.THREADS, "call `queue.close()`")
    assert leaks(lambda: (work(queues[0]), queues[0].close(), queues[0].join_thread())) == ()
    queues[-1].close()
    queues[-1].join_thread()


def test_a_queue_whose_thread_is_not_told_leaks_by_its_pipe(leaks: Leaks, session: Session) -> None:
    queues: list[Any] = []
    other = Owner("other", "session")

    def work_for(owner: Owner | None) -> None:
        queues.append(multiprocessing.Queue())
        with contextlib.nullcontext() if owner is None else session.watch.acting_for(owner):
            queues[-1].put(1)

    (of_another,) = leaks(lambda: work_for(other))
    (not_watched,) = in_kinds(session, lambda: work_for(None), Kind.FDS)
    assert [(finding.kind, finding.count) for finding in (of_another, not_watched)] == [(Kind.FDS, 2)] * 2
    other.over = True
    for queue in queues:
        queue.get()
        queue.close()
        queue.join_thread()


def test_an_executor_of_processes_leaks_by_its_threads_alone(leaks: Leaks) -> None:
    executors: list[Any] = []

    def work() -> Any:
        executors.append(ProcessPoolExecutor(1, multiprocessing.get_context("fork")))
        executors[-1].submit(int).result()
        return executors[-1]

    findings = leaks(work)
    assert {(finding.kind, finding.hint[:34]) for finding in findings} == {
        (Kind.THREADS, "use `with ProcessPoolExecutor() as")
    }
    executors.pop().shutdown()
    assert leaks(lambda: work().shutdown()) == ()


@pytest.mark.parametrize("is_waited_for", [False, True])
@pytest.mark.parametrize("is_kept", [False, True])
def test_an_executor_of_processes_that_was_shut_down_at_work_leaks_by_its_threads_alone(
    leaks: Leaks, is_kept: bool, is_waited_for: bool
) -> None:
    reading, writing = os.pipe()

    def work() -> None:
        executor = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
        jobs.append(executor.submit(os.read, reading, 1))
        executor.shutdown(wait=False)
        if is_kept:
            executors.append(executor)
        if is_waited_for:
            os.write(writing, b"1")
            jobs[0].result()

    executors, jobs = list[Any](), list[Any]()
    findings = leaks(work, grace=30 if is_waited_for else 0)
    told = "let what it runs come to an end, and wait for it, as `with ProcessPoolExecutor()`"
    assert {(finding.kind, finding.hint.startswith(told)) for finding in findings} == (
        set() if is_waited_for else {(Kind.THREADS, True)}
    )
    os.write(writing, b"1")
    jobs[0].result()
    for thread in threading.enumerate():
        if type(thread).__name__ == "_ExecutorManagerThread":
            thread.join()
    os.close(reading)
    os.close(writing)


def test_an_executor_of_processes_that_has_not_begun_leaks_by_its_pipes(leaks: Leaks) -> None:
    executors: list[Any] = []
    (finding,) = leaks(lambda: executors.append(ProcessPoolExecutor(1, multiprocessing.get_context("fork"))))
    assert (finding.kind, finding.count) == (Kind.FDS, 6)
    assert finding.hint.startswith("use `with ProcessPoolExecutor() as")
    executors.pop().shutdown()


@pytest.mark.parametrize("make", [multiprocessing.Queue, multiprocessing.JoinableQueue])
def test_a_queue_leaks_until_it_is_closed(leaks: Leaks, kept: list[Any], make: Callable[[], Any]) -> None:
    queues: list[Any] = []
    (finding,) = leaks(lambda: queues.append(make()))
    assert (finding.kind, finding.count) == (Kind.FDS, 2)
    assert leaks(lambda: (queues.append(make()), queues[-1].close(), queues[-1].join_thread())) == ()


class Kept:
    """Something that is ended with the test."""

    def __init__(self, thing: multiprocessing.pool.Pool | multiprocessing.process.BaseProcess) -> None:
        self.thing = thing

    def close(self) -> None:
        self.thing.terminate()
        self.thing.join()
