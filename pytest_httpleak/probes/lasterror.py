"""What is still there only because the test has failed: the variables of functions that its traceback keeps."""

from __future__ import annotations

import gc
import sys
from types import FrameType
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a, module_of

_MOST_ERRORS: Final = 100  # one that was raised while another was handled, those of a group, and so on
_TEARING_DOWN: Final = ("_pytest.fixtures", "_pytest.runner")
_PAIRED: Final = 3  # levels of lists and tuples: a fixture's result is a tuple with an error and its traceback in it
_OWN: Final = "pytest_httpleak"
_LEVELS: Final = 4
_WIDEST: Final = 20


def frames() -> list[FrameType]:
    """Those in the tracebacks of the errors that have ended a test or a fixture, and of the errors that led to them."""
    found: list[FrameType] = []
    errors: list[Any] = [getattr(sys, "last_value", None), *_of_setup_and_teardown()]
    seen: set[int] = set()
    while errors and len(seen) < _MOST_ERRORS:
        error = errors.pop()
        if not is_a(error, BaseException) or id(error) in seen:
            continue
        seen.add(id(error))
        place = attribute(error, "__traceback__")
        while place is not None:
            found.append(place.tb_frame)
            place = place.tb_next
        errors += [attribute(error, name) for name in ("__cause__", "__context__")]
        if is_a(error, BaseExceptionGroup):
            errors += attribute(error, "exceptions", ())
    return found


def _of_setup_and_teardown() -> list[Any]:
    """The errors that pytest has in hand while it tears down; `sys` has only that of the test's own function."""
    errors: list[Any] = []
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in _TEARING_DOWN and frame.f_code.co_name in ("finish", "teardown_exact"):
            parts = [*frame.f_locals.values(), attribute(frame.f_locals.get("self"), "cached_result")]
            for _ in range(_PAIRED):
                errors += [part for part in parts if is_a(part, BaseException)]
                parts = [each for part in parts if is_a(part, (list, tuple)) for each in part]
        frame = frame.f_back
    return errors


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
