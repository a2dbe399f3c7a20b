"""Records of what is never suspect itself, but has what is: executors, and the handlers of loggers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.records import Bystander


class ExecutorRecord(Bystander):
    """An executor, whose workers leak; it tells whose are those that start with a job."""

    __slots__ = ()

    kind: ClassVar[Kind] = Kind.THREADS
    LIBRARY = "concurrent.futures"


class HandlerRecord(Bystander):
    """A handler of loggers, whose file or socket leaks; it tells whether there is one of the same line already."""

    __slots__ = ()

    kind: ClassVar[Kind] = Kind.FDS
    LIBRARY = "logging"


def record_all(cls: Any, hooks: Any, name: str, new_record: Callable[[], Bystander]) -> Any:
    """Record all instances of a class in the table of that name; the answer is the table."""
    watch: Any = hooks.watch
    table = watch.table(name)

    def born(_: None, thing: Any, /, *args: Any, **kwargs: Any) -> None:
        record = new_record()
        table.put(thing, record)
        watch.add_lasting(record, opened=False)

    hooks.after(cls, "__init__", born)
    return table
