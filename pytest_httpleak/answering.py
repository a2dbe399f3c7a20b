"""Who answers for what is made right now, and where it is made: the stack of owners, tasks, threads and their makers."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

from pytest_httpleak.coroutines import frame_of_task, qualname
from pytest_httpleak.owners import Owner
from pytest_httpleak.records import RUNNER_TASKS, Worker
from pytest_httpleak.sites import Birth, capture
from pytest_httpleak.tables import Table
from pytest_httpleak.userfiles import is_user_class, is_user_frame

_active_threads: dict[int, Any] = getattr(threading, "_active", {})
_get_ident, _getframe = threading.get_ident, sys._getframe

# The birth and the owner of a task, and the identity of its coroutine, which tells it from a later one at its address.
TaskOrigin = tuple[Birth, Owner, int]


def runs_users_code(task: Any) -> bool:
    """Whether the coroutine that a task runs, or the class of the task, is the user's own."""
    frame = frame_of_task(task.get_coro())
    return (frame is not None and is_user_frame(frame)) or is_user_class(type(task))


def _birth_below(outermost: FrameType | None, maker: Birth, depth: int) -> Birth:
    birth = capture(depth, outermost)  # below a task's own frame there is only what runs the loop
    if not birth.has_user:  # not the whole chain: a library's tasks may make each other for hours
        birth.parent = maker if maker.has_user else maker.parent or maker
    birth.came_from(maker)
    return birth


