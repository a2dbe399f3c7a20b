"""Looking at one owner: its records, tasks and descriptors, and what they are suspected of at this moment."""

from __future__ import annotations

import errno
import gc
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.answering import runs_users_code
from pytest_httpleak.asking import attribute, collect
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.patches import Wall
from pytest_httpleak.probes import nativethreads, tasks
from pytest_httpleak.records import Record
from pytest_httpleak.session.ledger import Ledger
from pytest_httpleak.sites import Birth

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Suspect
    from pytest_httpleak.session.tasksuspects import TaskSuspects


_OF_HTTP: Final = (Kind.RESPONSES, Kind.CONNECTIONS, Kind.CLIENTS)
_DROPPED: Final = (Kind.SOCKETS, Kind.LOOPS)
_NONE_LEFT: Final = (errno.EMFILE, errno.ENFILE)  # no descriptor to import with what suspects are made of


class _Noted(Wall):
    """A wall that stays up: judging goes on after an error, which is named once."""

    __slots__ = ()

    def note(self, error: BaseException) -> None:
        """Name the error in the summary."""
        self.fall(error)
        self.on = True

    def sentence(self, error: str) -> str:
        """What the summary says of the first error."""
        return f"an error in {self.name}, which has gone on (nothing was switched off): {error}"


