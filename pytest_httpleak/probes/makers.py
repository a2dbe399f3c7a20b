"""Which objects have made something, as their own functions were at work when it was made, and which of them keep it."""

from __future__ import annotations

import functools
import gc
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from pytest_httpleak.asking import attribute, attributes_of, is_a, module_of
from pytest_httpleak.sites import Birth, is_user_file


def codes_of(birth: Birth | None) -> set[CodeType]:
    """The code of the user's functions that were at work at a birth, or at that of the task or thread where it happened.

    What runs the code of others, as a runner of loops or a test client does, is a library's, and makes nothing itself.
    """
    codes: set[CodeType] = set()
    while birth is not None:
        codes.update(code for code, _ in birth.frames if is_user_file(code.co_filename))
        birth = birth.parent
    return codes


def has_made(value: object, codes: set[CodeType]) -> bool:
    """Whether one of these is the code of a function, or of a method, or of a method of an attribute's class."""
    return any(_was_at_work(each, codes) for each in (value, *attributes_of(value).values()))


def _was_at_work(thing: Any, codes: set[CodeType]) -> bool:
    if is_a(thing, functools.partial):
        return _was_at_work(thing.func, codes)
    if is_a(thing, MethodType):
        return _code_of(thing) in codes or _was_at_work(thing.__self__, codes)
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
_MOST_LOOKED_AT: Final = 200_000  # objects: a tenth of a second
_PLAIN: Final = (str, bytes, int, float, type(None), type, CodeType, FrameType, ModuleType)
_RUNNERS: Final = ("_pytest", "pluggy", "pytest_httpleak")


def keeps(value: object, thing: object) -> bool:
    """Whether `thing` is inside of `value`, in whatever way that likes to keep it.

    What an event loop has in its books is not kept by it, as it has whatever is at work; nor what the test runner knows.
    """
    seen = {id(value)}
    level = [value]
    for _ in range(_LEVELS):
        below: list[object] = []
        for part in (part for each in level for part in _parts(each)):
            if part is thing:
                return True
            if id(part) not in seen and _may_keep(part):
                seen.add(id(part))
                below.append(part)
        if len(seen) > _MOST_LOOKED_AT:
            return False
        level = below
    return False


def _parts(thing: Any) -> list[Any]:
    if is_a(thing, FunctionType):  # not all that its module has
        return [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, vars(thing)]
    return gc.get_referents(thing)


def _may_keep(part: object) -> bool:
    cls = type(part)
    return not (is_a(part, _PLAIN) or hasattr(cls, "call_soon_threadsafe") or module_of(part).startswith(_RUNNERS))
