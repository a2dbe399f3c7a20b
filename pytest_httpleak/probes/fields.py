"""Which objects have one place for each thing that they keep, as attributes are, and which take in any number of them."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Final, get_args

from pytest_httpleak.asking import MAPPINGS, attribute, defined_in, is_a, module_of, mro_of, own_attribute, slots_of
from pytest_httpleak.userfiles import file_of_class, is_user_class, is_user_module

# Of classes whose objects hand on, or take in, what they have. Whatever can be sent to is a function that has stopped.
_OF_CONTAINERS: Final = frozenset({"__getitem__", "__iter__", "__len__", "add", "append", "push", "put", "send"})
_OF_PROGRAMS: Final = ("__module__", "__builtins__")  # that the namespaces of classes and of modules have
_OF_NAMESPACES: Final = ("__getattr__", "__setattr__")
_CALLS: Final = (types.MethodType, functools.partial)
_OF_MAPPINGS: Final = ("__getitem__", "__setitem__", "__delitem__", "__iter__", "keys")
_WRAPPED: Final = "__wrapped__"
_QUEUES: Final = ("queue", "asyncio.queues")
_STACKS: Final = (contextlib.ExitStack, contextlib.AsyncExitStack)


def has_fields(thing: object) -> bool:
    """Whether something of C keeps other objects in fields of its own.

    So do a bound method, a `functools.partial`, a proxy of one object, a future or task that is done, and the classes of
    extensions, but for those that are containers, iterators, generators or exceptions.
    """
    if is_a(thing, _CALLS) or _is_done(thing):
        return True
    if is_a(thing, BaseException):
        return False
    names = set(_names(type(thing)))
    return _WRAPPED in names or names.isdisjoint(_OF_CONTAINERS)


def is_record(values: tuple[Any, ...], value: object) -> bool:
    """Whether a tuple has names for its parts, or no other part of the same class as that one: `(client, lock)`."""
    if "_fields" in _names(type(values)):
        return True
    return len(values) > 1 and Counter(map(type, values))[type(value)] == 1


def may_be_field(owner: object, container: object) -> bool:
    """Whether a container has arguments, what a stack ends, made up attributes, or kept results.

    Arguments are those of a `functools.partial`, and what a function takes where it is given none.
    """
    if is_a(owner, types.FunctionType) and is_default(owner, container):
        return True
    if is_a(owner, functools.partial):
        return is_a(container, (tuple, dict))
    if is_stack(owner):
        return is_a(container, deque)
    if is_memo(owner):
        return is_a(container, dict) or is_mapping(container)
    return is_a(container, dict) and _is_namespace(owner)


def is_default(function: Any, container: object) -> bool:
    """Whether a container has the defaults of a function's parameters."""
    return container is function.__defaults__ or container is function.__kwdefaults__


def _is_namespace(thing: object) -> bool:
    return all(name in _names(type(thing)) for name in _OF_NAMESPACES)


def is_memo(thing: object) -> bool:
    """Whether that is a library's and stands for a function, the results of which it may keep, as `functools.cache` does."""
    stands_for = own_attribute(thing, _WRAPPED), dict(slots_of(thing)).get(_WRAPPED)
    if not any(is_a(function, (types.FunctionType, types.MethodType)) for function in stands_for):
        return False
    if is_a(thing, types.FunctionType):
        function: Any = thing
        return not is_user_module(str(function.__globals__.get("__name__")), function.__code__.co_filename)
    return file_of_class(type(thing)) is not None and not is_user_class(type(thing))


def is_mapping(thing: object) -> bool:
    """Whether an object of a class of somebody's is a mapping: the dict in which that has its items is no attribute."""
    names = set(_names(type(thing)))
    return names.issuperset(_OF_MAPPINGS) and not is_a(thing, dict)


def is_queue(thing: object) -> bool:
    """Whether that is a queue of the standard library's, which is one container with the one that it has its items in."""
    return any(attribute(cls, "__module__") in _QUEUES for cls in mro_of(type(thing)))


def _is_done(thing: object) -> bool:
    """Whether that is a future, which keeps its result and nothing else."""
    future = attribute(sys.modules.get("_asyncio"), "Future")
    return is_a(future, type) and is_a(thing, future) and future.done(thing) is True


def is_stack(thing: object) -> bool:
    """Whether that is an `ExitStack`, which ends whatever it has: any number of things."""
    return is_a(thing, _STACKS)


def is_cell(container: Any) -> bool:
    """Whether that has places for what it holds, and no more: a list to which something was added has room for others."""
    if is_a(container, list):
        return bool(list.__sizeof__(container) == list.__sizeof__([None] * len(container)))
    if is_a(container, dict):
        return len(container) == 1
    return is_a(container, (tuple, *MAPPINGS))


def is_by_class(mapping: dict[Any, Any]) -> bool:
    """Whether a dict has one place for each of some classes of a module: it is as long as the program is."""
    return all(map(_is_of_classes, list(mapping)))


def is_shared_state(state: dict[str, Any], owner: object) -> bool:
    """Whether a dict is what all objects of a class have as their attributes (the Borg pattern), by the names of `owner`.

    That is the namespace of the class, or of the module that it is in, where a function of the class puts the dict of that
    name in the place of its object's `__dict__`.
    """
    namespace: Any = owner
    if type(owner) is not dict or not any(name in namespace for name in _OF_PROGRAMS):
        return False
    values = list(namespace.values())
    names = {name for name, value in list(namespace.items()) if value is state and is_a(name, str)}
    of_classes = (part for value in values if is_a(value, type) for part in list(defined_in(value).values()))
    return bool(names) and any(_shares(part, names) for part in (*values, *of_classes))


def _shares(thing: Any, names: set[str]) -> bool:
    """Whether a function gives its object a dict of one of these names for its attributes."""
    function: Any = attribute(thing, "__func__") if is_a(thing, (staticmethod, classmethod)) else thing
    if not is_a(function, types.FunctionType) or names.isdisjoint(function.__code__.co_names):
        return False
    import dis  # here, as few leaks are kept so

    return any(each.opname == "STORE_ATTR" and each.argval == "__dict__" for each in dis.get_instructions(function))


def _is_of_classes(key: Any) -> bool:
    """Whether a key is a class of a module, or is made up of such: `Client | None`, `(Client, None)`."""
    if is_a(key, type):
        return "<locals>" not in key.__qualname__
    if is_a(key, tuple):
        classes = [part for part in key if part is not None]
        return len(classes) == 1 and is_a(classes[0], type) and _is_of_classes(classes[0])
    is_alias = is_a(key, (types.UnionType, types.GenericAlias)) or module_of(key) == "typing"
    parts = [part for part in (get_args(key) if is_alias else ()) if part is not None]
    return bool(parts) and all(map(_is_of_classes, parts))


def _names(cls: type) -> Iterator[str]:
    """The names that a class and its bases define, but for `object`."""
    for base in mro_of(cls)[:-1]:
        yield from defined_in(base)
