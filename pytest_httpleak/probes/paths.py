"""A path to an object, in words: its steps, and the module, class, cache, fixture, frame or task that it begins at."""

from __future__ import annotations

import functools
import gc
import re
import sys
import threading
import types
from typing import Any, Final, NamedTuple

from pytest_httpleak.asking import attribute, is_a, is_over, module_of, mro_of, own_attribute

CACHE: Final = type(functools.lru_cache(lambda: None))
_LONGEST_KEY: Final = 60
_ITEM: Final = re.compile(r"^\[(.*?)\]")
_KEY: Final = "\0"  # begins the text of a key that may yet be an attribute


class Root(NamedTuple):
    """Where a path to an object begins: the module that the place belongs to, and the whole path in words.

    `end` is the object there, if it is one that the search was told it may end at. `through` are the classes of the objects
    that the path leads through, that of the place's own object first. `code` is that of a cached function, which has `size`
    results. `place` names what the module, class or cache has there, which is `own`; of what pytest has, the test itself is.
    """

    module: str
    text: str
    end: object = None
    through: tuple[type, ...] = ()
    code: types.CodeType | None = None
    size: int = 1
    place: str = ""
    own: object = None


class Step:
    """One referrer on the way up: what it is, and the text that leads from it to the object below."""

    __slots__ = ("below", "contains", "text", "thing")

    def __init__(self, thing: Any, text: str, below: Step | None, *, contains: bool = False) -> None:
        self.thing = thing
        self.text = text
        self.below = below
        self.contains = contains  # a list, a dict or the like, which may hold any number of such objects

    def path(self) -> str:
        """The way from here to the object."""
        parts = []
        step: Step | None = self
        while step is not None:
            parts.append(step.text)
            step = step.below
        return "".join(parts)

    def classes(self) -> tuple[type, ...]:
        """The classes of what the way leads through, without the object that it leads to."""
        found: list[type] = []
        step: Step | None = self.below
        while step is not None and step.below is not None:
            found.append(type(step.thing))
            step = step.below
        return tuple(found)

    def has_name(self) -> bool:
        """Whether a key of a dict is a string that may yet be an attribute."""
        return self.text.startswith(_KEY)

    def read_as_attribute(self) -> None:
        """Let the key of a namespace be the attribute that it is."""
        if self.has_name():
            self.text = f".{self.text[1:]}"

    def read_as_item(self) -> None:
        """Let the key be one of a mapping."""
        if self.has_name():
            self.text = _item(self.text[1:])


# As in the text of an object without one of its own: it is another one in each run.
_ADDRESS: Final = re.compile(r" at 0x[0-9A-Fa-f]+")


def key_text(key: object) -> str:
    """The text of a step from a dict: whether it is an attribute is told by what refers to the dict."""
    if type(key) is str:
        return _KEY + key
    return _item(key)


def _item(key: object) -> str:
    try:
        text = repr(key)
        if type(key) is not str and type(key) is not bytes:
            text = _ADDRESS.sub("", text)
    except Exception:  # noqa: BLE001  # somebody's `__repr__`
        return "[...]"
    return f"[{text}]" if len(text) <= _LONGEST_KEY else f"[{text[:_LONGEST_KEY]}...]"


def root_of(step: Step, owners: list[Any]) -> Root | None:
    """The name of the place where a path ends, or None if `step` is only a part of the way.

    The owners are what refers to a dict.
    """
    thing = step.thing
    if is_a(thing, (CACHE, type)):
        return _end(thing, step)
    if is_a(thing, types.ModuleType):
        return _module(thing.__name__)
    if is_a(thing, dict):
        return _namespace(step, owners)
    return _fixture(thing, step) if _is_fixture(thing) else _of_test(thing, step)


def _namespace(step: Step, owners: list[Any]) -> Root | None:
    root = next(filter(None, (_owning(owner, step) for owner in owners)), None)
    if root is not None:
        return root
    name = step.thing.get("__name__")
    if is_a(name, str) and "__builtins__" in step.thing:
        step.read_as_attribute()
        return _module(name)
    return None


def _owning(owner: Any, step: Step) -> Root | None:
    """The name of the place that a dict is the namespace of, or the values of; None if that is no end of a path."""
    if is_a(owner, types.ModuleType) and vars(owner) is step.thing:
        step.read_as_attribute()
        return _module(owner.__name__)
    if is_a(owner, type) and any(part is step.thing for part in gc.get_referents(owner)):
        step.read_as_attribute()
        return _end(owner, step)
    if is_a(owner, CACHE) and _attributes(owner) is not step.thing:
        return _end(owner, step)
    if _is_fixture(owner) and _attributes(owner) is step.thing:
        step.read_as_attribute()
        return _fixture(owner, step)
    return _of_test(owner, step) if _attributes(owner) is step.thing else None


def _module(name: str) -> Root:
    return Root(name, f"module attribute {name}")


