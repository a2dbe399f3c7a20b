"""`httpleak.soak()`: some code at a constant rate, judged by what it leaves, by what rises meanwhile, and by its latencies."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from inner import Inner

from pytest_httpleak import LatencyError, LeakError
from pytest_httpleak.api import LeakCheck
from pytest_httpleak.clocks import Real
from pytest_httpleak.owners import Owner
from pytest_httpleak.session.core import Session
from pytest_httpleak.session.linesmeanwhile import LinesMeanwhile
from pytest_httpleak.session.slopes import rising, slope_between
from pytest_httpleak.session.soak import LOOKS, Plan, Soak

FAST: dict[str, Any] = {"rate": 500, "seconds": 0.2, "concurrency": 4}  # 100 calls


@pytest.fixture
def soaked(leakcheck: LeakCheck) -> Callable[..., Soak]:
    """Soaks a coroutine function in a loop of its own."""

    def run(call: Callable[[], Any], **keywords: Any) -> Soak:
        async def main() -> Soak:
            done = await leakcheck.soak(call, **FAST | keywords)
            assert isinstance(done, Soak)
            return done

        return asyncio.run(main())

    return run


class TestWhatIsLeft:
    def test_what_the_calls_leave_is_their_leak(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        with pytest.raises(LeakError, match="sockets leaked") as caught:
            leakcheck.soak(lambda: kept.append(socket.socket()), **FAST)
        (finding,) = caught.value.findings  # once: not again as what rises
        assert finding.count == len(kept) > 50
        lines = str(caught.value).splitlines()
        assert lines[1] == "  left by: the code that httpleak.soak() ran"
        assert lines[2].startswith(f"  when:    called {len(kept) - 1} times in 0.")  # and once before

    def test_what_they_close_is_none(self, leakcheck: LeakCheck) -> None:
        assert leakcheck.soak(lambda: socket.socket().close(), **FAST).calls == 100

    def test_tasks_that_awaited_calls_leave_are_their_leak(self, soaked: Callable[..., Soak]) -> None:
        tasks = []

        async def call() -> None:
            tasks.append(asyncio.create_task(asyncio.sleep(60)))

        with pytest.raises(LeakError, match="asyncio tasks leaked"):
            soaked(call)

    def test_those_that_they_await_are_none(self, soaked: Callable[..., Soak]) -> None:
        async def call() -> None:
            await asyncio.create_task(asyncio.sleep(0))

        assert soaked(call).calls == 100

    def test_what_has_no_line_is_told_once_too(self, soaked: Callable[..., Soak], tmp_path: Path) -> None:
        open_folders: list[Any] = []

        async def call() -> None:
            open_folders.append(os.scandir(tmp_path))  # in C, where nobody sees it

        try:
            with pytest.raises(LeakError) as caught:
                soaked(call)
        finally:
            for folder in open_folders:
                folder.close()
        summaries = [finding.summary for finding in caught.value.findings]
        assert len(summaries) > 0
        assert [each for each in summaries if "more with each" in each] == []

    def test_it_takes_the_keys_of_the_marker(self, leakcheck: LeakCheck, kept: list[Any]) -> None:
        leakcheck.soak(lambda: kept.append(socket.socket()), **FAST, sockets=101)


class TestWhatRises:
    @pytest.fixture
    def others(self, session: Session) -> Iterator[Callable[[Callable[[], object]], None]]:
        """Lets somebody else answer for what a function makes: a server, a cache that outlives the test."""
        owner = Owner("other", "session")
        lock = threading.Lock()

        def make(act: Callable[[], object]) -> None:
            with lock, session.watch.acting_for(owner):
                act()

        yield make
        owner.over = True

    @staticmethod
    def awaited(act: Callable[[], object]) -> Callable[[], Any]:
        """In a loop there are always as many looks, however slow the machine."""

        async def call() -> None:
            act()

        return call

    def test_what_somebody_else_keeps_is_told_with_its_slope(
        self, soaked: Callable[..., Soak], kept: list[Any], others: Any
    ) -> None:
        with pytest.raises(LeakError, match=r"1 more with each \(99% sure: ") as caught:
            soaked(self.awaited(lambda: others(lambda: kept.append(socket.socket()))))
        (finding,) = caught.value.findings
        assert finding.created is not None
        assert (finding.kind, finding.created.function) == ("sockets", "<lambda>")
        assert finding.hint.startswith("something keeps one more of these for each call")
        assert finding.fingerprint

    def test_beside_threads_it_is_told_too(self, leakcheck: LeakCheck, kept: list[Any], others: Any) -> None:
        with pytest.raises(LeakError, match="more with each"):
            leakcheck.soak(lambda: others(lambda: kept.append(socket.socket())), rate=100, seconds=1, concurrency=1)

    def test_beside_threads_there_are_looks_enough_however_long_they_take(
        self, leakcheck: LeakCheck, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = LinesMeanwhile.look

        def slow(lines: LinesMeanwhile, calls: int) -> None:
            end = Real.perf_counter() + 0.03  # and 0.01 from one to the next
            while Real.perf_counter() < end:
                """It takes the interpreter's lock from the calls again and again."""
            look(lines, calls)

        monkeypatch.setattr(LinesMeanwhile, "look", slow)
        done = leakcheck.soak(lambda: None, rate=200, seconds=0.5)
        assert done.looks > LOOKS / 3
        assert done.missed == 0

    def test_what_is_closed_as_often_does_not_rise(
        self, soaked: Callable[..., Soak], kept: list[Any], others: Any
    ) -> None:
        def call() -> None:
            others(lambda: kept.append(socket.socket()))
            if len(kept) > 5:
                kept.pop(0).close()

        assert soaked(self.awaited(call)).looks > 20

    def test_there_are_looks_enough_where_all_calls_are_late(self, soaked: Callable[..., Soak]) -> None:
        calls: list[int] = []

        async def call() -> None:
            calls.append(len(calls))
            end = Real.perf_counter() + (FAST["seconds"] if len(calls) == 2 else 0)  # of the first that is due
            while Real.perf_counter() < end:
                """The loop stands still."""

        done = soaked(call)
        assert done.late > 90
        assert done.looks > 20

    def test_a_pool_that_fills_up_does_not_rise(self, leakcheck: LeakCheck, server: str) -> None:
        with requests.Session() as session:
            leakcheck.soak(lambda: session.get(f"{server}/ok", timeout=5), **FAST)

    def test_bare_descriptors_rise_too(self, soaked: Callable[..., Soak], others: Any) -> None:
        fds: list[int] = []
        try:
            with pytest.raises(LeakError) as caught:
                soaked(self.awaited(lambda: others(lambda: fds.append(os.open(os.devnull, os.O_RDONLY)))))
        finally:
            for fd in fds:
                os.close(fd)
        assert [finding.kind for finding in caught.value.findings] == ["fds"]

    def test_what_is_ignored_may_rise(self, soaked: Callable[..., Soak], kept: list[Any], others: Any) -> None:
        soaked(self.awaited(lambda: others(lambda: kept.append(socket.socket()))), ignore=["sockets:*"])