class Looking:
    """Looks at the records, tasks and descriptors of one owner at a time; what it sees is judged elsewhere."""

    def __init__(self, watch: Watch, ledger: Ledger) -> None:
        self._watch = watch
        self._ledger = ledger
        self._tasks: TaskSuspects | None = None
        self._is_ready = False
        self._is_hiding = False  # sockets that a library has made whose adapter is off
        self.unknown = 0  # records that could not be looked at
        self.wall = _Noted("judging")
        watch.walls.append(self.wall)

    @property
    def tasks(self) -> TaskSuspects:
        """What makes suspects of pending tasks."""
        if self._tasks is None:
            from pytest_httpleak.session.tasksuspects import TaskSuspects

            self._tasks = TaskSuspects(self._watch)
        return self._tasks

    def first_look(self, owner: Owner, tasks_before: int) -> list[Suspect]:
        """What an owner is suspected of at first sight; on the way of every test, so a clean one must pass quickly."""
        moved = self._ledger.has_moved()
        suspects = self.look(owner, tasks_before, moved=moved or owner.descriptors > 0)
        if not suspects and self._is_hiding:  # of which only those are told that were dropped
            # Held meanwhile: a task that nothing refers to is pending, and must not be destroyed by this very question.
            waiting = [task for loop in self._watch.open_loops() for task in tasks.pending(loop)]
            collect()
            del waiting
            suspects = self.look(owner, tasks_before, moved=moved or owner.descriptors > 0)
        if moved and not suspects:
            self._ledger.open()
        return suspects

    def look(self, owner: Owner, tasks_before: int, *, moved: bool = True) -> list[Suspect]:
        """What an owner is suspected of at this moment; `moved` is False where no descriptor can have been added.

        Nothing is collected meanwhile unless another thread asks for that: what is just looked at would outlive what has it,
        and be closed by the end of that.
        """
        collects = gc.isenabled()
        if collects:  # else another thread may be in here, and be the one to enable it again
            gc.disable()
        try:
            return self._look(owner, tasks_before, moved=moved)
        finally:
            if collects:
                gc.enable()

    def _look(self, owner: Owner, tasks_before: int, *, moved: bool) -> list[Suspect]:
        if not self._is_ready and self._watch.births_of_tasks != tasks_before:
            self.get_ready()
        self._is_hiding = False
        suspects = list(owner.left)
        for record in list(owner.records):
            if record.owner is owner and not record.blamed:
                suspect = self._look_at(record)
                if suspect is not None:
                    suspects.append(suspect)
        if self._watch.births_of_tasks != tasks_before:
            suspects += self._pending(owner)
        unaccounted = self._ledger.unaccounted(owner) if moved else {}
        if not unaccounted and not suspects:
            return suspects
        self._ledger.make_room()
        from pytest_httpleak.probes import children, infrastructure

        of_tools = infrastructure.descriptors(self._watch.table("handlers"), owner)
        explained = of_tools.union(self._held_descriptors(sockets=False))
        suspects = [suspect for suspect in suspects if not self._is_explained(suspect, explained)]
        if unaccounted:
            explained |= {*self._held_descriptors(sockets=True), *children.pipes_of_ended()}
            suspects += self._without_native(self._ledger.suspects(unaccounted, explained, owner), owner)
        suspects = [suspect for suspect in suspects if not infrastructure.is_of_a_tool(suspect)]
        blind = self._blind()
        seen = [suspect for suspect in suspects if not _is_out_of_sight(suspect, blind)] if blind else suspects
        self._is_hiding = len(seen) < len(suspects)
        return seen

    def get_ready(self) -> None:
        """Import what suspects are made of, once there is anything to look at; a test may have left no descriptor to."""
        self._ledger.make_room()
        from pytest_httpleak import doctests, socketends  # noqa: F401  # which records ask for when they are looked at

        self._is_ready = self.tasks is not None  # whose module imports the rest

    def _look_at(self, record: Record) -> Suspect | None:
        try:
            suspect = record.look()
            if suspect is not None and record.birth is not None and record.birth.is_import():
                record.owner = self._watch.root
                return None
            if (
                suspect is None
                or self._is_a_tools(suspect, record)
                or _has_ended_unseen(suspect, record, self._blind())
            ):
                return None
            return suspect
        except Exception as error:  # noqa: BLE001  # a library's objects may be half-way dead, or not what they were
            if self._can_get_ready(error):
                return self._look_at(record)
            self.wall.note(error)
            self.unknown += 1
            return None

    def _blind(self) -> frozenset[str]:
        """The libraries whose adapters are off."""
        return frozenset().union(*(wall.packages for wall in self._watch.walls if wall.error is not None))

    def _can_get_ready(self, error: Exception) -> bool:
        """Whether it was for want of a descriptor to import with, and there is one now."""
        if self._is_ready or attribute(error, "errno") not in _NONE_LEFT:
            return False
        try:
            self.get_ready()
        except Exception as again:  # noqa: BLE001  # this is the wall
            pass_on(again)
        return self._is_ready

    def _is_a_tools(self, suspect: Suspect, record: Record) -> bool:
        """Whether it is a thread that a tool around the tests has started to run its own code, or loggers have."""
        if suspect.kind is not Kind.THREADS:
            return False
        from pytest_httpleak.probes import infrastructure

        return infrastructure.runs_a_tool(record.ref(), suspect) or infrastructure.serves_a_logger(record.ref())

    def _held_descriptors(self, *, sockets: bool) -> Iterator[int]:
        """Descriptors that a living client, pool, connection, response or loop answers for, whoever owns it."""
        for record in self._watch.everything():
            if sockets or record.kind is not Kind.SOCKETS:
                try:
                    yield from record.descriptors()
                except Exception as error:  # noqa: BLE001  # this is the wall
                    self.wall.note(error)

    def answered_for(self) -> set[int]:
        """Descriptors that something else answers for than their own number; not those of loggers, which can pile up."""
        from pytest_httpleak.probes import infrastructure

        return set(self._held_descriptors(sockets=True)) | infrastructure.of_multiprocessing()

    def with_holdings(self, suspects: list[Suspect], excused: Collection[int] = ()) -> list[Suspect]:
        """The same suspects, with tasks and threads that own what ends with them, but for what is `excused` by its key."""
        if any(suspect.kind is Kind.THREADS for suspect in suspects):
            from pytest_httpleak.session.threadsuspects import ThreadSuspects

            suspects = ThreadSuspects(self._watch).with_holdings(suspects, excused)
        suspects = self.tasks.with_holdings(suspects, [each for each in suspects if each.key not in excused])
        if any(suspect.library == "httpx2" for suspect in suspects):
            from pytest_httpleak.session import websockets

            suspects = websockets.with_background(suspects)
        return suspects

    def _without_native(self, suspects: list[Suspect], owner: Owner) -> list[Suspect]:
        """The descriptors that remain where code in C may have opened some; asked only where any are suspected."""
        native = self._of_native_loops(owner) if suspects else set()
        return [each for each in suspects if each.claims.isdisjoint(("fd", fd) for fd in native)]

    def _of_native_loops(self, owner: Owner) -> set[int]:
        """What a loop that is written in C opens out of sight: its poller, its signals, its wake-up; some at first use.

        So do the runtimes that libraries keep for the process (tokio's, ZeroMQ's), in threads that are not Python's.
        """
        records = [*self._watch.table("loops"), *(each for each in owner.records if each.kind is Kind.LOOPS)]
        native = any(each.library != "asyncio" and not each.is_over() for each in records)
        return self._ledger.out_of_sight() if native or nativethreads.are_running() else set()

    def _is_explained(self, suspect: Suspect, explained: set[int]) -> bool:
        if suspect.kind is not Kind.SOCKETS or suspect.state is not State.OPEN:
            return False
        return any(held.fd in explained for held in suspect.holds)

    def _pending(self, owner: Owner) -> list[Suspect]:
        waiting = (each for loop in self._watch.open_loops() for each in self.waiting(loop, owner))
        sent = [birth for birth, of, _ in list(self._watch.sent.values()) if of is owner]
        return [*(self.tasks.suspect(task, birth) for task, birth, _ in waiting), *map(self.tasks.coming, sent)]

    def pending(self, loop: Any) -> list[Any]:
        """The tasks of a loop that are not over, without the one that is asking.

        It is not left by what it ends. Besides, Python 3.12.1 loses its way in the frames of one that runs.
        """
        asking = self._watch.current_task(loop) if loop is self._watch.running_loop() else None
        return [task for task in tasks.pending(loop) if task is not asking]

    def waiting(self, loop: Any, owner: Owner | None = None) -> list[tuple[Any, Birth | None, Owner]]:
        """The pending tasks of a loop that `owner`, or anyone who has not been judged, answers for."""
        root = self._watch.root
        found, served = [], []
        for task in self.pending(loop):
            birth, of, _ = self._watch.of_task(task) or (None, self._owner_unseen(task), 0)
            if birth is not None and birth.is_of_protocol():
                served.append(task)
            elif of is owner or (owner is None and of is not root and not of.over):
                found.append((task, birth, of))
        handled = {id(below) for task in served for below in tasks.below(task)} if found else set()
        return [each for each in found if id(each[0]) not in handled]

    def _owner_unseen(self, task: Any) -> Owner:
        """Who answers for a task that was made by `asyncio.Task(...)`; a library's own way to make its tasks is its business."""
        return self._watch.owner_by_context(task) if runs_users_code(task) else self._watch.root


def _is_out_of_sight(suspect: Suspect, blind: frozenset[str]) -> bool:
    """Whether a library made the socket whose adapter is off: it may be idle in a pool that nobody asks any more.

    Where that is the one for sockets themselves, whoever has made one was not seen, and it may be a server's. One that was
    dropped while open is in no pool.
    """
    if suspect.kind is not Kind.SOCKETS or suspect.state is State.COLLECTED:
        return False
    if suspect.created is None and "socket" in blind:
        return True
    parts = {part for site in suspect.stack for part in site.file.replace("\\", "/").split("/")}
    return not blind.isdisjoint(parts)


def _has_ended_unseen(suspect: Suspect, record: Record, blind: frozenset[str]) -> bool:
    """Whether it may have been ended while the adapter that made its record was off, and does not say itself that it is open."""
    library = type(record).LIBRARY or record.library
    if library.partition(".")[0] not in blind:
        return False
    return suspect.kind in _OF_HTTP or (suspect.kind in _DROPPED and suspect.state is State.COLLECTED)
