"""asyncio and uvloop: event loops, the tasks they run, and the transports that own sockets."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.model import Kind, State, Suspect
from pytest_httpleak.records import Record, Table, type_name
from pytest_httpleak.socketrecords import record_of

MODULES = ("asyncio", "uvloop")

# The task in which anyio's pytest plugin runs every fixture and test: whoever is being run answers for what it makes.
_RUNNER_TASKS = frozenset(("TestRunner._run_tests_and_fixtures",))


class LoopRecord(Record):
    """An event loop; its self-pipe and its selector belong to it."""

    __slots__ = ("collected", "sockets")

    kind: ClassVar[Kind] = Kind.LOOPS
    LIBRARY = "asyncio"

    def __init__(self, sockets: Table) -> None:
        super().__init__()
        self.sockets = sockets
        self.collected = False

    def is_open(self) -> bool:
        loop = self.ref()
        return loop is not None and not loop.is_closed()

    def is_over(self) -> bool:
        return not self.collected and not self.is_open()

    def descriptors(self) -> Iterator[int]:
        loop = self.ref()
        if loop is None or loop.is_closed():
            return
        selector = getattr(loop, "_selector", None)
        for part in (getattr(loop, "_ssock", None), getattr(loop, "_csock", None), selector):
            if part is not None and hasattr(part, "fileno"):
                yield part.fileno()

    def look(self) -> Suspect | None:
        if self.collected:
            return self.suspect(State.COLLECTED, "asyncio event loop", "dropped without being closed", always=True)
        loop = self.ref()
        if loop is None or loop.is_closed():
            return None
        claims: set[object] = {("fd", fd) for fd in self.descriptors()}
        for sock in (getattr(loop, "_ssock", None), getattr(loop, "_csock", None)):
            record = record_of(sock, self.sockets)
            if record is not None:
                claims |= record.claims()
        state = State.RUNNING if loop.is_running() else State.OPEN
        name = type_name(loop)
        return self.suspect(state, name, "never closed", claims=frozenset(claims), always=True, names=(name,))


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record loops and tasks where they are made, and let sockets know the transport that closes them."""
    if module.__name__ == "uvloop":
        _loops(module.Loop, hooks)
        _tasks(module.Loop, hooks)
        return
    _loops(module.BaseEventLoop, hooks)
    _tasks(module.BaseEventLoop, hooks)
    _transports(module, hooks)
    watch: Any = hooks.watch

    def cancelling(loop: Any) -> None:
        if watch.on:
            watch.loop_closing(loop, cancelled=True)

    # The one place that every runner passes when a loop ends: after the asynchronous fixtures, before cancellation.
    hooks.before(module.runners, "_cancel_all_tasks", cancelling)
    watch.running_loop = module._get_running_loop
    watch.current_task = module.current_task


def _loops(cls: Any, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    loops, sockets = watch.table("loops"), watch.table("sockets")

    def born(_: None, loop: Any, /, *args: Any, **kwargs: Any) -> None:
        record = LoopRecord(sockets)
        loops.put(loop, record)
        watch.add(record)
        watch.loops[id(loop)] = weakref.ref(loop)

    def closing(loop: Any) -> None:
        if not loop.is_closed() and watch.on:
            watch.loop_closing(loop, cancelled=False)

    def dies(loop: Any, /, *args: Any, **kwargs: Any) -> None:
        record = loops.get(loop)
        if record is not None and not loop.is_closed():
            record.collected = True

    hooks.after(cls, "__init__", born)
    hooks.before(cls, "close", closing)
    if hasattr(cls, "__del__"):
        hooks.before(cls, "__del__", dies)


def _tasks(cls: Any, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    wall = hooks.wall

    def make(original: Any) -> Any:
        # Written out: this is on the way of every task, and a table with weak references would cost twice as much.
        def create_task(loop: Any, coro: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            task = original(loop, coro, **kwargs)
            if wall.on and watch.on:
                try:
                    if getattr(coro, "__qualname__", "") not in _RUNNER_TASKS:
                        watch.task_made(task)
                except Exception as error:
                    wall.fall(error)
            return task

        return create_task

    hooks.patches.replace(cls, "create_task", make)


def _transports(module: ModuleType, hooks: Hooks) -> None:
    sockets = hooks.watch.table("sockets")

    def opened(_: None, transport: Any, /, *args: Any, **kwargs: Any) -> None:
        record = record_of(transport._sock, sockets)
        if record is not None:
            record.transport = weakref.ref(transport)

    def transport_dies(transport: Any, /, *args: Any, **kwargs: Any) -> None:
        if transport._sock is not None and not transport.is_closing():
            _collected(transport)

    def writer_dies(writer: Any, /, *args: Any, **kwargs: Any) -> None:
        transport = writer._transport
        if transport is not None and not transport.is_closing():
            _collected(transport)

    def _collected(transport: Any) -> None:
        record = record_of(transport.get_extra_info("socket"), sockets)
        if record is not None:
            record.collected = True

    selector_events = getattr(module, "selector_events", None)
    if selector_events is not None:
        cls = selector_events._SelectorTransport
        hooks.after(cls, "__init__", opened)
        hooks.before(cls, "__del__", transport_dies)
    if hasattr(module.StreamWriter, "__del__"):
        hooks.before(module.StreamWriter, "__del__", writer_dies)
