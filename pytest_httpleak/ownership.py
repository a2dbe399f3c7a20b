"""The watch, which gives each birth its place and its owner, and holds the tables and the patches of one run."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, Final

from pytest_httpleak.descriptorowners import DescriptorOwners
from pytest_httpleak.looprecords import is_closed
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.owners import Owner, Taken, TaskRecord
from pytest_httpleak.patches import Patches, Wall
from pytest_httpleak.records import Record
from pytest_httpleak.sites import Birth, capture
from pytest_httpleak.tables import Table
from pytest_httpleak.weakrefs import Address

_getframe = sys._getframe

# What is in a place of the process, and what was left to that.
Place = tuple[Callable[[], Any] | Address, dict[int, Record]]

# The birth of an audit note; from it, how many calls up is the frame that the user's line has called; and these two places.
LastNoted = tuple[Birth, int, tuple[CodeType | None, int], tuple[CodeType | None, int]]
_NOTHING_NOTED: Final[LastNoted] = Birth([], False, None), 0, (None, 0), (None, 0)

# Audit notes of one owner; a loop that makes more of them says nothing new.
_MOST_NOTES = 200


class Watch(DescriptorOwners):
    """Everything that is patched and recorded for one run; `on` is False before and after it, and in forked children."""

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.patches = Patches()
        self.walls: list[Wall] = []
        self.open_sockets = 0  # socket objects made and not closed since
        # By identity: of sockets that the collector has cleared all references to, before any finalizer.
        self.dying_sockets: dict[int, Any] = {}
        self.births_of_tasks = 0
        self.asked_at: float = math.inf  # the birth of a task at which it is asked how many there are
        self.ask_of_tasks: Callable[[], object] = lambda: None
        self.left_to_places: dict[str, Place] = {}  # by their names
        self.databases: set[int] = set()  # addresses at which there was ever a connection to one
        self.loops: dict[int, Any] = {}
        self.loops_come: Callable[[], object] = lambda: None
        self.loop_closing: Callable[..., None] = lambda loop, *, cancelled: None
        self.task_destroyed: Callable[[Any], None] = lambda task: None
        self.peaking = 0
        self._last_noted = _NOTHING_NOTED
        self.changes: dict[str, Birth] = {}  # by what was changed for the whole process: where, for audit notes
        self._tables: dict[str, Table] = {"threads": self._threads}

    def pass_on(self, owner: Owner, heir: Owner) -> None:
        """Let `heir` answer for the tasks and descriptors of `owner`."""
        for task, (birth, of, coroutine) in list(self.tasks.items()):
            if of is owner:
                self.tasks[task] = (birth, heir, coroutine)
        for fd, (origin, of, identity) in list(self.fds.items()):
            if of is owner:
                self.fds[fd] = (origin, heir, identity)
        heir.descriptors += owner.descriptors

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

    def add_lasting(self, record: Record, *, opened: bool = True) -> None:
        """The same for what answers for others: where a module that is imported makes it, all that is the process's."""
        self.add(record, opened=opened, depth=5)
        if record.birth is not None and record.birth.is_import():
            record.owner = self.root

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
        self._answer_for(record, self._place(record, depth))

    def hand_over_unplaced(self, record: Record) -> bool:
        """The same but for the birth, which is dear and is given by `place()`, and only where it is needed.

        False, and nothing done, where the running call is not all that happens in its time: beside it in another thread, task
        or greenlet the record may be looked at, and as one of those open at once it is counted with its birth.
        """
        if self.peaking or self.running_loop() is not None or not self._is_plain() or "greenlet" in sys.modules:
            return False
        record.maker = None
        self._answer_for(record, self.stack[-1])
        return True

    def place(self, record: Record, *, depth: int = 4) -> None:
        """Give a record its birth that was handed over without."""
        record.birth = capture(depth)

    def _answer_for(self, record: Record, owner: Owner) -> None:
        if owner is not record.owner:
            record.owner = self.root if owner.over else owner
            if record.owner is not self.root:
                owner.keep(record)

    def stock_task_made(self, loop: Any, task: Any, coro: object) -> None:
        """The same as `task_made` for a task of asyncio's own, not begun, that runs `coro` and nothing around it.

        Written out for what costs most in sum, a task that makes many others from one line: each has the birth of the last.
        """
        if not self.sent and not self.peaking and self.running_loop() is loop:
            current = self.current_task(loop)
            known = self.tasks.get(id(current))
            if known is not None:
                maker, owner, coroutine = known
                inside = current.get_coro()
                frame: Any = _getframe(2)
                if frame.f_code in self.passages:
                    frame = frame.f_back
                last_code, last_instruction, last_maker, birth = self._last_inside
                if (
                    frame.f_code is last_code
                    and frame.f_lasti == last_instruction
                    and last_maker is maker
                    and id(inside) == coroutine
                    and frame is getattr(inside, "cr_frame", None)
                ):
                    self.tasks[id(task)] = (birth, self.root if owner.over else owner, id(coro))
                    self.births_of_tasks += 1
                    if self.births_of_tasks >= self.asked_at:
                        self.ask_of_tasks()
                    return
        self.task_made(task, coro, 5)

    def task_of_class_made(self, task: Any, cls: Any) -> None:
        """The same as `task_made` for a task that the user makes by its class, which may not be ready to be asked itself.

        Not where a task factory of the user's does so: whoever has called that is named.
        """
        making = self.making_tasks
        if making and making[-1] is self.task_at_work():
            return
        self._meet(cls.get_loop(task))
        birth, owner = self._origin(4)
        self._note_task(task, birth, owner, cls.get_coro(task))

    def task_made(self, task: Any, coro: object, depth: int = 4) -> None:
        """Note the birth and the owner of an asyncio task; by its identity alone, since tasks are many and short.

        The coroutine that it runs need not be `coro`: task factories and wrappers put others around it.
        """
        self._meet(task.get_loop() if hasattr(task, "get_loop") else None)
        sent = self.sent.pop(id(coro), None) if self.sent else None
        # Not asked of a task that is over: an eager one has no coroutine left, at which Python 3.12.1 crashes.
        runs = task.get_coro() if hasattr(task, "get_coro") and not task.done() else coro
        birth, owner = sent[:2] if sent else self._as_scheduled(coro) or self._origin_of_task(runs, depth)
        if not birth.is_users() and self.is_in_a_librarys_task():
            owner = self.root
        self._note_task(task, birth, owner, runs)

    def _note_task(self, task: Any, birth: Birth, owner: Owner, runs: object) -> None:
        self.tasks[id(task)] = (birth, self.root if owner.over else owner, id(runs))
        self.births_of_tasks += 1
        if self.births_of_tasks >= self.asked_at:
            self.ask_of_tasks()
        # A runner makes the one that a test runs in before its loop runs.
        if self.peaking and (birth.is_users() or self.running_loop() is not None):
            self.opened(TaskRecord(task, birth))

    def _meet(self, loop: Any) -> None:
        """Know the loop of a task, which may be older than the watch: that of `asyncio.run()` around a checked block."""
        known = self.loops.get(id(loop))
        if loop is not None and (known is None or known() is not loop):
            self.loops[id(loop)] = weakref.ref(loop)
            self.loops_come()

    def task_coming(self, coroutine: object, depth: int = 4) -> None:
        """Note the birth and the owner of a task before it is made: it may run at once, or be made in another thread."""
        origin = self._as_scheduled(coroutine) or self._origin_of_task(coroutine, depth)
        self.sent[id(coroutine)] = (*origin, id(coroutine))
        self.births_of_tasks += 1

    def note(self, name: str, message: str, hint: str) -> None:
        """Take an audit note: code that allows a leak in production."""
        is_plain = self.running_loop() is None and self._is_plain()
        owner = self.stack[-1] if is_plain else self._answering()
        if owner is self.root or owner.over or owner.noted >= _MOST_NOTES:
            return
        owner.noted += 1
        birth = self._birth_of_note() if is_plain else self.birth(4)
        last = owner.notes[-1] if owner.notes else None
        if last is not None and last.name == name and last.says(message, hint, birth):
            last.count += 1
        else:
            owner.notes.append(Taken(name, message, hint, birth))

    def _birth_of_note(self) -> Birth:
        """The birth of a note; where a line sends once more what it has sent last, the birth of that.

        A note tells the user's innermost line alone, so that neither its callers are asked for, nor what lies between the
        function that it calls and the note, which is as far away as it was.
        """
        birth, depth, called, line = self._last_noted
        if depth:
            try:
                frame: Any = _getframe(depth)
            except ValueError:  # the stack is not as deep
                frame = None
            if frame is not None and frame.f_code is called[0] and frame.f_lasti == called[1]:
                frame = frame.f_back
                if frame.f_code is line[0] and frame.f_lasti == line[1]:
                    return birth
        birth = self.birth(5)
        place = birth.place()
        number = birth.frames.index(place) if place is not None and birth.parent is None else 0
        self._last_noted = (birth, number + 2, birth.frames[number - 1], place) if number and place else _NOTHING_NOTED
        return birth

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
            if loop is None or is_closed(loop):
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

    def wake(self) -> None:
        """Note again what is made, after `silence`, but for what was switched off by an error of its own."""
        self.on = True
        for wall in self.walls:
            wall.on = wall.error is None
