"""The ends of event loops: what they take down with them is noted before it is gone."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner, TaskRecord
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import tasks
from pytest_httpleak.records import Record
from pytest_httpleak.session.looking import Looking
from pytest_httpleak.session.settling import pauses

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Suspect

T = TypeVar("T")

_RUNNERS: Final = ("pytest_asyncio", "pytest_aiohttp", "unittest", "aiohttp.pytest_plugin")


class LoopEnds:
    """Leaves to their owners, as suspects, the tasks and descriptors that end with a loop, and tasks that are destroyed."""

    def __init__(
        self, watch: Watch, looking: Looking, waiting: Callable[[float], AbstractContextManager[None]]
    ) -> None:
        self._watch = watch
        self._looking = looking
        self._waiting = waiting  # around what waits for so many seconds
        # The record of the loop that had no pending task before cancellation, and how many had been made till then.
        self._at_rest: tuple[Record | None, int] = None, 0
        # What generators that nobody has closed held open before cancellation, and the record of their loop.
        self._in_generators: tuple[Record | None, list[Suspect]] = None, []

    def loop_closing(self, loop: Any, *, cancelled: bool) -> None:
        """Take down the tasks that are pending when a loop ends: before a test runner cancels them, or when it is closed."""
        record = self._watch.table("loops").get(loop)
        self._ask_generators(loop, record, cancelled=cancelled)
        opened = {} if record is None or cancelled else record.opened
        now = record, self._watch.births_of_tasks
        is_at_rest = now == self._at_rest and record is not None and not cancelled
        waiting = [] if is_at_rest else self._looking.waiting(loop)
        if cancelled:
            self._at_rest = (None, 0) if waiting else now
        if not waiting and not opened:
            return
        by_runner = _called_by_a_runner()
        if cancelled and not by_runner:
            return
        if by_runner and waiting and tasks.can_run(loop):
            waiting = self._after(loop, waiting, lambda: self._looking.waiting(loop))
        for owner in {id(of): of for _, _, of in waiting}.values():
            suspects = [self._looking.tasks.suspect(task, birth) for task, birth, of in waiting if of is owner]
            suspects = self._looking.tasks.with_holdings(
                suspects, self._looking.look(owner, self._watch.births_of_tasks)
            )
            owner.leave(suspects, {id(task): TaskRecord(task, birth) for task, birth, of in waiting if of is owner})
            self._watch.forget_tasks(task for task, _, of in waiting if of is owner)
        if by_runner and opened:
            self._closed_with(loop, opened)

    def _closed_with(self, loop: Any, known: dict[int, Any]) -> None:
        """Take down what only the end of a loop in C closes: a test that leaves it open leaves it to its runner."""
        owner, fds = self._watch.stack[-1], self._watch.fds
        opened = {("fd", fd) for fd, identity in known.items() if fd in fds and fds[fd][2] == identity}
        owner.left += self._after(loop, self._left_in(opened, owner), lambda: self._left_in(opened, owner))

    def _after(self, loop: Any, found: list[T], look: Callable[[], list[T]]) -> list[T]:
        """What is still found when a loop has run for as long as the grace lasts."""
        grace = self._watch.stack[-1].grace
        if not found or not tasks.can_run(loop):
            return found
        with self._waiting(grace):
            for pause in pauses(grace):
                if not found or not tasks.can_run(loop):
                    break
                tasks.let_run(loop, pause)
                found = look()
        return found

    def _left_in(self, opened: set[tuple[str, int]], owner: Owner) -> list[Suspect]:
        if not opened or owner is self._watch.root:
            return []
        suspects = self._looking.look(owner, self._watch.births_of_tasks)
        return [each for each in suspects if each.kind is not Kind.TASKS and not opened.isdisjoint(each.claims)]

    def _ask_generators(self, loop: Any, record: Record | None, *, cancelled: bool) -> None:
        """Take down what is open in generators when a test runner ends its loop, and is closed with them before its close."""
        owner = self._watch.stack[-1]
        of, held = self._in_generators
        self._in_generators = (record, self._held_by_generators(loop, owner)) if cancelled else (None, [])
        if held and of is record and not cancelled:
            left = {each.key for each in self._looking.look(owner, self._watch.births_of_tasks)}
            owner.left += [each for each in held if each.key not in left]

    def _held_by_generators(self, loop: Any, owner: Owner) -> list[Suspect]:
        """What an owner has left open in asynchronous generators, and will not settle."""
        found = self._left_in_generators(loop, owner)
        return self._after(loop, found, lambda: self._left_in_generators(loop, owner))

    def _left_in_generators(self, loop: Any, owner: Owner) -> list[Suspect]:
        generators = _suspended(getattr(loop, "_asyncgens", ()))
        is_native = not hasattr(loop, "_asyncgens")  # it keeps them out of sight
        if not (generators or is_native) or owner is self._watch.root or not _called_by_a_runner():
            return []
        suspects = self._looking.look(owner, self._watch.births_of_tasks)
        if suspects and is_native:
            generators = _suspended([each for each in gc.get_objects() if type(each) is types.AsyncGeneratorType])
        return self._looking.tasks.in_generators(generators, suspects) if suspects and generators else []

    def task_destroyed(self, task: Any) -> None:
        """Take down a task that the interpreter destroys while it is pending."""
        known = self._watch.of_task(task)
        if known is None or tasks.is_infrastructure(task) or known[0].is_of_protocol():
            return
        birth, owner, _ = known
        if owner is not self._watch.root and not owner.over:
            owner.left.append(self._looking.tasks.destroyed(task, birth))
        self._watch.forget_tasks([task])


def _suspended(generators: Collection[Any]) -> list[Any]:
    if not generators:  # as with nearly every loop; to copy a set with weak references costs more than to ask it
        return []
    return [each for each in list(generators) if each.ag_frame is not None and not each.ag_running]


def _called_by_a_runner() -> bool:
    """Whether the runner that closes its loop is a test runner's, and not one of the code under test."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("asyncio", "pytest_httpleak", "contextlib")):
            if module.startswith("anyio."):
                return str(frame.f_code.co_qualname).startswith("TestRunner.")
            return bool(module.startswith(_RUNNERS))
        frame = frame.f_back
    return False
