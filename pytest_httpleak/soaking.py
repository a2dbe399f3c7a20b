"""`httpleak.soak()`: a piece of code at a constant rate, and what is said of its latencies and of what it leaves."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.checked import show
from pytest_httpleak.errors import LatencyError, LeakError
from pytest_httpleak.model.kinds import Verdict
from pytest_httpleak.reports.text import leak_text
from pytest_httpleak.session.blocks import Block
from pytest_httpleak.session.linesmeanwhile import LinesMeanwhile
from pytest_httpleak.session.soak import LOOKS, Plan, Soak, soak_in_tasks, soak_in_threads

if TYPE_CHECKING:
    from pytest_httpleak.session.checks import Check
    from pytest_httpleak.session.core import Session
    from pytest_httpleak.settings import Settings

_NAME: Final = "httpleak.soak()"
_OWNER: Final = "the code that httpleak.soak() ran"


def soak(
    session: Session | None,
    settings: Settings,
    around: Check | None,
    call: Callable[[], Any],
    *,
    bounds: Mapping[str, Any],
    concurrency: int,
) -> Any:
    """Soak, or give what has to be awaited for it; without a session, run the code once as it is."""
    __tracebackhide__ = True
    if not callable(call):
        raise TypeError(f"{_NAME} takes a function that it can call again and again, not {call!r}")
    for name, value in bounds.items():
        if value is None and name == "p99":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"{_NAME} got {name}={value!r}; it must be a number above 0")
    if type(concurrency) is not int or concurrency < 1:
        raise ValueError(f"{_NAME} got concurrency={concurrency!r}; it must be a whole number of at least 1")
    plan = Plan(bounds["rate"], bounds["seconds"])
    if plan.calls < LOOKS:
        raise ValueError(
            f"{_NAME} got rate={bounds['rate']!r} and seconds={bounds['seconds']!r}: {plan.calls} calls, and it takes "
            f"{LOOKS} to tell whether something rises"
        )
    if session is None:
        plan.begin()
        result = call()
        return _once_awaited(plan, result) if inspect.isawaitable(result) else _once(plan)
    soaking = _Soaking(session, settings, around, plan, bounds["p99"])
    return soaking.start(call, concurrency)


def _once(plan: Plan) -> Soak:
    plan.ended(plan.now())
    return plan.result(0)


async def _once_awaited(plan: Plan, result: Any) -> Soak:
    await result
    return _once(plan)


class _Soaking:
    """One soak, in its checked block, and what is said in the end."""

    def __init__(
        self, session: Session, settings: Settings, around: Check | None, plan: Plan, p99: float | None
    ) -> None:
        self._session = session
        self._around = around
        self._plan = plan
        self._p99 = p99
        self._settings = settings

    def _begin(self) -> tuple[Block, LinesMeanwhile]:
        block = Block(self._session, self._settings, None if self._around is None else self._around.owner)
        return block, LinesMeanwhile(self._session, block.check)

    def start(self, call: Callable[[], Any], concurrency: int) -> Any:
        __tracebackhide__ = True
        block, lines = self._begin()
        try:
            first = call()
            if not inspect.isawaitable(first):
                soak_in_threads(self._plan, lines, call, concurrency)
                self._raise_own()
        except BaseException:
            block.abandon()
            raise
        if inspect.isawaitable(first):
            block.abandon()  # which begins only where somebody awaits it
            return self._start_awaited(call, concurrency, first)
        return self._end(block.end(), lines)

    async def _start_awaited(self, call: Callable[[], Any], concurrency: int, first: Any) -> Soak:
        __tracebackhide__ = True
        asyncio: Any = sys.modules.get("asyncio")
        if asyncio is None or self._session.watch.running_loop() is None:
            _refuse(first)
        block, lines = self._begin()
        try:
            await first
            await soak_in_tasks(self._plan, lines, call, concurrency, asyncio)
            self._raise_own()
        except BaseException:
            block.abandon()
            raise
        return self._end(await block.end_async(), lines)

    def _raise_own(self) -> None:
        __tracebackhide__ = True
        if self._plan.error is not None:
            raise self._plan.error

    def _end(self, check: Check, lines: LinesMeanwhile) -> Soak:
        __tracebackhide__ = True
        done = self._plan.result(lines.number)
        found = check.findings + lines.findings()
        show(self._session, self._around, found, _OWNER)
        leaks = tuple(each for each in found if each.verdict is Verdict.LEAKED)
        if leaks:
            when = f"called {done.calls - done.missed:,} times in {done.seconds:.1f} s, and once before"
            raise LeakError(leak_text(leaks, owner=_OWNER, rootdir=self._session.rootdir, when=when), leaks)
        if self._p99 is not None and done.p99 > self._p99:
            raise LatencyError(_slow(done, self._plan.rate, self._p99))
        return done


def _refuse(first: Any) -> None:
    if inspect.iscoroutine(first):
        first.close()
    raise RuntimeError(f"{_NAME} awaits what it calls in tasks of asyncio, and here no loop of asyncio runs")


def _slow(done: Soak, rate: float, bound: float) -> str:
    parts = {"p50": done.p50, "p90": done.p90, "p99": done.p99, "p99.9": done.p999, "highest": done.highest}
    shown = ", ".join(f"{name} {_milliseconds(seconds)}" for name, seconds in parts.items())
    return (
        f"p99 is {_milliseconds(done.p99)}, and the bound is {_milliseconds(bound)}\n"
        f"  calls:   {done.calls:,} in {done.seconds:.1f} s, due at {rate:g} a second; "
        f"{done.late:,} late, {done.missed:,} never begun\n"
        f"  latency: {shown} (from the moment when a call was due)"
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
