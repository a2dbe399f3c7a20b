"""What is still there only because the test has failed: the variables of functions that its traceback keeps."""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Collection, Iterator
from types import FrameType, ModuleType
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a, module_of, referents_of, referrers_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.databases import living
from pytest_httpleak.interruptions import frames_of
from pytest_httpleak.probes import children

_MOST_ERRORS: Final = 100  # one that was raised while another was handled, those of a group, and so on
_TEARING_DOWN: Final = ("_pytest.fixtures", "_pytest.runner")
_PAIRED: Final = 3  # levels of lists and tuples: a fixture's result is a tuple with an error and its traceback in it
_OWN: Final = "pytest_httpleak"
FAR: Final = 40  # levels; from a cursor through the pool of an engine to its events it is seventeen
NEAR: Final = 3  # to an attribute of a test's own instance it is one
_MOST_PARTS: Final = 2000


def frames(raised: Collection[int] = ()) -> list[FrameType]:
    """Those in the tracebacks of the errors that have ended a test or a fixture, and of the errors that led to them.

    `raised` are addresses of more of them, where they still are: unittest's, of which `sys` has none, may be kept by whatever
    runs failed tests again or writes about them.
    """
    found: list[FrameType] = []
    errors: list[Any] = [getattr(sys, "last_value", None), *_of_setup_and_teardown()]
    errors += living(raised).values() if raised else ()
    seen: set[int] = set()
    while errors and len(seen) < _MOST_ERRORS:
        error = errors.pop()
        if not is_a(error, BaseException) or id(error) in seen:
            continue
        seen.add(id(error))
        found += frames_of(error)
        errors += [attribute(error, name) for name in ("__cause__", "__context__")]
        if is_a(error, BaseExceptionGroup):
            errors += attribute(error, "exceptions", ())
    return found


def _of_setup_and_teardown() -> list[Any]:
    """The errors that pytest has in hand while it tears down; `sys` has only that of the test's own function."""
    errors: list[Any] = []
    for frame in _tearing_down():
        parts = [*frame.f_locals.values(), attribute(frame.f_locals.get("self"), "cached_result")]
        for _ in range(_PAIRED):
            errors += [part for part in parts if is_a(part, BaseException)]
            parts = [each for part in parts if is_a(part, (list, tuple)) for each in part]
    return errors


def result_of_fixture() -> Any:
    """What the fixture that is being torn down has given, with how pytest knows it; None where there is none."""
    frame = next(_tearing_down(), None)
    return None if frame is None else attribute(frame.f_locals.get("self"), "cached_result")


def _tearing_down() -> Iterator[FrameType]:
    """The functions of pytest's that are at it, innermost first."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in _TEARING_DOWN and frame.f_code.co_name in ("finish", "teardown_exact"):
            yield frame
        frame = frame.f_back


def ends_of(
    things: dict[int, Any],
    kept: list[Any],
    *,
    passing: Collection[Any] = (),
    outside: Collection[int] = (),
    until: float = math.inf,
    levels: int = FAR,
) -> set[int] | None:
    """Which of what is `kept` holds some things, by their identities, in the end; None where something else does, too.

    So do warnings that somebody has recorded, pytest as a rule, each with the thing that it is about, which was dropped.
    None, too, of no things, and where it cannot be told in time. Whatever nothing refers to is kept by code in C: a context
    variable, what is registered with `atexit`, a function at work. What is `passing` refers to things, and keeps none; `outside`
    are identities of what is kept elsewhere, where the collector does not look. `until` is a time of the thread's own, in
    seconds; `levels` says how many steps up it may take.
    """
    warning = attribute(sys.modules.get("warnings"), "WarningMessage")
    reached: set[int] = set()
    ends = {*map(id, kept)}
    if sys.version_info < (3, 13):  # from then on it is another one each time, and nothing refers to it
        ends.update(id(frame.f_locals) for frame in kept if is_a(frame, FrameType))
    ours = {id(kept), id(things), id(passing), *map(id, passing), *_running()}
    lasting = {id(module.__dict__) for module in [*sys.modules.values()] if type(module) is ModuleType}
    level, seen = things, set(things)
    gc.unfreeze()
    for _ in range(levels):
        held: set[int] = set()
        above: dict[int, Any] = {}
        for referrer in _referrers(level, ours):
            if id(referrer) in lasting or children.is_running(referrer):  # which `subprocess` keeps if it is dropped
                return None
            held.update(map(id, referents_of(referrer)))
            if id(referrer) in ends or type(referrer) is warning:
                reached.add(id(referrer))
            elif id(referrer) not in seen:
                above[id(referrer)] = referrer
        if not level or not held.issuperset(level) or any(key in outside for key in level):
            return None
        if not above:
            return reached or None  # those of a cycle are held by nothing that can be seen, as a variable is
        seen.update(above)
        if len(seen) > _MOST_PARTS or Real.thread_time() > until:
            return None
        level = above
    return None


def _running() -> set[int]:
    """The identities of the frames that have led here."""
    found = set()
    frame = sys._getframe().f_back
    while frame is not None:
        found.add(id(frame))
        frame = frame.f_back
    return found


def _referrers(level: dict[int, Any], ours: set[int]) -> Iterator[Any]:
    """What refers to the values of a dict, but for the dict itself, what only passes them on, and what is ours."""
    things = list(level.values())
    aside = {id(things), id(level), *ours}
    return (each for each in referrers_of(things) if id(each) not in aside and not module_of(each).startswith(_OWN))
