"""sqlite3: the descriptors that SQLite opens for a connection, and the connection that they belong to."""

from __future__ import annotations

import inspect
import os
import sys
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.asking import is_a
from pytest_httpleak.cfunctions import heard
from pytest_httpleak.databases import is_over, living
from pytest_httpleak.opennumbers import is_open, open_numbers
from pytest_httpleak.records import Address

MODULES = ("sqlite3",)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Note the birth of each descriptor that is there after a call of `connect` and was not before."""
    watch: Any = hooks.watch
    wall = hooks.wall

    def make(original: Any) -> Any:
        call = heard(original)

        def connect(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            before = open_numbers() if wall.on else set()
            connection = call(*args, **kwargs)
            if before:
                try:
                    place = _whereabouts(connection, library.Connection)
                    _forget(watch.holders, place)
                    for fd in (open_numbers() - before) or _taken_over(watch, args):
                        watch.descriptor_made(fd, 4, place)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return connection

        return connect

    # Django and SQLAlchemy know the function by its other name, that of the module which it comes from.
    library: Any = sys.modules.get("sqlite3.dbapi2", module)
    original = library.connect
    hooks.patches.replace(library, "connect", make)
    wrapper = library.connect
    if wrapper is original:  # patched already, and copied from there by a module that is loaded again
        original = inspect.unwrap(wrapper)
    if module.connect in (original, wrapper):
        module.connect = original  # type: ignore[attr-defined]  # to be put back
        hooks.patches.put(module, "connect", wrapper)
    else:
        hooks.patches.replace(module, "connect", make)


def _forget(holders: dict[int, Any], place: Any) -> None:
    """Of an earlier connection at the same address nothing is left."""
    for fd, (identity, holder) in list(holders.items()) if is_a(place, Address) else ():
        if holder == place:
            holders[fd] = identity, Address(0, holder.cls)


def _taken_over(watch: Any, args: Any) -> list[int]:
    """What SQLite has kept of closed connections with a file, and a new one with that file may have taken over."""
    holders = [(fd, *found) for fd, found in list(watch.holders.items()) if is_a(found[1], Address)]
    try:
        status = os.stat(args[0]) if holders else None
    except (IndexError, OSError, TypeError, ValueError):  # in memory, or a file by URI
        return []
    kept = [] if status is None else [each for each in holders if each[1] == (status.st_dev, status.st_ino)]
    found = living({holder.key for _, _, holder in kept}) if kept else {}
    return [fd for fd, _, holder in kept if is_over(found.get(holder.key)) and is_open(fd)]


def _whereabouts(connection: Any, cls: type) -> Any:
    """The address of a connection, which still says what was there when it is no more; somebody's own object itself."""
    return Address(id(connection), cls) if is_a(connection, cls) else connection
