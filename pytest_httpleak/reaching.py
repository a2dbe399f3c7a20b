"""The records of what lies inside an object: how wrapped pools are followed."""

from __future__ import annotations

from typing import Any

from pytest_httpleak.asking import MAPPINGS, attributes_of, is_a, slots_of
from pytest_httpleak.tables import Table


def reachable(thing: object, table: Table, *, depth: int = 3) -> list[Any]:
    """The records of `table` whose objects are `thing`, or lie in its attributes or their containers, `depth` deep.

    This is how wrapped pools are followed: a custom transport or adapter keeps the stock one in an attribute.
    """
    found: list[Any] = []
    seen: set[int] = set()
    level: list[object] = [thing]
    for _ in range(depth + 1):
        below: list[object] = []
        for each in level:
            if id(each) in seen or each is None or is_a(each, _PLAIN):
                continue
            seen.add(id(each))
            record = table.get(each)
            if record is not None:
                found.append(record)
            else:
                below += _parts(each)
        level = below[:_WIDEST]
    return found


def records_inside(thing: object, table: Table, *, depth: int) -> list[Any]:
    """The same without `thing` itself."""
    return [record for part in _parts(thing) for record in reachable(part, table, depth=depth - 1)]


_PLAIN = (str, bytes, int, float, bool, type)
_WIDEST = 500  # objects looked at on one level; a transport has a dozen attributes


def _parts(thing: Any) -> list[object]:
    if is_a(thing, MAPPINGS):
        return list(thing.values())
    if is_a(thing, (list, tuple, set, frozenset)):
        return list(thing)
    return [*attributes_of(thing).values(), *(value for _, value in slots_of(thing))]
