"""Places of a library that a search of the heap does not find: its context variables, and what code in C keeps for its caches."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import CodeType

from pytest_httpleak.asking import attribute, attributes_of, is_a, own_attribute, referrers_of
from pytest_httpleak.probes.paths import CACHE, Root


def place_of(thing: object, packages: frozenset[str], codes: set[CodeType]) -> Root | None:
    """The place of a module of `packages` that keeps `thing`, which functions of those codes have made; None if there is none.

    A context variable refers to no value, and contexts are referred to by what is at work alone. The results of a cached
    function, which `thing` was made in, may be objects of a class in C that does not tell the collector what it refers to: then
    nothing is known to refer to it, not even the frames of an error.
    """
    modules = [module for name, module in list(sys.modules.items()) if str(name).partition(".")[0] in packages]
    for module in modules:
        root = _variable(thing, module)
        if root is not None:
            return root
    if not codes or referrers_of((thing,)):
        return None
    return next(filter(None, (_cache(codes, module) for module in modules)), None)


def _variable(thing: object, module: object) -> Root | None:
    for name, value in attributes_of(module).items():
        if type(value) is ContextVar and value.get(None) is thing:
            of = str(attribute(module, "__name__"))
            return Root(of, f"context variable {of}.{name}", through=(type(thing),), place=f"{of}.{name}", own=thing)
    return None


def _cache(codes: set[CodeType], module: object) -> Root | None:
    for name, value in attributes_of(module).items():
        code = attribute(own_attribute(value, "__wrapped__"), "__code__") if is_a(value, CACHE) else None
        size = value.cache_info().currsize if is_a(code, CodeType) and code in codes else 0
        if size:
            of = str(attribute(module, "__name__"))
            return Root(of, f"cache of {of}.{name}", code=code, size=size, place=f"{of}.{name}")
    return None
