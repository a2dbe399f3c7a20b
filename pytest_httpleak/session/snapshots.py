"""How much of each kind is open in the process at one moment."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from typing import Any

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import descriptors, infrastructure, tasks
from pytest_httpleak.session.poolfigures import pools


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts of what is open; the difference of two snapshots is what was added between them, negative where less is open.

    `fds` are all descriptors of the process; `sockets` those that this side made, event loops' own pipes left out.
    """

    sockets: int = 0
    fds: int = 0
    tasks: int = 0
    threads: int = 0
    loops: int = 0
    responses: int = 0
    connections: int = 0
    clients: int = 0
    pools: int = 0

    def __sub__(self, earlier: Snapshot) -> Snapshot:
        if not isinstance(earlier, Snapshot):
            return NotImplemented
        return Snapshot(*(getattr(self, each.name) - getattr(earlier, each.name) for each in fields(Snapshot)))


def _is_of_the_runner(watch: Watch, task: Any, asking: Any) -> bool:
    """Whether a task is the one that a test runner has made for the test that asks."""
    if task is not asking:
        return False
    known = watch.lent[id(task)] if id(task) in watch.lent else watch.of_task(task)
    return known is not None and not known[0].is_users()


def snapshot(watch: Watch) -> Snapshot:
    """Count what is open now."""
    counts = dict.fromkeys(Kind, 0)
    loops = watch.table("loops")
    loop_fds = {fd for loop in loops for fd in loop.descriptors()}
    for record in watch.everything():
        if record.inner or record.kind in (Kind.TASKS, Kind.THREADS, Kind.LOOPS) or not record.is_open():
            continue
        if record.kind is Kind.SOCKETS and any(fd in loop_fds for fd in record.descriptors()):
            continue
        counts[record.kind] += 1
    asking = watch.task_at_work()
    pending = [task for loop in watch.open_loops() for task in tasks.pending(loop)]
    threads = [thread for thread in threading.enumerate() if not infrastructure.is_tool_thread(thread.name)]
    return Snapshot(
        sockets=counts[Kind.SOCKETS],
        fds=descriptors.count() or len(descriptors.listing()),
        tasks=sum(not _is_of_the_runner(watch, task, asking) for task in pending),
        threads=len(threads),
        loops=sum(
            loops.get(loop) is not None for loop in watch.open_loops()
        ),  # an older one is met with its first task
        responses=counts[Kind.RESPONSES],
        connections=counts[Kind.CONNECTIONS],
        clients=counts[Kind.CLIENTS],
        pools=len(pools(watch)),
    )
