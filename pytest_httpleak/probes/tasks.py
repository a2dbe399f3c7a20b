"""The asyncio tasks that are still pending: which, where they wait, and which of them wait for one another."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Collection, Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.asking import attribute, is_a, is_mock, mro_of, referrers_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.coroutines import awaits, frame_of, qualname
from pytest_httpleak.looprecords import is_closed
from pytest_httpleak.records import LOOP_TASKS, RUNNER_TASKS

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Site
    from pytest_httpleak.sites import Birth

_TURNS: Final = 20  # of a loop between two pauses, so that a chain of callbacks needs no pause for each
_WATCHERS: Final = frozenset((("sse_starlette.sse", "_shutdown_watcher"),))
_OUTERMOST: Final = 3  # of a chain that are told
_INNERMOST: Final = 3
_PAUSE: Final = 0.001  # seconds


def pending(loop: Any) -> list[Any]:
    """The pending tasks of a loop that belong to the code under test."""
    return [task for task in all_of(loop) if not is_infrastructure(task) and not _is_spent(task)]


def all_of(loop: Any) -> Collection[Any]:
    """The pending tasks of a loop, by the function of asyncio's own module: a test may put another in its package."""
    module = None if loop is None else sys.modules.get("asyncio.tasks")
    return () if module is None else module.all_tasks(loop)


def is_infrastructure(task: Any) -> bool:
    """Whether a task is a test runner's, a loop's own, or one that the interpreter makes to finish an abandoned generator."""
    coroutine = task.get_coro()
    name = qualname(coroutine)
    if name in RUNNER_TASKS or name in LOOP_TASKS or _is_a_watcher(coroutine):
        return True
    return type(coroutine).__name__ == "async_generator_athrow"


def _is_a_watcher(coroutine: Any) -> bool:
    """Whether a library has started it once for the thread, to wait for the end of the process, and gives no way to stop it."""
    frame = attribute(coroutine, "cr_frame")
    return frame is not None and (frame.f_globals.get("__name__"), frame.f_code.co_name) in _WATCHERS


def _is_spent(task: Any) -> bool:
    """Whether the task's coroutine was closed before it could end: nothing is left of it that could ever run."""
    return attribute(task.get_coro(), "cr_frame", task) is None


# -- running a loop that stands still ----------------------------------------------------------------------------------


def can_run(loop: Any) -> bool:
    """Whether the loop may be run from here: neither closed nor running, and no other loop runs in this thread.

    Nor may one that has a mock for what it runs by: it may not stop again.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or is_closed(loop) or loop.is_running() or asyncio._get_running_loop() is not None:
        return False
    names = () if _is_stock(loop) else ("call_later", "call_soon", "stop", "run_forever")
    return not any(map(is_mock, (attribute(loop, "_selector"), *(attribute(type(loop), name) for name in names))))


def _is_stock(loop: Any) -> bool:
    """Whether asyncio's own code runs a loop, or what stands in its place there."""
    runs = next((cls for cls in type(loop).__mro__ if "run_forever" in vars(cls)), None)
    return runs is not None and runs.__module__.partition(".")[0] == "asyncio" and hasattr(loop, "_stopping")


def let_run(loop: Any, seconds: float) -> None:
    """Let a stopped loop run for a moment, without making a task on it.

    It is asked by its class, as a test may have put something else for a method into the loop itself.
    """
    if hasattr(loop, "_ready"):
        _turn(loop, seconds)
    else:  # written in C: it has a clock of its own, and opens a pair of sockets each time that it is run
        _run(loop, type(loop).call_later(loop, seconds, _stop(loop)))


def _turn(loop: Any, seconds: float) -> None:
    """Turn a loop again and again: its clock may be one that a test has stopped, so a timer need not end."""
    end = Real.monotonic() + seconds
    while not is_closed(loop):
        for _ in range(_TURNS):
            if not _is_stock(loop):
                _run(loop, type(loop).call_soon(loop, _stop(loop)))
                continue
            loop._stopping = True  # after one turn, whatever a class of somebody's makes of `stop`
            try:
                _run(loop)
            finally:
                loop._stopping = False
        left = end - Real.monotonic()
        if left <= 0:
            return
        Real.sleep(min(_PAUSE, left))


def _stop(loop: Any) -> Any:
    return functools.partial(type(loop).stop, loop)


def _run(loop: Any, stop: Any = None) -> None:
    try:
        type(loop).run_forever(loop)
    except SystemExit:  # raised by one of the loop's tasks, which is over with that
        return
    finally:
        if stop is not None:
            stop.cancel()


# -- what a task does --------------------------------------------------------------------------------------------------


