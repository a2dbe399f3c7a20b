"""What keeps an object alive: the shortest path to it from a module, a class, a fixture, a frame or a task.

Every question is a scan of the heap, so only leaks that are about to be reported are asked about, within a limit of
processor time, which does not depend on what else the machine has to do: a long one where the answer decides, a short
one where it only explains.

A search passes over what `gc.freeze` has set aside, where the dicts of all modules may be, so whoever searches takes it
back first: that takes no time. It is not frozen again, for that would keep the garbage of the whole run.
"""

from __future__ import annotations

import functools
import gc
import threading
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from pytest_httpleak.asking import attributes_of, is_a, module_of, own_attribute
from pytest_httpleak.clocks import Real

_CACHE: Final = type(functools.lru_cache(lambda: None))
_LOCAL: Final = threading.local
_LEVELS: Final = 8
_WIDEST: Final = 400
_OWN: Final = "pytest_httpleak"
_CONTAINERS: Final = (list, tuple, set, frozenset, deque)
# What must be ended with the program is listed in them, whoever has forgotten it.
_REGISTRARS: Final = ("concurrent.", "multiprocessing.")
_SKIPPED: Final = (types.TracebackType, types.BuiltinFunctionType)


_RootOrNone = TypeVar("_RootOrNone", "Root", None)


class Root(NamedTuple):
    """Where a path to an object begins: the module that the place belongs to, and the whole path in words."""

    module: str
    text: str


GIVEN_UP: Final = Root("", "?")  # the answer of a search that there was no time to end


class _Step:
    """One referrer on the way up: what it is, and the text that leads from it to the object below."""

    __slots__ = ("below", "contains", "text", "thing")

    def __init__(self, thing: Any, text: str, below: _Step | None, *, contains: bool = False) -> None:
        self.thing = thing
        self.text = text
        self.below = below
        self.contains = contains  # a list, a dict or the like, which may hold any number of such objects

    def path(self) -> str:
        parts = []
        step: _Step | None = self
        while step is not None:
            parts.append(step.text)
            step = step.below
        return "".join(parts)


class _Way:
    """Which references a search follows, and where it may end.

    `is_any` is for one that only explains, and follows them all. Else it follows attributes, and containers of a class
    or module of `packages` alone. `values` are by identity the objects that it may end at.
    """

    __slots__ = ("is_any", "packages", "values")

    def __init__(
        self, *, is_any: bool, packages: frozenset[str] = frozenset(), values: Mapping[int, Root] | None = None
    ) -> None:
        self.is_any = is_any
        self.packages = packages
        self.values = values or {}

    def may_contain(self, module: str) -> bool:
        """Whether a container that belongs to that module is a part of what its library keeps for itself."""
        return self.is_any or module.partition(".")[0] in self.packages


def process_wide(
    thing: object,
    packages: frozenset[str] = frozenset(),
    values: Mapping[int, Root] | None = None,
    *,
    seconds: float = 5.0,
) -> Root | None:
    """The module or class attribute, or the cached function, that holds `thing` through attributes alone; else None.

    Such a client is made once and lives as long as the process. A list or dict on the way makes it a registry, which
    can grow, so it does not count; one by class, as of singletons, cannot. What a library has made itself it may also
    keep in a container of its own: `packages` are those that made `thing`. A variable of its own in a function's
    closure is an attribute of that function. The way may end at one of `values` too, by identity: then its Root is given.
    `GIVEN_UP` where that could not be told in `seconds` of processor time.
    """
    if values and id(thing) in values:
        return values[id(thing)]
    return _climb(thing, _Way(is_any=False, packages=packages, values=values), seconds)


def held_by(thing: object, *, seconds: float = 0.3) -> str | None:
    """What still refers to `thing`, in words: `module attribute app.api._last`; None if that cannot be told in time."""
    root = _climb(thing, _Way(is_any=True), seconds)
    return None if root is None or root is GIVEN_UP else root.text


