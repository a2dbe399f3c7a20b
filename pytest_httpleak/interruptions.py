"""What a signal's handler or another thread raises, wherever the program happens to be: it goes on its way through ours, too."""

from __future__ import annotations

# Not `signal`, which makes a name of each number first.
import _signal  # type: ignore[import-not-found]  # part of the interpreter
import os
import sys
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Final, Protocol

# Seconds beyond the grace after which an alarm goes off all the same: a test's own callbacks, which we let run, may hang.
_AT_MOST: Final = 10.0
_AT_LEAST: Final = 0.25  # seconds that are left then, for a test that is over to be logged


class Timer(Protocol):
    """A timer that is no alarm of the system's."""

    def put_off(self, more: float) -> None:
        """Let it go off so many seconds later."""

    def put_back(self, at_least: float) -> None:
        """Let what was left then be left now."""


class LimitPutOff:
    """For a block of our own work: puts off the limit on a test's time, as pytest-timeout sets it: an alarm (SIGALRM) or a timer.

    What remains of the limit remains afterwards. Else a test that is in time would fail for the time that we wait for what
    it has left, and its leaks would be lost.
    """

    def __init__(self, grace: float, timer: Timer | None = None) -> None:
        self._more = grace + _AT_MOST
        self._set = (0.0, 0.0)
        self._timer = timer

    def __enter__(self) -> None:
        left, interval = _getitimer(_ALARM) if _getitimer is not None else (0.0, 0.0)
        if left:
            self._set = left, interval
            _setitimer(_ALARM, left + self._more, interval)
        if self._timer is not None:
            self._timer.put_off(self._more)

    def __exit__(self, *raised: Any) -> None:  # noqa: PYI036  # none of its business
        if self._timer is not None:
            self._timer.put_back(_AT_LEAST)
        if self._set[0] and _getitimer(_ALARM)[0]:  # else it has gone off, or was cancelled
            left, interval = self._set
            _setitimer(_ALARM, max(left, _AT_LEAST), interval)


# Bound here, as a test may put others in their place; Windows has none.
_getitimer: Any = getattr(_signal, "getitimer", None)
_setitimer: Any = getattr(_signal, "setitimer", None)
_ALARM: Final = getattr(_signal, "ITIMER_REAL", 0)


def pass_on(error: BaseException) -> None:
    """Raise it again if a signal's handler has raised it, as `TimeoutError` is raised to end what takes too long.

    It may be an `OSError` like those that we expect; what the system has to say has a number. An error that has come through
    no frame but that of the caller is the answer to what the caller has asked: most are.
    """
    place = error.__traceback__
    if place is None or place.tb_next is None or getattr(error, "errno", None) is not None:
        return
    if is_of_a_signal(frames_of(error)):
        raise error


def is_of_a_signal(frames: Iterable[FrameType]) -> bool:
    """Whether the handler of a signal is among the frames that an error came through."""
    codes = {frame.f_code for frame in frames}
    for number in _signal.valid_signals():
        handler = _signal.getsignal(number)
        if callable(handler):
            function = getattr(handler, "__func__", getattr(handler, "func", handler))
            if not hasattr(function, "__code__"):
                function = vars(type(function)).get("__call__")
            if getattr(function, "__code__", None) in codes:
                return True
    return False


def is_thrown_in(error: BaseException, frames: list[FrameType]) -> bool:
    """Whether another thread has raised it in this one (`PyThreadState_SetAsyncExc`), as those do that watch the time.

    Such an error is made of its class, without arguments, wherever this thread is: in code of ours, too. What goes wrong there is
    of Python's own classes, and says what.
    """
    if error.args or not frames or not frames[-1].f_code.co_filename.startswith(_OURS):
        return False
    cls = type(error)
    return cls is TimeoutError or str(cls.__module__).partition(".")[0] not in sys.stdlib_module_names


_OURS: Final = (os.path.dirname(os.path.abspath(__file__)) + os.sep, f"<{__package__}")


def frames_of(error: BaseException) -> list[FrameType]:
    """The frames that an error came through, outermost first."""
    return [place.tb_frame for place in places_of(error)]


def places_of(error: BaseException) -> Iterator[TracebackType]:
    """The same as places of a traceback."""
    place = error.__traceback__
    while place is not None:
        yield place
        place = place.tb_next
