"""Records of event loops, which own their self-pipe and their selector."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.records import Record, Table, type_name
from pytest_httpleak.socketrecords import record_of

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Suspect


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


def record_loops(cls: Any, hooks: Any) -> None:
    """Record the loops of a class where they are made, and let each answer for what it opens."""
    watch: Any = hooks.watch
    loops, sockets = watch.table("loops"), watch.table("sockets")
    library = cls.__module__.partition(".")[0]
    events: Any = sys.modules["asyncio.events"]

    def born(_: None, loop: Any, /, *args: Any, **kwargs: Any) -> None:
        record = LoopRecord(type_name(loop), sockets)
        record.library = library
        loops.put(loop, record)
        watch.add(record)
        changed = _changed_policy(events)
        for code, _at in () if record.birth is None else record.birth.frames:
            if code is changed or (code.co_name == "get_event_loop" and code.co_filename == events.__file__):
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

    loops.gone = gone
    hooks.after(cls, "__init__", born)
    _record_pipes(cls, hooks)
    hooks.before(cls, "close", closing)
    hooks.before(cls, "run_forever", running)


def _changed_policy(events: Any) -> CodeType | None:
    """What gives each thread its loop where somebody, as nest_asyncio does, has put it into the class of asyncio's policy."""
    policy: Any = type(getattr(events, "_event_loop_policy", None))
    is_asyncios = policy.__module__.startswith("asyncio.")
    return getattr(policy.get_event_loop, "__code__", None) if is_asyncios else None


def _record_pipes(cls: Any, hooks: Any) -> None:
    """Let the self-pipe of a loop belong to the loop, whose birth it is given."""
    watch: Any = hooks.watch
    loops, sockets = watch.table("loops"), watch.table("sockets")

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

    for each in cls.__subclasses__():
        if "_make_self_pipe" in vars(each):
            hooks.patches.replace(each, "_make_self_pipe", make)
