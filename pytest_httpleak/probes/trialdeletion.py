"""What goes with some objects, told from reference counts as the garbage collector tells it, and without a search of the heap."""

from __future__ import annotations

import gc
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final

from pytest_httpleak.asking import module_of

# What somebody else has in any case; besides, through these everything is reached.
_LASTING: Final = (type, ModuleType, FrameType, CodeType)
_RUNNER: Final = "_pytest."  # whose fixtures `request` and `tmp_path_factory` lead to the whole session
_MOST: Final = 10_000  # objects; a session of requests with its adapters and a cache is a few hundred
# Elsewhere references are not all counted at the object.
_IS_COUNTED: Final = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")


def deleted_with(going: list[Any], *, most: int = _MOST) -> dict[int, Any]:
    """By their identity: what will be there no more once one reference to each of the objects `going` is given up.

    Those that have more references than from each other are kept by somebody, and so is all that they lead to. What cannot be
    told is not among them: where more than `most` objects would have to be looked at, or references are not counted.
    """
    if not _IS_COUNTED or not going:
        return {}
    known: dict[int, Any] = {}
    counts: Counter[int] = Counter(
        2 * [*map(id, going)]
    )  # references that do not count: the one given up, and the list's
    _reach(going, known, counts, most)
    if len(known) > most:
        return {}
    kept = [key for key, extra in _extra(known) if extra != counts[key]]
    lasting: dict[int, Any] = {}
    _reach([known[key] for key in kept], lasting, Counter(), most)
    return {key: thing for key, thing in known.items() if key not in lasting}


def _reach(level: Iterable[Any], known: dict[int, Any], counts: Counter[int], most: int) -> None:
    """Add to what is `known` all that `level` leads to, and count the references that it takes."""
    level = list({id(thing): thing for thing in level}.values())
    while level and len(known) <= most:
        known.update((id(thing), thing) for thing in level)
        below = _parts(level)
        counts.update(map(id, below))
        level = list({id(each): each for each in below if id(each) not in known and _may_go(each)}.values())


def _parts(things: list[Any]) -> list[Any]:
    functions = [thing for thing in things if type(thing) is FunctionType]
    below = gc.get_referents(*(thing for thing in things if type(thing) is not FunctionType))
    for function in functions:
        module = function.__globals__
        below += [each for each in gc.get_referents(function) if each is not module]
    return below


def _may_go(thing: Any) -> bool:
    if not gc.is_tracked(thing) or issubclass(type(thing), _LASTING):
        return False
    return not module_of(thing).startswith(_RUNNER)


def _extra(known: dict[int, Any]) -> Iterator[tuple[int, int]]:
    """How many references each has beside that of the dict."""
    probe = {0: object()}
    own = sys.getrefcount(probe[0])
    return ((key, sys.getrefcount(known[key]) - own) for key in known)
