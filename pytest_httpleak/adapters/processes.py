"""The pipes that `multiprocessing` keeps with what was closed or has ended: open until the garbage collector takes that."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.records import Bystander

MODULES = ("multiprocessing.process", "multiprocessing.pool", "multiprocessing.queues")


class ProcessRecord(Bystander):
    """A started process; while it runs, the pipe that tells of its end is what shows that it was left."""

    __slots__ = ()

    kind: ClassVar[Kind] = Kind.FDS
    LIBRARY = "multiprocessing"

    def descriptors(self) -> Iterator[int]:
        process = self.ref()
        if attribute(attribute(process, "_popen"), "returncode") is not None:
            yield from _sentinels(process)


class PoolRecord(ProcessRecord):
    """A pool, which has no way to close its pipes; where it was left running, its threads are the leak."""

    __slots__ = ()

    def descriptors(self) -> Iterator[int]:
        pool = self.ref()
        for queue in ("_change_notifier", "_inqueue", "_outqueue"):
            yield from _ends(attribute(pool, queue))
        for process in list(attribute(pool, "_pool") or ()):
            yield from _sentinels(process)


class QueueRecord(ProcessRecord):
    """A queue; closed where nothing was put into it, it keeps its pipe open all the same."""

    __slots__ = ()

    def descriptors(self) -> Iterator[int]:
        queue = self.ref()
        if attribute(queue, "_closed") is True:
            yield from _ends(queue)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record processes that are started, pools, and queues."""
    watch: Any = hooks.watch
    table = watch.table("processes")

    def started(_: None, process: Any, /, *args: Any, **kwargs: Any) -> None:
        keep(process, ProcessRecord())

    def born(_: None, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        keep(pool, PoolRecord())

    def queue_born(_: None, queue: Any, /, *args: Any, **kwargs: Any) -> None:
        keep(queue, QueueRecord())

    def keep(thing: Any, record: ProcessRecord) -> None:
        table.put(thing, record)
        watch.add(record, opened=False)

    if module.__name__ == "multiprocessing.process":
        hooks.after(module.BaseProcess, "start", started)
    elif module.__name__ == "multiprocessing.pool":
        hooks.after(module.Pool, "__init__", born)
    else:
        hooks.after(module.Queue, "__init__", queue_born)


def _ends(queue: Any) -> Iterator[int]:
    """The ends of a queue's pipe that are open."""
    for end in ("_reader", "_writer"):
        pipe = attribute(queue, end)
        if attribute(pipe, "closed", True) is False:
            yield pipe.fileno()


def _sentinels(process: Any) -> Iterator[int]:
    """The ends of the pipe by which a process tells that it has ended, as long as they are open."""
    finalizer = attribute(attribute(process, "_popen"), "finalizer")
    if finalizer is not None and finalizer.still_active():
        yield from (fd for fd in attribute(finalizer, "_args", ()) if is_a(fd, int))
