"""Which objects have one place for each thing that they keep, as attributes are, and which take in any number of them."""

from __future__ import annotations

import contextlib
import functools
import types
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Final

from pytest_httpleak.asking import is_a, mro_of

# Of classes whose objects hand on, or take in, what they have. Whatever can be sent to is a function that has stopped.
_OF_CONTAINERS: Final = frozenset({"__getitem__", "__iter__", "__len__", "add", "append", "push", "put", "send"})
_OF_NAMESPACES: Final = ("__getattr__", "__setattr__")
_CALLS: Final = (types.MethodType, functools.partial)
_STACKS: Final = (contextlib.ExitStack, contextlib.AsyncExitStack)


def has_fields(thing: object) -> bool:
    """Whether something of C keeps other objects in fields of its own.

    So do a bound method, a `functools.partial`, a proxy of one object and the classes of extensions, but for those that
    are containers, iterators, generators or exceptions.
    """
    if is_a(thing, _CALLS):
        return True
    if is_a(thing, BaseException):
        return False
    names = set(_names(type(thing)))
    return "__wrapped__" in names or names.isdisjoint(_OF_CONTAINERS)


def is_record(values: tuple[Any, ...], value: object) -> bool:
    """Whether a tuple has names for its parts, or no other part of the same class as that one: `(client, lock)`."""
    if "_fields" in _names(type(values)):
        return True
    return len(values) > 1 and Counter(map(type, values))[type(value)] == 1


def may_be_field(owner: object, container: object) -> bool:
    """Whether a container has the arguments of a `functools.partial`, what a stack ends, or attributes that are made up."""
    if is_a(owner, functools.partial):
        return is_a(container, (tuple, dict))
    if is_stack(owner):
        return is_a(container, deque)
    return is_a(container, dict) and all(name in _names(type(owner)) for name in _OF_NAMESPACES)


def is_stack(thing: object) -> bool:
    """Whether that is an `ExitStack`, which ends whatever it has: any number of things."""
    return is_a(thing, _STACKS)


def is_cell(container: Any) -> bool:
    """Whether that has places for what it holds, and no more: a list to which something was added has room for others."""
    if is_a(container, list):
        return bool(list.__sizeof__(container) == list.__sizeof__([None] * len(container)))
    return is_a(container, tuple) or (is_a(container, dict) and len(container) == 1)


def is_by_class(mapping: dict[Any, Any]) -> bool:
    """Whether a dict has one place for each of some classes of a module: it is as long as the program is."""
    return all(is_a(key, type) and "<locals>" not in key.__qualname__ for key in list(mapping))


def _names(cls: type) -> Iterator[str]:
    """The names that a class and its bases define, but for `object`."""
    for base in mro_of(cls)[:-1]:
        yield from vars(base)
