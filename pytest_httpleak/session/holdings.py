"""What an object holds: what lies in it, and is not merely known to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from types import BuiltinMethodType, CodeType, FrameType, FunctionType, MethodType, ModuleType, TracebackType
from typing import Any, Final

from pytest_httpleak.asking import MAPPINGS, attribute, attributes_of, defined_in, is_a, module_of, mro_of, slots_of

_DEPTH: Final = 4  # from a subprocess of asyncio's to the file of its pipe
_MOST: Final = 20_000  # objects in all, the nearest first

# Plain values, and what has all that some code can get at.
_NOTHING: Final = (str, bytes, int, float, type(None), type, ModuleType, FrameType, CodeType, TracebackType)
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
_METHODS: Final = (MethodType, BuiltinMethodType)
_INSIDE: Final = (*MAPPINGS, *_SEQUENCES, FunctionType, *_METHODS)  # no step further away than who has them

# Methods by which one knows what many others use, and so hold as little as it is theirs: loops, loggers, test cases, tasks.
_OF_MANY: Final = ("call_soon_threadsafe", "callHandlers", "contextualize", "doCleanups", "get_coro")
_RUNNERS: Final = ("_pytest", "pluggy", "pytest_httpleak", "unittest.mock")
# Words of attributes that lead up, or to what somebody else has registered.
_UP: Final = ("parent", "host_task", "fd_to_key")
_EXITS: Final = ("__exit__", "__aexit__")
_ENDS: Final = ("close", "exit", "cancel", "shutdown", "stop", "terminate", "cleanup")


def inside(thing: object) -> dict[int, Any]:
    """By their identities: an object, and what lies in its attributes and containers, and in those that are there.

    Each is asked nothing but what its class stores of it, so that nothing is done for our sake, and nobody's error is met.
    """
    found: dict[int, Any] = {id(thing): thing}
    sorts: dict[int, tuple[type, bool]] = {}
    level = [] if is_a(thing, type) or is_task(thing) else [thing]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for each in level:  # which grows meanwhile
            for part in _parts(each):
                if id(part) in found or is_a(part, _NOTHING):
                    continue
                if len(found) >= _MOST:
                    return found
                found[id(part)] = part
                if is_a(part, _INSIDE):
                    level.append(part)
                elif not _is_of_many(part, sorts):
                    below.append(part)
        level = below
    return found


def is_task(thing: object) -> bool:
    """Whether that is an asyncio task, whoever has written its class: what it refers to is its loop's and its coroutine's."""
    return any("get_coro" in defined_in(base) for base in mro_of(type(thing)))


def _is_of_many(thing: object, known: dict[int, tuple[type, bool]]) -> bool:
    """Whether it holds nothing for who has it alone; `known` are the answers by classes, which it keeps alive."""
    cls = type(thing)
    if id(cls) not in known:
        names = [defined_in(base) for base in mro_of(cls)]
        is_one = module_of(thing).startswith(_RUNNERS) or any(name in own for own in names for name in _OF_MANY)
        known[id(cls)] = cls, is_one
    return known[id(cls)][1]


def _parts(thing: Any) -> Iterator[Any]:
    """What an object has in itself: nothing that is up from it, nor what a function's module has."""
    if is_a(thing, _METHODS):
        yield _ended_by(thing, _EXITS)
        return
    yield from _elements(thing)
    for name, value in chain(attributes_of(thing).items(), slots_of(thing)):
        if name == "__wrapped__":  # an `ExitStack` puts a function around what it will call
            yield _ended_by(value, _ENDS)
        if not any(word in str(name) for word in _UP):
            yield value


def _elements(thing: Any) -> list[Any]:
    """The elements as they are stored, whatever a class of somebody's makes of that."""
    kind: Any = next((kind for kind in (*_SEQUENCES, *MAPPINGS) if is_a(thing, kind)), None)
    if kind is None or (kind is dict and dict.__contains__(thing, "__builtins__")):  # all that a module has
        return []
    items = [*islice(kind.__iter__(thing), _MOST)]
    return [*items, *islice(kind.values(thing), _MOST)] if kind in MAPPINGS else items


def _ended_by(method: Any, words: tuple[str, ...]) -> object | None:
    """The object that a method ends, if its name says that it does: who is to call that holds the object."""
    if is_a(method, _METHODS) and any(word in str(attribute(method, "__name__")) for word in words):
        own: object = method.__self__
        return own
    return None
