"""asyncio and uvloop: event loops, the tasks they run, and the transports that own sockets."""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.records import LOOP_TASKS, RUNNER_TASKS, Record, Table, type_name
from pytest_httpleak.socketrecords import record_of

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Suspect

MODULES = ("asyncio", "uvloop")

_listdir = os.listdir

# What `create_task` may be told until Python 3.13.2.
_PLAIN = {"name": None, "context": None}

_NOBODYS = RUNNER_TASKS | LOOP_TASKS
_THREADSAFE = "run_coroutine_threadsafe.<locals>.callback"
_DESTROYED = "Task was destroyed but it is pending!"

# What uvloop opens in C, out of sight of the patched socket class.
_UVLOOP_OPENERS = (
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
)


class LoopRecord(Record):
    """An event loop; its self-pipe and its selector belong to it."""

    __slots__ = ("closed", "collected", "name", "opened", "sockets", "thread")

    kind: ClassVar[Kind] = Kind.LOOPS
    LIBRARY = "asyncio"

    def __init__(self, name: str, sockets: Table) -> None:
        super().__init__()
        self.name = name
        self.sockets = sockets
        self.opened: dict[int, Any] = {}  # sockets of a loop in C, which closes them when it ends, and their identity
        self.closed = False
        self.collected = False
        self.thread = threading.get_ident()  # the one that has run it last

    def is_open(self) -> bool:
        loop = self.ref()
        return loop is not None and not loop.is_closed()

    def is_over(self) -> bool:
        return not self.collected and not self.is_open()

    def descriptors(self) -> Iterator[int]:
        loop = self.ref()
        if loop is None or loop.is_closed():
            return
        for part in _parts(loop):
            if part is not None and hasattr(part, "fileno"):
                yield part.fileno()

    def look(self) -> Suspect | None:
        if self.collected:
            return self._suspect(State.COLLECTED, "dropped without being closed", frozenset())
        loop = self.ref()
        if loop is None or loop.is_closed():
            return None
        claims: set[object] = {("fd", fd) for fd in self.descriptors()}
        for part in _parts(loop):
            record = record_of(part, self.sockets)
            if record is not None:
                claims |= record.claims()
        state = State.RUNNING if loop.is_running() else State.OPEN
        return self._suspect(state, "never closed", frozenset(claims))

    def _suspect(self, state: State, summary: str, claims: frozenset[object]) -> Suspect:
        return self.suspect(state, self.name, summary, claims=claims, always=True, names=(self.name,))


def _parts(loop: Any) -> tuple[Any, ...]:
    """The ends of the self-pipe, and the selector; of a loop that is written in C there is nothing to be seen."""
    return tuple(getattr(loop, name, None) for name in ("_ssock", "_csock", "_selector"))


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record loops and tasks where they are made, and let sockets know the transport that closes them."""
    if module.__name__ == "uvloop":
        _open_globals(module.Loop, hooks)
        _loops(module.Loop, hooks)
        _tasks(module.Loop, hooks)
        _native_transports(module.Loop, hooks)
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
    watch.loops_come()
    watch.passages = frozenset(each.__code__ for each in (module.create_task, module.TaskGroup.create_task))
    watch.running_loop = module._get_running_loop
    watch.current_task = module.current_task


def _open_globals(cls: Any, hooks: Hooks) -> None:
    """Let libuv open what it keeps for the process (a pipe) now, and not with the first loop that some test makes."""
    watch: Any = hooks.watch
    before = _numbers()
    cls().close()
    for fd in _numbers() - before:
        watch.give(fd, None, watch.root)


def _numbers() -> set[int]:
    try:
        return set(map(int, _listdir("/proc/self/fd")))
    except OSError:  # where the system does not tell, no descriptor is asked about either
        return set()


def _loops(cls: Any, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    loops, sockets = watch.table("loops"), watch.table("sockets")
    library = cls.__module__.partition(".")[0]
    events: Any = sys.modules["asyncio.events"]
    policies = ("get_event_loop", events.__file__)

    def born(_: None, loop: Any, /, *args: Any, **kwargs: Any) -> None:
        record = LoopRecord(type_name(loop), sockets)
        record.library = library
        loops.put(loop, record)
        watch.add(record)
        frames = () if record.birth is None else record.birth.frames
        changed = _changed_policy(events)
        if any(code is changed or (code.co_name, code.co_filename) == policies for code, _ in frames):
            record.owner = watch.root  # asyncio's own for the thread, which the next one to ask will be given too
        watch.loops[id(loop)] = weakref.ref(loop)

    def closing(loop: Any) -> None:
        record = loops.get(loop)
        if record is not None:
            record.closed = True
        if not loop.is_closed() and watch.on:
            watch.loop_closing(loop, cancelled=False)

    def running(loop: Any) -> None:
        record = loops.get(loop)
        if record is not None:
            record.thread = threading.get_ident()

    def gone(record: LoopRecord) -> None:
        record.collected = not record.closed

    def belongs(loop: Any, record: LoopRecord) -> None:
        for part in _parts(loop):
            of_pipe = record_of(part, sockets)
            if of_pipe is not None:
                of_pipe.holder = record

    def make(original: Any) -> Any:
        def _make_self_pipe(loop: Any) -> None:
            __tracebackhide__ = True
            record = loops.get(loop)
            if record is None or not hooks.wall.on:
                original(loop)
                return
            watch.lent = (threading.get_ident(), record.birth)
            try:
                original(loop)
            finally:
                watch.lent = None
            try:
                belongs(loop, record)
            except Exception as error:  # noqa: BLE001  # this is the wall
                hooks.wall.fall(error)

        return _make_self_pipe

    loops.gone = gone
    hooks.after(cls, "__init__", born)
    for each in cls.__subclasses__():
        if "_make_self_pipe" in vars(each):
            hooks.patches.replace(each, "_make_self_pipe", make)
    hooks.before(cls, "close", closing)
    hooks.before(cls, "run_forever", running)


def _changed_policy(events: Any) -> CodeType | None:
    """What gives each thread its loop where somebody, as nest_asyncio does, has put it into the class of asyncio's policy."""
    policy: Any = type(getattr(events, "_event_loop_policy", None))
    is_asyncios = policy.__module__.startswith("asyncio.")
    return getattr(policy.get_event_loop, "__code__", None) if is_asyncios else None


