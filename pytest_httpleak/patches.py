"""Wraps functions of other people's classes, and puts back what was found."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sized
from types import FrameType, FunctionType, ModuleType
from typing import Any

from pytest_httpleak.cfunctions import heard, is_of_c, of_c
from pytest_httpleak.interruptions import frames_of, is_of_a_signal, is_thrown_in, places_of
from pytest_httpleak.wrappers import (
    Calls,
    Make,
    Note,
    Notes,
    stand_in,
    wrapper_for,
    wrapper_of_first,
    wrapper_while,
)

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
        """Switch off for the rest of the run; the first error is the one that is named in the summary.

        What a signal's handler or another thread has raised is the program's own way to end what it does, and goes on its way.
        A program that has called itself too often has a place left for its own next call, but none for those of a note.
        """
        frames = frames_of(error)
        if _is_a_stand_ins(error, frames) or isinstance(error, RecursionError):
            return
        if is_of_a_signal(frames) or is_thrown_in(error, frames):
            raise error
        self.on = False
        if self.error is None:
            self.error = self.sentence(_told(error))

    def sentence(self, error: str) -> str:
        """What the summary says of the first error."""
        return f"{self.name} was switched off for the rest of this run: {error}"


_MOCKS = ("unittest.mock", "mock.mock")
_REFUSED = r"\b\w*Mock\b"  # compiled only where it is asked for


def _is_a_stand_ins(error: BaseException, frames: list[FrameType]) -> bool:
    """Whether a mock raised it, which a test put in the place of a library's object: nothing is wrong with the library.

    Where the interpreter refuses what was tried on one, no code of the mock's has run, but the message names its type.
    """
    if type(error) is TypeError and re.search(_REFUSED, str(error)):
        return True
    return any(frame.f_globals.get("__name__") in _MOCKS for frame in frames)


def _told(error: BaseException) -> str:
    try:
        place = [*places_of(error)][-1]
        return f"{type(error).__name__}: {error} at {place.tb_frame.f_code.co_qualname}:{place.tb_lineno}"
    except Exception:  # noqa: BLE001  # no memory, or somebody's `__str__`
        return type(error).__name__


class Patches:
    """All wrappers of one watch, each with its undo."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any, str]] = []
        self._notes: dict[int, Notes] = {}  # by wrapper
        self._who = ""
        self._earlier: dict[tuple[int, str], Any] = {}

    def attach(self, who: str, act: Callable[[], object]) -> None:
        """Let `act` patch on behalf of `who`: what was patched for the same name before, and still is, stays as it is.

        A module that is loaded again comes with the classes of its parts that were not: those are patched already.
        """
        self._earlier = {(id(owner), name): done for owner, name, _, done, whose in self._done if whose == who}
        self._who = who
        try:
            act()
        finally:
            self._who, self._earlier = "", {}

    def after(self, wall: Wall, owner: Any, name: str, note: Note) -> None:
        """Call `note(result, *args, **kwargs)` after each call of `owner.name` that returned."""
        self._note(owner, name, (), ((wall, note),))

    def after_of_first(self, wall: Wall, owner: Any, name: str, note: Note) -> None:
        """The same, for a note that does without all arguments but the first; where others note it too, it gets all."""
        self._note(owner, name, (), ((wall, note),), wrapper_of_first)

    def before(self, wall: Wall, owner: Any, name: str, note: Note) -> None:
        """Call `note(*args, **kwargs)` before each call of `owner.name`."""
        self._note(owner, name, ((wall, note),), ())

    def before_while(self, wall: Wall, owner: Any, name: str, note: Note, there_are: Sized) -> None:
        """The same, but only while there is anything in `there_are`; where others note it too, each call is told."""
        self._note(owner, name, ((wall, note),), (), functools.partial(wrapper_while, there_are))

    def around(self, wall: Wall, owner: Any, name: str, notes: tuple[Note, Note], make: Make) -> None:
        """Call the first note before each call and the second after it, from a wrapper that `make` has made to measure.

        It may answer None where it does not suit; a later note of somebody else's makes the wrapper a plain one.
        """
        before, after = notes
        self._note(owner, name, ((wall, before),), ((wall, after),), make)

    def _note(self, owner: Any, name: str, before: Calls, after: Calls, make: Make = wrapper_for) -> None:
        """Wrap the function, or take the place of one of these wrappers: one call serves all notes, and not one each."""
        original = outermost = getattr(owner, name)
        there = None if (id(owner), name) in self._earlier else self._notes.get(id(vars(owner).get(name)))
        if there is not None:
            original, before, after = there.original, before + there.before, there.after + after
        notes = Notes(heard(original), before, after)
        wrapper = self.put(owner, name, stand_in(outermost, make(notes) or wrapper_for(notes)))
        if wrapper is not None:
            self._notes[id(wrapper)] = notes

    def replace(self, owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
        """Put `make(original)` in the place of `owner.name`; it must keep its own errors in."""
        original = getattr(owner, name)
        self.put(owner, name, stand_in(original, make(original)))

    def put(self, owner: Any, name: str, wrapper: Any) -> Any:
        """Put `wrapper` in the place of `owner.name`, and give what is there now; None where an earlier one is left.

        An object of somebody's that has taken the place of a function stays: what it is told, it must hear itself.
        """
        found = vars(owner).get(name, _MISSING)
        earlier = self._earlier.get((id(owner), name))
        if earlier is not None and _is_within(earlier, found):
            return None
        if type(wrapper) is FunctionType and not hasattr(type(found), "__get__"):
            if is_of_c(found):
                wrapper = of_c(wrapper)
            elif found is not _MISSING:
                return None
        setattr(owner, name, wrapper)
        self._done.append((owner, name, found, wrapper, self._who))
        return wrapper

    def of_modules(self) -> dict[int, Any]:
        """What stands now for a function of C or a class that is an attribute of a module, by the identity of that."""
        return {
            id(found): vars(owner)[name]
            for owner, name, found, _, _ in self._done
            if type(owner) is ModuleType
            and type(found) is not FunctionType
            and found is not _MISSING
            and name in vars(owner)
        }

    def undo(self) -> None:
        """Put back what was found, last first; what somebody else has wrapped in the meantime is left alone."""
        while self._done:
            owner, name, found, wrapper, _ = self._done.pop()
            self._notes.pop(id(wrapper), None)
            if vars(owner).get(name) is not wrapper:
                continue
            if found is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, found)


def _is_within(wrapper: Any, outermost: Any) -> bool:
    """Whether a wrapper is the outermost one, or is called by it."""
    layer = outermost
    while layer is not None:
        if layer is wrapper:
            return True
        layer = getattr(layer, "__wrapped__", None)
    return False
