"""`multiprocessing`: the pipes of pools, queues and ended processes are nobody's leak by themselves."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.processrecords import PoolRecord, ProcessRecord, QueueRecord

MODULES = ("multiprocessing.process", "multiprocessing.pool", "multiprocessing.queues")


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
