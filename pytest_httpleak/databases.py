"""Connections of sqlite3, which no weak reference can be made to: whether one still is, and is open."""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection
from typing import Any

from pytest_httpleak.asking import attribute, is_a


def living(addresses: Collection[int]) -> dict[int, Any]:
    """The objects of the heap at these addresses."""
    gc.unfreeze()  # see probes.references
    return {id(thing): thing for thing in gc.get_objects() if id(thing) in addresses}


def is_database(cls: type) -> bool:
    """Whether a class is that of such connections."""
    return issubclass(cls, attribute(sys.modules.get("sqlite3"), "Connection", ()))


def is_over(connection: Any) -> bool:
    """Whether a connection is no more, or no good any more."""
    library: Any = sys.modules["sqlite3"]
    if not is_a(connection, library.Connection):  # something else is at its address now
        return True
    try:
        library.Connection.in_transaction.__get__(connection)  # not what a class of somebody's makes of it
    except library.ProgrammingError:
        return True
    return False
