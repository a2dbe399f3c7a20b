"""Records of executors, which tell whose workers start with a job."""

from __future__ import annotations

from typing import Any, ClassVar

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.records import Bystander


class ExecutorRecord(Bystander):
    """An executor; its workers are what leaks, so it is never suspect itself."""

    __slots__ = ()

    kind: ClassVar[Kind] = Kind.THREADS
    LIBRARY = "concurrent.futures"


def record_executors(cls: Any, hooks: Any) -> Any:
    """Record the executors of a class; the answer is their table."""
    watch: Any = hooks.watch
    executors = watch.table("executors")

    def born(_: None, executor: Any, /, *args: Any, **kwargs: Any) -> None:
        record = ExecutorRecord()
        executors.put(executor, record)
        watch.add_lasting(record, opened=False)

    hooks.after(cls, "__init__", born)
    return executors
