"""asyncio and uvloop: event loops, the tasks they run, and the transports that own sockets."""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from types import CoroutineType, ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.coroutines import qualname
from pytest_httpleak.looprecords import record_loops
from pytest_httpleak.looptransports import record_native_transports, record_processes, record_transports
from pytest_httpleak.opennumbers import open_numbers
from pytest_httpleak.patches import Wall
from pytest_httpleak.records import LOOP_TASKS, RUNNER_TASKS
from pytest_httpleak.sites import STARTS
from pytest_httpleak.userfiles import is_user_frame
from pytest_httpleak.wrappers import hide_in, unseen

MODULES = ("asyncio", "uvloop")

# What `create_task` may be told until Python 3.13.2.
_PLAIN = {"name": None, "context": None}

_NOBODYS = RUNNER_TASKS | LOOP_TASKS
_THREADSAFE = "run_coroutine_threadsafe.<locals>.callback"
_DESTROYED = "Task was destroyed but it is pending!"

_ALL_TASKS = ("_scheduled_tasks", "_all_tasks")  # the latter in Python 3.11


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record loops and tasks where they are made, and let sockets know the transport that closes them."""
    if module.__name__ == "uvloop":
        _open_globals(module.Loop, hooks)
        record_loops(module.Loop, hooks)
        _tasks(module.Loop, hooks)
        _callbacks(module.Loop, hooks)
        record_native_transports(module.Loop, hooks)
        return
    record_loops(module.BaseEventLoop, hooks)
    _tasks(module.BaseEventLoop, hooks)
    _callbacks(module.BaseEventLoop, hooks)
    _tasks_by_class(module, hooks)
    record_transports(module, hooks)
    record_processes(module, hooks)
    watch: Any = hooks.watch

    def cancelling(loop: Any) -> None:
        if watch.on:
            watch.loop_closing(loop, cancelled=True)

    # The one place that every runner passes when a loop ends: after the asynchronous fixtures, before cancellation.
    hooks.before(module.runners, "_cancel_all_tasks", cancelling)
    watch.passages = (module.create_task.__code__, module.TaskGroup.create_task.__code__)
    watch.running_loop = module._get_running_loop
    watch.current_task = module.current_task


def _open_globals(cls: Any, hooks: Hooks) -> None:
    """Let libuv open what it keeps for the process (a pipe) now, and not with the first loop that some test makes."""
    watch: Any = hooks.watch
    before = open_numbers()
    cls().close()
    for fd in open_numbers() - before:
        watch.give(fd, None, watch.root)


def _tasks(cls: Any, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    wall = hooks.wall

    def make(original: Any) -> Any:
        create_task = _creation(watch, wall, original)
        is_plain = cls.__module__ == "asyncio.base_events" and getattr(original, "__kwdefaults__", None) == _PLAIN
        return _plain_creation(watch, wall, original, create_task) if is_plain else create_task

    def reported(loop: Any, context: Any) -> None:
        task = context.get("task")
        if task is not None and context.get("message") == _DESTROYED and watch.on:
            watch.task_destroyed(task)

    hooks.patches.replace(cls, "create_task", make)
    hooks.before(cls, "call_exception_handler", reported)


def _callbacks(cls: Any, hooks: Hooks) -> None:
    """Note coroutines that are handed to a loop with the function which makes tasks of them: that has no caller then.

    Not by `call_soon`, which is on the way of each step of each task: such a task has the place of its coroutine.
    """
    watch: Any = hooks.watch

    def sent(loop: Any, /, *args: Any, **kwargs: Any) -> None:
        callback: Any = args[0] if args else kwargs.get("callback")  # which has no arguments then
        if qualname(callback) == _THREADSAFE and watch.on:
            names = callback.__code__.co_freevars
            coro = callback.__closure__[names.index("coro")].cell_contents
            if qualname(coro) not in _NOBODYS:
                watch.task_coming(coro)
        elif watch.on:
            _note_scheduled(watch, callback, *args[1:])

    def sent_off(handle: Any, loop: Any, /, *args: Any, **kwargs: Any) -> None:
        hide_in(attribute(handle, "_source_traceback"))

    def timed(handle: Any, loop: Any, /, *args: Any, **kwargs: Any) -> None:
        hide_in(attribute(handle, "_source_traceback"))
        if watch.on:
            _note_scheduled(watch, *(args[1:] or (kwargs.get("callback"),)))

    hooks.before(cls, "call_soon_threadsafe", sent)
    hooks.after(cls, "call_soon_threadsafe", sent_off)
    hooks.after(cls, "call_at", timed)
    if cls.__module__ != "asyncio.base_events":  # whose `call_later` calls that
        hooks.after(cls, "call_later", timed)


def _note_scheduled(watch: Any, callback: Any, /, *args: Any) -> None:
    while type(callback) is functools.partial:
        callback, args = callback.func, (*callback.args, *args)
    if not args or attribute(callback, "__name__") not in STARTS:
        return
    if str(attribute(callback, "__module__")).partition(".")[0] in MODULES:
        for each in args:
            if type(each) is CoroutineType:
                watch.task_scheduled(each)


# Written out: this is on the way of every task, and a table with weak references would cost twice as much.
def _creation(watch: Any, wall: Wall, original: Any) -> Any:
    """What to put in the place of `create_task`."""

    @unseen
    def create_task(loop: Any, coro: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if not wall.on or not watch.on or qualname(coro) in _NOBODYS:
            return original(loop, coro, **kwargs)
        is_stock = not kwargs.get("eager_start") and loop.get_task_factory() is None
        task = original(loop, coro, **kwargs) if is_stock else made_at_once(original, loop, coro, kwargs)
        if is_stock or hasattr(task, "get_coro"):
            try:
                hide_in(attribute(task, "_source_traceback"))
                watch.task_made(task, coro)
            except RecursionError:
                pass
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)
        return task

    made_at_once = _making_at_once(watch, wall)
    return create_task


def _making_at_once(watch: Any, wall: Wall) -> Any:
    """How to make what may run before it is made; the maker's task, or None, is in `watch.making_tasks` for as long."""

    @unseen
    def made_at_once(original: Any, loop: Any, coro: Any, kwargs: Any) -> Any:
        """Make a task that may run before it is returned, or be something else."""
        __tracebackhide__ = True
        try:
            if id(coro) not in watch.sent:  # by another thread, whose line is the one to name
                watch.task_coming(coro)
        except RecursionError:
            pass
        except Exception as error:  # noqa: BLE001  # this is the wall
            wall.fall(error)
        task = None
        watch.making_tasks.append(watch.task_at_work())
        try:
            task = original(loop, coro, **kwargs)
        finally:
            watch.making_tasks.pop()
            if not hasattr(task, "get_coro"):
                watch.sent.pop(id(coro), None)
        return task

    return made_at_once


