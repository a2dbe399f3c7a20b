"""Threads: `threading.Thread` and `_thread.start_new_thread`, the workers of pools among them."""

from __future__ import annotations

import re
import sys
import threading
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.asking import attribute, module_of
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.processrecords import has_nothing_to_do
from pytest_httpleak.records import Record, Worker, type_name
from pytest_httpleak.socketrecords import serves_a_living_client
from pytest_httpleak.tables import Table

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Suspect

MODULES = ("threading", "_thread")

# Workers that a library keeps for whoever asks next, by their names and its own; what they do is done for whoever is being run.
_CACHED_NAMES = (("AnyIO worker thread", "anyio"), ("Trio thread ", "trio"), ("asyncio-waitpid-", "asyncio"))
# Those of a loop's default executor; the threads of somebody's own have other names, which may only begin so.
_OF_DEFAULT_EXECUTOR = re.compile(r"asyncio_\d+")
_POOLED_MODULES = ("concurrent.futures.thread", "trio._core._thread_cache", "anyio._backends._asyncio")
# Where a worker waits for its next job; a user's function of that name calls something to wait, whose frame is the innermost.
_WAITING = ("_worker",)


class ThreadRecord(Record):
    """One started thread."""

    __slots__ = ("answers_for_jobs", "executor", "pooled", "sockets")

    kind: ClassVar[Kind] = Kind.THREADS
    LIBRARY = "threading"

    def __init__(self, sockets: Table, *, pooled: bool) -> None:
        super().__init__()
        self.sockets = sockets
        self.pooled = pooled  # a worker that a library keeps: what it does is done for whoever asked
        self.executor: Record | None = None  # that of the executor that it works for
        self.answers_for_jobs = True  # until it turns out that it is no leak, or that nobody watches threads

    def is_open(self) -> bool:
        thread = self.ref()
        return thread is not None and thread.is_alive()

    def is_over(self) -> bool:
        return not self.is_open()

    def is_stuck_for(self, owner: Any) -> bool:
        """Whether it is a worker of the owner's own pool that is in the middle of a job: then it is the leak."""
        if not self.answers_for_jobs or self.owner is not owner or self.look() is None:
            return False
        thread = self.ref()
        frame = None if thread is None else sys._current_frames().get(thread.ident)
        return frame is not None and frame.f_code.co_name not in _WAITING

    def is_idle_worker(self) -> bool | None:
        if self.pooled:
            return not self.is_stuck_for(self.owner)
        thread = self.ref()
        return None if thread is None else has_nothing_to_do(thread)

    def look(self) -> Suspect | None:
        thread = self.ref()
        if thread is None or not thread.is_alive() or thread is threading.current_thread():
            return None
        if _is_cached(thread) or self._serves_a_living_client(thread):
            return None
        daemon = ", daemon" if thread.daemon else ""
        what = attribute(attribute(thread, "_target"), "__qualname__") or type_name(thread)
        summary = f"{thread.name!r} running {what}{daemon}"
        claims: frozenset[object] = frozenset((("thread", thread.ident),))
        return self.suspect(State.RUNNING, type_name(thread), summary, names=(thread.name, what), claims=claims)

    def _serves_a_living_client(self, thread: Any) -> bool:
        """Whether it is a server's, for one connection that its client in this process has left open: that is the cause."""
        args = attribute(thread, "_args")
        given = (*(args if type(args) is tuple else ()), *vars(thread).values())
        return any(serves_a_living_client(each, self.sockets) for each in given)