def _end(thing: Any, step: Step) -> Root | None:
    """A class or a cached function as the end of a path; None for one made by a call, which lives while it is kept."""
    sort = "class attribute" if is_a(thing, type) else "cache of"
    module, name = str(attribute(thing, "__module__", "?")), str(attribute(thing, "__qualname__", "?"))
    lasts = "<locals>" not in name and not _is_another(_named(module, name), thing)
    root = Root(module, f"{sort} {module}.{name}")
    if is_a(thing, CACHE):
        step.text = "" if lasts else "(...)"
        code = attribute(own_attribute(thing, "__wrapped__"), "__code__")
        root = root._replace(code=code, size=thing.cache_info().currsize)
    return root if lasts else None


def _named(module: str, name: str) -> Any:
    """What a module has by that name; nothing is asked of the module or a class itself."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = own_attribute(found, part)
    return found


def _is_another(found: object, thing: object) -> bool:
    """Whether a name stands for another thing of the same sort, as that of the class that each mock makes for itself."""
    return found is not thing and is_a(found, type if is_a(thing, type) else CACHE)


def _is_fixture(thing: object) -> bool:
    return type(thing).__name__ == "FixtureDef" and module_of(thing).startswith("_pytest")


def _fixture(definition: object, step: Step) -> Root:
    if step.text == "._finalizers":
        step.text, step.below = "", None
        return Root("", f"finalizer of fixture {getattr(definition, 'argname', '?')!r}")
    if step.text == ".cached_result" and step.below is not None and step.below.text == "[0]":
        step.text = step.below.text = ""  # how pytest keeps the value is nothing to its user
    return Root("", f"value of fixture {getattr(definition, 'argname', '?')!r}")


def _of_test(item: object, step: Step) -> Root | None:
    """What pytest keeps with each test: the instance of its class, on which the test hangs things, or a fixture's value."""
    below, name = step.below, step.text.removeprefix(".").removeprefix(_KEY)
    if below is None or name not in ("_instance", "funcargs") or not _is_of_pytest(type(item)):
        return None
    path, step.text, step.below = below.path(), "", None
    if name == "_instance":
        return Root("", f"self{path} of {type(below.thing).__qualname__}", own=item)
    return Root("", _ITEM.sub(r"value of fixture \1", path, count=1), own=item)


def _is_of_pytest(cls: type) -> bool:
    """Whether a class is pytest's own, or another plugin's that is derived from one, as those of asynchronous tests are."""
    return any(str(attribute(base, "__module__")).startswith("_pytest.") for base in mro_of(cls))


def of_thread(step: Step, root: Root) -> str | None:
    """How a running thread holds what is below it, instead of how `threading` keeps the thread; None for others."""
    part = step.below if root.module == "threading" else None
    while part is not None and not is_a(part.thing, threading.Thread):
        part = part.below
    if part is None:
        return None
    path = part.path()
    for start, words in _OF_THREADS:
        if path.startswith(start):
            rest = path.removeprefix(start)
            return f"thread {part.thing.name!r}, {words}{rest.replace(']', '', 1) if start.endswith('[') else rest}"
    return f"thread {part.thing.name!r}{path}"


# What a thread keeps of the call that it was made with.
_OF_THREADS: Final = (("._args[", "argument "), ("._kwargs[", "argument "), ("._target", "its target"))


def task_at(step: Step) -> Root | None:
    """A task that is not over as the end of a path, used where no module, class or fixture is as near."""
    thing = step.thing
    is_task = type(thing).__name__ == "Task" and hasattr(thing, "get_name") and not is_over(thing)
    return Root("asyncio", f"task {thing.get_name()!r}") if is_task else None


def frame_at(step: Step) -> Root | None:
    """A frame as the end of a path: only one that is over, and that a traceback or the like keeps, refers to its variables."""
    if not is_a(step.thing, types.FrameType):
        return None
    return Root(str(step.thing.f_globals.get("__name__")), f"function {place_of(step.thing)},{step.path()}")


def place_of(frame: types.FrameType) -> str:
    """`fetch (client.py:12)`: a function, and the line that it is at."""
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename.rpartition('/')[2]}:{frame.f_lineno})"


def owner_of(step: Step, owners: list[Any]) -> Step:
    """The object whose attributes a dict holds, in the dict's place; the same step for a dict that is a mapping."""
    for owner in owners:
        is_namespace = _attributes(owner) is step.thing or is_a(owner, (CACHE, type))
        thing = owner if is_namespace else _local_of(owner)
        if thing is not None:
            step.read_as_attribute()
            return Step(thing, step.text, step.below)
    step.read_as_item()
    return step


def _attributes(owner: object) -> object:
    try:
        return object.__getattribute__(owner, "__dict__")
    except Exception:  # noqa: BLE001  # an object without, or somebody's property of that name
        return None


def _local_of(mapping: Any) -> Any:
    """The `threading.local` that keeps its attributes in each thread in a dict of dicts, else None."""
    if not is_a(mapping, dict) or type(next(iter(mapping), None)).__name__ not in ("ReferenceType", "_localdummy"):
        return None
    return next((each for each in gc.get_referrers(mapping) if any(map(_is_local, mro_of(type(each))))), None)


def _is_local(cls: type) -> bool:
    """Whether a class is that of thread-local data; by its name, as each copy of its module that is imported has its own."""
    return (attribute(cls, "__module__"), attribute(cls, "__name__")) == ("_thread", "_local")
