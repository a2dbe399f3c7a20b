"""Connections of sqlite3, which no weak reference can be made to: whether one still is, and is open."""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a

BEGINNING: Final = b"SQLite format 3\0"  # of each of its databases that has anything in it
_TEMPORARY: Final = "etilqs_"


def living(addresses: Collection[int]) -> dict[int, Any]:
    """The objects of the heap at these addresses."""
    gc.unfreeze()  # see probes.references
    return {id(thing): thing for thing in gc.get_objects() if id(thing) in addresses}


def is_of_a_file(name: str, beginning: bytes) -> bool:
    """Whether a file of that name, which begins so, is one of SQLite's: a database, or what it has for itself for a time."""
    return beginning == BEGINNING or name.startswith(_TEMPORARY)


def are_open(known: Collection[int]) -> bool:
    """Whether connections are open, and `connect` has made them all; `known` are the addresses of those that it has made.

    Of one that somebody has made by its class, the file is not known: it may be any.
    """
    gc.unfreeze()  # see probes.references
    connections = [thing for thing in gc.get_objects() if is_database(type(thing))]
    are_known = [id(each) in known for each in connections if not is_over(each)]
    return bool(are_known) and all(are_known)


def is_database(cls: type) -> bool:
    """Whether a class is that of such connections."""
    # A test may have something else in the place of sqlite3.
    return issubclass(cls, attribute(sys.modules.get("_sqlite3"), "Connection", ()))


def is_over(connection: Any) -> bool:
    """Whether a connection is no more, or no good any more."""
    library: Any = sys.modules["_sqlite3"]
    if not is_a(connection, library.Connection):  # something else is at its address now
        return True
    try:
        library.Connection.in_transaction.__get__(connection)  # not what a class of somebody's makes of it
    except library.ProgrammingError:
        return True
    return False