def describe(task: Any) -> str:
    """The task's name, its coroutine, and the chain of awaits in which it waits now, outermost first."""
    coro = task.get_coro()
    name = _name(coro)
    if is_a(coro, CoroutineType) and not coro.cr_running and not coro.cr_suspended and coro.cr_frame is not None:
        return f"{task.get_name()!r} to run {name}(), never started"
    waits = chain(waiting_at(task))
    return f"{task.get_name()!r} running {name}()" + (f", waiting in {waits}" if waits else "")


def chain(sites: list[Site]) -> str:
    """`fetch (client.py:12) > sleep (tasks.py:665)`: functions and lines, outermost first; a long one without its middle."""
    told = [f"{site.function} ({_short(site.file)}:{site.line})" for site in sites]
    if len(told) > _OUTERMOST + 1 + _INNERMOST:
        told[_OUTERMOST:-_INNERMOST] = ["..."]
    return " > ".join(told)


def _name(coroutine: Any) -> str:
    """What a task runs: a coroutine, or the next step of an asynchronous generator, which may be over; else its class."""
    name = qualname(coroutine)
    if name:
        return name
    frame = next((frame_of(each) for each in awaits(coroutine)), None)
    if frame is not None:
        return str(frame.f_code.co_qualname)
    inside = (part.__qualname__ for part in gc.get_referents(coroutine) if is_a(part, AsyncGeneratorType))
    return next(inside, type(coroutine).__qualname__)


def waiting_at(task: Any) -> list[Site]:
    """The lines of the coroutines that a task is suspended in, outermost first."""
    from pytest_httpleak.model.findings import Site  # here, as a clean run tells no place

    sites: list[Site] = []
    for awaited in awaits(task.get_coro()):
        frame = frame_of(awaited)
        code: CodeType = frame.f_code
        sites.append(Site(code.co_filename, frame.f_lineno, code.co_name))
    return sites


def names(task: Any) -> tuple[str, ...]:
    """What ignore patterns may call a task: its name, and its coroutine function."""
    qualname = _name(task.get_coro())
    return task.get_name(), qualname, qualname.rpartition(".")[2]


def _short(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


# -- tasks that end with another one -----------------------------------------------------------------------------------


def below(task: Any) -> list[Any]:
    """The pending tasks that end when `task` is cancelled: those that it waits for, and those that these wait for."""
    found: dict[int, Any] = {}
    todo = [task]
    while todo:
        for child in _children(todo.pop()):
            if child is not task and id(child) not in found and not child.done():
                found[id(child)] = child
                todo.append(child)
    return list(found.values())


def _children(task: Any) -> Iterator[Any]:
    waiter = getattr(task, "_fut_waiter", None)
    if hasattr(waiter, "get_coro"):
        yield waiter
    for child in getattr(waiter, "_children", ()):  # of `gather`
        if hasattr(child, "get_coro"):
            yield child
    for awaited in awaits(task.get_coro()):
        is_wait_for = frame_of(awaited).f_code.co_name == "wait_for"
        for part in gc.get_referents(awaited):
            if _is_group_of(part, task):
                yield from part._tasks
            elif is_wait_for and hasattr(part, "get_coro"):  # Python 3.11 waits for a task of its own
                yield part


def _is_group_of(thing: Any, task: Any) -> bool:
    if type(thing).__name__ != "TaskGroup" or not hasattr(thing, "_tasks"):
        return False
    scope = getattr(thing, "cancel_scope", None)  # of anyio's
    return getattr(thing, "_parent_task", None) is task or getattr(scope, "_host_task", None) is task


# By class and module, and by the functions of theirs that make a task.
_GROUPS: Final = (("TaskGroup", "asyncio.taskgroups"), ("TaskGroup", "anyio._backends._asyncio"))
_OF_GROUPS: Final = ("TaskGroup.create_task", "TaskGroup._spawn")


def group_of(task: Any, birth: Birth) -> Any:
    """The group, asyncio's or anyio's, that has made a task and has it yet; None where there is none."""
    if not any(code.co_qualname in _OF_GROUPS for code in birth.codes()):
        return None
    sets = [each for each in referrers_of([task]) if type(each) is set]
    owners = referrers_of(sets)
    owners += referrers_of([each for each in owners if type(each) is dict])
    return next((each for each in owners if _is_group(each) and any(each._tasks is part for part in sets)), None)


def _is_group(thing: Any) -> bool:
    is_one = any((cls.__name__, cls.__module__) in _GROUPS for cls in mro_of(type(thing)))
    return is_one and attribute(thing, "_tasks") is not None
