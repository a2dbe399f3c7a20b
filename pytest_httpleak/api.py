"""The fixture `httpleak`, and `no_leaks` for use outside pytest."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from pytest_httpleak.checked import CheckedBlock
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.session import core
from pytest_httpleak.session.checks import Check
from pytest_httpleak.session.core import Session
from pytest_httpleak.session.poolfigures import pools
from pytest_httpleak.session.snapshots import Snapshot, snapshot
from pytest_httpleak.settings import default_settings, settings_from_keywords
from pytest_httpleak.settings.wording import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

P = ParamSpec("P")
R = TypeVar("R")


_COUNTED: Final = tuple(kind for kind in Kind if kind is not Kind.FDS)  # which code in C makes out of sight

_NOTHING: Final = (type(None), str, bytes, bool, float, complex)  # kinds of objects that hold no resource


class LeakCheck:
    """What the fixture `httpleak` gives a test: figures, checked blocks, tolerances at run time.

    Inert where the run's mode is `off`: figures are 0, blocks check nothing.
    """

    def __init__(self, session: Session | None, check: Check | None) -> None:
        self._session = session if check is not None else None
        self._check = check

    def snapshot(self) -> Snapshot:
        """How many of each kind are open in the process now; `later - earlier` is what was added between."""
        return Snapshot() if self._session is None else snapshot(self._session.watch)

    def check(self, **keywords: Any) -> CheckedBlock:
        """A block that is judged at its end, for `with` and `async with`; takes the marker's keys.

        Raises `LeakError` at the end of the block; `TypeError` or `ValueError` for keys that cannot be used.
        """
        base = default_settings() if self._check is None else self._check.settings
        settings = settings_from_keywords(base, keywords, "httpleak.check()")
        return CheckedBlock(self._session, settings, self._check, "the block checked by httpleak.check()")

    def sweep(
        self,
        call: Callable[[], Any],
        *,
        faults: str | Iterable[str] | None = None,
        steps: int = 100,
        **keywords: Any,
    ) -> Any:
        """Run `call()` once as it is, and then again for each step of it that can fail: none may leave anything behind.

        Steps are those at which the code uses its connections (resolve, connect, handshake, send, receive; through Python's
        sockets, and not those of a server in the same process), and in asyncio those at which it waits, its own tasks too.
        `faults` are what happens there: "reset", "timeout" (of sockets that have one), "eof", "cancel" (of what is awaited);
        all that can by default. Of more than `steps` steps of one sort, so many at even distances are taken. Takes the
        marker's keys, too.

        `call` must be able to run more than once. What it raises once a step has failed is its own affair, unless it is a
        failure of the test: `pytest.fail()`. Where it gives an awaitable, so does this:
        `await httpleak.sweep(lambda: fetch(client))`.

        Gives the numbers of steps, by fault, of those that were made to fail, and of runs. Raises `LeakError` at the end, with
        each leak at the first step whose failing leaves it; whatever the first run raises; `ValueError` or `TypeError` for
        arguments that cannot be used; `RuntimeError` where there was no step to fail, where code does not stop using a
        connection that has failed, or where another sweep is running.
        """
        __tracebackhide__ = True
        from pytest_httpleak.sweeping import sweep

        base = default_settings() if self._check is None else self._check.settings
        settings = settings_from_keywords(base, keywords, "httpleak.sweep()")
        return sweep(self._session, settings, self._check, call, faults=faults, steps=steps)

    def soak(
        self,
        call: Callable[[], Any],
        *,
        rate: float,
        seconds: float,
        concurrency: int = 100,
        p99: float | None = None,
        **keywords: Any,
    ) -> Any:
        """Run `call()` at a constant rate (calls a second) for so many seconds: nothing may become more and more.

        An open loop: a call is due whether others are over or not, from at most `concurrency` threads, or tasks of asyncio
        where `call()` gives an awaitable, as then does this. Latencies are measured from the moment when a call was due, so
        that one which had to wait counts as slow (without that correction a server that stands still stops the clock).
        `call` runs once before, unmeasured. Takes the marker's keys, too.

        Gives the latencies at 50, 90, 99 and 99.9 %, in seconds, and from how many looks it knows what rises. Raises
        `LeakError` where the calls leave anything behind, or the number of what is open of some line, whoever has it, rises
        all the time: with its slope, 99 % sure; `LatencyError` where the latency at 99 % is above `p99` (seconds); whatever a
        call raises, which ends the soak; `ValueError` or `TypeError` for arguments that cannot be used, as for fewer calls
        than tell a slope: 50.
        """
        __tracebackhide__ = True
        from pytest_httpleak.soaking import soak

        base = default_settings() if self._check is None else self._check.settings
        settings = settings_from_keywords(base, keywords, "httpleak.soak()")
        bounds = {"rate": rate, "seconds": seconds, "p99": p99}
        return soak(self._session, settings, self._check, call, bounds=bounds, concurrency=concurrency)

    def tolerate(self, **keywords: Any) -> None:
        """Lay the marker's keys over this test's settings: `tolerate(sockets=1)`."""
        if self._check is not None:
            self._check.settings = settings_from_keywords(self._check.settings, keywords, "httpleak.tolerate()")
        else:
            settings_from_keywords(default_settings(), keywords, "httpleak.tolerate()")

    def ignore(self, thing: object, /, *more: object) -> None:
        """Leave these objects, and what they hold, to someone else: clients, sockets, files, tasks, threads, loops, fds.

        Raises `TypeError` for what can hold nothing: None, text, bytes, a truth value, a number that is no descriptor's.
        """
        things = (thing, *more)
        for each in things:
            if any(type(each) is kind for kind in _NOTHING):
                pattern = "; a pattern goes to httpleak.tolerate(ignore=...)" if type(each) is str else ""
                raise TypeError(f"httpleak.ignore() takes an object that holds what is open, and got {each!r}{pattern}")
        if self._session is not None:
            for each in things:
                self._session.ignore(each)

    def pools(self) -> tuple[PoolState, ...]:
        """The figures of each connection pool that is open in the process."""
        return () if self._session is None else pools(self._session.watch)

    def peak(self, kind: str) -> int:
        """The highest number of that kind open at once in this test so far; of clients, the number made.

        Raises `ValueError` for an unknown kind, and for one that is not counted as it is made: fds.
        """
        try:
            wanted = Kind(kind)
        except ValueError:
            raise ValueError(f"httpleak.peak() got an {unknown('kind', str(kind), _COUNTED)}") from None
        if wanted not in _COUNTED:
            raise ValueError(f"httpleak.peak() does not count {kind}. Valid kinds: {', '.join(_COUNTED)}")
        peaks = None if self._check is None else self._check.owner.peaks
        if peaks is None:
            return 0
        return len(peaks.clients()) if wanted is Kind.CLIENTS else peaks.highest(wanted)


class _NoLeaks:
    """`no_leaks(...)`: one check as context manager, as asynchronous context manager, and as decorator."""

    def __init__(self, keywords: dict[str, Any]) -> None:
        self._keywords = keywords
        self._settings = settings_from_keywords(default_settings(), keywords, "no_leaks()")
        self._entered: list[tuple[Session, bool, CheckedBlock]] = []

    def _enter(self) -> CheckedBlock:
        running = core.running()
        session = running or Session(rootdir=os.getcwd())
        if running is None:
            session.start()
        block = CheckedBlock(session, self._settings, None, "the code checked by no_leaks()")
        self._entered.append((session, running is None, block))
        return block

    def _leave(self) -> tuple[CheckedBlock, Callable[[], None]]:
        session, own, block = self._entered.pop()
        return block, session.stop if own else lambda: None

    def __enter__(self) -> None:
        self._enter().__enter__()

    def __exit__(self, *raised: Any) -> None:  # noqa: PYI036  # handed on as they are
        __tracebackhide__ = True
        block, stop = self._leave()
        try:
            block.__exit__(*raised)
        finally:
            stop()

    async def __aenter__(self) -> None:
        await self._enter().__aenter__()

    async def __aexit__(self, *raised: Any) -> None:  # noqa: PYI036  # handed on as they are
        __tracebackhide__ = True
        block, stop = self._leave()
        try:
            await block.__aexit__(*raised)
        finally:
            stop()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        keywords = self._keywords
        if isinstance(function, type) or not callable(function):
            raise TypeError(
                f"no_leaks() checks a function, and got {function!r}; tolerances are given by name, as in no_leaks(sockets=1), "
                f"and a class of tests has the marker: @pytest.mark.httpleak"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"no_leaks() cannot check {function.__qualname__}: what it is called for gives a generator, whose code runs "
                f"later; put `with no_leaks():` into it, or into whatever goes through it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def checked_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                __tracebackhide__ = True
                async with _NoLeaks(keywords):
                    return await function(*args, **kwargs)

            return checked_async  # type: ignore[return-value]  # R is the coroutine that it returns

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            __tracebackhide__ = True
            with _NoLeaks(keywords):
                return function(*args, **kwargs)

        return checked


@overload
def no_leaks(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def no_leaks(**keywords: Any) -> _NoLeaks: ...
def no_leaks(function: Callable[P, R] | None = None, /, **keywords: Any) -> Any:
    """Check code anywhere, outside pytest too, for what it leaves behind.

    As a context manager, also an asynchronous one, `with no_leaks():`; as a decorator, `@no_leaks(sockets=1)`.

    Takes the marker's keys. Raises `LeakError` where the code leaks; `TypeError` or `ValueError` for unusable keys,
    for what is no function, and for a function that gives a generator, whose code runs later.
    """
    check = _NoLeaks(keywords)
    return check if function is None else check(function)
