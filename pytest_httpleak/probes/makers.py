"""Which objects have made something, as their own functions were at work when it was made, and which of them keep it."""

from __future__ import annotations

import functools
import gc
import itertools
import operator
import sys
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from types import CellType, CodeType, FrameType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, Final

from pytest_httpleak.asking import attribute, attributes_of, defined_in, is_a, is_over, mro_of, referents_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.sites import Birth
from pytest_httpleak.userfiles import file_of_class, is_installed_file, is_user_class, is_user_file


def codes_of(birth: Birth | None, test: CodeType | None) -> set[CodeType]:
    """The code of the functions that made something: an installed library's, up to the user's, and the user's.

    The test's own is none of them. What has only run the code of others has made nothing either: a runner of loops, a test
    client, any function that has called back into one of the test's own, or from another file into one of the test's. A
    task's or thread's are those that were at work where it was made, too.
    """
    stack = [] if birth is None else [*birth.codes(), *(code for frames in birth.within for code, _ in frames)]
    library = itertools.takewhile(lambda code: not is_user_file(code.co_filename), stack)
    codes = {code for code in library if is_installed_file(code.co_filename)}
    users = [code for code in stack if is_user_file(code.co_filename)]
    if users:
        of = test or users[-1]
        if users[0].co_filename == of.co_filename:
            users = [*itertools.takewhile(lambda code: code.co_filename == of.co_filename, users)]
        own = f"{of.co_qualname}.<locals>."
        codes.update(itertools.takewhile(lambda code: not code.co_qualname.startswith(own), users))
    return codes - {test}


class Methods:
    """The classes that some functions, given by their code, are methods of."""

    def __init__(self, codes: set[CodeType]) -> None:
        self._codes = codes
        self._names = {code.co_name for code in codes}
        # Decorators, lambdas and names of two underscores hide a method; where it was written is still told by its code.
        self._places = {(code.co_qualname.rpartition(".")[0], code.co_filename) for code in codes}
        self._classes = {name for name, _ in self._places if name}

    def are_in(self, cls: type) -> bool:
        """Whether one of them is a method of that class, inherited ones included."""
        return any(self._is_own(base) for base in mro_of(cls))

    def _is_own(self, cls: type) -> bool:
        own = defined_in(cls)
        names = list(own) if is_user_class(cls) else [name for name in self._names if name in own]
        if any(code_of(function) in self._codes for name in names for function in _functions(own[name])):
            return True
        name = attribute(cls, "__qualname__")
        return name in self._classes and (name, file_of_class(cls)) in self._places


def _functions(value: Any) -> tuple[Any, ...]:
    return (value.fget, value.fset, value.fdel) if is_a(value, property) else (value,)


def code_of(function: Any) -> CodeType | None:
    """The code of a method or property, below its decorators; objects that stand in the place of one are asked nothing."""
    for _ in range(_MOST_DECORATORS):
        inner = _wrapped(function)
        if inner is None:
            break
        function = inner
    return function.__code__ if type(function) is FunctionType else None


def _wrapped(function: Any) -> Any:
    if is_a(function, (staticmethod, classmethod, MethodType)):
        return function.__func__
    if is_a(function, functools.partial):
        return function.func
    own = attributes_of(function)
    return next((own[name] for name in ("__wrapped__", "func", "fget") if own.get(name) is not None), None)


_MOST_DECORATORS: Final = 8
_CONSTRUCTORS: Final = ("__init__", "__new__", "__post_init__", "__attrs_post_init__")

_LEVELS: Final = 12  # from a function to its stack's callback's argument it is nine
_MOST_INLINE: Final = 20_000  # parts of dicts that are looked at between two looks at the clock
_BATCH: Final = 2000  # objects whose parts are looked at between two looks at the clock
_PLAIN: Final = (str, bytes, int, float, type(None), type, CodeType, FrameType, ModuleType)
_ATOMS: Final = frozenset(map(id, (str, bytes, int, float, bool, type(None))))  # of classes: some have no hash
_RUNNERS: Final = ("_pytest", "pluggy", "pytest_httpleak")
# What knows who waits for it, or how long for, and keeps none of them.
_OF_WAITING: Final = ("asyncio.locks", "asyncio.timeouts", "anyio._core._synchronization", "async_timeout")
_OF_SCOPES: Final = (
    ("anyio._backends._asyncio", "AsyncIOTaskInfo"),
    ("anyio._backends._asyncio", "CancelScope"),
    ("anyio._core._testing", "TaskInfo"),
    ("aiohttp.helpers", "TimerContext"),
)
_CACHE: Final = type(functools.lru_cache(lambda: None))


class _Sort:
    """The objects of one class: what there is to know of all of them, and how many were seen."""

    __slots__ = ("cls", "code", "is_future", "is_given", "is_led_through", "is_plain", "kept", "number")

    def __init__(self, cls: type) -> None:
        self.cls = cls  # which keeps its identity its own
        self.number = 0
        self.is_given = False  # the class itself, by a fixture
        self.is_plain = issubclass(cls, _PLAIN)
        is_loop = any("call_soon_threadsafe" in defined_in(base) for base in mro_of(cls))
        module = str(attribute(cls, "__module__", ""))
        is_aside = module.startswith((*_RUNNERS, *_OF_WAITING)) or (module, cls.__name__) in _OF_SCOPES
        self.is_led_through = not is_loop and not is_aside
        self.is_future = issubclass(cls, attribute(sys.modules.get("_asyncio"), "Future", ()))
        # Not asked of a dict: there are classes without a hash, and hashes of somebody's own.
        self.code = "__code__" if cls is FunctionType else "gi_code" if cls is GeneratorType else None
        # By the class, and so by each of its objects: the caches of its methods, and whatever a class of the user's own has.
        self.kept = [part for base in mro_of(cls) for part in _kept_by(base)]