def _tasks(cls: Any, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    wall = hooks.wall

    def made_at_once(original: Any, loop: Any, coro: Any, kwargs: Any) -> Any:
        """Make a task that may run before it is returned, or be something else."""
        __tracebackhide__ = True
        try:
            if id(coro) not in watch.sent:  # by another thread, whose line is the one to name
                watch.task_coming(coro)
        except Exception as error:  # noqa: BLE001  # this is the wall
            wall.fall(error)
        task = None
        try:
            task = original(loop, coro, **kwargs)
        finally:
            if not hasattr(task, "get_coro"):
                watch.sent.pop(id(coro), None)
        return task

    def make(original: Any) -> Any:
        # Written out: this is on the way of every task, and a table with weak references would cost twice as much.
        def create_task(loop: Any, coro: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if not wall.on or not watch.on or getattr(coro, "__qualname__", "") in _NOBODYS:
                return original(loop, coro, **kwargs)
            is_stock = not kwargs.get("eager_start") and loop.get_task_factory() is None
            task = original(loop, coro, **kwargs) if is_stock else made_at_once(original, loop, coro, kwargs)
            if is_stock or hasattr(task, "get_coro"):
                try:
                    watch.task_made(task, coro)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return task

        def create_plain_task(loop: Any, coro: Any, *, name: Any = None, context: Any = None) -> Any:
            """The same for a loop that takes no more than this; to hand on what may be anything costs a sixth of all."""
            __tracebackhide__ = True
            is_known = loop._task_factory is None and wall.on and watch.on
            if not is_known or getattr(coro, "__qualname__", "") in _NOBODYS:
                return create_task(loop, coro, name=name, context=context)
            task = original(loop, coro, name=name, context=context)
            try:
                watch.task_made(task, coro)
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)
            return task

        is_plain = cls.__module__ == "asyncio.base_events" and getattr(original, "__kwdefaults__", None) == _PLAIN
        return create_plain_task if is_plain else create_task

    def sent(loop: Any, callback: Any, /, *args: Any, **kwargs: Any) -> None:
        if getattr(callback, "__qualname__", "") == _THREADSAFE and watch.on:
            names = callback.__code__.co_freevars
            watch.task_coming(callback.__closure__[names.index("coro")].cell_contents)

    def reported(loop: Any, context: Any) -> None:
        task = context.get("task")
        if task is not None and context.get("message") == _DESTROYED and watch.on:
            watch.task_destroyed(task)

    hooks.patches.replace(cls, "create_task", make)
    hooks.before(cls, "call_soon_threadsafe", sent)
    hooks.before(cls, "call_exception_handler", reported)


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


def _native_transports(cls: Any, hooks: Hooks) -> None:
    """Note where uvloop's sockets are asked for; they are descriptors without an object of the socket class."""
    watch: Any = hooks.watch
    wall = hooks.wall
    loops = watch.table("loops")

    def note(loop: Any, result: Any, birth: Any, owner: Any) -> None:
        record = loops.get(loop)
        transport = result[0] if isinstance(result, tuple) else None
        sockets = [transport.get_extra_info("socket")] if transport is not None else list(result.sockets)
        for sock in sockets:
            if sock is not None:
                watch.give(sock.fileno(), birth, owner)
                watch.births += 1
                if record is not None and sock.fileno() in watch.fds:
                    record.opened[sock.fileno()] = watch.fds[sock.fileno()][2]

    def make(original: Any) -> Any:
        async def opening(loop: Any, birth: Any, owner: Any, coroutine: Any) -> Any:
            __tracebackhide__ = True
            result = await coroutine
            if wall.on and watch.on:
                try:
                    note(loop, result, birth, owner)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return result

        @functools.wraps(original)
        def opener(loop: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if not wall.on or not watch.on:
                return original(loop, *args, **kwargs)
            try:
                birth, owner = watch.birth(), watch.owner()
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)
                return original(loop, *args, **kwargs)
            return opening(loop, birth, owner, original(loop, *args, **kwargs))

        return opener

    for name in _UVLOOP_OPENERS:
        hooks.patches.replace(cls, name, make)
