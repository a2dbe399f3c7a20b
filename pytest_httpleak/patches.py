"""Wraps functions of other people's classes, and puts back what was found."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

_MISSING: Any = object()


class Wall:
    """Keeps one adapter's or probe's errors from the program under test: the first one switches it off.

    `packages` names the libraries whose sockets nobody answers for once the adapter behind this wall is off.
    """

    __slots__ = ("error", "name", "on", "packages")

    def __init__(self, name: str, packages: frozenset[str] = frozenset()) -> None:
        self.name = name
        self.packages = packages
        self.on = True
        self.error: str | None = None

    def fall(self, error: BaseException) -> None:
        """Switch off for the rest of the run; the first error is the one that is named in the summary."""
        if _is_a_stand_ins(error):
            return
        self.on = False
        if self.error is None:
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = f" at {place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place is not None else ""
            self.error = f"{self.name} was switched off: {type(error).__name__}: {error}{where}"


def _is_a_stand_ins(error: BaseException) -> bool:
    """Whether a mock raised it, which a test put in the place of a library's object: nothing is wrong with the library.

    Where the interpreter refuses what was tried on one, no code of the mock's has run, but the message names its type.
    """
    if isinstance(error, TypeError) and _REFUSED.search(str(error)):
        return True
    place = error.__traceback__
    while place is not None:
        if place.tb_frame.f_globals.get("__name__") in _MOCKS:
            return True
        place = place.tb_next
    return False


_MOCKS = ("unittest.mock", "mock.mock")
_REFUSED = re.compile(r"\b\w*Mock\b")


class Patches:
    """All wrappers of one watch, each with its undo."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []

    def after(self, wall: Wall, owner: Any, name: str, note: Callable[..., object]) -> None:
        """Call `note(result, *args, **kwargs)` after each call of `owner.name` that returned."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            result = original(*args, **kwargs)
            if wall.on:
                try:
                    note(result, *args, **kwargs)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return result

        self.put(owner, name, wrapper)

    def before(self, wall: Wall, owner: Any, name: str, note: Callable[..., object]) -> None:
        """Call `note(*args, **kwargs)` before each call of `owner.name`."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if wall.on:
                try:
                    note(*args, **kwargs)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return original(*args, **kwargs)

        self.put(owner, name, wrapper)

    def replace(self, owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
        """Put `make(original)` in the place of `owner.name`; it must keep its own errors in."""
        original = getattr(owner, name)
        self.put(owner, name, functools.wraps(original)(make(original)))

    def put(self, owner: Any, name: str, wrapper: Any) -> None:
        """Put `wrapper` itself in the place of `owner.name`."""
        found = vars(owner).get(name, _MISSING)
        setattr(owner, name, wrapper)
        self._done.append((owner, name, found, wrapper))

    def undo(self) -> None:
        """Put back what was found, last first; what somebody else has wrapped in the meantime is left alone."""
        while self._done:
            owner, name, found, wrapper = self._done.pop()
            if vars(owner).get(name) is not wrapper:
                continue
            if found is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, found)