def _kept_by(cls: type) -> list[Any]:
    if not is_user_class(cls):
        return [value for value in defined_in(cls).values() if is_a(value, _CACHE)]
    values: list[Any] = []
    for value in defined_in(cls).values():
        values += (value.__func__,) if is_a(value, (classmethod, staticmethod)) else _functions(value)
    functions = [value for value in values if type(value) is FunctionType]
    # Not the functions themselves, which are no sign that an object inside has made anything; nor what is the module's.
    parts = [value for value in values if type(value) is not FunctionType] + _parts(functions)
    of_module = set(map(id, attributes_of(sys.modules.get(str(attribute(cls, "__module__")))).values()))
    return [part for each in parts for part in _without(each, of_module)]


def _without(part: Any, left_out: set[int]) -> Iterator[Any]:
    """The same part; of the values of closures and defaults, which are tuples, those that are not left out."""
    if type(part) is tuple:
        cells = (attribute(each, "cell_contents") if type(each) is CellType else each for each in part)
        yield from (each for each in cells if id(each) not in left_out)
    elif id(part) not in left_out:
        yield part


class Inside:
    """What is inside of some objects, in whatever way these like to keep it; looked at once, as far as it is asked for.

    What an event loop has in its books is not kept by it, as it has whatever is at work; nor what the test runner knows; nor
    who waits for something that is kept.
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
        # What an object does as it is made is done by none that was there before, but for its class.
        methods, later = Methods(codes), Methods({code for code in codes if code.co_name not in _CONSTRUCTORS})
        while True:
            new = seen.order[asked:]
            makers += [sort for sort in new if (methods if sort.is_given else later).are_in(sort.cls)]
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
        """Go through values and what is inside of them, level by level, and stop now and then.

        They take turns, so that none waits for one that has a million objects.
        """
        turns: deque[Iterator[None]] = deque()
        for place, value in enumerate(values):
            own = self._sort_of(type(value))
            kept = list(own.kept)
            cls = _called(value)
            if is_a(cls, type):  # else it is plain
                sort = self._sort_of(cls)
                sort.number += 1
                sort.is_given = True
                kept += sort.kept
            level = self._take([value, *kept], place)
            turns.append(self._walk_one([value, *level] if own.is_led_through else level, place))
        yield
        while turns:
            turn = turns.popleft()
            if next(turn, self) is not self:
                turns.append(turn)
                yield

    def _walk_one(self, level: list[Any], place: int) -> Iterator[None]:
        for _ in range(_LEVELS):
            below: list[Any] = []
            for start in range(0, len(level), _BATCH):
                parts = _parts(level[start : start + _BATCH])
                for first in range(0, len(parts), _BATCH):
                    below += self._take(parts[first : first + _BATCH], place)
                    yield
            level = below

    def _take(self, parts: list[Any], place: int) -> list[Any]:
        """Take down those that have not been seen, and may be or have something of interest; the answer is what to go on with."""
        found = []
        nearest, sorts = self.nearest, self._sorts
        room = _MOST_INLINE
        parts = _without_atoms(parts)
        for part in parts:
            sort = sorts.get(id(type(part)))
            if sort is None:
                sort = self._sort_of(type(part))
                parts += sort.kept
            if sort.is_plain or id(part) in nearest:
                continue
            nearest[id(part)] = place
            sort.number += 1
            if sort.code is not None:
                self.codes.add(getattr(part, sort.code))
            elif sort.cls is ContextVar:  # which refers to no value: contexts do
                parts.append(part.get(None))
            if sort.cls is dict and room > 0:  # of an object's attributes, most often: no level of its own
                below = gc.get_referents(part)
                parts += _without_atoms(below)
                room -= len(below)
            elif sort.is_future and not is_over(part):
                parts.append(attribute(part, "_coro"))  # what a task runs it keeps, and not who waits for it
            elif sort.is_led_through:
                found.append(part)
        return found

    def _sort_of(self, cls: type) -> _Sort:
        if id(cls) not in self._sorts:
            self._sorts[id(cls)] = _Sort(cls)
            self.order.append(self._sorts[id(cls)])
        return self._sorts[id(cls)]


def _called(value: Any) -> Any:
    """What a partial function calls in the end; anything else itself."""
    while is_a(value, functools.partial):
        value = value.func
    return value


def _without_atoms(parts: list[Any]) -> list[Any]:
    """The same without what a table of data is full of; in C, as there may be millions."""
    are_atoms = map(_ATOMS.__contains__, map(id, map(type, parts)))
    return [*itertools.compress(parts, map(operator.not_, are_atoms))]


def _parts(things: list[Any]) -> list[Any]:
    functions = [thing for thing in things if type(thing) is FunctionType]  # not all that their modules have
    parts = referents_of(*(thing for thing in things if type(thing) is not FunctionType))
    for each in functions:
        parts += [each.__closure__, each.__defaults__, each.__kwdefaults__, vars(each)]
    return parts
