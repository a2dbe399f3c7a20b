"""Records of what `multiprocessing` keeps pipes with: open until the garbage collector takes that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, ClassVar

from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.records import Bystander


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

    def pipes_of(self, thread: Any) -> Iterator[int]:
        """The pipe that a thread of the queue's writes to, and which ends with that."""
        queue = self.ref()
        if attribute(queue, "_thread") is thread:
            yield from _ends(queue)


def managed_by(thread: Any) -> Iterator[int]:
    """The pipes of the `ProcessPoolExecutor` that a thread manages, and of its processes: they end with the thread.

    The thread is asked, as an executor that was shut down has let go of all of them.
    """
    if type(thread).__module__ == "concurrent.futures.process":
        for pipe in ("call_queue", "result_queue", "thread_wakeup"):
            yield from _ends(attribute(thread, pipe))
        for process in list((attribute(thread, "processes") or {}).values()):
            yield from _sentinels(process)


def has_nothing_to_do(thread: Any) -> bool | None:
    """Whether nothing is asked of the executor of processes, pool or queue that a thread works for; None for other threads."""
    if type(thread).__module__ == "concurrent.futures.process":
        return not attribute(thread, "pending_work_items", default=True)
    target, given = attribute(thread, "_target"), attribute(thread, "_args")
    module, name = attribute(target, "__module__"), attribute(target, "__name__")
    if module not in ("multiprocessing.queues", "multiprocessing.pool") or type(given) is not tuple:
        return None
    frame, own = sys._current_frames().get(thread.ident), attribute(target, "__code__")
    if module == "multiprocessing.queues":  # and not in what writes to a pipe, which may be full
        waits = frame is not None and frame.f_code.co_name == "wait" and attribute(frame.f_back, "f_code") is own
        return waits and not (given and given[0])
    if name == "worker":
        return frame is not None and frame.f_code is own  # and not in what it was given
    return not any(each for each in given if type(each).__name__ == "_PoolCache")


def _ends(queue: Any) -> Iterator[int]:
    """The ends of the pipe of a queue, or the like, that are open."""
    for end in ("_reader", "_writer"):
        pipe = attribute(queue, end)
        if attribute(pipe, "closed", True) is False:
            yield pipe.fileno()


def _sentinels(process: Any) -> Iterator[int]:
    """The ends of the pipe by which a process tells that it has ended, as long as they are open."""
    finalizer = attribute(attribute(process, "_popen"), "finalizer")
    if finalizer is not None and finalizer.still_active():
        yield from (fd for fd in attribute(finalizer, "_args", ()) if is_a(fd, int))