def _plain_creation(watch: Any, wall: Wall, original: Any, create_task: Any) -> Any:
    """The same for a loop that takes no more than this; to hand on what may be anything costs a sixth of all."""

    def create_plain_task(loop: Any, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        __tracebackhide__ = True
        is_known = loop._task_factory is None and wall.on and watch.on
        if not is_known or type(coro) is not CoroutineType or coro.__qualname__ in _NOBODYS:
            return create_task(loop, coro, name=name, context=context)
        task = original(loop, coro, name=name, context=context)
        try:
            if loop._debug:
                hide_in(task._source_traceback)
            watch.stock_task_made(loop, task, coro)
        except RecursionError:
            pass
        except Exception as error:  # noqa: BLE001  # this is the wall
            wall.fall(error)
        return task

    return create_plain_task


def _tasks_by_class(module: Any, hooks: Hooks) -> None:
    """Record what the user's code makes by `asyncio.Task` itself: its class puts it into a set, until Python 3.14.

    How a library makes its own tasks is its business.
    """
    watch: Any = hooks.watch
    wall = hooks.wall
    cls = module.Task
    stock = attribute(inspect.unwrap(module.BaseEventLoop.create_task), "__code__")  # which makes nearly all

    def make(original: Any) -> Any:
        @unseen
        def add(task: Any) -> None:
            __tracebackhide__ = True
            original(task)
            frame = sys._getframe(1)
            if frame.f_code is stock:
                return
            try:
                if wall.on and watch.on and is_user_frame(frame) and is_a(task, cls):
                    watch.task_of_class_made(task, cls)
            except RecursionError:
                pass
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)

        return add

    for name in _ALL_TASKS:
        if type(getattr(module.tasks, name, None)) is weakref.WeakSet:
            hooks.patches.replace(getattr(module.tasks, name), "add", make)
