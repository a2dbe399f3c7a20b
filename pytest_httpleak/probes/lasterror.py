"""What is still there only because the test has failed: the variables of functions that its traceback keeps."""

from __future__ import annotations

import gc
import sys
from types import FrameType
from typing import Any, Final

from pytest_httpleak.asking import module_of

_MOST_ERRORS: Final = 20  # one that was raised while another was handled, and so on
_OWN: Final = "pytest_httpleak"
_LEVELS: Final = 4
_WIDEST: Final = 20


def frames() -> list[FrameType]:
    """Those in the traceback of the error that has ended the test, and of the errors that led to it."""
    found: list[FrameType] = []
    error: Any = getattr(sys, "last_value", None)
    for _ in range(_MOST_ERRORS):
        if error is None:
            break
        place = error.__traceback__
        while place is not None:
            found.append(place.tb_frame)
            place = place.tb_next
        error = error.__cause__ or error.__context__
    return found


def is_only_in(thing: object, frames: list[FrameType]) -> bool:
    """Whether nothing refers to `thing` in the end but variables of these frames."""
    ends = {id(frames), *map(id, frames), *(id(frame.f_locals) for frame in frames)}
    running: FrameType | None = sys._getframe()
    while running is not None:
        ends.add(id(running))
        running = running.f_back
    level, seen = [thing], {id(thing)}
    for _ in range(_LEVELS):
        ends.add(id(level))
        # One by one: Python 3.13 finds the tuple of several arguments, too.
        found = {id(each): each for part in level for each in gc.get_referrers(part) if id(each) not in ends}
        ends.add(id(found))
        level = [each for key, each in found.items() if key not in seen and not module_of(each).startswith(_OWN)]
        if not level:
            return True
        if len(level) > _WIDEST:
            return False
        seen.update(map(id, level))
    return False
