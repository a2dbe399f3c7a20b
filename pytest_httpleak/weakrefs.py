"""References to resources that keep none of them alive."""

from __future__ import annotations

import io
import weakref
from collections.abc import Callable
from typing import Any

from pytest_httpleak.model.facts import Facts


class Address(Facts):
    """Where an object was that no weak reference can be made to; only a look at the heap tells whether it still is."""

    key: int
    cls: type


def reference(thing: object) -> Callable[[], Any] | Address:
    """A weak reference, or the address of an object that does without; an address is one already."""
    if type(thing) is Address:
        return thing
    try:
        return weakref.ref(thing)
    except TypeError:
        return Address(id(thing), type(thing))


class FileReference:
    """A weak reference to a file, by what it was opened as unless it was detached from that; None once it is closed."""

    __slots__ = ("_opened", "_raw")

    def __init__(self, opened: object, raw: io.FileIO) -> None:
        self._opened = weakref.ref(opened)
        self._raw = weakref.ref(raw)

    def __call__(self) -> Any:
        raw = self._raw()
        if raw is None or raw.closed:
            return None
        opened = self._opened()
        return opened if _raw_of(opened) is raw else raw


def _raw_of(opened: Any) -> Any:
    """The file below what was opened, by the layers of `io`; None where one of them was detached."""
    try:
        inner = opened.buffer if type(opened) is io.TextIOWrapper else opened
        kind = type(inner)
        is_buffered = kind is io.BufferedReader or kind is io.BufferedWriter or kind is io.BufferedRandom
        return inner.raw if is_buffered else inner
    except ValueError:
        return None


def reference_to_holder(thing: Any) -> Callable[[], Any] | Address:
    """The same as `reference`, of an object that has a descriptor."""
    raw = _raw_of(thing)
    return FileReference(thing, raw) if type(raw) is io.FileIO else reference(thing)
