"""Which references a search of the heap follows, and how one object refers to another: by attribute, item, closure, variable."""

from __future__ import annotations

import _socket  # the class in C, which nobody watches
import functools
import gc
import sys
import types
from collections import deque
from collections.abc import Container
from itertools import chain
from typing import Any, Final

from pytest_httpleak.asking import (
    MAPPINGS,
    attribute,
    attributes_of,
    is_a,
    mro_of,
    own_attribute,
    referents_of,
    slots_of,
)
from pytest_httpleak.coroutines import frame_of
from pytest_httpleak.probes.fields import has_fields, is_by_class, is_default, is_record
from pytest_httpleak.probes.frames import locals_of
from pytest_httpleak.probes.paths import CACHE, Step, key_text, place_of
from pytest_httpleak.userfiles import is_user_module

_CONTAINERS: Final = (list, tuple, set, frozenset, deque)
_SUSPENDED: Final = (types.GeneratorType, types.AsyncGeneratorType, types.CoroutineType)
_CALLED: Final = (types.FunctionType, types.MethodType, functools.partial)


class Way:
    """Which references a search follows, and where it may end.

    `is_any` is for one that only explains, and follows them all; with `is_users` to the user's own places alone. Else it
    follows attributes, and containers of a class or module of `packages` alone; with `in_cells`, one of a module's own has to
    be a tuple, a frozendict, a list to which nothing was added, or a dict of one place. `ends` are the identities of objects
    that it may end at, which the answer then gives. It cannot end in the package `passing`, through whose places things only
    pass, and leads through nothing of `aside`, which has the identities of objects, too.
    """

    __slots__ = ("aside", "ends", "in_cells", "is_any", "is_users", "packages", "passing")

    def __init__(
        self,
        *,
        is_any: bool = False,
        is_users: bool = False,
        packages: frozenset[str] = frozenset(),
        ends: Container[int] = (),
        in_cells: bool = False,
        passing: str = "",
        aside: frozenset[int] = frozenset(),
    ) -> None:
        self.aside = aside
        self.is_any = is_any
        self.is_users = is_users
        self.packages = packages
        self.ends = ends
        self.in_cells = in_cells
        self.passing = passing

    def may_end(self, module: str) -> bool:
        """Whether a place of that module answers the question; the fixtures' and tests' have none."""
        if self.is_users and module:
            return is_users(module)
        return self.is_any or bool(module and module.partition(".")[0] != self.passing)

    def may_contain(self, module: str) -> bool:
        """Whether a container that belongs to that module is a part of what its library keeps for itself."""
        return self.is_any or module.partition(".")[0] in self.packages


def is_users(module: str) -> bool:
    """Whether a module is the user's own."""
    return is_user_module(module, attribute(sys.modules.get(module), "__file__"))


def namespace_of(cls: type | None) -> frozenset[int]:
    """The identities of a class and of what it has its own attributes in; none of no class."""
    parts = [] if cls is None else [cls, *(part for part in gc.get_referents(cls) if type(part) is dict)]
    return frozenset(map(id, parts))


def steps_from(referrer: Any, by_id: dict[int, Step], way: Way) -> list[Step]:
    """How a referrer refers to the objects below: by attribute, item, closure or local variable."""
    if is_a(referrer, MAPPINGS):
        return _entry_steps(referrer, by_id, way)
    if is_a(referrer, CACHE):  # of what a connection to a database has prepared: its function is the connection
        function = own_attribute(referrer, "__wrapped__")
        parts = [part for part in gc.get_referents(referrer) if part is not function]
        return [Step(referrer, "", by_id[id(part)]) for part in parts if id(part) in by_id][:1]
    if is_a(referrer, types.FrameType):
        return _local_steps(referrer, referrer, "", by_id) if way.is_any else []
    if way.is_any and is_a(referrer, _SUSPENDED):
        return _steps_of_suspended(referrer, by_id) or _unnamed(referrer, by_id, way)
    if is_a(referrer, (types.CellType, types.FunctionType)) or _is_closure(referrer):
        parts = [by_id[id(part)] for part in gc.get_referents(referrer) if id(part) in by_id]
        if not way.is_any and is_a(referrer, types.CellType):  # what a closure leads to may be anything at all
            parts = [part for part in parts if part.below is None or _is_made_by_call(part) or _is_of_singletons(part)]
        return [Step(referrer, _variable(referrer, part), part) for part in parts][:1]
    if is_a(referrer, _CONTAINERS):
        return _item_steps(referrer, by_id, way)
    if is_a(referrer, types.MethodType):
        return _unnamed(referrer, by_id, way)
    return _attribute_steps(referrer, by_id, way)


def _entry_steps(referrer: Any, by_id: dict[int, Step], way: Way) -> list[Step]:
    """By which entry a mapping refers to what is below; to be a key of it, which is no place of its own, only explains."""
    entries = list(referrer.items())
    found = [(key, by_id[id(value)]) for key, value in entries if id(value) in by_id]
    if not way.is_any:
        found = [(key, below) for key, below in found if not _is_registered(key, below)]
    steps = [Step(referrer, key_text(key), below) for key, below in found[:1]]
    if steps and not is_a(referrer, dict):  # a frozendict, which has nobody's attributes
        steps[0].read_as_item()
        steps[0].contains = not (is_by_class(referrer) or leads_to_class(steps[0].below))
    if way.is_any and not steps:
        steps = [Step(referrer, ", as a key", by_id[id(key)]) for key, _ in entries if id(key) in by_id][:1]
    return steps


