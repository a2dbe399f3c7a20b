"""sqlite3: the descriptors that SQLite opens for a connection, and the connection that they belong to."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.asking import is_a
from pytest_httpleak.cfunctions import heard
from pytest_httpleak.opennumbers import identity_of_file, open_numbers
from pytest_httpleak.records import Address

MODULES = ("sqlite3",)

_URI = 7  # the place of that argument
_IN_MEMORY = ("", ":memory:", b"", b":memory:")


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Note the birth of each descriptor that is there after a call of `connect` and was not before."""
    watch: Any = hooks.watch
    wall = hooks.wall

    def make(original: Any) -> Any:
        call = heard(original)

        def connect(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            file = _file_of(args, kwargs) if wall.on else None
            before = open_numbers() if file is not None else set()
            connection = call(*args, **kwargs)
            if wall.on:
                try:
                    place = _whereabouts(connection, library.Connection)
                    _forget(watch.holders, place)
                    watch.databases.add(id(connection))
                    if file is not None:
                        note(file, connection, place, before)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return connection

        def note(file: Any, connection: Any, place: Any, before: set[int]) -> None:
            made = open_numbers() - before if before else set()
            for fd in made:
                watch.descriptor_made(fd, 5, place)
            identity = None if made else identity_of_file(file)
            kept = (known for known, holder in list(watch.holders.values()) if is_a(holder, Address))
            if identity is not None and identity in kept:
                watch.may_take_over(identity, id(connection), place, 5)

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


def _file_of(args: Any, kwargs: Any) -> Any:
    """The file that a connection is asked for to; None for one in memory."""
    name = args[0] if args else kwargs.get("database")
    is_uri = args[_URI] if len(args) > _URI else kwargs.get("uri")
    if is_uri and is_a(name, str) and name.startswith("file:"):
        from urllib.parse import unquote, urlsplit  # here, as most do without

        name = unquote(urlsplit(name).path)
    return None if is_a(name, (str, bytes)) and name in _IN_MEMORY else name


def _whereabouts(connection: Any, cls: type) -> Any:
    """The address of a connection, which still says what was there when it is no more; somebody's own object itself."""
    return Address(id(connection), cls) if is_a(connection, cls) else connection