class TestLatency:
    def test_calls_that_are_quick_enough_pass(self, leakcheck: LeakCheck) -> None:
        done = leakcheck.soak(lambda: None, **FAST, p99=5)
        assert 0 <= done.p50 <= done.p90 <= done.p99 <= done.p999 <= done.highest < 5

    def test_a_bound_that_is_exceeded_is_an_error_with_the_figures(self, leakcheck: LeakCheck) -> None:
        slow = threading.Event()
        with pytest.raises(LatencyError) as caught:
            leakcheck.soak(lambda: slow.wait(0.01), rate=500, seconds=0.2, concurrency=1, p99=0.05)
        lines = str(caught.value).splitlines()
        assert lines[0].startswith("p99 is ")
        assert lines[0].endswith(", and the bound is 50 ms")
        assert lines[1].startswith("  calls:   100 in ")
        assert "never begun" in lines[1]
        assert lines[2].startswith("  latency: p50 ")

    def test_waiting_for_ones_turn_counts(self, leakcheck: LeakCheck) -> None:
        """One call that stands still delays those behind it; a loop that waits for it would have asked less."""
        numbers: list[int] = []
        slow = threading.Event()

        def call() -> None:
            numbers.append(1)
            if len(numbers) == 52:
                slow.wait(0.1)

        done = leakcheck.soak(call, rate=500, seconds=0.3, concurrency=1)
        assert done.p90 > 0.03  # of 150 calls one was slow, and 50 were due meanwhile
        assert done.late >= 30

    def test_awaited_calls_are_measured_in_the_same_way(self, soaked: Callable[..., Soak]) -> None:
        with pytest.raises(LatencyError):
            soaked(lambda: asyncio.sleep(0.01), concurrency=1, p99=0.05)
        done = soaked(lambda: asyncio.sleep(0), p99=5)
        assert done.calls == 100
        assert done.p50 >= 0

    def test_many_run_at_once(self, leakcheck: LeakCheck) -> None:
        together = threading.Barrier(4)
        numbers = itertools.count()

        def call() -> None:
            if 1 <= next(numbers) <= 4:  # after the first, which runs alone
                together.wait(5)

        assert leakcheck.soak(call, **FAST).calls == 100

    def test_what_makes_the_calls_is_not_counted_among_what_is_open_at_once(
        self, session: Session, soaked: Callable[..., Soak], leakcheck: LeakCheck
    ) -> None:
        check = leakcheck._check
        assert check is not None
        session.want_peaks(check)
        leakcheck.soak(lambda: None, **FAST)
        soaked(lambda: asyncio.sleep(0))
        assert (leakcheck.peak("threads"), leakcheck.peak("tasks")) == (0, 1)  # the one that has asked for it

    def test_a_plan_that_stands_still_is_ahead_of_nobody(self) -> None:
        plan = Plan(rate=1000, seconds=1)
        plan.begin()
        before = Real.perf_counter()
        with plan.standing_still():
            began = plan.now()
            while Real.perf_counter() - before < 0.01:
                assert plan.now() == began
        assert plan.now() < Real.perf_counter() - before - 0.009