def _climb(thing: object, way: _Way, seconds: float) -> Root | None:
    gc.unfreeze()
    end = Real.thread_time() + seconds
    level = [_Step(thing, "", None)]
    seen = {id(thing), id(level)}
    if is_a(thing, threading.Thread):
        seen.add(id(getattr(threading, "_active", None)))  # that it runs is known
    for _ in range(_LEVELS):
        above: list[_Step] = []
        fallback: Root | None = None
        steps = list(_referring(level, above, seen, way))
        if Real.thread_time() > end:
            return GIVEN_UP
        for step, owners in _with_owners(steps):
            root = _root(step, owners)
            if root is not None:
                if (root.module or way.is_any) and _may_lead_on(step, root.module, way, is_end=True):
                    return Root(root.module, _of_thread(step, root) or root.text + step.path())
                continue
            part = _part(step, owners, seen, way)
            if part is not None and _may_lead_on(part, module_of(part.thing), way):
                if id(part.thing) in way.values and not part.contains:
                    return way.values[id(part.thing)]
                fallback = fallback or (_live(part) if way.is_any else None)
                above.append(part)
        if fallback is not None or not above:
            return fallback
        level = above[:_WIDEST]
    return None


def _with_owners(steps: list[_Step]) -> Iterator[tuple[_Step, list[Any]]]:
    """Each step, with what refers to it if it is a dict: in one scan of the heap for all of them."""
    owners: dict[int, list[Any]] = {id(step.thing): [] for step in steps if is_a(step.thing, dict)}
    mappings = [step.thing for step in steps if id(step.thing) in owners]
    for owner in gc.get_referrers(*mappings) if mappings else ():
        for key in {id(part) for part in gc.get_referents(owner)} & owners.keys():
            owners[key].append(owner)
    for step in steps:
        yield step, owners.get(id(step.thing), [])


def _may_lead_on(step: _Step, module: str, way: _Way, *, is_end: bool = False) -> bool:
    """Whether the way may go on from a step of that module, or end there: to a container only from what it belongs to."""
    below = step.below
    if step.contains or below is None or not below.contains:
        return True
    return way.may_contain(module) and not (is_end and not way.is_any and module.startswith(_REGISTRARS))


def _referring(level: list[_Step], above: list[_Step], seen: set[int], way: _Way) -> Iterator[_Step]:
    """Whatever refers to the objects of a level, and has not been seen yet."""
    by_id = {id(step.thing): step for step in level}
    for referrer in gc.get_referrers(*(step.thing for step in level)):
        if id(referrer) not in seen and type(referrer) not in _SKIPPED and not _is_ours(referrer, by_id, level, above):
            seen.add(id(referrer))
            yield from _steps(referrer, by_id, way)


def _part(step: _Step, owners: list[Any], seen: set[int], way: _Way) -> _Step | None:
    """The step to go on from: an object in the place of the dict of its attributes; None where the way ends."""
    if not is_a(step.thing, dict):
        return step
    part = _owner_of(step, owners)
    if part.thing is step.thing:
        part.contains = not _is_by_class(step.thing)
        return part if way.is_any or way.packages or not part.contains else None
    if id(part.thing) in seen:
        return None
    seen.add(id(part.thing))
    return part


def _is_by_class(mapping: dict[Any, Any]) -> bool:
    """Whether a dict has one place for each of some classes of a module: it is as long as the program is."""
    return all(is_a(key, type) and "<locals>" not in key.__qualname__ for key in list(mapping))


def _is_closure(thing: object) -> bool:
    return type(thing) is tuple and bool(thing) and all(type(each) is types.CellType for each in thing)


def _is_ours(referrer: Any, *ours: object) -> bool:
    if any(referrer is each for each in ours):
        return True
    if is_a(referrer, types.FrameType):
        return str(referrer.f_globals.get("__name__", "")).startswith(_OWN)
    return module_of(referrer).startswith((_OWN, "weakref"))