def _is_cached(thread: Any) -> bool:
    """Whether it is such a worker: by its name, and by the module of its class or of what it runs."""
    modules = [type(thread).__module__, str(attribute(attribute(thread, "_target"), "__module__"))]
    if _OF_DEFAULT_EXECUTOR.fullmatch(thread.name):
        return "concurrent.futures.thread" in modules
    package = next((package for name, package in _CACHED_NAMES if thread.name.startswith(name)), None)
    return any(module.partition(".")[0] == package for module in modules)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record threads with the call that started them."""
    if module.__name__ == "threading":
        _threads(module, hooks)
    else:
        _bare_threads(module, hooks)


def _threads(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    threads, executors, sockets = watch.table("threads"), watch.table("executors"), watch.table("sockets")

    def starting(thread: Any, /, *args: Any, **kwargs: Any) -> None:
        if threads.get(thread) is not None:
            return  # started twice: the interpreter will say so
        record = ThreadRecord(sockets, pooled=_is_pooled(thread))
        threads.put(thread, record)
        watch.add_lasting(record)
        if record.pooled:
            _adopt(record, thread, executors, watch)

    hooks.before(module.Thread, "start", starting)


def _is_pooled(thread: Any) -> bool:
    target = attribute(thread, "_target")
    return type(thread).__module__ in _POOLED_MODULES or attribute(target, "__module__") in _POOLED_MODULES


def _adopt(record: ThreadRecord, thread: Any, executors: Table, watch: Any) -> None:
    """Give an executor's worker to the executor's owner: the process, if it was made before the watch began."""
    args = attribute(thread, "_args")
    executor = args[0]() if type(args) is tuple and args and isinstance(args[0], weakref.ref) else None
    if executor is None:
        return
    known = record.executor = executors.get(executor)
    owner = watch.root if known is None else known.owner
    if record.owner is not owner:
        record.owner = owner
        if owner is not watch.root:
            owner.keep(record)


class BareThreadRecord(Record):
    """A thread that was started through `_thread`, known by the call that it runs."""

    __slots__ = ()

    kind: ClassVar[Kind] = Kind.THREADS
    LIBRARY = "_thread"

    def is_open(self) -> bool:
        run = self.ref()
        return run is not None and not run.is_over

    def is_over(self) -> bool:
        return not self.is_open()

    def look(self) -> Suspect | None:
        run = self.ref()
        if run is None or run.is_over or run.ident == threading.get_ident() or _is_of_main_hub(run.function):
            return None
        what = attribute(run.function, "__qualname__") or type_name(run.function)
        return self.suspect(
            State.RUNNING,
            "_thread",
            f"running {what}",
            names=(what,),
            claims=frozenset((("thread", run.ident),)),
        )


def _is_of_main_hub(function: Any) -> bool:
    """Whether it is a worker of the pool that gevent's main hub keeps, for names that are to be resolved and the like."""
    worker = attribute(function, "__self__")
    if module_of(worker) != "gevent.threadpool":
        return False
    hub, pool = attribute(worker, "_hub"), attribute(attribute(worker, "_unregister_worker"), "__self__")
    is_main = attribute(attribute(hub, "loop"), "default") is True
    return is_main and pool is not None and attribute(hub, "_threadpool") is pool


class _Run:
    """The function of a bare thread; says while it runs for whom, and when it is over."""

    __slots__ = ("__weakref__", "borrowed", "function", "ident", "is_over", "worker")

    def __init__(self, function: Any, borrowed: dict[int, list[Worker]]) -> None:
        self.function = function
        self.borrowed = borrowed
        self.worker: Worker | None = None
        self.ident: int | None = None
        self.is_over = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        self.ident = threading.get_ident()
        if self.worker is not None:
            self.borrowed[self.ident] = [self.worker]
        try:
            return self.function(*args, **kwargs)
        finally:
            self.is_over = True
            self.borrowed.pop(self.ident, None)

    def __repr__(self) -> str:
        return repr(self.function)


def _bare_threads(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    threads, wall = watch.table("bare threads"), hooks.wall

    def make(original: Any) -> Any:
        def start_new_thread(function: Any, /, *args: Any) -> Any:
            __tracebackhide__ = True
            if wall.on and watch.on and callable(function):
                try:
                    run = _Run(function, watch.borrowed)
                    record = BareThreadRecord()
                    threads.put(run, record)
                    watch.add_lasting(record)
                    run.worker = Worker(record.owner, record.birth)
                    function = run
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return original(function, *args)

        return start_new_thread

    for name in ("start_new_thread", "start_new"):  # two names for one thing
        if hasattr(module, name):
            hooks.patches.replace(module, name, make)
