"""Jobs for the worker threads of executors, pools, anyio and trio: whoever hands one in answers for what it makes."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.bystanders import ExecutorRecord, record_all
from pytest_httpleak.records import Worker
from pytest_httpleak.wrappers import stand_in

MODULES = ("concurrent.futures.thread", "multiprocessing.pool", "anyio._backends._asyncio", "trio._core._thread_cache")


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Let each job be done for whoever has handed it in, as from the line that did."""
    _ATTACH[module.__name__](module, hooks)


def _executors(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    jobs: Any = weakref.WeakKeyDictionary()

    def submitted(_: None, item: Any, /, *args: Any, **kwargs: Any) -> None:
        jobs[item] = Worker(watch.owner(), watch.birth())

    def make(original: Any) -> Any:
        def run(item: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            job = jobs.pop(item, None)
            if job is None:
                return original(item, *args, **kwargs)
            return _lent(watch.borrowed, job, original, item, *args, **kwargs)

        return run

    record_all(module.ThreadPoolExecutor, hooks, "executors", ExecutorRecord)
    item_class = getattr(module, "_WorkItem", None)
    if item_class is not None:
        hooks.after(item_class, "__init__", submitted)
        hooks.patches.replace(item_class, "run", make)


def _pools(module: ModuleType, hooks: Hooks) -> None:
    def make(original: Any) -> Any:
        def submit(pool: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            return original(pool, _job(func, hooks), *args, **kwargs)

        return submit

    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):  # what all others come down to
        if hasattr(module.ThreadPool, name):
            hooks.patches.replace(module.ThreadPool, name, make)


def _anyio(module: ModuleType, hooks: Hooks) -> None:
    backend = getattr(module, "AsyncIOBackend", None)
    # The second is the way of a portal: in the loop's thread it starts the task that does what was asked.
    for name in ("run_sync_in_worker_thread", "run_sync_from_thread"):
        original = getattr(backend, name, None)
        if original is not None:  # before anyio 4
            hooks.patches.put(backend, name, staticmethod(_handing_in(original, hooks)))


def _handing_in(original: Any, hooks: Hooks) -> Any:
    def hand_in(func: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return original(_job(func, hooks), *args, **kwargs)

    return stand_in(original, hand_in)


def _trio(module: ModuleType, hooks: Hooks) -> None:
    cache = getattr(module, "ThreadCache", None)
    if cache is None:
        return

    def make(original: Any) -> Any:
        def start_thread_soon(threads: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            return original(threads, _job(fn, hooks), *args, **kwargs)

        return start_thread_soon

    hooks.patches.replace(cache, "start_thread_soon", make)


def _job(function: Any, hooks: Hooks) -> Any:
    """The same function, to be called in a worker thread on behalf of whoever is running now."""
    watch: Any = hooks.watch
    if not hooks.wall.on or not watch.on:
        return function
    try:
        return functools.partial(_lent, watch.borrowed, Worker(watch.owner(), watch.birth(4)), function)
    except Exception as error:  # noqa: BLE001  # this is the wall
        hooks.wall.fall(error)
        return function


def _lent(
    borrowed: dict[int, list[Worker]], job: Worker, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Call a function while this thread works for somebody."""
    __tracebackhide__ = True
    ident = threading.get_ident()
    jobs = borrowed.setdefault(ident, [])
    jobs.append(job)
    try:
        return function(*args, **kwargs)
    finally:
        jobs.pop()
        if not jobs:
            borrowed.pop(ident, None)


_ATTACH: dict[str, Callable[[ModuleType, Hooks], None]] = {
    "concurrent.futures.thread": _executors,
    "multiprocessing.pool": _pools,
    "anyio._backends._asyncio": _anyio,
    "trio._core._thread_cache": _trio,
}
