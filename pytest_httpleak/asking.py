"""Questions to objects that are not ours: they may answer with an error, and must not do anything for our sake."""

from __future__ import annotations

import builtins
import gc
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, Final

from pytest_httpleak.interruptions import pass_on

# The second is of Python 3.15 on.
MAPPINGS: Final = tuple(getattr(builtins, name) for name in ("dict", "frozendict") if hasattr(builtins, name))


def is_a(thing: object, kinds: type | tuple[type, ...]) -> bool:
    """As `isinstance`, by the type alone: some proxies make what they stand for when they are asked for their class."""
    return issubclass(type(thing), kinds)


def attribute(thing: object, name: str, default: Any = None) -> Any:
    """As `getattr`, whatever goes wrong."""
    try:
        return getattr(thing, name, default)
    except Exception as error:  # noqa: BLE001  # somebody's `__getattr__` or property
        pass_on(error)
        return default


def is_over(future: object) -> bool:
    """Whether that is one of asyncio's futures or tasks, and done: by its own word, whatever a class of the user's says."""
    cls = attribute(sys.modules.get("_asyncio"), "Future")
    return is_a(cls, type) and is_a(future, cls) and bool(cls.done(future))


def is_mock(thing: object) -> bool:
    """Whether that is one of `unittest.mock`'s, or a function that it has made in the likeness of another."""
    cls = attribute(sys.modules.get("unittest.mock"), "NonCallableMock")
    return (is_a(cls, type) and is_a(thing, cls)) or (is_a(thing, FunctionType) and "assert_called" in vars(thing))


def socket_inside(sock: Any) -> Any:
    """The socket in a wrapper, as asyncio, trio, and urllib3 for TLS in TLS and for pyOpenSSL make one."""
    inner = attribute(sock, "_sock")
    return attribute(sock, "socket") if inner is None else inner


def collect(generation: int = 2) -> int:
    """As `gc.collect`; where warnings are errors, those that finalizers raise then have this frame, which says nothing."""
    __tracebackhide__ = True
    return gc.collect(generation)


def referrers_of(things: Iterable[object]) -> list[Any]:
    """What the collector knows to refer to some objects, but for the tuple in which it is asked for them, which 3.13 finds."""
    parts = tuple(things)
    return [each for each in gc.get_referrers(*parts) if each is not parts] if parts else []


def referents_of(*things: object) -> list[Any]:
    """What the collector knows some objects to refer to; of a module its namespace alone.

    `_asyncio` of Python 3.12 also names what it has freed: to have that in hand, and let go of it, frees it once more, and
    the next collection never ends.
    """
    modules = [thing for thing in things if is_a(thing, ModuleType)]
    if not modules:
        return gc.get_referents(*things)
    others = (thing for thing in things if not is_a(thing, ModuleType))
    return [*gc.get_referents(*others), *(object.__getattribute__(module, "__dict__") for module in modules)]


def attributes_of(thing: object) -> dict[str, Any]:
    """What is in an object's `__dict__`, without a question to the object itself."""
    try:
        return dict(object.__getattribute__(thing, "__dict__"))
    except Exception as error:  # noqa: BLE001  # an object without, or somebody's property of that name
        pass_on(error)
        return {}


def own_attribute(thing: object, name: str) -> Any:
    """One entry of an object's `__dict__`, or None, without a question to the object itself."""
    try:
        return object.__getattribute__(thing, "__dict__").get(name)
    except Exception as error:  # noqa: BLE001  # as above
        pass_on(error)
        return None


def slots_of(thing: object) -> Iterator[tuple[str, Any]]:
    """The attributes that an object keeps outside of its `__dict__`: in its slots, or in the fields of a compiled class."""
    for cls in mro_of(type(thing)):
        own = defined_in(cls)
        for names in (own.get("__slots__"), own.get("__mypyc_attrs__")):
            if names is None:
                continue
            for name in (names,) if is_a(names, str) else tuple(names):
                try:
                    is_private = name.startswith("__") and not name.endswith("__")
                    whole = f"_{cls.__name__.lstrip('_')}{name}" if is_private else name
                    found = whole, object.__getattribute__(thing, whole)
                except Exception as error:  # noqa: BLE001  # an empty slot, or somebody's property of that name
                    pass_on(error)
                else:
                    yield found


def mro_of(cls: type) -> tuple[type, ...]:
    """The base classes of a class, itself included, without a question to its metaclass."""
    bases: tuple[type, ...] = _MRO(cls)
    return bases


_MRO: Final = type.__dict__["__mro__"].__get__


def defined_in(cls: type) -> Mapping[str, Any]:
    """What a class itself defines, without a question to its metaclass."""
    names: Mapping[str, Any] = _NAMES(cls)
    return names


_NAMES: Final = type.__dict__["__dict__"].__get__


def module_of(thing: object) -> str:
    """The name of the module of an object's class."""
    return str(attribute(type(thing), "__module__", ""))