def _local_steps(referrer: Any, frame: types.FrameType, before: str, by_id: dict[int, Step]) -> list[Step]:
    """By which variable of its a function refers to what is below; one that it shares with a function inside is in a cell."""
    cells = {id(step.below.thing): step for step in by_id.values() if step.below and is_a(step.thing, types.CellType)}
    found = [(name, by_id.get(id(value)) or cells.get(id(value))) for name, value in locals_of(frame)]
    return [Step(referrer, f"{before} variable {name!r}", below) for name, below in found if below is not None][:1]


def _steps_of_suspended(referrer: Any, by_id: dict[int, Step]) -> list[Step]:
    """The same for a generator or coroutine that waits to be asked or awaited further."""
    frame = frame_of(referrer)
    if frame is None:
        return []
    place = f", {'coroutine' if is_a(referrer, types.CoroutineType) else 'generator'} {place_of(frame)}"
    parts = [by_id[id(part)] for part in gc.get_referents(referrer) if id(part) in by_id]
    return _local_steps(referrer, frame, f"{place},", by_id) or [Step(referrer, place, part) for part in parts][:1]


def _is_registered(key: object, entry: Step) -> bool:
    """Whether an entry is what a poller calls for a socket, by the socket's number: that has whatever is at work, and owns none.

    An owner that keeps its sockets by number has nothing to call beside them.
    """
    if type(key) is not int or type(entry.thing) is not tuple:
        return False
    step = entry
    while step.below is not None:
        step = step.below
    return (
        is_a(step.thing, _socket.socket)
        and key == _socket.socket.fileno(step.thing)
        and any(part is step.thing for part in entry.thing)
        and any(is_a(part, _CALLED) for part in entry.thing)
    )


def _item_steps(container: Any, by_id: dict[int, Step], way: Way) -> list[Step]:
    """How a list, tuple, set or deque refers to what is below; a tuple or deque may be a field of what refers to it."""
    label = "[...]" if is_a(container, (set, frozenset)) else "[{}]"
    is_followed = way.is_any or way.packages or is_a(container, (tuple, deque))
    for index, part in enumerate(list(container)):
        below = by_id.get(id(part))
        is_of_class = below is not None and leads_to_class(below)
        if below is not None and (is_followed or is_of_class):
            is_field = is_of_class or (is_a(container, tuple) and is_record(container, below.thing))
            return [Step(container, label.format(index), below, contains=not is_field)]
    return []


def _variable(function: Any, below: Step) -> str:
    """The name of the variable by which a function's closure holds what is below, or of the parameter whose default it is."""
    if not is_a(function, types.FunctionType) or below.below is None:
        return ""
    inner, code = below.below.thing, function.__code__
    if below.thing is function.__closure__:
        names = zip(below.thing, code.co_freevars, strict=True)
        return next((f", variable {name!r}" for each, name in names if each is inner), "")
    if not is_default(function, below.thing):
        return ""
    below.text = ""
    of_places = zip(reversed(function.__defaults__ or ()), reversed(code.co_varnames[: code.co_argcount]), strict=False)
    of_names = ((each, name) for name, each in (function.__kwdefaults__ or {}).items())
    found = (name for each, name in chain(of_places, of_names) if each is inner)
    return next((f", default of {name!r}" for name in found), "")


def _attribute_steps(referrer: Any, by_id: dict[int, Step], way: Way) -> list[Step]:
    for cls in mro_of(referrer if is_a(referrer, type) else type(referrer)):
        if id(cls) in by_id:
            return [Step(referrer, "", by_id[id(cls)])]
    for name, value in attributes_of(referrer).items():
        if id(value) in by_id:
            return [Step(referrer, f".{name}", by_id[id(value)])]
    for name, value in slots_of(referrer):
        if id(value) in by_id:
            return [Step(referrer, f".{name}", by_id[id(value)])]
    return _unnamed(referrer, by_id, way)


def _unnamed(referrer: Any, by_id: dict[int, Step], way: Way) -> list[Step]:
    """How something of C or a method refers to what is below; where that decides, in a field of its own or to a class."""
    parts = (by_id[id(part)] for part in referents_of(referrer) if id(part) in by_id)
    led = (part for part in parts if way.is_any or leads_to_class(part) or has_fields(referrer))
    return [Step(referrer, "", part) for part in led][:1]


def _is_made_by_call(step: Step | None) -> bool:
    """Whether a step is a class or a cached function, on a way that would have ended at any other."""
    return step is not None and is_a(step.thing, (type, CACHE))


def _is_of_singletons(step: Step) -> bool:
    """Whether a step is a dict that has one place for each of some classes, as a decorator keeps their only instances."""
    return is_a(step.thing, dict) and not step.contains


def leads_to_class(step: Step | None) -> bool:
    """Whether the way has led to a class: what keeps that, in a container or any other way, is as long as the program is."""
    while step is not None and not _is_made_by_call(step):
        step = step.below
    return step is not None


def _is_closure(thing: object) -> bool:
    return type(thing) is tuple and bool(thing) and all(type(each) is types.CellType for each in thing)
