"""The frames of running threads, and the variables of a frame."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any, Final

_OF_FRAME_AND_OURS: Final = 3  # references to its variables: the frame's, the variable's, and the argument's


def of_others(*, but: Collection[Any] = (), only: Collection[Any] | None = None) -> Iterator[FrameType]:
    """The frames at work in the other threads, or in some of these, by their identifiers; the innermost of each first.

    Not in this one: a frame that has itself in a variable keeps all that its callers have until the collector comes.
    """
    others = sys._current_frames()
    others.pop(threading.get_ident(), None)
    for ident, innermost in others.items():
        is_asked = ident not in but if only is None else ident in only
        frame: FrameType | None = innermost if is_asked else None
        while frame is not None:
            yield frame
            frame = frame.f_back


def locals_of(frame: FrameType) -> list[tuple[str, Any]]:
    """The variables of a function, and their values.

    Before Python 3.13 a frame keeps what it was asked for, and so whatever the function itself has let go of since; what
    `locals()` has given to somebody stays as it is.
    """
    found = frame.f_locals
    values = list(found.items())
    is_copy = type(found) is dict and frame.f_code.co_flags & inspect.CO_OPTIMIZED
    if is_copy and sys.getrefcount(found) <= _OF_FRAME_AND_OURS:
        found.clear()
    return values
