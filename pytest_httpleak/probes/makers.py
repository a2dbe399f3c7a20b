"""Which objects have made something, as their own functions were at work when it was made, and which of them keep it."""

from __future__ import annotations

import functools
import gc
import itertools
from collections.abc import Iterator
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from pytest_httpleak.asking import attribute, attributes_of, is_a, module_of
from pytest_httpleak.sites import Birth, is_user_file


def codes_of(birth: Birth | None) -> set[CodeType]:
    """The code of the user's functions that made something: those that were at work in it, but for the test itself.

    What has only run the code of others has made nothing: a runner of loops, a test client, any function that has called
    back into one of the test's own. A task's or thread's are those that were at work where it was made, too.
    """
    stack = []
    while birth is not None:
        stack += [code for code, _ in birth.frames if is_user_file(code.co_filename)]
        birth = birth.parent
    if not stack:
        return set()
    of_the_test = f"{stack.pop().co_qualname}.<locals>."
    return set(itertools.takewhile(lambda code: not code.co_qualname.startswith(of_the_test), stack))


def has_made(value: object, codes: set[CodeType]) -> bool:
    """Whether one of these is the code of a function, or of a method of a class, or of a function in an attribute."""
    return _was_at_work(value, codes) or any(
        is_a(each, FunctionType) and _was_at_work(each, codes) for each in attributes_of(value).values()
    )


def _was_at_work(thing: Any, codes: set[CodeType]) -> bool:
    if is_a(thing, functools.partial):
        return _was_at_work(thing.func, codes)
    if is_a(thing, MethodType):
        return _was_at_work(thing.__self__, codes)
    if is_a(thing, FunctionType):
        return _code_of(thing) in codes
    return not is_a(thing, type) and has_method(type(thing), codes)


def has_method(cls: type, codes: set[CodeType]) -> bool:
    """Whether one of the methods of a class, inherited ones included, is the code of a function that was at work."""
    names = {code.co_name for code in codes}
    return any(_code_of(vars(base).get(name)) in codes for base in cls.__mro__ for name in names)


def _code_of(function: Any) -> CodeType | None:
    """The code of a method or property, below its decorators."""
    for _ in range(_MOST_DECORATORS):
        inner = next((attribute(function, name) for name in _WRAPPED if attribute(function, name) is not None), None)
        if inner is None:
            break
        function = inner
    code = attribute(function, "__code__")
    return code if is_a(code, CodeType) else None


_WRAPPED: Final = ("__wrapped__", "__func__", "fget", "func")
_MOST_DECORATORS: Final = 8

_LEVELS: Final = 12  # from a function to its stack's callback's argument it is nine
_MOST_LOOKED_AT: Final = 1_000_000  # objects: two seconds, once for a test
_PLAIN: Final = (str, bytes, int, float, type(None), type, CodeType, FrameType, ModuleType)
_RUNNERS: Final = ("_pytest", "pluggy", "pytest_httpleak")


class Inside:
    """What is inside of an object, in whatever way that likes to keep it; looked at once, as far as it is asked for.

    What an event loop has in its books is not kept by it, as it has whatever is at work; nor what the test runner knows.
    """

    def __init__(self, value: object) -> None:
        self._found = {id(value)}
        self._more = self._walk(value)

    def has(self, thing: object) -> bool:
        """Whether `thing` is one of the first million objects."""
        wanted = id(thing)
        return wanted in self._found or any(found == wanted for found in self._more)

    def _walk(self, value: object) -> Iterator[int]:
        level = [value]
        for _ in range(_LEVELS):
            below: list[object] = []
            for part in (part for each in level for part in _parts(each)):
                if id(part) in self._found:
                    continue
                self._found.add(id(part))
                yield id(part)
                if len(self._found) > _MOST_LOOKED_AT:
                    return
                if _may_keep(part):
                    below.append(part)
            level = below


def _parts(thing: Any) -> list[Any]:
    if is_a(thing, FunctionType):  # not all that its module has
        return [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, vars(thing)]
    return gc.get_referents(thing)


def _may_keep(part: object) -> bool:
    is_loop = attribute(type(part), "call_soon_threadsafe") is not None
    return not (is_loop or is_a(part, _PLAIN) or module_of(part).startswith(_RUNNERS))