def _steps(referrer: Any, by_id: dict[int, _Step], way: _Way) -> list[_Step]:
    """How a referrer refers to the objects below: by attribute, item, closure or local variable."""
    if is_a(referrer, dict):
        keys = [(key, by_id[id(value)]) for key, value in list(referrer.items()) if id(value) in by_id]
        names = ((f"\0{key}" if type(key) is str else _item(key), below) for key, below in keys[:1])
        return [_Step(referrer, name, below) for name, below in names]
    if is_a(referrer, _CACHE):  # of what a connection to a database has prepared: its function is the connection
        function = own_attribute(referrer, "__wrapped__")
        parts = [part for part in gc.get_referents(referrer) if part is not function]
        return [_Step(referrer, "", by_id[id(part)]) for part in parts if id(part) in by_id][:1]
    if is_a(referrer, types.FrameType):
        if not way.is_any:
            return []
        return [
            _Step(referrer, f" variable {name!r}", by_id[id(value)])
            for name, value in list(referrer.f_locals.items())
            if id(value) in by_id
        ][:1]
    if is_a(referrer, (types.CellType, types.FunctionType)) or _is_closure(referrer):
        parts = [by_id[id(part)] for part in gc.get_referents(referrer) if id(part) in by_id]
        if not way.is_any and is_a(referrer, types.CellType):  # what a closure leads to may be anything at all
            parts = [part for part in parts if part.below is None]
        return [_Step(referrer, _variable(referrer, part), part) for part in parts][:1]
    if is_a(referrer, _CONTAINERS):
        if not way.is_any and not way.packages:
            return []
        found = [(index, by_id[id(value)]) for index, value in enumerate(list(referrer)) if id(value) in by_id]
        indexed = is_a(referrer, (list, tuple, deque))
        label = "[{}]" if indexed else "[...]"
        return [_Step(referrer, label.format(index), below, contains=True) for index, below in found[:1]]
    if is_a(referrer, types.MethodType):
        return [_Step(referrer, "", step) for step in list(by_id.values())[:1]] if way.is_any else []
    return _attribute_steps(referrer, by_id, way)


def _variable(function: Any, below: _Step) -> str:
    """The name of the variable by which a function's closure holds what is below."""
    cell = None if below.below is None else below.below.thing
    if not is_a(function, types.FunctionType) or below.thing is not function.__closure__ or cell is None:
        return ""
    names = zip(function.__closure__ or (), function.__code__.co_freevars, strict=True)
    return next((f", variable {name!r}" for each, name in names if each is cell), "")


def _item(key: object) -> str:
    try:
        text = repr(key)
    except Exception:  # noqa: BLE001  # somebody's `__repr__`
        return "[...]"
    return f"[{text}]" if len(text) <= _LONGEST_KEY else f"[{text[:_LONGEST_KEY]}...]"


_LONGEST_KEY: Final = 60


def _attribute_steps(referrer: object, by_id: dict[int, _Step], way: _Way) -> list[_Step]:
    for name, value in attributes_of(referrer).items():
        if id(value) in by_id:
            return [_Step(referrer, f".{name}", by_id[id(value)])]
    for cls in type(referrer).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if is_a(slots, str) else tuple(slots):
            try:
                value = object.__getattribute__(referrer, name)
            except AttributeError:
                continue
            if id(value) in by_id:
                return [_Step(referrer, f".{name}", by_id[id(value)])]
    return [_Step(referrer, "", step) for step in list(by_id.values())[:1]] if way.is_any else []


def _root(step: _Step, owners: list[Any]) -> Root | None:
    """The name of the place where a path ends, or None if `step` is only a part of the way.

    The owners are what refers to a dict.
    """
    thing = step.thing
    if is_a(thing, _CACHE):
        return _cache(thing)
    if is_a(thing, type):
        return Root(thing.__module__, f"class attribute {thing.__module__}.{thing.__qualname__}")
    if is_a(thing, types.ModuleType):
        return Root(thing.__name__, f"module attribute {thing.__name__}")
    if not is_a(thing, dict):
        return _fixture(thing, step) if _is_fixture(thing) else _self_of_test(thing, step)
    root = next(filter(None, (_owning(owner, step) for owner in owners)), None)
    if root is not None:
        return root
    name = thing.get("__name__")
    if is_a(name, str) and "__builtins__" in thing:
        return _named(step, Root(name, f"module attribute {name}"))
    return None


