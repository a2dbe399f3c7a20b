"""Tables of records by the identity of the objects that these are of."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from pytest_httpleak.records import Record


class KeyedRef(weakref.ref):  # type: ignore[type-arg]  # the class is not generic at run time in a subclass with slots
    """A weak reference that knows its record, so that one shared callback serves all."""

    __slots__ = ("record",)
    record: Record


class Table:
    """Records by the identity of their object, forgotten when the object dies."""

    __slots__ = ("_forget", "gone", "passing", "records")

    def __init__(self) -> None:
        self.records: dict[int, Any] = {}
        self.passing = False  # set where its records come and go with each request
        self.gone: Callable[[Any], None] | None = None  # set by the adapter that fills the table
        records = self.records

        def forget(ref: KeyedRef) -> None:
            record = ref.record
            if records.get(record.key) is record:
                del records[record.key]
            if record.ref is ref:
                record.ref = _dead  # a cycle of the two would be garbage for the collector: some suites count it
            if self.gone is not None:
                self.gone(record)

        self._forget = forget

    def put(self, thing: object, record: Record) -> None:
        """Record `thing`, weakly."""
        ref = KeyedRef(thing, self._forget)
        ref.record = record
        record.ref = ref
        record.key = id(thing)
        self.records[record.key] = record

    def get(self, thing: object) -> Any:
        """The record of `thing`, or None: before another object can have its identity, its record is forgotten."""
        return self.records.get(id(thing))

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.records.values()))


def _dead() -> None:
    """What a weak reference gives once its object is gone."""
