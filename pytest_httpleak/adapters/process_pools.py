"""`ProcessPoolExecutor`, which starts what it needs when the first job comes, whoever sends it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.bystanders import ExecutorRecord, record_all

MODULES = ("concurrent.futures.process",)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Let the owner of an executor answer for what it starts with its first jobs: processes, pipes, a thread."""
    watch: Any = hooks.watch
    executors = record_all(module.ProcessPoolExecutor, hooks, "executors", ExecutorRecord)

    def make(original: Any) -> Any:
        def submit(executor: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            record = executors.get(executor) if hooks.wall.on and watch.on else None
            if record is None or record.owner is None or record.owner.over:
                return original(executor, *args, **kwargs)
            with watch.acting_for(record.owner):
                return original(executor, *args, **kwargs)

        return submit

    hooks.patches.replace(module.ProcessPoolExecutor, "submit", make)