class Answering:
    """The owners of one run, and whoever of them answers for what the running code makes."""

    def __init__(self) -> None:
        self.root = Owner("<the process>", "process")
        self.stack: list[Owner] = [self.root]
        self.keepers: list[Owner] = []  # wider fixtures that are set up: their values make what they need when asked
        self.tasks: dict[int, TaskOrigin] = {}
        self.sent: dict[int, TaskOrigin] = {}  # by coroutine: tasks that are about to be made
        # By coroutine, with a weak reference to it: what a callback of a loop's will make a task of, none of whose frames is a
        # user's then.
        self.scheduled: dict[int, tuple[weakref.ref[Any], Birth, Owner]] = {}
        # By task: the origin that a task has but for its being lent to a block.
        self.lent: dict[int, TaskOrigin | None] = {}
        self.making_tasks: list[Any] = []  # the tasks, or None, that make such as may run before they are made
        self.borrowed: dict[int, list[Worker]] = {}
        self.making: set[int] = set()  # threads that make a loop: what that opens for itself is no business of its own
        # Functions that make the task which their caller asks for; no set, as the hash of a code object is dear.
        self.passages: tuple[CodeType, ...] = ()
        nowhere = Birth([], False, None)
        # The last birth in a task's own frame, with what it depends on: code, instruction, the birth of the task.
        self._last_inside: tuple[CodeType | None, int, Birth, Birth] = None, 0, nowhere, nowhere
        self._threads = Table()
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
        """Make `owner` answer for what is made from now on; in a helper thread, once it is lent to that."""
        if _get_ident() == self._main:
            self.stack.append(owner)
        self._context.set(owner)

    def pop(self, owner: Owner) -> None:
        """Let the owner below answer again, for the blocks inside of this one, too."""
        if owner in self.stack:
            owner.inside = [each for each in self.stack if each.is_within(owner)]
            for each in (owner, *owner.inside):
                self.stack.remove(each)
        self._context.set(self.stack[-1])

    def lend(self, owner: Owner) -> Callable[[], None]:
        """Let an owner on the stack answer for what the running task or helper thread makes; gives the way back."""
        task = self.task_at_work()
        if task is not None:
            known, lent_to = self.tasks.get(id(task)), weakref.ref(task)
            key, is_first = id(task), id(task) not in self.lent
            self.lent.setdefault(key, known)
            self.tasks[id(task)] = (self.birth(), owner, id(task.get_coro()))

            def give_back() -> None:
                task = lent_to()
                if is_first:
                    self.lent.pop(key, None)
                if task is not None and known is None:
                    self.tasks.pop(id(task), None)
                elif task is not None and known is not None:
                    self.tasks[id(task)] = known

            return give_back
        ident = _get_ident()
        if ident == self._main:
            return lambda: None
        borrowed = self.borrowed.setdefault(ident, [])
        borrowed.append(Worker(owner, self.birth()))

        def give_back_thread() -> None:
            borrowed[:] = [each for each in borrowed if each.owner is not owner]
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

    def owner(self) -> Owner:
        """Whoever answers for what is made right now: a thread's starter, a task's creator, a callback's, the stack's top."""
        owner = self._answering()
        return self.root if owner.over else owner

    def _is_plain(self) -> bool:
        """Whether the main thread is at work for itself. Outside a loop, the top of the stack answers for it then."""
        if self.birth_in_trio is not None and (self.is_in_trio is None or self.is_in_trio()):
            return False
        return _get_ident() == self._main

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
                if qualname(task.get_coro()) not in RUNNER_TASKS:
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
        loop = self.running_loop()
        task = None if loop is None else self.current_task(loop)
        if task is not None:
            known = self.of_task(task)
            if known is not None:
                return _birth_below(frame_of_task(task.get_coro()), known[0], depth + 1)
        in_trio: Birth | None = (
            None if self.birth_in_trio is None or loop is not None else self.birth_in_trio(depth + 1)
        )
        if in_trio is not None:
            return in_trio
        birth = capture(depth)
        if _get_ident() != self._main:
            maker = self._maker_birth()
            if maker is not None:
                birth.came_from(maker)
            if not birth.has_user:
                birth.parent = maker
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
                return self._birth_inside(frame_of_task(coro), known[0], depth + 1), known[1]
        return self.birth(depth + 1), self._answering()

    def task_scheduled(self, coroutine: object, depth: int = 5) -> None:
        """Note where a coroutine is handed to a loop together with the function that will make a task of it."""
        key = id(coroutine)

        def forget(reference: weakref.ref[Any]) -> None:
            if self.scheduled.get(key, (None,))[0] is reference:
                self.scheduled.pop(key, None)

        self.scheduled[key] = weakref.ref(coroutine, forget), *self._origin(depth)

    def _as_scheduled(self, coroutine: object) -> tuple[Birth, Owner] | None:
        known = self.scheduled.pop(id(coroutine), None) if self.scheduled else None
        return None if known is None or known[0]() is not coroutine else known[1:]

    def _origin_of_task(self, runs: object, depth: int) -> tuple[Birth, Owner]:
        """The same for a task, which has the first line of what it runs where nothing but a callback has made it."""
        birth, owner = self._origin(depth + 1)
        if birth.is_made_by_a_loop():
            frame = frame_of_task(runs)
            if frame is not None and is_user_frame(frame):
                birth = Birth([(frame.f_code, 0), *birth.frames], True, None)
        return birth, owner

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

    def task_at_work(self) -> Any:
        """The task that is run right now; None outside of any."""
        loop = self.running_loop()
        return None if loop is None else self.current_task(loop)

    def of_task(self, task: Any) -> TaskOrigin | None:
        """The origin of a task, or None for one whose making was not seen."""
        coroutine = id(task.get_coro())
        known = self.tasks.get(id(task))
        if known is not None and known[2] == coroutine:
            return known
        return self.sent.get(coroutine) if self.sent else None  # a task that runs before its maker has been handed it

    def is_in_a_librarys_task(self) -> bool:
        """Whether what runs is a task that a library has made its own way, `asyncio.Task(...)`: a server's handler."""
        task = self.task_at_work()
        return task is not None and self.of_task(task) is None and not runs_users_code(task)

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
        worker = self._worker(_get_ident())
        return None if worker is None else worker.birth

    def maker(self) -> Callable[[], Any] | None:
        """A weak reference to the running task or helper thread; None for the main thread outside any task."""
        task = self.task_at_work()
        if task is not None:
            return weakref.ref(task)
        ident = _get_ident()
        thread = None if ident == self._main else _active_threads.get(ident)
        return None if thread is None else weakref.ref(thread)
