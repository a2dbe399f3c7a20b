"""`httpleak.sweep()`: each step of a piece of code is made to fail in turn, and what that leaves behind is told with it."""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.checked import show
from pytest_httpleak.errors import LeakError
from pytest_httpleak.reports.places import place
from pytest_httpleak.reports.text import leak_text
from pytest_httpleak.session.faults import Fault, Waiting
from pytest_httpleak.session.sweep import Run, Struck, Sweep, Sweeper, cause_of
from pytest_httpleak.settings.wording import unknown

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Finding
    from pytest_httpleak.session.checks import Check
    from pytest_httpleak.session.core import Session
    from pytest_httpleak.settings import Settings

_NAME: Final = "httpleak.sweep()"
_OWNER: Final = "the code that httpleak.sweep() ran"
_HAPPENED: Final = {
    Fault.RESET: "failed: the connection was reset or refused",
    Fault.TIMEOUT: "timed out",
    Fault.EOF: "met the end of the stream: the peer had closed",
    Fault.CANCEL: "was cancelled",
}


def sweep(
    session: Session | None,
    settings: Settings,
    around: Check | None,
    call: Callable[[], Any],
    *,
    faults: str | Iterable[str] | None,
    steps: int,
) -> Any:
    """Sweep, or give what has to be awaited for it; without a session, run the code as it is."""
    __tracebackhide__ = True
    wanted = _faults(faults)
    if not callable(call):
        raise TypeError(f"{_NAME} takes a function that it can call again and again, not {call!r}")
    if type(steps) is not int or steps < 1:
        raise ValueError(f"{_NAME} got steps={steps!r}; it must be a whole number of at least 1")
    if session is None:
        result = call()
        return _awaited(result) if inspect.isawaitable(result) else Sweep({}, 0, 1)
    parent = None if around is None else around.owner
    sweeping = _Sweeping(Sweeper(session, settings, parent, wanted or tuple(Fault), steps), session, around, wanted)
    return sweeping.start(call)


async def _awaited(result: Any) -> Sweep:
    await result
    return Sweep({}, 0, 1)


class _Sweeping:
    """One sweep: the first run, in which nothing fails; the others; and what is said in the end."""

    def __init__(self, sweeper: Sweeper, session: Session, around: Check | None, wanted: tuple[Fault, ...]) -> None:
        self._sweeper = sweeper
        self._session = session
        self._around = around
        self._wanted = wanted
        self._shown: set[Any] = set()

    def start(self, call: Callable[[], Any]) -> Any:
        __tracebackhide__ = True
        with _alone():
            first = self._sweeper.begin()
            try:
                result = call()
            except BaseException:
                first.abandon()
                raise
            if inspect.isawaitable(result):
                first.abandon()  # which begins only where somebody awaits it
                if inspect.iscoroutine(result):
                    result.close()
                return self._start_awaited(call, result)
            self._begin(first, first.end())
            self._sweeper.sweep(call)
            return self._end()

    async def _start_awaited(self, call: Callable[[], Any], result: Any) -> Sweep:
        __tracebackhide__ = True
        asyncio: Any = sys.modules.get("asyncio")
        in_loop = asyncio is not None and self._session.watch.running_loop() is not None
        task = asyncio.current_task() if in_loop else None
        if task is None:
            raise RuntimeError(f"{_NAME} sweeps what is awaited in a task of asyncio, and here there is none")
        if not inspect.iscoroutine(result):  # it has begun already
            await result
        with _alone():
            first = self._sweeper.begin()
            try:
                first.steps.watch_children(task, asyncio)
                await Waiting(call(), task, first.steps)
            except BaseException:
                first.abandon()
                raise
            self._begin(first, await first.end_async())
            await self._sweeper.sweep_async(call, task, asyncio)
            return self._end()

    def _begin(self, first: Run, check: Check) -> None:
        """Judge the run in which nothing has failed; the others have something to fail only if this one has."""
        __tracebackhide__ = True
        self._show(check)
        if check.leaks:
            when = "nothing has failed yet: this is the first run, of the code as it is"
            raise LeakError(leak_text(check.leaks, owner=_OWNER, rootdir=self._session.rootdir, when=when), check.leaks)
        self._sweeper.note(first)
        if not any(first.steps.counted.values()):
            raise RuntimeError(
                f"{_NAME} saw no step that could fail ({', '.join(self._wanted or Fault)}): the code has used no connection "
                'of its own through Python\'s sockets ("timeout": one with a timeout), and waited for nothing ("cancel")'
            )

    def _show(self, check: Check) -> None:
        """Show what is no error, once."""
        found: list[Finding] = []
        for each in check.findings:
            key = cause_of(each), each.verdict
            if key not in self._shown:
                self._shown.add(key)
                found.append(each)
        show(self._session, self._around, found, _OWNER)

    def _end(self) -> Sweep:
        __tracebackhide__ = True
        for check, _ in self._sweeper.checks:
            self._show(check)
        leaks = self._sweeper.leaks()
        if leaks:
            rootdir = self._session.rootdir
            texts = [
                leak_text(found, owner=_OWNER, rootdir=rootdir, when=_when(struck, more, rootdir))
                for struck, found, more in leaks
            ]
            raise LeakError("\n\n".join(texts), tuple(finding for _, found, _ in leaks for finding in found))
        return self._sweeper.result()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One sweep at a time: a second one would fail the steps of the first, or put its patches back too late."""
    if not _running.acquire(blocking=False):
        raise RuntimeError(f"{_NAME} is running already, in another thread or task, or around this one")
    try:
        yield
    finally:
        _running.release()


_running: Final = threading.Lock()


def _when(struck: Struck, more: int, rootdir: str) -> str:
    if not struck.what:
        return "nothing failed in that run: it did not come to the step that should have"
    where = "" if struck.site is None else f" at {place(struck.site, rootdir)}"
    also = "" if not more else f" (and at {more} other step{'s' if more > 1 else ''})"
    number = f" ({struck.target.number} of {struck.of})" if struck.of > 1 else ""
    return f"{struck.what}{number}{where} {_HAPPENED[struck.target.fault]}{also}"


def _faults(wanted: str | Iterable[str] | None) -> tuple[Fault, ...]:
    """The faults of those names; none stand for all that can happen."""
    names = () if wanted is None else (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in names:
        if name not in list(Fault):
            raise ValueError(f"{_NAME} got an {unknown('fault', str(name), Fault)}")
    if wanted is not None and not names:
        raise ValueError(f"{_NAME} got no fault. Valid faults: {', '.join(Fault)}")
    return tuple(dict.fromkeys(map(Fault, names)))
