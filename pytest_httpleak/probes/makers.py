"""Which objects have made something, as their own functions were at work when it was made, and which of them keep it."""

from __future__ import annotations

import functools
import gc
import itertools
from collections.abc import Iterator
from types import CodeType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a, module_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.sites import Birth, is_installed_file, is_user_file


def codes_of(birth: Birth | None, test: CodeType | None) -> set[CodeType]:
    """The code of the functions that made something: an installed library's, up to the user's, and the user's.

    The test's own is none of them. What has only run the code of others has made nothing either: a runner of loops, a test
    client, any function that has called back into one of the test's own. A task's or thread's are those that were at
    work where it was made, too.
    """
    stack: list[CodeType] = []
    while birth is not None:
        stack += [code for code, _ in birth.frames]
        birth = birth.parent
    library = itertools.takewhile(lambda code: not is_user_file(code.co_filename), stack)
    codes = {code for code in library if is_installed_file(code.co_filename)}
    users = [code for code in stack if is_user_file(code.co_filename)]
    if users:
        of_the_test = f"{(test or users[-1]).co_qualname}.<locals>."
        codes.update(itertools.takewhile(lambda code: not code.co_qualname.startswith(of_the_test), users))
    return codes - {test}


def has_method(cls: type, codes: set[CodeType]) -> bool:
    """Whether one of the methods of a class, inherited ones included, is the code of a function that was at work."""
    names = {code.co_name for code in codes}
    return any(code_of(vars(base).get(name)) in codes for base in cls.__mro__ for name in names)


def code_of(function: Any) -> CodeType | None:
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
_PLAIN: Final = (str, bytes, int, float, type(None), type, CodeType, FrameType, ModuleType)
_RUNNERS: Final = ("_pytest", "pluggy", "pytest_httpleak")
_CACHE: Final = type(functools.lru_cache(lambda: None))
_BETWEEN_TWO_LOOKS_AT_THE_CLOCK: Final = 1000  # objects


class Inside:
    """What is inside of some objects, in whatever way these like to keep it; looked at once, as far as it is asked for.

    What an event loop has in its books is not kept by it, as it has whatever is at work; nor what the test runner knows.
    """

    def __init__(self, values: list[Any]) -> None:
        self._nearest: dict[int, int] = {}  # by the identity of a part: the place of the value that it is least deep in
        self._codes: set[CodeType] = set()
        self._classes: dict[int, type] = {}
        self._more = _walk(values)  # of a function, so that nothing refers back to this

    def keeper(self, thing: object, codes: set[CodeType], *, seconds: float) -> tuple[int | None, bool]:
        """The place of the value that keeps `thing`, if a function of such a code, or an object with a method of it, is inside.

        `thing` itself is no such object. The second answer is whether that could be told in so many seconds of processor time.
        """
        end = Real.thread_time() + seconds
        is_made = not codes.isdisjoint(self._codes)
        is_made = is_made or any(has_method(cls, codes) for cls in self._classes.values())
        while not is_made or id(thing) not in self._nearest:
            part, place = next(self._more, (self, -1))
            if part is self:
                return None, True
            is_made = self._see(part, place, part is thing, codes) or is_made
            if len(self._nearest) % _BETWEEN_TWO_LOOKS_AT_THE_CLOCK == 0 and Real.thread_time() > end:
                return None, False
        return self._nearest[id(thing)], True

    def _see(self, part: Any, place: int, is_thing: bool, codes: set[CodeType]) -> bool:
        """Take a part down, and tell whether it is one of the functions, or has such a method."""
        self._nearest[id(part)] = place
        cls = type(part)
        if cls is FunctionType or cls is GeneratorType:
            code = part.__code__ if cls is FunctionType else part.gi_code
            self._codes.add(code)
            return code in codes
        cls = part if is_a(part, type) else cls
        if is_thing or id(cls) in self._classes:
            return False
        self._classes[id(cls)] = cls
        return has_method(cls, codes)


def _walk(values: list[Any]) -> Iterator[tuple[object, int]]:
    """Objects and what is inside of them, level by level, each once and with the place of the object that it is inside of."""
    level = [(value, place) for place, value in enumerate(values)]
    yield from level
    seen = {id(value) for value in values}
    for _ in range(_LEVELS):
        below: list[tuple[object, int]] = []
        for part, place in ((part, place) for each, place in level for part in _parts(each)):
            if id(part) in seen or is_a(part, _PLAIN):
                continue
            seen.add(id(part))
            yield part, place
            if not _is_loop(part) and not module_of(part).startswith(_RUNNERS):
                below.append((part, place))
        level = below


def _parts(thing: Any) -> list[Any]:
    if is_a(thing, FunctionType):  # not all that its module has
        return [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, vars(thing)]
    if is_a(thing, (type, _CACHE)) or type(thing).__module__ == "builtins":
        return gc.get_referents(thing)
    caches = (value for base in type(thing).__mro__ for value in vars(base).values() if is_a(value, _CACHE))
    return [*gc.get_referents(thing), *caches]  # those of its methods, too


def _is_loop(thing: object) -> bool:
    """Whether an object is an event loop, by what its class can do."""
    return any("call_soon_threadsafe" in vars(base) for base in type(thing).__mro__)
