"""Records of event loops, which own their self-pipe and their selector."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pytest_httpleak.asking import attribute
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.opennumbers import fileno_of_file, native
from pytest_httpleak.records import Record, class_name
from pytest_httpleak.userfiles import is_installed_file, is_user_file

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Suspect

_get_ident = threading.get_ident


class LoopRecord(Record):
    """An event loop; its self-pipe and its selector belong to it."""

    __slots__ = ("closed", "cls", "collected", "is_for_thread", "opened", "selector", "thread")

    kind: ClassVar[Kind] = Kind.LOOPS
    LIBRARY = "asyncio"

    def __init__(self, cls: type) -> None:
        super().__init__()
        self.cls = cls
        self.opened: dict[int, Any] = {}  # sockets of a loop in C, which closes them when it ends, and their identity
        self.selector = -1  # the descriptor of its selector, to be known when the loop cannot be asked any more
        self.closed = False
        self.collected = False
        self.is_for_thread = False  # which has no other one, and in which others will be given it, too
        self.thread = _get_ident()  # the one that has run it last

    def is_open(self) -> bool:
        loop = self.ref()
        return loop is not None and not is_closed(loop)

    def is_over(self) -> bool:
        return not self.collected and not self.is_open()

    def descriptors(self) -> Iterator[int]:
        loop = self.ref()
        if loop is None or is_closed(loop):
            return
        for part in _parts(loop):
            if part is not None and hasattr(part, "fileno"):
                yield part.fileno()

    def look(self) -> Suspect | None:
        if self.collected:
            # Where warnings are errors its finalizer ends before it closes anything, and pytest keeps the frame for a while.
            left = (("fd", self.selector),) if _is_selector(self.selector) else ()
            return self._suspect(State.COLLECTED, "dropped without being closed", frozenset[object](left))
        loop = self.ref()
        if loop is None or is_closed(loop):
            return None
        if self.is_for_thread and _is_current(loop):
            return None
        state = State.RUNNING if loop.is_running() else State.OPEN
        return self._suspect(state, "never closed", frozenset(("fd", fd) for fd in self.descriptors()))

    def _suspect(self, state: State, summary: str, claims: frozenset[object]) -> Suspect:
        name = class_name(self.cls)
        return self.suspect(state, name, summary, claims=claims, always=True, names=(name,))


def is_closed(loop: Any) -> bool:
    """Whether a loop is closed; where it does not say so, as that of a window that is gone, what asyncio's own class knows."""
    try:
        return bool(loop.is_closed())
    except Exception as error:  # noqa: BLE001  # somebody's own loop
        pass_on(error)
        return attribute(loop, "_closed", True) is not False


def _is_selector(fd: int) -> bool:
    """Whether that is the open descriptor of a selector, where the system tells."""
    try:
        return bool(native.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventpoll]")
    except OSError as error:
        pass_on(error)
        return False


def _parts(loop: Any) -> tuple[Any, ...]:
    """The ends of the self-pipe, and the selector; of a loop that is written in C there is nothing to be seen."""
    return tuple(getattr(loop, name, None) for name in ("_ssock", "_csock", "_selector"))


def record_loops(cls: Any, hooks: Any) -> None:
    """Record the loops of a class where they are made, and let each answer for what it opens."""
    watch: Any = hooks.watch
    loops = watch.table("loops")
    library = cls.__module__.partition(".")[0]
    events: Any = sys.modules["asyncio.events"]

    def born(_: None, loop: Any, /, *args: Any, **kwargs: Any) -> None:
        record = LoopRecord(type(loop))
        record.library = library
        loops.put(loop, record)
        watch.add(record)
        codes = [] if record.birth is None else [code for code, _ in record.birth.frames]
        changed = _changed_policy(events)
        if any(code is changed or _is_asyncios_own(code, events) for code in codes):
            record.owner = watch.root  # asyncio's own for the thread, which the next one to ask will be given too
        record.is_for_thread = _sets_what_lacks(codes)
        watch.loops[id(loop)] = weakref.ref(loop)
        watch.loops_come()

    def closing(loop: Any) -> None:
        record = loops.get(loop)
        if record is not None:
            record.closed = True
        if not loop.is_closed() and watch.on:
            watch.loop_closing(loop, cancelled=False)

    def running(loop: Any) -> None:
        record = loops.get(loop)
        if record is not None:
            record.thread = _get_ident()

    def gone(record: LoopRecord) -> None:
        record.collected = not record.closed

    loops.gone = gone
    hooks.after(cls, "__init__", born)
    _stand_aside(cls, hooks, loops)
    hooks.before(cls, "close", closing)
    hooks.before(cls, "run_forever", running)


def _is_asyncios_own(code: CodeType, events: Any) -> bool:
    return code.co_name == "get_event_loop" and bool(code.co_filename == events.__file__)


# Names in the code of a function that asks for the thread's loop, and makes one where there is none.
_SETTING: Final = frozenset(("get_event_loop", "new_event_loop", "set_event_loop"))


def _sets_what_lacks(codes: list[CodeType]) -> bool:
    """Whether an installed library makes a loop for the main thread, as that has none: Python 3.14 makes none of itself."""
    maker = next((code for code in codes if code.co_name != "new_event_loop" and _is_of_somebody(code)), None)
    return (
        maker is not None
        and set(maker.co_names) >= _SETTING
        and is_installed_file(maker.co_filename)
        and _get_ident() == threading.main_thread().ident
    )


def _is_of_somebody(code: CodeType) -> bool:
    return is_user_file(code.co_filename) or is_installed_file(code.co_filename)


def _is_current(loop: Any) -> bool:
    """Whether asyncio's policy gives that loop to whoever asks in this thread; asked of what it stores."""
    policy = attribute(sys.modules.get("asyncio.events"), "_event_loop_policy")
    return attribute(attribute(policy, "_local"), "_loop") is loop


def _changed_policy(events: Any) -> CodeType | None:
    """What gives each thread its loop where somebody, as nest_asyncio does, has put it into the class of asyncio's policy."""
    policy: Any = type(getattr(events, "_event_loop_policy", None))
    is_asyncios = policy.__module__.startswith("asyncio.")
    return getattr(policy.get_event_loop, "__code__", None) if is_asyncios else None


def _stand_aside(cls: Any, hooks: Any, loops: Any) -> None:
    """Leave to the loop what it opens for itself while it is made: where it is open, the loop is asked for it."""
    making: set[int] = hooks.watch.making

    def make(original: Any) -> Any:
        def made(loop: Any, *args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            thread = _get_ident()
            if thread in making or not hooks.wall.on:
                original(loop, *args, **kwargs)
                return
            try:
                making.add(thread)
                original(loop, *args, **kwargs)
            finally:
                making.discard(thread)
            record = loops.get(loop)
            if record is not None:
                record.selector = fileno_of_file(attribute(loop, "_selector"))

        return made

    for each in cls.__subclasses__():
        if {"__init__", "_make_self_pipe"} <= vars(each).keys():
            hooks.patches.replace(each, "__init__", make)
