"""sqlite3: the descriptors that SQLite opens for a connection, and the connection that they belong to."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.asking import is_a
from pytest_httpleak.opennumbers import open_numbers
from pytest_httpleak.records import Address

MODULES = ("sqlite3",)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Note the birth of each descriptor that is there after a call of `connect` and was not before."""
    watch: Any = hooks.watch
    wall = hooks.wall

    def make(original: Any) -> Any:
        def connect(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            before = open_numbers() if wall.on else set()
            connection = original(*args, **kwargs)
            if before:
                try:
                    for fd in open_numbers() - before:
                        watch.descriptor_made(fd, 4, _whereabouts(connection, library.Connection))
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


def _whereabouts(connection: Any, cls: type) -> Any:
    """The address of a connection, which still says what was there when it is no more; somebody's own object itself."""
    return Address(id(connection), cls) if is_a(connection, cls) else connection