def _owning(owner: Any, step: _Step) -> Root | None:
    """The name of the place that a dict is the namespace of, or the values of; None if that is no end of a path."""
    if is_a(owner, types.ModuleType) and vars(owner) is step.thing:
        return _named(step, Root(owner.__name__, f"module attribute {owner.__name__}"))
    if is_a(owner, type) and any(part is step.thing for part in gc.get_referents(owner)):
        return _named(step, Root(owner.__module__, f"class attribute {owner.__module__}.{owner.__qualname__}"))
    if is_a(owner, _CACHE) and _namespace(owner) is not step.thing:
        step.text = ""
        return _cache(owner)
    if _is_fixture(owner) and _namespace(owner) is step.thing:
        _named(step, None)
        return _fixture(owner, step)
    return _self_of_test(owner, step) if _namespace(owner) is step.thing else None


def _owner_of(step: _Step, owners: list[Any]) -> _Step:
    """The object whose attributes a dict holds, in the dict's place; the same step for a dict that is a mapping."""
    for owner in owners:
        if _namespace(owner) is step.thing:
            _named(step, None)
            return _Step(owner, step.text, step.below)
        local = _local_of(owner)
        if local is not None:
            _named(step, None)
            return _Step(local, step.text, step.below)
    if step.text.startswith("\0"):
        step.text = _item(step.text[1:])
    return step


def _local_of(mapping: Any) -> Any:
    """The `threading.local` that keeps its attributes in each thread in a dict of dicts, else None."""
    if not is_a(mapping, dict) or type(next(iter(mapping), None)).__name__ not in ("ReferenceType", "_localdummy"):
        return None
    return next((each for each in gc.get_referrers(mapping) if is_a(each, _LOCAL)), None)


def _namespace(owner: object) -> object:
    try:
        return object.__getattribute__(owner, "__dict__")
    except Exception:  # noqa: BLE001  # an object without, or somebody's property of that name
        return None


def _cache(thing: object) -> Root:
    module = str(getattr(thing, "__module__", "?"))
    return Root(module, f"cache of {module}.{getattr(thing, '__qualname__', '?')}")


def _named(step: _Step, root: _RootOrNone) -> _RootOrNone:
    """Reads the key of a namespace as the attribute that it is."""
    if step.text.startswith("\0"):
        step.text = f".{step.text[1:]}"
    return root


def _of_thread(step: _Step, root: Root) -> str | None:
    """How a running thread holds what is below it, instead of how `threading` keeps the thread; None for others."""
    part = step.below if root.module == "threading" else None
    while part is not None and not is_a(part.thing, threading.Thread):
        part = part.below
    if part is None:
        return None
    path = part.path()
    for start, words in _OF_THREADS:
        key, closing, rest = path.removeprefix(start).partition("]")
        if path.startswith(start):
            return f"thread {part.thing.name!r}, {words}{key}{closing and rest}"
    return f"thread {part.thing.name!r}{path}"


# What a thread keeps of the call that it was made with.
_OF_THREADS: Final = (("._args[", "argument "), ("._kwargs[", "argument "), ("._target", "its target"))


def _is_fixture(thing: object) -> bool:
    return type(thing).__name__ == "FixtureDef" and module_of(thing).startswith("_pytest")


def _fixture(definition: object, step: _Step) -> Root:
    if step.text == ".cached_result" and step.below is not None and step.below.text == "[0]":
        step.text = step.below.text = ""  # how pytest keeps the value is nothing to its user
    return Root("", f"value of fixture {getattr(definition, 'argname', '?')!r}")


def _self_of_test(item: object, step: _Step) -> Root | None:
    """The instance of a test class, which pytest keeps with each of the tests: what hangs there is the test's own doing."""
    below = step.below
    if below is None or step.text not in ("._instance", "\0_instance") or not module_of(item).startswith("_pytest"):
        return None
    path, step.text, step.below = below.path(), "", None
    return Root("", f"self{path} of {type(below.thing).__qualname__}")


def _live(step: _Step) -> Root | None:
    """A frame or a task as the end of a path, used where no module, class or fixture is as near."""
    thing = step.thing
    if is_a(thing, types.FrameType):
        code = thing.f_code
        place = f"{code.co_filename.rpartition('/')[2]}:{thing.f_lineno}"
        return Root("", f"function {code.co_qualname} ({place}),{step.path()}")
    if type(thing).__name__ == "Task" and hasattr(thing, "get_name"):
        return Root("", f"task {thing.get_name()!r}")
    return None
