"""The fixture `httpleak`, and `no_leaks` outside pytest."""

from __future__ import annotations

import asyncio
import gc
import http.client
import os
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from inner import Inner
from pooldrivers import LIBRARIES, new_driver

from pytest_httpleak import HttpLeakWarning, LeakError, no_leaks
from pytest_httpleak.api import LeakCheck
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.session.checks import Check
from pytest_httpleak.session.core import Session
from pytest_httpleak.settings import default_settings, settings_from_keywords


@pytest.fixture
def check(session: Session) -> Iterator[Check]:
    """A test's life, in the middle of which the interface is used."""
    settings = settings_from_keywords(default_settings(), {"grace": 0.02}, "check")
    check = session.begin("test_x", "function", settings)
    session.want_peaks(check)
    yield check
    session.end(check)


@pytest.fixture
def leakcheck(session: Session, check: Check) -> LeakCheck:
    """The interface as a test has it."""
    return LeakCheck(session, check)


@pytest.fixture
def without_garbage(leakcheck: LeakCheck) -> None:
    """What earlier tests have left to the garbage collector is not to be closed by it while a test counts."""
    gc.collect()


def opened(kept: list[Any], number: int = 1) -> None:
    kept += [socket.socket() for _ in range(number)]


@pytest.mark.usefixtures("without_garbage")
class TestSnapshot:
    def test_the_difference_is_what_was_added(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        before = leakcheck.snapshot()
        opened(kept, 2)
        grown = leakcheck.snapshot() - before
        assert (grown.sockets, grown.fds, grown.threads, grown.clients) == (2, 2, 0, 0)

    def test_what_was_closed_counts_below_zero(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        opened(kept)
        before = leakcheck.snapshot()
        kept.pop().close()
        assert (leakcheck.snapshot() - before).sockets == -1

    def test_connections_and_responses_are_counted(self, leakcheck: LeakCheck, server: str, kept: list[Any]) -> None:
        before = leakcheck.snapshot()
        connection = http.client.HTTPConnection(server.removeprefix("http://"))
        connection.request("GET", "/big")
        kept += [connection.getresponse(), connection]
        grown = leakcheck.snapshot() - before
        assert (grown.connections, grown.responses, grown.sockets) == (1, 1, 1)

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_clients_are_counted_until_they_are_closed(self, leakcheck: LeakCheck, server: str, library: str) -> None:
        before = leakcheck.snapshot()
        driver = new_driver(library)
        driver.hold(f"{server}/ok")
        driver.release()
        assert (leakcheck.snapshot() - before).clients == 1
        driver.end()
        assert (leakcheck.snapshot() - before).clients == 0

    def test_loops_and_tasks_are_counted_without_their_own_pipes(self, leakcheck: LeakCheck) -> None:
        before = leakcheck.snapshot()
        loop = asyncio.new_event_loop()
        task = loop.create_task(asyncio.sleep(0))
        grown = leakcheck.snapshot() - before
        loop.run_until_complete(task)
        loop.close()
        assert (grown.loops, grown.tasks, grown.sockets) == (1, 1, 0)

    def test_threads_are_counted(self, leakcheck: LeakCheck) -> None:
        stop = threading.Event()
        before = leakcheck.snapshot()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        grown = leakcheck.snapshot() - before
        stop.set()
        thread.join()
        assert grown.threads == 1


class TestCheckedBlock:
    def test_a_leaking_block_raises(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        with pytest.raises(LeakError, match="1 socket leaked") as caught, leakcheck.check():
            opened(kept)
        assert caught.value.findings[0].created is not None

    def test_a_clean_block_does_not(self, leakcheck: LeakCheck) -> None:
        with leakcheck.check():
            socket.socket().close()

    def test_what_a_block_has_reported_is_not_reported_again(
        self, session: Session, check: Check, kept: list[Any]
    ) -> None:
        with pytest.raises(LeakError), LeakCheck(session, check).check():
            opened(kept)
        session.end(check)
        assert check.findings == ()

    def test_a_block_that_raises_keeps_its_error_and_leaves_what_it_made_to_the_test(
        self, session: Session, check: Check, kept: list[Any]
    ) -> None:
        with pytest.raises(ZeroDivisionError), LeakCheck(session, check).check():
            opened(kept)
            raise ZeroDivisionError
        session.end(check)
        assert [finding.kind for finding in check.findings] == ["sockets"]

    def test_a_block_takes_the_keys_of_the_marker(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        with leakcheck.check(sockets=1):
            opened(kept)

    def test_an_unknown_key_is_an_error_with_the_nearest_one(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(TypeError, match="did you mean 'sockets'"):
            leakcheck.check(socket=1)

    def test_blocks_may_be_nested(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        with leakcheck.check(), pytest.raises(LeakError), leakcheck.check():
            opened(kept)

    def test_a_block_in_a_helper_thread_answers_for_that_thread(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        raised: list[LeakError] = []

        def work() -> None:
            try:
                with leakcheck.check():
                    opened(kept)
            except LeakError as error:
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(raised) == 1

    def test_a_block_in_a_task_finds_a_pending_task(self, leakcheck: LeakCheck) -> None:
        async def main() -> None:
            with pytest.raises(LeakError, match="1 asyncio task leaked"), leakcheck.check():
                left = asyncio.create_task(asyncio.Event().wait())
                await asyncio.sleep(0)
            left.cancel()

        asyncio.run(main())

    def test_an_asynchronous_block_lets_the_loop_settle(self, leakcheck: LeakCheck) -> None:
        async def main() -> None:
            async with leakcheck.check(grace=5.0):
                kept = asyncio.create_task(asyncio.sleep(0.001))
            assert kept.done()

        asyncio.run(main())

    @pytest.mark.asyncio
    async def test_the_tests_own_task_counts_neither_outside_of_a_block_nor_inside(self, leakcheck: LeakCheck) -> None:
        before = leakcheck.snapshot()
        with leakcheck.check(), leakcheck.check():
            assert (leakcheck.snapshot() - before).tasks == 0
            task = asyncio.create_task(asyncio.sleep(0))
            assert (leakcheck.snapshot() - before).tasks == 1
            await task
        assert (leakcheck.snapshot() - before).tasks == 0

    def test_an_asynchronous_block_finds_a_pending_task(self, leakcheck: LeakCheck) -> None:
        async def main() -> None:
            with pytest.raises(LeakError, match="1 asyncio task leaked"):
                async with leakcheck.check():
                    left = asyncio.create_task(asyncio.Event().wait())
            left.cancel()

        asyncio.run(main())


class TestTolerance:
    def test_a_tolerance_at_run_time_counts(self, session: Session, check: Check, kept: list[Any]) -> None:
        LeakCheck(session, check).tolerate(sockets=1)
        opened(kept)
        session.end(check)
        assert [finding.verdict for finding in check.findings] == ["tolerated"]

    def test_an_unknown_kind_is_an_error(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(TypeError, match=r"httpleak\.tolerate\(\) got an unknown kind 'socket'"):
            leakcheck.tolerate(socket=1)

    def test_an_ignored_object_is_someone_elses(self, session: Session, check: Check, kept: list[Any]) -> None:
        opened(kept)
        LeakCheck(session, check).ignore(kept[0])
        session.end(check)
        assert check.findings == ()

    def test_an_ignored_descriptor_is_someone_elses(self, session: Session, check: Check) -> None:
        fd = os.open(os.devnull, os.O_RDONLY)
        LeakCheck(session, check).ignore(fd)
        session.end(check)
        os.close(fd)
        assert check.findings == ()

    @pytest.mark.parametrize("thing", [None, "threads:*", b"a", True, 1.5])
    def test_what_holds_nothing_cannot_be_ignored(
        self, session: Session, check: Check, kept: list[Any], thing: object
    ) -> None:
        opened(kept)
        with pytest.raises(
            TypeError, match=rf"^httpleak\.ignore\(\) takes an object .*, and got {re.escape(repr(thing))}"
        ):
            LeakCheck(session, check).ignore(kept[0], thing)
        session.end(check)
        assert [finding.count for finding in check.findings] == [1]  # nothing is half done

    def test_a_pattern_to_ignore_is_told_where_it_goes(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(TypeError, match=r"a pattern goes to httpleak\.tolerate\(ignore=\.\.\.\)"):
            leakcheck.ignore("threads:*")

    def test_its_neighbour_is_not_ignored(self, session: Session, check: Check, kept: list[Any]) -> None:
        opened(kept, 2)
        LeakCheck(session, check).ignore(kept[0])
        session.end(check)
        assert [finding.count for finding in check.findings] == [1]

    @pytest.mark.parametrize("fd", [2**31, 2**64, -1])
    def test_what_can_be_no_descriptor_switches_nothing_off(self, session: Session, check: Check, fd: int) -> None:
        class Stub:
            def fileno(self) -> int:
                return fd

        LeakCheck(session, check).ignore(Stub(), fd)
        left = os.open(os.devnull, os.O_RDONLY)
        session.end(check)
        os.close(left)
        assert [finding.kind for finding in check.findings] == [Kind.FDS]


class TestPeak:
    def test_the_peak_is_the_highest_number_open_at_once(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        opened(kept, 3)
        kept.pop().close()
        kept.pop().close()
        opened(kept)
        assert leakcheck.peak("sockets") == 3

    def test_what_is_closed_before_the_next_is_opened_makes_a_peak_of_one(self, leakcheck: LeakCheck) -> None:
        for _ in range(5):
            socket.socket().close()
        assert leakcheck.peak("sockets") == 1

    def test_the_peak_of_clients_is_the_number_made(self, leakcheck: LeakCheck) -> None:
        requests = pytest.importorskip("requests")
        for _ in range(2):
            requests.Session().close()
        assert leakcheck.peak("clients") == 2

    def test_the_peak_of_what_was_never_made_is_zero(self, leakcheck: LeakCheck) -> None:
        assert leakcheck.peak("threads") == 0

    def test_an_unknown_kind_is_an_error_with_the_nearest_one(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(ValueError, match="did you mean 'sockets'"):
            leakcheck.peak("socket")

    def test_descriptors_are_not_counted(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(ValueError, match=r"does not count fds\. Valid kinds: responses, clients, "):
            leakcheck.peak("fds")


class TestInert:
    def test_without_a_check_nothing_is_counted_and_nothing_raises(self, kept: list[Any]) -> None:
        inert = LeakCheck(None, None)
        before = inert.snapshot()
        with inert.check():
            opened(kept)
        inert.tolerate(sockets=1)
        inert.ignore(kept)
        assert (inert.snapshot() - before).sockets == 0
        assert (inert.pools(), inert.peak("sockets")) == ((), 0)


class TestNoLeaks:
    def test_as_context_manager(self, kept: list[Any]) -> None:
        with pytest.raises(LeakError), no_leaks(grace=0.1):
            opened(kept)
        with no_leaks():
            socket.socket().close()

    def test_as_decorator_with_and_without_keys(self, kept: list[Any]) -> None:
        @no_leaks
        def leaking() -> None:
            opened(kept)

        @no_leaks(sockets=1)
        def tolerated(number: int) -> int:
            opened(kept, number)
            return number

        with pytest.raises(LeakError):
            leaking()
        assert tolerated(1) == 1
        assert tolerated.__name__ == "tolerated"

    def test_on_a_coroutine_function(self, kept: list[Any]) -> None:
        @no_leaks(grace=0.1)
        async def leaking() -> None:
            opened(kept)

        with pytest.raises(LeakError):
            asyncio.run(leaking())

    def test_as_asynchronous_context_manager(self) -> None:
        async def main() -> None:
            async with no_leaks():
                await asyncio.sleep(0)

        asyncio.run(main())

    def test_in_a_loop_that_is_older_than_the_watch(self) -> None:
        tasks: list[asyncio.Task[None]] = []  # which the loop cancels at its end

        async def wait() -> None:
            await asyncio.sleep(60)

        async def leaking() -> None:
            before = asyncio.create_task(wait())  # is not the block's
            await asyncio.sleep(0)
            for block in (no_leaks(grace=0), no_leaks(grace=0.1)):
                async with block:
                    tasks.append(asyncio.create_task(wait()))
            before.cancel()

        async def leaking_in_a_plain_block() -> None:
            with no_leaks(grace=0):
                tasks.append(asyncio.create_task(wait()))

        async def clean() -> None:
            before = asyncio.create_task(wait())
            async with no_leaks(grace=0.1):
                await asyncio.create_task(asyncio.sleep(0))
            before.cancel()

        for function in (leaking, leaking_in_a_plain_block):
            with pytest.raises(LeakError, match="^1 asyncio task leaked"):
                asyncio.run(function())
        asyncio.run(clean())

    def test_switched_off(self, kept: list[Any]) -> None:
        async def main() -> None:
            async with no_leaks(mode="off", sockets=1):
                opened(kept)

        with no_leaks(mode="off"):
            opened(kept)
        asyncio.run(main())

    def test_nothing_stays_patched(self) -> None:
        before = socket.socket.__init__
        with no_leaks():
            assert socket.socket.__init__ is not before
        assert socket.socket.__init__ is before

    def test_what_gives_a_generator_cannot_be_checked_by_a_decorator(self) -> None:
        def generate() -> Iterator[None]:
            yield

        async def generate_later() -> AsyncIterator[None]:
            yield

        for function in (generate, generate_later):
            with pytest.raises(TypeError, match=rf"no_leaks\(\) cannot check .*\.{function.__name__}: "):
                no_leaks(function)

    @pytest.mark.parametrize("thing", [3, "sockets", int])
    def test_what_is_no_function_cannot_be_checked(self, thing: Any) -> None:
        with pytest.raises(TypeError, match=rf"^no_leaks\(\) checks a function, and got {re.escape(repr(thing))}; "):
            no_leaks(thing)

    def test_an_unknown_key_is_an_error_at_once(self) -> None:
        with pytest.raises(TypeError, match=r"no_leaks\(\) got an unknown kind 'socket'"):
            no_leaks(socket=1)


SCRIPT = """
import socket
from pytest_httpleak import LeakError, no_leaks

KEPT = []

def leak():
    KEPT.append(socket.socket())

with no_leaks(grace=0):
    socket.socket().close()
try:
    with no_leaks(grace=0):
        leak()
except LeakError as error:
    print("found", error.findings[0].created.function)
"""


def test_a_plain_script_is_checked(pytester: pytest.Pytester) -> None:
    result = pytester.runpython(pytester.makepyfile(script=SCRIPT))
    result.stdout.fnmatch_lines(["found leak"])


def test_a_block_that_only_warns_warns(inner: Inner) -> None:
    inner.write(
        test_a="""
        import socket

        KEPT = []

        def test_warns(httpleak):
            with httpleak.check():
                KEPT.append(socket.socket())

        def test_tolerates(httpleak):
            with httpleak.check(sockets=1):
                KEPT.append(socket.socket())

        def test_is_clean(httpleak):
            with httpleak.check():
                socket.socket().close()
        """
    )
    result = inner.run("--httpleak=warn")
    assert inner.outcomes() == {"test_warns": "warned", "test_tolerates": "tolerated", "test_is_clean": "clean"}
    result.assert_outcomes(passed=3, warnings=1)
    result.stdout.fnmatch_lines(["*HttpLeakWarning: 1 socket leaked*"])


def leave_one_in_a_block(kept: list[socket.socket]) -> None:
    with no_leaks(mode="warn", grace=0):
        kept.append(socket.socket())


async def leave_one_in_an_asynchronous_block(kept: list[socket.socket]) -> None:
    async with no_leaks(mode="warn", grace=0):
        kept.append(socket.socket())


@no_leaks(mode="warn", grace=0)
def leave_one(kept: list[socket.socket]) -> None:
    kept.append(socket.socket())


@pytest.mark.parametrize(
    "leave",
    [
        leave_one_in_a_block,
        lambda kept: asyncio.run(leave_one_in_an_asynchronous_block(kept)),
        leave_one,
    ],
)
def test_no_leaks_that_only_warns_warns_at_the_users_line(
    leave: Callable[[list[socket.socket]], None], kept: list[socket.socket]
) -> None:
    with pytest.warns(HttpLeakWarning, match="1 socket leaked") as caught:
        leave(kept)
    assert [warning.filename for warning in caught] == [__file__]
    kept[0].close()
