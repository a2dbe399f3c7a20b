"""Functions that stand for others and tell of their calls; for what takes one argument or two there are cheaper ones.

To hand on what may be any arguments costs as much as what is noted with them. Where the program has called itself so often that
there is no room for a note's calls, there is none for one that would say so.
"""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Sized
from types import FunctionType
from typing import Any, Final, Protocol

from pytest_httpleak.userfiles import GENERATED


class Fuse(Protocol):
    """What stands between a note and the program under test."""

    on: bool

    def fall(self, error: BaseException) -> None:
        """Take an error of the note's own."""


Note = Callable[..., object]
# What to call, each behind its own wall.
Calls = tuple[tuple[Fuse, Note], ...]


class Notes:
    """What one wrapper calls: the function that it stands for, and what is told before and after."""

    __slots__ = ("after", "before", "original")

    def __init__(self, original: Any, before: Calls, after: Calls) -> None:
        self.original = original
        self.before = before
        self.after = after

    def are_own(self) -> bool:
        """Whether all are the plugin's own: these do not mind whether an argument comes by its place or by its name."""
        return all(getattr(note, "__module__", "").startswith(_OWN) for _, note in (*self.before, *self.after))


_OWN: Final = f"{__package__}."

# Makes the wrapper for some notes, or None where it cannot serve them.
Make = Callable[[Notes], Callable[..., Any] | None]


def stand_in(original: Any, wrapper: Any) -> Any:
    """The wrapper with the name of the original, and a coroutine function where that is one: mocks and frameworks ask."""
    functools.update_wrapper(unseen(wrapper), original)
    if inspect.iscoroutinefunction(original):
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(wrapper)
        else:  # there it is told by the flag alone, which does nothing: only what has it from the compiler is suspended
            code = wrapper.__code__
            wrapper.__code__ = code.replace(co_flags=code.co_flags | inspect.CO_COROUTINE)
    return wrapper


# Frames of files whose names have both words are passed over by `warnings` and `logging` when they look for the caller;
# and as it is no name of a file, coverage does not ask for its source.
_UNSEEN: Final = f"{GENERATED}, passed over as importlib._bootstrap is>"


def unseen(wrapper: Any) -> Any:
    """The wrapper, whose frame does not count where its original warns its caller."""
    wrapper.__code__ = wrapper.__code__.replace(co_filename=_UNSEEN)
    return wrapper


def hide_in(stack: list[traceback.FrameSummary] | None) -> None:
    """Take frames of wrappers out of a stack that was taken down behind them."""
    if stack:
        stack[:] = [each for each in stack if each.filename != _UNSEEN]


def wrapper_for(notes: Notes) -> Callable[..., Any]:
    """The wrapper that costs least of those which take what the original takes, and pass it on as it came."""
    number = number_of_arguments(notes.original) if notes.are_own() else 0
    return _bare_wrapper(notes) if number == 1 else _pair_wrapper(notes) if number == 2 else _wrapper(notes)


def wrapper_while(there_are: Sized, notes: Notes) -> Callable[..., Any] | None:
    """A wrapper for one note, told only while there is anything in `there_are`; for functions of one argument."""
    tell, original = unseen(wrapper_for(notes)), notes.original
    if len(notes.before) + len(notes.after) > 1 or number_of_arguments(original) != 1:
        return None

    def wrapper(thing: Any) -> Any:
        __tracebackhide__ = True
        return tell(thing) if there_are else original(thing)

    return wrapper


def wrapper_of_first(notes: Notes) -> Callable[..., Any] | None:
    """A wrapper for one note, told after each call, that needs the first argument of a method and no other."""
    if notes.before or len(notes.after) != 1:
        return None
    original, ((wall, note),) = notes.original, notes.after

    def wrapper(thing: Any, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        result = original(thing, *args, **kwargs)
        if wall.on:
            try:
                note(result, thing)
            except RecursionError:
                pass
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)
        return result

    return wrapper


def number_of_arguments(function: Any) -> int:
    """How many a function takes, each by its place or its name; 0 where that may vary, or cannot be told."""
    code = function.__code__ if type(function) is FunctionType else None
    if code is None or code.co_kwonlyargcount or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return 0
    return code.co_argcount


def _wrapper(notes: Notes) -> Callable[..., Any]:
    original, before, after = notes.original, notes.before, notes.after

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        for wall, note in before:
            if wall.on:
                try:
                    note(*args, **kwargs)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        result = original(*args, **kwargs)
        for wall, note in after:
            if wall.on:
                try:
                    note(result, *args, **kwargs)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        return result

    return wrapper


def _bare_wrapper(notes: Notes) -> Callable[..., Any]:
    """The same for a function of one argument."""
    original, before, after = notes.original, notes.before, notes.after

    def wrapper(thing: Any) -> Any:
        __tracebackhide__ = True
        for wall, note in before:
            if wall.on:
                try:
                    note(thing)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        result = original(thing)
        for wall, note in after:
            if wall.on:
                try:
                    note(result, thing)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        return result

    return wrapper


def _pair_wrapper(notes: Notes) -> Callable[..., Any]:
    """The same for a function of two arguments, which may be passed by the names that it has for them."""
    original, before, after = notes.original, notes.before, notes.after

    def wrapper(thing: Any, other: Any) -> Any:
        __tracebackhide__ = True
        for wall, note in before:
            if wall.on:
                try:
                    note(thing, other)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        result = original(thing, other)
        for wall, note in after:
            if wall.on:
                try:
                    note(result, thing, other)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        return result

    code = wrapper.__code__
    wrapper.__code__ = code.replace(co_varnames=original.__code__.co_varnames[:2] + code.co_varnames[2:])
    wrapper.__defaults__ = original.__defaults__
    return wrapper
