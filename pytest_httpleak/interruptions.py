"""What the handler of a signal raises, wherever the program happens to be: it goes on its way through code of ours, too."""

from __future__ import annotations

# Not `signal`, which makes a name of each number first.
import _signal  # type: ignore[import-not-found]  # part of the interpreter
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType


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


def frames_of(error: BaseException) -> list[FrameType]:
    """The frames that an error came through, outermost first."""
    return [place.tb_frame for place in places_of(error)]


def places_of(error: BaseException) -> Iterator[TracebackType]:
    """The same as places of a traceback."""
    place = error.__traceback__
    while place is not None:
        yield place
        place = place.tb_next
