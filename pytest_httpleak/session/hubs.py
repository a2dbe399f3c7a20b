"""Objects that lead to many resources, which are not held by whoever has such an object."""

from __future__ import annotations

from typing import Any

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.ownership import Watch
from pytest_httpleak.records import Record


def is_hub(watch: Watch, thing: Any) -> bool:
    """Whether it is a loop, a client, or a client's connection, which leads from an old response to the present one."""
    records = (table.get(thing) for table in watch.tables())
    return any(isinstance(record, Record) and _is_hub(record) for record in records)


def _is_hub(record: Record) -> bool:
    return record.kind in (Kind.CLIENTS, Kind.LOOPS) or record.destination() is not None