class TestErrors:
    def test_the_first_error_of_a_call_ends_the_soak(self, leakcheck: LeakCheck) -> None:
        calls: list[int] = []

        def call() -> None:
            calls.append(1)
            if len(calls) >= 60:  # more than one thread may get there
                raise ValueError("sixty")

        with pytest.raises(ValueError, match="sixty"):
            leakcheck.soak(call, **FAST)
        assert len(calls) < 70

    def test_of_awaited_calls_as_well(self, soaked: Callable[..., Soak]) -> None:
        calls: list[int] = []

        async def call() -> None:
            await asyncio.sleep(0)
            calls.append(1)
            if len(calls) == 60:
                raise asyncio.CancelledError("sixty")

        with pytest.raises(asyncio.CancelledError, match="sixty"):
            soaked(call)
        assert len(calls) < 70

    def test_a_failure_of_pytest_is_raised_too(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(pytest.fail.Exception, match="seen"):
            leakcheck.soak(lambda: threading.current_thread() is threading.main_thread() or pytest.fail("seen"), **FAST)

    def test_a_machine_without_threads_to_spare_is_an_error(
        self, leakcheck: LeakCheck, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start, started = threading.Thread.start, []

        def refuse(thread: threading.Thread) -> None:
            started.append(thread)
            if len(started) > 3:
                raise RuntimeError("can't start new thread")
            start(thread)

        before = threading.active_count()
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            leakcheck.soak(lambda: None, rate=100, seconds=60)
        assert threading.active_count() == before

    def test_no_thread_is_left_where_the_soak_is_interrupted(
        self, leakcheck: LeakCheck, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        before = threading.active_count()
        monkeypatch.setattr("pytest_httpleak.session.linesmeanwhile.LinesMeanwhile.look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            leakcheck.soak(lambda: None, rate=100, seconds=60)
        assert threading.active_count() == before

    def test_a_cancellation_from_outside_goes_on(self, soaked: Callable[..., Soak], leakcheck: LeakCheck) -> None:
        async def main() -> None:
            async with asyncio.timeout(0.05):
                await leakcheck.soak(lambda: asyncio.sleep(0), rate=100, seconds=60)

        with pytest.raises(TimeoutError):
            asyncio.run(main())

    def test_it_has_to_be_awaited_in_a_loop(self, leakcheck: LeakCheck) -> None:
        soak = leakcheck.soak(lambda: asyncio.sleep(0), **FAST)
        with pytest.raises(RuntimeError, match="no loop of asyncio runs"):
            soak.send(None)

    def test_a_soak_that_nobody_awaits_answers_for_nothing(self, session: Session, leakcheck: LeakCheck) -> None:
        owners = list(session.watch.stack)
        soak = leakcheck.soak(lambda: asyncio.sleep(0), **FAST)
        assert session.watch.stack == owners
        with pytest.raises(RuntimeError):  # no loop
            soak.send(None)

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"rate": 0}, "rate=0; it must be a number above 0"),
            ({"rate": True}, "rate=True"),
            ({"seconds": -1}, "seconds=-1"),
            ({"seconds": math.inf}, "seconds=inf"),
            ({"p99": "200 ms"}, "p99='200 ms'"),
            ({"concurrency": 1.5}, "concurrency=1.5; it must be a whole number"),
            ({"rate": 10, "seconds": 1}, "rate=10 and seconds=1: 10 calls, and it takes 50"),
        ],
    )
    def test_arguments_that_cannot_be_used(self, leakcheck: LeakCheck, keywords: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            leakcheck.soak(lambda: None, **FAST | keywords)

    def test_a_call_that_is_none(self, leakcheck: LeakCheck) -> None:
        with pytest.raises(TypeError, match="takes a function"):
            leakcheck.soak(1, **FAST)  # type: ignore[arg-type]


class TestSlope:
    """What rises all the time, told from what does not."""

    def noise(self, number: int, width: float) -> list[float]:
        chance = random.Random(7)
        return [chance.uniform(-width, width) for _ in range(number)]

    def test_a_line_has_its_slope(self) -> None:
        slope = slope_between(range(20), [3 * x + 1 for x in range(20)])
        assert slope == (3, 3, 3)

    def test_an_outlier_changes_little(self) -> None:
        ys = [2.0 * x for x in range(40)]
        ys[20] = 10_000
        assert slope_between(range(40), ys).middle == pytest.approx(2, rel=0.01)

    def test_the_bounds_are_those_of_sens_example(self) -> None:
        # P. K. Sen, 1968, table 5.1: the slope is 4; at 93.3 % the bounds are 26/7 and 47/11. At 99 % they are wider.
        xs, ys = [1, 2, 3, 4, 10, 12, 18], [9, 15, 19, 20, 45, 55, 78]
        slope = slope_between(xs, ys)
        assert slope.middle == 4
        assert slope.low <= 26 / 7
        assert slope.high >= 47 / 11

    @pytest.mark.parametrize("per_call", [1.0, 0.5, 0.1])
    def test_what_rises_does_so_through_noise(self, per_call: float) -> None:
        ys = [int(per_call * x + 3 + noise) for x, noise in zip(range(0, 1000, 20), self.noise(50, 3), strict=True)]
        slope = rising(range(0, 1000, 20), ys)
        assert slope is not None
        assert slope.low <= per_call <= slope.high

    @pytest.mark.parametrize(
        "name",
        ["level", "noise", "filled early", "filled late", "a step", "up and down", "sawtooth", "late burst", "falling"],
    )
    def test_other_series_do_not(self, name: str) -> None:
        series: dict[str, Callable[[int], float]] = {
            "level": lambda _: 5,
            "noise": lambda x: 20 + self.noise(50, 10)[x],
            "filled early": lambda x: min(x * 3, 10),
            "filled late": lambda x: min(x, 30),
            "a step": lambda x: 5 if x < 30 else 50,
            "up and down": lambda x: abs(x % 20 - 10),
            "sawtooth": lambda x: x % 25,
            "late burst": lambda x: 5 if x < 40 else 5 * (x - 39),
            "falling": lambda x: 50 - x,
        }
        assert rising(range(50), [series[name](x) for x in range(50)]) is None

    def test_a_few_points_say_nothing(self) -> None:
        assert rising(range(7), range(7)) is None


class TestARun:
    def test_a_leak_and_a_slow_call_fail_their_tests(self, inner: Inner) -> None:
        inner.write(
            test_a="""
import socket, threading

KEPT = []

def test_leaks(httpleak):
    httpleak.soak(lambda: KEPT.append(socket.socket()), rate=500, seconds=0.1, concurrency=2)

def test_is_slow(httpleak):
    httpleak.soak(lambda: threading.Event().wait(0.01), rate=500, seconds=0.1, concurrency=1, p99=0.02)

def test_is_clean(httpleak):
    httpleak.soak(lambda: socket.socket().close(), rate=500, seconds=0.1)
"""
        )
        result = inner.run()
        assert inner.outcomes() == {"test_leaks": "leaked", "test_is_slow": "clean", "test_is_clean": "clean"}
        result.stdout.fnmatch_lines(["*LatencyError: p99 is *s, and the bound is 20 ms"])
        result.assert_outcomes(failed=2, passed=1)

    def test_where_nothing_is_checked_the_code_runs_once(self, inner: Inner) -> None:
        inner.write(
            test_a="""
import asyncio

def test_called(httpleak):
    runs = []
    assert httpleak.soak(lambda: runs.append(1), rate=100, seconds=1, p99=1e-9).calls == len(runs) == 1

def test_awaited(httpleak):
    async def main():
        return await httpleak.soak(lambda: asyncio.sleep(0), rate=100, seconds=1)
    assert asyncio.run(main()).calls == 1
"""
        )
        inner.run(plugin=("-p", "httpleak", "--httpleak=off")).assert_outcomes(passed=2)
