"""One piece of code, called at a constant rate: when each call is due, and how long it takes."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from array import array
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.clocks import Real

if TYPE_CHECKING:
    from pytest_httpleak.session.linesmeanwhile import LinesMeanwhile

# So many looks at what is open tell a slope from chance, and are few enough not to be felt.
LOOKS: Final = 50
# Calls that are late may begin until so long after the time is over, in seconds: the last one is due just before.
_AFTER: Final = 1.0
# From then on a call is called late, in seconds: what begins at once does not begin at the same moment, under load least.
_LATE: Final = 0.01
# In threads, from one look to the next it takes at least so many times as long as the look, unless it is one of the fewest.
_APART: Final = 4
# Of so many looks one is made however long they take: what is not seen to rise must not depend on the machine.
_FEWEST: Final = 2
# A wait, in seconds: while the plan stands still, nothing becomes of a shorter one.
_SHORTEST: Final = 0.001


@dataclass(frozen=True, slots=True)
class Soak:
    """What a soak has measured. Times are in seconds, from the moment when a call was due to its end.

    `late` calls began more than 10 ms after that: `concurrency` others were running, or the machine was busy. `missed` ones had
    not begun a second after the time was over, and count with as long as they had waited. `looks` says how many numbers tell
    what rises.
    """

    calls: int
    seconds: float
    p50: float
    p90: float
    p99: float
    p999: float
    highest: float
    late: int
    missed: int
    looks: int


class Plan:
    """When each call is due: an open loop, which does not wait for the answers of a server that is slow."""

    def __init__(self, rate: float, seconds: float) -> None:
        self.rate = rate
        self.calls = max(1, round(rate * seconds))
        self.latencies = array("d")
        self.late = self.missed = 0
        self.error: BaseException | None = None
        self.seconds = 0.0
        self._numbers = itertools.count()
        self._began = 0.0
        # Since when it stands still, if it does, and for how long it did before: one value, as threads ask for it meanwhile.
        self._standing: tuple[float | None, float] = (None, 0.0)

    def begin(self) -> None:
        """The first call is due now."""
        self._began = Real.perf_counter()

    def now(self) -> float:
        """Seconds since the beginning."""
        since, before = self._standing
        return (Real.perf_counter() if since is None else since) - self._began - before

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let no call be due meanwhile: nothing can run in a loop that is not turned, and threads would be slowed down."""
        since, (_, before) = Real.perf_counter(), self._standing
        self._standing = (since, before)
        try:
            yield
        finally:
            self._standing = (None, before + Real.perf_counter() - since)

    def take(self) -> float | None:
        """When the next call is due, for whoever asks to make it; None where there is none any more."""
        number = next(self._numbers)
        return None if number >= self.calls or self.error is not None else number / self.rate

    def begins(self, due: float) -> float | None:
        """How late a call that was due then begins, in seconds; None if it may not: the time may be over."""
        late = self.now() - due
        if self.error is not None:
            return None
        if due + late >= self.calls / self.rate + _AFTER:
            self.missed += 1
            self.latencies.append(late)
            return None
        self.late += late > _LATE
        return late

    def failed(self, error: BaseException) -> None:
        """A call has raised it: that is the end."""
        self.error = self.error or error

    def ended(self, latency: float) -> None:
        """A call is over, so long after it was due."""
        self.latencies.append(latency)
        self.seconds = self.now()

    def looks(self) -> Iterator[float]:
        """When to look at what is open."""
        return (self.calls / self.rate * number / LOOKS for number in range(1, LOOKS + 1))

    def result(self, looks: int) -> Soak:
        """The figures."""
        ranked = sorted(self.latencies)
        p50, p90, p99, p999, highest = (
            ranked[max(0, math.ceil(part * len(ranked)) - 1)] for part in (0.5, 0.9, 0.99, 0.999, 1)
        )
        return Soak(len(ranked), self.seconds, p50, p90, p99, p999, highest, self.late, self.missed, looks)


def soak_in_threads(plan: Plan, lines: LinesMeanwhile, call: Callable[[], object], concurrency: int) -> None:
    """Call it from threads, at most so many at once; the first error of a call ends the soak."""
    start, stop = threading.Event(), threading.Event()

    def work() -> None:
        start.wait()
        while (due := plan.take()) is not None:
            if not _comes_in_thread(due, plan, stop) or (late := plan.begins(due)) is None:
                continue
            since = Real.perf_counter() - late  # which goes on where the plan stands still, as the call does
            try:
                call()
            except BaseException as error:  # noqa: BLE001  # raised by who waits for the soak
                plan.failed(error)
                stop.set()
            plan.ended(Real.perf_counter() - since)

    threads: list[threading.Thread] = []
    try:
        with lines.uncounted():
            for number in range(min(concurrency, plan.calls)):
                thread = threading.Thread(target=work, name=f"httpleak-soak-{number}")
                thread.start()
                threads.append(thread)
        plan.begin()
        start.set()
        _look_meanwhile(plan, lines, stop)
    except BaseException as error:
        plan.failed(error)
        stop.set()
        raise
    finally:
        start.set()
        for thread in threads:
            thread.join()


def _look_meanwhile(plan: Plan, lines: LinesMeanwhile, stop: threading.Event) -> None:
    earliest = 0.0
    for number, at in enumerate(plan.looks(), 1):
        # Calls that are under way go on meanwhile, and are not to be slowed down by much.
        if at < earliest and number % _FEWEST:
            continue
        if not _comes_in_thread(at, plan, stop):
            return
        before = Real.perf_counter()
        with plan.standing_still():
            lines.look(len(plan.latencies))
        earliest = plan.now() + (Real.perf_counter() - before) * _APART


def _comes_in_thread(moment: float, plan: Plan, stop: threading.Event) -> bool:
    """Wait for that moment of the plan; whether it comes before the soak is ended."""
    while (left := moment - plan.now()) > 0:  # more than once, as below
        if stop.wait(max(left, _SHORTEST)):
            return False
    return not stop.is_set()


async def soak_in_tasks(
    plan: Plan, lines: LinesMeanwhile, call: Callable[[], Awaitable[object]], concurrency: int, asyncio: Any
) -> None:
    """Await it in tasks, at most so many at once; the first error of a call ends the soak."""
    stop = asyncio.Event()

    async def work() -> None:
        while (due := plan.take()) is not None:
            if not await _comes(due, plan, stop, asyncio) or plan.begins(due) is None:
                continue
            try:
                await call()
            except BaseException as error:  # noqa: BLE001  # as above
                plan.failed(error)
                stop.set()
            plan.ended(plan.now() - due)

    async with asyncio.TaskGroup() as group:
        with lines.uncounted():
            for _ in range(min(concurrency, plan.calls)):
                group.create_task(work())
        plan.begin()
        for at in plan.looks():
            if not await _comes(at, plan, stop, asyncio):
                break
            with plan.standing_still():
                lines.look(len(plan.latencies))


async def _comes(moment: float, plan: Plan, stop: Any, asyncio: Any) -> bool:
    """Wait for that moment of the plan; whether it comes before the soak is ended.

    Where it is over, the other calls and looks that are late have their turn before: one after a break of the machine's does
    not run all calls, or look at the same number of calls again and again.
    """
    await asyncio.sleep(0)
    while (
        left := moment - plan.now()
    ) > 0:  # more than once, as the plan may stand still while the loop's clock goes on
        try:
            async with asyncio.timeout(max(left, _SHORTEST)):
                await stop.wait()
        except TimeoutError:
            continue
        return False
    return not stop.is_set()
