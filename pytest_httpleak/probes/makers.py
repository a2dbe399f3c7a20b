"""Which objects have made something, as their own functions were at work when it was made, and which of them keep it."""

from __future__ import annotations

import functools
import gc
import itertools
from collections.abc import Iterator
from types import CodeType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a
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
_BATCH: Final = 2000  # objects whose parts are looked at between two looks at the clock
_PLAIN: Final = (str, bytes, int, float, type(None), type, CodeType, FrameType, ModuleType)
_RUNNERS: Final = ("_pytest", "pluggy", "pytest_httpleak")
_CACHE: Final = type(functools.lru_cache(lambda: None))


class _Sort:
    """The objects of one class: what there is to know of all of them, and how many were seen."""

    __slots__ = ("caches", "cls", "code", "is_led_through", "is_plain", "number")

    def __init__(self, cls: type) -> None:
        self.cls = cls  # which keeps its identity its own
        self.number = 0
        self.is_plain = issubclass(cls, _PLAIN)
        is_loop = any("call_soon_threadsafe" in vars(base) for base in cls.__mro__)
        self.is_led_through = not is_loop and not str(attribute(cls, "__module__", "")).startswith(_RUNNERS)
        self.code = {FunctionType: "__code__", GeneratorType: "gi_code"}.get(cls)
        # Of its methods; whatever is in them is kept by the objects.
        self.caches = [value for base in cls.__mro__ for value in vars(base).values() if is_a(value, _CACHE)]


class Inside:
    """What is inside of some objects, in whatever way these like to keep it; looked at once, as far as it is asked for.

    What an event loop has in its books is not kept by it, as it has whatever is at work; nor what the test runner knows.
    """

    def __init__(self, values: list[Any]) -> None:
        self._seen = _Seen()
        self._more = self._seen.walk(values)

    def keeper(self, thing: object, codes: set[CodeType], *, seconds: float) -> tuple[int | None, bool]:
        """The place of the value that keeps `thing`, if a function of such a code, or an object with a method of it, is inside.

        `thing` itself is no such object. The second answer is whether that could be told in so many seconds of processor time.
        """
        end = Real.thread_time() + seconds
        seen = self._seen
        asked, makers = 0, []
        while True:
            makers += [sort for sort in seen.order[asked:] if has_method(sort.cls, codes)]
            asked = len(seen.order)
            is_made = not codes.isdisjoint(seen.codes) or any(
                each.number > (each.cls is type(thing)) for each in makers
            )
            if is_made and id(thing) in seen.nearest:
                return seen.nearest[id(thing)], True
            if next(self._more, self) is self:
                return None, True
            if Real.thread_time() > end:
                return None, False


class _Seen:
    """What a walk has come by: a part's nearest value, classes, and the code of functions."""

    def __init__(self) -> None:
        self.nearest: dict[int, int] = {}  # by the identity of a part: the place of the value that it is least deep in
        self.codes: set[CodeType] = set()
        self.order: list[_Sort] = []
        self._sorts: dict[int, _Sort] = {}

    def walk(self, values: list[Any]) -> Iterator[None]:
        """Go through values and what is inside of them, level by level, and stop now and then."""
        levels = []
        for place, value in enumerate(values):
            caches = self._sort_of(type(value)).caches
            if is_a(value, type):  # else it is plain
                self._sort_of(value).number += 1
            levels.append([value, *self._take([value, *caches], place)])
        yield
        for _ in range(_LEVELS):
            below: list[list[Any]] = [[] for _ in values]
            for place, level in enumerate(levels):
                for start in range(0, len(level), _BATCH):
                    below[place] += self._take(_parts(level[start : start + _BATCH]), place)
                    yield
            levels = below

    def _take(self, parts: list[Any], place: int) -> list[Any]:
        """Take down those that have not been seen, and may be or have something of interest; the answer is what to go on with."""
        found = []
        nearest, sorts = self.nearest, self._sorts
        for part in parts:
            sort = sorts.get(id(type(part)))
            if sort is None:
                sort = self._sort_of(type(part))
                parts += sort.caches
            if sort.is_plain or id(part) in nearest:
                continue
            nearest[id(part)] = place
            sort.number += 1
            if sort.code is not None:
                self.codes.add(getattr(part, sort.code))
            if sort.is_led_through:
                found.append(part)
        return found

    def _sort_of(self, cls: type) -> _Sort:
        if id(cls) not in self._sorts:
            self._sorts[id(cls)] = _Sort(cls)
            self.order.append(self._sorts[id(cls)])
        return self._sorts[id(cls)]


def _parts(things: list[Any]) -> list[Any]:
    functions = [thing for thing in things if type(thing) is FunctionType]  # not all that their modules have
    parts = gc.get_referents(*(thing for thing in things if type(thing) is not FunctionType))
    for each in functions:
        parts += [each.__closure__, each.__defaults__, each.__kwdefaults__, vars(each)]
    return parts
