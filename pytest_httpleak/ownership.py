"""The watch, which gives each birth its place and its owner: the stack of owners, the tables, the patches."""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner, Taken, TaskRecord
from pytest_httpleak.patches import Patches, Wall
from pytest_httpleak.records import RUNNER_TASKS, Record, Table, Worker
from pytest_httpleak.sites import Birth, capture

_active_threads: dict[int, Any] = getattr(threading, "_active", {})
_fstat, _get_ident, _getframe = os.fstat, threading.get_ident, sys._getframe

# Audit notes of one owner; a loop that makes more of them says nothing new.
_MOST_NOTES = 200


# The birth and the owner of a task, and the identity of its coroutine, which tells it from a later one at its address.
TaskOrigin = tuple[Birth, Owner, int]


def _birth_below(outermost: FrameType | None, maker: Birth, depth: int) -> Birth:
    birth = capture(depth, outermost)  # below a task's own frame there is only what runs the loop
    if not birth.has_user:  # not the whole chain: a library's tasks may make each other for hours
        birth.parent = maker if maker.has_user else maker.parent or maker
    return birth


class Watch:
    """Everything that is patched and recorded for one run; `on` is False before and after it, and in forked children."""

    def __init__(self) -> None:
        self.on = False
        self.root = Owner("<the process>", "process")
        self.stack: list[Owner] = [self.root]
        self.keepers: list[
            Owner
        ] = []  # wider fixtures that are set up, whose values may make what they need when asked
        self.patches = Patches()
        self.walls: list[Wall] = []
        self.births = 0  # of all but responses, which hold what others have opened
        self.open_sockets = 0  # socket objects made and not closed since
        self.births_of_tasks = 0
        self.tasks: dict[int, TaskOrigin] = {}
        self.sent: dict[int, TaskOrigin] = {}  # by coroutine: tasks that are about to be made
        self.fds: dict[int, tuple[Birth | None, Owner, tuple[int, int] | None]] = {}
        # Descriptors of maps which are kept beside the one that is mapped: their birth, that one, and its birth.
        self.maps: dict[int, tuple[Birth, int, Birth]] = {}
        self.borrowed: dict[int, list[Worker]] = {}
        self.loops: dict[int, Any] = {}
        self.lent: tuple[int, Birth] | None = None  # by thread: the birth of all that is made inside another's making
        self.loops_come: Callable[[], object] = lambda: None
        self.loop_closing: Callable[..., None] = lambda loop, *, cancelled: None
        self.task_destroyed: Callable[[Any], None] = lambda task: None
        self.passages: frozenset[CodeType] = frozenset()  # functions that make the task which their caller asks for
        self.peaking = 0
        self.changes: dict[str, Birth] = {}  # by what was changed for the whole process: where, for audit notes
        self._tables: dict[str, Table] = {}
        nowhere = Birth([], False, None)
        # The last birth in a task's own frame, with what it depends on: code, instruction, the birth of the task.
        self._last_inside: tuple[CodeType | None, int, Birth, Birth] = None, 0, nowhere, nowhere
        self._threads = self.table("threads")
        self._main = _get_ident()
        self._context: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("httpleak_owner", default=None)
        # Set by the asyncio adapter; until the tested code imports asyncio there is no loop to ask for.
        self.running_loop: Callable[[], Any] = lambda: None
        self.current_task: Callable[[Any], Any] = lambda loop: None
        # Set by the adapter for trio.
        self.birth_in_trio: Callable[[int], Birth | None] | None = None
        self.is_in_trio: Callable[[], bool] | None = None  # None also where trio cannot tell

    # -- owners --------------------------------------------------------------------------------------------------------

    def push(self, owner: Owner) -> None:
        """Make `owner` answer for what is made from now on."""
        self.stack.append(owner)
        self._context.set(owner)

    def pop(self, owner: Owner) -> None:
        """Let the owner below answer again."""
        if owner in self.stack:
            self.stack.remove(owner)
        self._context.set(self.stack[-1])

    def lend(self, owner: Owner) -> Callable[[], None]:
        """Let an owner on the stack answer for what the running task or helper thread makes; gives the way back."""
        loop = self.running_loop()
        task = None if loop is None else self.current_task(loop)
        if task is not None:
            known = self.tasks.get(id(task))
            self.tasks[id(task)] = (self.birth(), owner, id(task.get_coro()))

            def give_back() -> None:
                if known is None:
                    self.tasks.pop(id(task), None)
                else:
                    self.tasks[id(task)] = known

            return give_back
        ident = _get_ident()
        if ident == self._main:
            return lambda: None
        self.stack.remove(owner)
        borrowed = self.borrowed.setdefault(ident, [])
        borrowed.append(Worker(owner, self.birth()))

        def give_back_thread() -> None:
            borrowed.pop()
            if not borrowed:
                self.borrowed.pop(ident, None)

        return give_back_thread

    @contextlib.contextmanager
    def acting_for(self, owner: Owner) -> Iterator[None]:
        """Let an owner answer for what is made in a block, in whatever task or thread it runs."""
        self.push(owner)
        give_back = self.lend(owner)
        try:
            yield
        finally:
            give_back()
            self.pop(owner)

    def pass_on(self, owner: Owner, heir: Owner) -> None:
        """Let `heir` answer for the tasks and descriptors of `owner`."""
        for task, (birth, of, coroutine) in list(self.tasks.items()):
            if of is owner:
                self.tasks[task] = (birth, heir, coroutine)
        for fd, (origin, of, identity) in list(self.fds.items()):
            if of is owner:
                self.fds[fd] = (origin, heir, identity)
        heir.descriptors += owner.descriptors

    def owner(self) -> Owner:
        """Whoever answers for what is made right now: a thread's starter, a task's creator, a callback's, the stack's top."""
        owner = self._answering()
        return self.root if owner.over else owner

    def _answering(self) -> Owner:
        loop = self.running_loop()
        if loop is not None:
            task = self.current_task(loop)
            if task is None:  # a callback: its context was copied when it was registered
                owner = self._context.get()
                if owner is not None:
                    return owner
            else:
                known = self.of_task(task)
                if known is not None:
                    return known[1]
                if getattr(task.get_coro(), "__qualname__", "") not in RUNNER_TASKS:
                    owner = self._context.get()
                    if owner is not None:
                        return owner
        ident = _get_ident()
        if ident != self._main:
            worker = self._worker(ident)
            answering: Owner | None = None if worker is None else worker.owner
            if answering is not None:
                return answering
            if self._threads.get(_active_threads.get(ident)) is None:
                return self.root  # a thread that is older than the watch, or not Python's
        return self.stack[-1]

    def _worker(self, ident: int) -> Any:
        borrowed = self.borrowed.get(ident)
        if borrowed:
            return borrowed[-1]
        # Not `threading.current_thread()`: that would make a dummy for a thread which Python did not start.
        record = self._threads.get(_active_threads.get(ident))
        return None if record is None or record.pooled else record

    # -- births --------------------------------------------------------------------------------------------------------

    def birth(self, depth: int = 3) -> Birth:
        """The present call stack; where it has no frame of the user's, with that of the task's or thread's creation."""
        lent = self.lent
        if lent is not None and lent[0] == _get_ident():
            return lent[1]
        loop = self.running_loop()
        task = None if loop is None else self.current_task(loop)
        if task is not None:
            known = self.of_task(task)
            if known is not None:
                return _birth_below(getattr(task.get_coro(), "cr_frame", None), known[0], depth + 1)
        in_trio: Birth | None = (
            None if self.birth_in_trio is None or loop is not None else self.birth_in_trio(depth + 1)
        )
        if in_trio is not None:
            return in_trio
        birth = capture(depth)
        if not birth.has_user:
            birth.parent = self._maker_birth()
        return birth

    def _origin(self, depth: int) -> tuple[Birth, Owner]:
        """The birth of what is made right now, and whoever answers for it; inside a task, at the cost of one of the two."""
        # Written out, as this is on the way of every task that a task makes.
        loop = self.running_loop()
        task = None if loop is None else self.current_task(loop)
        if task is not None:
            coro = task.get_coro()
            known = self.tasks.get(id(task))
            if known is None or known[2] != id(coro):
                known = self.sent.get(id(coro))
            if known is not None:
                return self._birth_inside(getattr(coro, "cr_frame", None), known[0], depth + 1), known[1]
        return self.birth(depth + 1), self._answering()

    def _birth_inside(self, outermost: FrameType | None, maker: Birth, depth: int) -> Birth:
        """A birth inside a task; what one line of the task's own frame makes over and over shares one."""
        frame: Any = _getframe(depth - 1)
        if frame.f_code in self.passages:
            frame = frame.f_back
        if outermost is None or frame is not outermost:
            return _birth_below(outermost, maker, depth + 1)
        code, instruction = frame.f_code, frame.f_lasti
        last_code, last_instruction, last_maker, birth = self._last_inside
        if last_code is not code or last_instruction != instruction or last_maker is not maker:
            birth = _birth_below(outermost, maker, depth + 1)
            self._last_inside = code, instruction, maker, birth  # at once: threads may have loops of their own
        return birth

    def of_task(self, task: Any) -> TaskOrigin | None:
        """The origin of a task, or None for one whose making was not seen."""
        coroutine = id(task.get_coro())
        known = self.tasks.get(id(task))
        if known is not None and known[2] == coroutine:
            return known
        return self.sent.get(coroutine) if self.sent else None  # a task that runs before its maker has been handed it

    def owner_by_context(self, task: Any) -> Owner:
        """Who was responsible when a task was made that nobody saw being made: `asyncio.Task(...)`. From Python 3.12 on."""
        context = task.get_context() if hasattr(task, "get_context") else None
        owner = None if context is None else context.get(self._context)
        return self.root if owner is None or owner.over else owner

    def forget_tasks(self, tasks: Iterable[Any]) -> None:
        """Let nobody answer for some tasks any more: they have been reported."""
        for task in tasks:
            known = self.of_task(task)
            birth = Birth([], False, None) if known is None else known[0]
            self.tasks[id(task)] = (birth, self.root, id(task.get_coro()))

    def _maker_birth(self) -> Birth | None:
        ident = _get_ident()
        worker = self._worker(ident) if ident != self._main else None
        return None if worker is None else worker.birth

    def maker(self) -> Callable[[], Any] | None:
        """A weak reference to the running task or helper thread; None for the main thread outside any task."""
        loop = self.running_loop()
        if loop is not None:
            task = self.current_task(loop)
            if task is not None:
                return weakref.ref(task)
        ident = _get_ident()
        thread = None if ident == self._main else _active_threads.get(ident)
        return None if thread is None else weakref.ref(thread)

    def add(self, record: Record, *, opened: bool = True, depth: int = 4) -> None:
        """Give a record its birth and its owner, and let the owner keep it."""
        owner = self._place(record, depth)
        if owner.over:
            owner = self.root
        record.owner = owner
        if record.kind is not Kind.RESPONSES:
            self.births += 1
        if owner is not self.root:
            owner.keep(record)
        if self.peaking and opened:
            self.opened(record)

    def _place(self, record: Record, depth: int) -> Owner:
        """Give a record its birth and its maker; the answer is whoever is running."""
        if self.running_loop() is None and self._is_plain():
            record.birth, record.maker = capture(depth), None
            return self.stack[-1]
        record.birth, owner = self._origin(depth + 1)
        record.maker = self.maker()
        return owner

    def _is_plain(self) -> bool:
        """Whether the main thread is at work for itself. Outside a loop, the top of the stack answers for it then."""
        if self.birth_in_trio is not None and (self.is_in_trio is None or self.is_in_trio()):
            return False
        return _get_ident() == self._main and self.lent is None

    def add_with(self, record: Record, other: Record) -> None:
        """Give a record the birth and the owner that another one has just been given on the same way."""
        record.birth, record.maker = other.birth, other.maker
        owner = record.owner = self.root if other.owner is None or other.owner.over else other.owner
        if record.kind is not Kind.RESPONSES:
            self.births += 1
        if owner is not self.root:
            owner.keep(record)
        if self.peaking:
            self.opened(record)

    def hand_over(self, record: Record, *, depth: int = 4) -> None:
        """Let whoever is running answer for a record that there is already, from here on."""
        owner = self._place(record, depth)
        if owner is not record.owner:
            record.owner = self.root if owner.over else owner
            if record.owner is not self.root:
                owner.keep(record)

    def task_made(self, task: Any, coro: object) -> None:
        """Note the birth and the owner of an asyncio task; by its identity alone, since tasks are many and short.

        The coroutine that it runs need not be `coro`: task factories and wrappers put others around it.
        """
        sent = self.sent.pop(id(coro), None) if self.sent else None
        birth, owner = sent[:2] if sent else self._origin(4)
        # Not asked of a task that is over: an eager one has no coroutine left, at which Python 3.12.1 crashes.
        runs = task.get_coro() if hasattr(task, "get_coro") and not task.done() else coro
        self.tasks[id(task)] = (birth, self.root if owner.over else owner, id(runs))
        self.births_of_tasks += 1
        if self.peaking:
            self.opened(TaskRecord(task, birth))

    def task_coming(self, coroutine: object, depth: int = 3) -> None:
        """Note the birth and the owner of a task before it is made: it may run at once, or be made in another thread."""
        self.sent[id(coroutine)] = (*self._origin(depth), id(coroutine))
        self.births_of_tasks += 1

    def descriptor_made(self, fd: int, depth: int = 5) -> None:
        """Note the birth and the owner of a bare descriptor, and its identity, since numbers are used again."""
        if self.running_loop() is None and self._is_plain():
            birth, owner = capture(depth - 1), self.stack[-1]
        else:
            birth, owner = self.birth(depth), self._answering()
        if owner.over or (not birth.frames and birth.parent is None):  # the latter is the test runner's own
            owner = self.root
        self.give(fd, birth, owner)
        self.births += 1

    def give(self, fd: int, birth: Birth | None, owner: Owner) -> None:
        """Let `owner` answer for a bare descriptor, as long as it is the one that is open now."""
        try:
            status = _fstat(fd)
        except OSError:
            return
        self.fds[fd] = (birth, owner, (status.st_dev, status.st_ino))
        owner.descriptors += 1

    def note(self, name: str, message: str, hint: str, birth: Birth | None = None) -> None:
        """Take an audit note for whoever is running: code that allows a leak in production."""
        owner = self._answering()
        if owner is self.root or owner.over or owner.noted >= _MOST_NOTES:
            return
        owner.noted += 1
        if birth is None:
            birth = self.birth(4)
        last = owner.notes[-1] if owner.notes else None
        if last is not None and last.name == name and last.says(message, hint, birth):
            last.count += 1
        else:
            owner.notes.append(Taken(name, message, hint, birth))

    def opened(self, record: Record) -> None:
        """Let whoever is running count a resource that is open from now on, and the test or block around it too."""
        each: Owner | None = self._answering() if self.peaking else None
        while each is not None:
            if each.peaks is not None:
                each.peaks.born(record)
            each = each.parent

    def table(self, name: str) -> Table:
        """The table of that name, shared by all adapters of this watch."""
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = Table()
        return table

    def tables(self) -> list[Table]:
        """All tables of this watch."""
        return list(self._tables.values())

    def everything(self) -> Iterator[Record]:
        """All records of living objects, whoever owns them."""
        for table in list(self._tables.values()):
            yield from table

    def open_loops(self) -> list[Any]:
        """The event loops that are known and not closed."""
        loops = []
        for key, ref in list(self.loops.items()):
            loop = ref()
            if loop is None or loop.is_closed():
                self.loops.pop(key, None)
            else:
                loops.append(loop)
        return loops

    def wall(self, name: str, packages: frozenset[str] = frozenset()) -> Wall:
        """A new wall for the adapter or probe of that name."""
        wall = Wall(name, packages)
        self.walls.append(wall)
        return wall

    def stop(self) -> None:
        """Undo every patch, and silence what could not be undone."""
        self.silence()
        self.patches.undo()

    def silence(self) -> None:
        """Note nothing any more, without a patch undone: for a forked child, which must not touch what it shares."""
        self.on = False
        for wall in self.walls:
            wall.on = False
