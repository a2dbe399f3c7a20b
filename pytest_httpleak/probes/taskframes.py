"""What a suspended task has in its own frames, and whether anything else refers to it."""

from __future__ import annotations

import gc
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from pytest_httpleak.asking import is_a, module_of, referrers_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.coroutines import frame_of
from pytest_httpleak.userfiles import is_of_asyncio, is_user_file

# Steps from a frame to what a library keeps inside: five from httpx's response to httpcore's request, and six to what a stack
# of contexts has, where any object that was asked for its attributes has a dict of them on the way.
_DOWN: Final = 9
_UP: Final = 18  # the way back, with the containers that it may lie in, and the stack of a context manager
_WIDEST: Final = 2000  # objects looked at on one level

# Never a part of what a frame holds.
_FOREIGN: Final = (types.ModuleType, type, types.FunctionType, types.CodeType)
_GENERATORS: Final = (types.GeneratorType, types.AsyncGeneratorType)
_SUSPENDED: Final = (types.CoroutineType, *_GENERATORS)
_PASSED_OVER: Final = (*_SUSPENDED, types.FrameType, types.TracebackType)


def in_frames(suspended: Iterable[Any], wanted: Callable[[Any], bool], is_hub: Callable[[Any], bool]) -> list[Any]:
    """The wanted objects that the frames of some coroutines lead to, without passing through a hub.

    A generator that they lead to, as that of a context manager, has a frame of its own.
    """
    found: list[Any] = []
    frames: list[Any] = list(suspended)
    seen: set[int] = {id(each) for each in frames}
    while frames:
        level, frames = frames, []
        for _ in range(_DOWN):
            below: list[Any] = []
            for part in gc.get_referents(*level):
                if id(part) in seen or is_a(part, _FOREIGN) or _is_of_module(part):
                    continue
                seen.add(id(part))
                if wanted(part):
                    found.append(part)
                if is_a(part, _GENERATORS):
                    frames.append(part)
                elif not is_hub(part) and not _is_of_loop(part):
                    below.append(part)
            level = below[:_WIDEST]
            if not level:
                break
    return found


def is_kept_elsewhere(
    thing: Any, suspended: Iterable[Any], is_hub: Callable[[Any], bool], *, seconds: float = 3.0
) -> bool:
    """Whether a module, a class, a fixture or another frame refers to `thing`, apart from some coroutines.

    What a generator has in its frame is kept by whatever refers to the generator. A loop and a hub - a pool, a
    client - keep everything, and do not count.
    """
    gc.unfreeze()  # see probes.references
    end = Real.thread_time() + seconds  # of the processor: the answer decides, and must not depend on other programs
    inside = list(suspended)
    own = {id(each) for each in inside} | {id(frame_of(each)) for each in inside}
    level = [thing]
    seen = {id(thing), id(level), id(inside), id(own)}
    for _ in range(_UP):
        above: list[Any] = []
        seen.add(id(above))
        for referrer in referrers_of(level):
            if id(referrer) in seen or id(referrer) in own:
                continue
            seen.add(id(referrer))
            if is_a(referrer, _GENERATORS):  # as a context manager is: it ends with whoever has it
                above.append(referrer)
                continue
            if _is_root(referrer):
                return True
            if not is_a(referrer, _PASSED_OVER) and not is_hub(referrer) and not _is_of_loop(referrer):
                above.append(referrer)
        if not above or Real.thread_time() > end:
            break
        level = above[:_WIDEST]
    return False


def _is_root(thing: Any) -> bool:
    """Whether an object that refers to another one is a place where users keep things."""
    if is_a(thing, (types.ModuleType, type)) or _is_of_module(thing):
        return True
    code = getattr(thing, "f_code", None) if is_a(thing, types.FrameType) else _code(thing)
    if code is not None:
        return is_user_file(code.co_filename)
    return module_of(thing).startswith("_pytest")


def _is_of_module(thing: Any) -> bool:
    return type(thing) is dict and "__builtins__" in thing


def _is_of_loop(thing: Any) -> bool:
    """Whether an object is a loop, a task, or what loops keep of their callbacks."""
    module = module_of(thing)
    return module in _OF_LOOPS or (module.startswith(("asyncio", "uvloop")) and hasattr(thing, "run_forever"))


_OF_LOOPS: Final = ("_asyncio", "asyncio.events", "asyncio.futures", "asyncio.tasks", "selectors")


def _code(thing: Any) -> Any:
    if not is_a(thing, _SUSPENDED):
        return None
    return next(filter(None, (getattr(thing, name, None) for name in ("cr_code", "gi_code", "ag_code"))), None)


def codes(suspended: Iterable[Any]) -> Iterator[types.CodeType]:
    """The code of a task's coroutine; where that is asyncio's own, around another one, of that, too."""
    for each in suspended:
        code = _code(each)
        if code is not None:
            yield code
            if not is_of_asyncio(code.co_filename):
                return
