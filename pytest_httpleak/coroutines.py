"""Suspended coroutines and generators: what they wait in, and their frames."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final

from pytest_httpleak.asking import attribute, attributes_of, defined_in, is_a, mro_of
from pytest_httpleak.interruptions import pass_on

# Of coroutines, generators and asynchronous generators; and the interpreter's own objects between them.
_FRAMES: Final = ("cr_frame", "gi_frame", "ag_frame")
_BETWEEN: Final = frozenset("anext_awaitable async_generator_asend async_generator_athrow coroutine_wrapper".split())
_DEEPEST: Final = 80  # as many as are looked at of a stack


def awaits(coroutine: Any) -> Iterator[Any]:
    """The coroutines and generators that a suspended coroutine waits in, itself first, innermost last."""
    current = coroutine
    for _ in range(_DEEPEST):
        if frame_of(current) is not None:
            yield current
            current = _below(current)
        elif type(current).__name__ in _BETWEEN:
            current = next((part for part in gc.get_referents(current) if frame_of(part) is not None), None)
        else:
            current = _inside(current)


def _below(thing: Any) -> Any:
    """What a coroutine or generator waits in; None where it does not, as one that another thread runs."""
    for ask in (_below_coroutine, _below_generator, _below_asynchronous):
        try:
            found = ask(thing)
        except Exception as error:  # noqa: BLE001  # it is of another sort, or somebody's own
            pass_on(error)
        else:
            return found
    return None


# Python 3.11 and 3.12 lose their way in the frame of one that runs, and may crash. So each is asked whether it does in the same
# breath: without a call in between no other thread can begin to run it.


def _below_coroutine(thing: Any) -> Any:
    return None if thing.cr_running else thing.cr_await


def _below_generator(thing: Any) -> Any:
    return None if thing.gi_running else thing.gi_yieldfrom


def _below_asynchronous(thing: Any) -> Any:
    """`ag_running` is said of one that waits, too; a frame has one behind it only while it runs."""
    return None if thing.ag_frame is None or thing.ag_frame.f_back is not None else thing.ag_await


def qualname(coroutine: Any) -> str:
    """The name of a coroutine's function; empty where something else runs in a task, and has none."""
    name = attribute(coroutine, "__qualname__")
    return str(name) if is_a(name, str) else ""


def frame_of(thing: Any) -> Any:
    """The frame of a coroutine or generator that is not over, else None."""
    return next(filter(None, (attribute(thing, name) for name in _FRAMES)), None)


def frame_of_task(coroutine: Any) -> Any:
    """The frame of the coroutine that a task runs, or of the one that it is around; None where there is none, or it is over."""
    frame = coroutine.cr_frame if type(coroutine) is CoroutineType else attribute(coroutine, "cr_frame")
    if frame is None:
        inside = _inside(coroutine)
        return None if inside is None else frame_of(inside)
    return frame


def _inside(thing: Any) -> Any:
    """The coroutine that an object of somebody's own class is around, as a request of aiohttp's is; None for what is none."""
    cls = type(thing)
    if not _FLAGS(cls) & _HEAP_TYPE:
        return None
    if not all(any(name in defined_in(base) for base in mro_of(cls)) for name in ("send", "throw")):
        return None
    parts = {id(part): part for part in (*gc.get_referents(thing), *attributes_of(thing).values())}
    found = [part for part in parts.values() if is_a(part, _SUSPENDED)]
    return found[0] if len(found) == 1 else None


_FLAGS: Final = type.__dict__["__flags__"].__get__  # without a question to a metaclass
_HEAP_TYPE: Final = 1 << 9  # CPython's flag of classes that are no part of the interpreter
_SUSPENDED: Final = (CoroutineType, GeneratorType, AsyncGeneratorType)
