"""Beside pytest-timeout: the limit on a test's time that a thread keeps, which ends the process when the time is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_httpleak.asking import attribute
from pytest_httpleak.clocks import Real

if TYPE_CHECKING:
    from pytest_httpleak.guard import Guard
    from pytest_httpleak.session.core import Session


_Timer = threading.Timer


class Timer:
    """A timer that is set: `begin` sets another one in its place, with the seconds that it is given."""

    def __init__(self, session: Session, seconds: float, begin: Callable[[float], object]) -> None:
        self._session = session
        self._end = Real.monotonic() + seconds
        self._left = seconds
        self._begin = begin

    def put_off(self, more: float) -> None:
        """Let it end the process so many seconds later."""
        self._left = self._end - Real.monotonic()
        self._session.safely(self._begin, self._left + more)

    def put_back(self, at_least: float) -> None:
        """Let what was left then be left now, unless the limit has been lifted meanwhile."""
        if self._session.timer is not None:
            self._session.safely(self._begin, max(self._left, at_least))


class TimerHooks:
    """Tells the session which timer is set, by the hooks that pytest-timeout has for whoever keeps the time instead."""

    def __init__(self, guard: Guard) -> None:
        self._session = guard.session
        self._hook = guard.config.hook

    @pytest.hookimpl(optionalhook=True, wrapper=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> Generator[None, object, object]:
        result = yield
        self._session.safely(self._note, item, settings)
        return result

    @pytest.hookimpl(optionalhook=True, wrapper=True, tryfirst=True)
    def pytest_timeout_cancel_timer(self) -> Generator[None, object, object]:
        self._session.timer = None
        return (yield)

    def _note(self, item: pytest.Item, settings: Any) -> None:
        if settings.method == "signal" and threading.current_thread() is threading.main_thread():
            self._session.timer = None  # an alarm, which is put off as all of them are
            return

        def begin(seconds: float) -> None:
            lift = attribute(item, "cancel_timeout")  # where pytest-timeout has it
            if lift is None or threading.Timer is not _Timer or type(threading.Thread.start) is not FunctionType:
                return  # the latter two are stand-ins of the test's, which would take our threads for the program's
            watch: Any = self._session.watch
            try:
                with watch.acting_for(watch.root):
                    self._hook.pytest_timeout_set_timer(item=item, settings=settings._replace(timeout=seconds))
            except BaseException:
                item.cancel_timeout = lift  # type: ignore[attr-defined]  # the timer that is set goes on
                raise
            lift()

        self._session.timer = Timer(self._session, settings.timeout, begin)
