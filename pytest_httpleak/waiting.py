"""Generators that wait to go on: which there are, and whether they would close something if they were closed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import AsyncGeneratorType, CodeType, GeneratorType
from typing import Any, Final

GENERATOR: Final = 0x20  # inspect.CO_GENERATOR, which is not imported for two numbers
ASYNC: Final = 0x200  # inspect.CO_ASYNC_GENERATOR
# Whatever is called so ends something.
_ENDING: Final = frozenset("aclose cancel close disconnect kill quit release_conn shutdown stop terminate".split())
_DEEPEST: Final = 20  # blocks around one another


def of(code: CodeType) -> list[Any]:
    """The generators of that code, asynchronous ones included, that wait to go on."""
    if code.co_flags & ASYNC:
        return [each for each in _all_of(AsyncGeneratorType) if each.ag_code is code and each.ag_frame is not None]
    return [each for each in _all_of(GeneratorType) if each.gi_code is code and each.gi_frame is not None]


def _all_of(cls: type) -> list[Any]:
    return [each for each in gc.get_objects() if type(each) is cls]


def end_something(code: CodeType) -> bool:
    """Whether the generators of that code wait within a `try` that ends something when it is left, by a `finally` as a rule.

    Where none waits any more, as after the end of its loop, it is asked of all places at which one may have waited.
    """
    import dis  # here, as most runs tell no leak

    steps = list(dis.get_instructions(code))
    frames = [each.gi_frame if type(each) is GeneratorType else each.ag_frame for each in of(code)]
    places = [frame.f_lasti for frame in frames if frame is not None]
    places = places or [step.offset for step in steps if step.opname == "YIELD_VALUE"]
    return any(_is_ending(steps, target) for place in places for target in _handlers(code, place))


def _handlers(code: CodeType, offset: int) -> Iterator[int]:
    """Where an error goes on that is raised at a place: to the innermost block around it, and from there outwards."""
    import dis

    entries = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]  # not in the stubs
    for _ in range(_DEEPEST):
        target = next((entry.target for entry in entries if entry.start <= offset < entry.end), None)
        if target is None or target == offset:
            return
        yield target
        offset = target


def _is_ending(steps: list[Any], target: int) -> bool:
    """Whether what ends something is called from there to where the error goes on."""
    for step in steps:
        if step.offset < target:
            continue
        if step.opname == "RERAISE":
            return False
        if step.opname.startswith("LOAD_") and step.argval in _ENDING:
            return True
    return False
