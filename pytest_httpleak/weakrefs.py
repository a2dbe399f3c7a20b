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
    """A weak reference to a file, which may be detached from the object that it was opened as; None once it is closed."""

    __slots__ = ("_opened", "_raw")

    def __init__(self, opened: object, raw: io.FileIO) -> None:
        self._opened = weakref.ref(opened)
        self._raw = weakref.ref(raw)

    def __call__(self) -> Any:
        raw = self._raw()
        if raw is None or raw.closed:
            return None
        opened = self._opened()
        return raw if opened is None else opened


def reference_to_holder(thing: Any) -> Callable[[], Any] | Address:
    """The same as `reference`, of an object that has a descriptor."""
    raw = thing.buffer if type(thing) is io.TextIOWrapper else thing
    kind = type(raw)
    if kind is io.BufferedReader or kind is io.BufferedWriter or kind is io.BufferedRandom:
        raw = raw.raw
    return FileReference(thing, raw) if type(raw) is io.FileIO else reference(thing)
