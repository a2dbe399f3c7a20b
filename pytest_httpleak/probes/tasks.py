"""The asyncio tasks that are still pending: which, made by whom, and where they wait."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import CodeType
from typing import Any

from pytest_httpleak.model import Site

_RUNNER_TASKS = frozenset(("TestRunner._run_tests_and_fixtures",))


def pending(loop: Any) -> list[Any]:
    """The pending tasks of a loop that belong to the code under test."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return []
    return [task for task in asyncio.all_tasks(loop) if not _is_infrastructure(task)]


def _is_infrastructure(task: Any) -> bool:
    coroutine = task.get_coro()
    if getattr(coroutine, "__qualname__", "") in _RUNNER_TASKS:
        return True
    return type(coroutine).__name__.startswith("async_generator_")


def let_run(loop: Any, seconds: float) -> None:
    """Let a stopped loop run for a moment, without making a task on it."""
    handle = loop.call_later(seconds, loop.stop)
    try:
        loop.run_forever()
    finally:
        handle.cancel()


def can_run(loop: Any) -> bool:
    """Whether the loop may be run from here: neither closed nor running, and no other loop runs in this thread."""
    asyncio = sys.modules.get("asyncio")
    return (
        asyncio is not None
        and not loop.is_closed()
        and not loop.is_running()
        and asyncio._get_running_loop() is None
    )


def describe(task: Any) -> str:
    """The task's name, its coroutine, and the chain of awaits in which it waits now, outermost first."""
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", None) or repr(coroutine)
    waits = [f"{site.function} ({_short(site.file)}:{site.line})" for site in waiting_at(task)]
    return f"{task.get_name()!r} running {name}()" + (f", waiting in {' > '.join(waits)}" if waits else "")


def waiting_at(task: Any) -> list[Site]:
    """The lines of the coroutines that a task is suspended in, outermost first."""
    sites: list[Site] = []
    coroutine = task.get_coro()
    for _ in range(30):
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is None:
            break
        code: CodeType = frame.f_code
        sites.append(Site(code.co_filename, frame.f_lineno, code.co_name))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return sites


def names(task: Any) -> tuple[str, ...]:
    """What ignore patterns may call a task: its name, and its coroutine function."""
    qualname = getattr(task.get_coro(), "__qualname__", "")
    return task.get_name(), qualname, qualname.rpartition(".")[2]


def of_loops(loops: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Loop and task for each pending task of some loops."""
    return [(loop, task) for loop in loops for task in pending(loop)]


def _short(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
