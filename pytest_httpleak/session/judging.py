"""Judging one owner: look, and only where something looks leaked, collect, wait, and look again."""

from __future__ import annotations

import _thread
import gc
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from pytest_httpleak.model.findings import Finding, Held, Suspect, replace
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.patches import Wall
from pytest_httpleak.probes import descriptors, tasks
from pytest_httpleak.records import Record
from pytest_httpleak.session.ledger import Ledger
from pytest_httpleak.session.settling import pauses
from pytest_httpleak.session.tasksuspects import TaskSuspects
from pytest_httpleak.settings import Settings
from pytest_httpleak.sites import Birth, is_user_file, is_user_module

# Bound here, so that a test which freezes time cannot freeze the grace.
_sleep = time.sleep

# Seconds in which a thread that is interrupted between making something and having it recorded goes on.
_UNTIL_RECORDED: Final = 0.002

# A client like these may live as long as the process, if one module attribute or cached function is its only holder.
_MAY_BE_PROCESS_WIDE: Final = (Kind.CLIENTS, Kind.CONNECTIONS)


class _Noted(Wall):
    """A wall that stays up: judging goes on after an error, which is named once."""

    __slots__ = ()

    def note(self, error: BaseException) -> None:
        """Name the error in the summary."""
        self.fall(error)
        self.on = True


class Judging:
    """Looks at the records, tasks and descriptors of one owner at a time."""

    def __init__(self, watch: Watch, ledger: Ledger) -> None:
        self._watch = watch
        self._ledger = ledger
        self._tasks = TaskSuspects(watch)
        self.wall = _Noted("judging")
        watch.walls.append(self.wall)

    # -- looking -------------------------------------------------------------------------------------------------------

    def first_look(self, owner: Owner, tasks_before: int) -> list[Suspect]:
        """What an owner is suspected of at first sight; on the way of every test, so a clean one must pass quickly."""
        moved = self._ledger.has_moved()
        suspects = self.look(owner, tasks_before, moved=moved or owner.descriptors > 0)
        if moved and not suspects:
            self._ledger.open()
        return suspects

    def look(self, owner: Owner, tasks_before: int, *, moved: bool = True) -> list[Suspect]:
        """What an owner is suspected of at this moment; `moved` is False where no descriptor can have been added."""
        suspects = list(owner.left)
        for record in owner.records:
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
        from pytest_httpleak.probes import infrastructure

        explained = set(self._held_descriptors(sockets=False)) | infrastructure.descriptors()
        suspects = [suspect for suspect in suspects if not self._is_explained(suspect, explained)]
        if unaccounted:
            explained |= set(self._held_descriptors(sockets=True))
            explained |= self._of_native_loops(owner)
            suspects += self._ledger.suspects(unaccounted, explained)
        suspects = [suspect for suspect in suspects if not infrastructure.is_of_a_tool(suspect)]
        blind = frozenset().union(*(wall.packages for wall in self._watch.walls if wall.error is not None))
        return [suspect for suspect in suspects if not _is_out_of_sight(suspect, blind)] if blind else suspects

    def _look_at(self, record: Record) -> Suspect | None:
        try:
            suspect = record.look()
            if suspect is not None and record.birth is not None and record.birth.is_import():
                record.owner = self._watch.root
                return None
            return suspect
        except Exception as error:  # noqa: BLE001  # a library's objects may be half-way dead, or not what they were
            self.wall.note(error)
            return None

    def _held_descriptors(self, *, sockets: bool) -> Iterator[int]:
        """Descriptors that a living client, pool, connection, response or loop answers for, whoever owns it."""
        for record in self._watch.everything():
            if sockets or record.kind is not Kind.SOCKETS:
                try:
                    yield from record.descriptors()
                except Exception as error:  # noqa: BLE001  # this is the wall
                    self.wall.note(error)

    def answered_for(self) -> set[int]:
        """Descriptors that something else than their own number answers for: records, and the tools of the run."""
        from pytest_httpleak.probes import infrastructure

        return set(self._held_descriptors(sockets=True)) | infrastructure.descriptors()

    def task_suspect(self, task: Any, birth: Birth | None) -> Suspect:
        """The facts about a pending task."""
        return self._tasks.suspect(task, birth)

    def _of_native_loops(self, owner: Owner) -> set[int]:
        """What a loop that is written in C opens out of sight: its poller, its signals, its wake-up; some at first use."""
        records = [*self._watch.table("loops"), *(each for each in owner.records if each.kind is Kind.LOOPS)]
        native = any(each.library != "asyncio" and not each.is_over() for each in records)
        return self._ledger.out_of_sight() if native else set()

    def _is_explained(self, suspect: Suspect, explained: set[int]) -> bool:
        if suspect.kind is not Kind.SOCKETS or suspect.state is not State.OPEN:
            return False
        return any(held.fd in explained for held in suspect.holds)

    def _pending(self, owner: Owner) -> list[Suspect]:
        waiting = (each for loop in self._watch.open_loops() for each in self._waiting(loop, owner))
        sent = [birth for birth, of in list(self._watch.sent.values()) if of is owner]
        return [*(self._tasks.suspect(task, birth) for task, birth, _ in waiting), *map(self._tasks.coming, sent)]

    def _waiting(self, loop: Any, owner: Owner | None = None) -> list[tuple[Any, Birth | None, Owner]]:
        """The pending tasks of a loop that `owner`, or anyone who has not been judged, answers for."""
        root = self._watch.root
        found, served = [], []
        for task in tasks.pending(loop):
            birth, of = self._watch.of_task(task) or (None, self._owner_unseen(task))
            if birth is not None and birth.is_of_protocol():
                served.append(task)
            elif of is owner or (owner is None and of is not root and not of.over):
                found.append((task, birth, of))
        handled = {id(below) for task in served for below in tasks.below(task)} if found else set()
        return [each for each in found if id(each[0]) not in handled]

    def _owner_unseen(self, task: Any) -> Owner:
        """Who answers for a task that was made by `asyncio.Task(...)`; a library's own way to make its tasks is its business."""
        code = getattr(task.get_coro(), "cr_code", None)
        is_users = code is not None and is_user_file(code.co_filename)
        return self._watch.owner_by_context(task) if is_users else self._watch.root

    # -- tasks of loops that are about to be closed --------------------------------------------------------------------

    def loop_closing(self, loop: Any, *, cancelled: bool) -> None:
        """Take down the tasks that are pending when a loop ends: before a test runner cancels them, or when it is closed."""
        if cancelled and not _called_by_a_runner():
            return
        waiting = self._waiting(loop)
        record = self._watch.table("loops").get(loop)
        opened = {} if record is None or cancelled else record.opened
        if not waiting and not opened:
            return
        by_runner = cancelled or _called_by_a_runner()
        if by_runner and waiting and tasks.can_run(loop):
            for pause in pauses(self._watch.stack[-1].grace):
                tasks.let_run(loop, pause)
                waiting = self._waiting(loop)
                if not waiting:
                    break
        for owner in {id(of): of for _, _, of in waiting}.values():
            suspects = [self._tasks.suspect(task, birth) for task, birth, of in waiting if of is owner]
            suspects = self._tasks.with_holdings(suspects, self.look(owner, self._watch.births_of_tasks))
            owner.left += suspects
            self._watch.forget_tasks(task for task, _, of in waiting if of is owner)
        if by_runner and opened:
            self._closed_with(loop, opened)

    def _closed_with(self, loop: Any, known: dict[int, Any]) -> None:
        """Take down what only the end of a loop in C closes: a test that leaves it open leaves it to its runner."""
        owner, fds = self._watch.stack[-1], self._watch.fds
        opened = {("fd", fd) for fd, identity in known.items() if fd in fds and fds[fd][2] == identity}
        found = self._left_in(opened, owner)
        for pause in pauses(owner.grace):
            if not found or not tasks.can_run(loop):
                break
            tasks.let_run(loop, pause)
            found = self._left_in(opened, owner)
        owner.left += found

    def _left_in(self, opened: set[tuple[str, int]], owner: Owner) -> list[Suspect]:
        if not opened or owner is self._watch.root:
            return []
        suspects = self.look(owner, self._watch.births_of_tasks)
        return [each for each in suspects if each.kind is not Kind.TASKS and not opened.isdisjoint(each.claims)]

    def task_destroyed(self, task: Any) -> None:
        """Take down a task that the interpreter destroys while it is pending."""
        known = self._watch.of_task(task)
        if known is None or tasks.is_infrastructure(task) or known[0].is_of_protocol():
            return
        birth, owner = known
        if owner is not self._watch.root and not owner.over:
            owner.left.append(self._tasks.destroyed(task, birth))
        self._watch.forget_tasks([task])

    # -- deciding ------------------------------------------------------------------------------------------------------

    def causes(self, owner: Owner, suspects: list[Suspect], grace: float, tasks_before: int) -> list[Suspect]:
        """What is really leaked: collected once, waited for, and told apart from what may live as long as the process."""
        from pytest_httpleak import hints, rules

        before = suspects
        # Held meanwhile: a task that nothing refers to is pending, and must not be destroyed by this very question.
        waiting = [task for loop in self._watch.open_loops() for task in tasks.pending(loop)]
        gc.collect()
        suspects = self.look(owner, tasks_before)
        freed = self._freed(owner, before, suspects)
        for pause in pauses(grace):
            if not suspects or not self._can_settle(owner, suspects):
                break
            self._wait(pause)
            suspects = self.look(owner, tasks_before)
        suspects = self._lasting(owner, suspects, tasks_before)
        records = {record.key: record for record in self._watch.everything()}
        records |= {id(record): record for record in owner.records}
        try:
            suspects = self._tasks.with_lost(self.with_holdings(suspects), records)
        except Exception as error:  # noqa: BLE001  # this is the wall
            self.wall.note(error)
        found = rules.causes([*freed, *suspects], self._excused(suspects, records))
        del waiting
        self._ledger.open()
        asked: dict[Any, int] = {}
        return [
            replace(suspect, held_by=self._held_by(suspect, records, asked), hint=suspect.hint or hints.hint(suspect))
            for suspect in found
        ]

    def _lasting(self, owner: Owner, suspects: list[Suspect], tasks_before: int) -> list[Suspect]:
        """The same suspects without descriptors that another thread has just opened and nobody has recorded yet."""
        before = {each.key: descriptors.identity(-1 - each.key) for each in suspects if _is_unborn(each)}
        if not before or _thread._count() == 0:
            return suspects
        _sleep(_UNTIL_RECORDED)
        after = {each.key for each in self.look(owner, tasks_before) if before.get(each.key) is not None}
        lasting = {key for key in after if descriptors.identity(-1 - key) == before[key]}
        return [each for each in suspects if each.key not in before or each.key in lasting]

    def with_holdings(self, suspects: list[Suspect]) -> list[Suspect]:
        """The same suspects, with tasks and threads that own what ends with them."""
        if any(suspect.kind is Kind.THREADS for suspect in suspects):
            from pytest_httpleak.session.threadsuspects import ThreadSuspects

            suspects = ThreadSuspects(self._watch).with_holdings(suspects)
        return self._tasks.with_holdings(suspects, suspects)

    def _freed(self, owner: Owner, before: list[Suspect], after: list[Suspect]) -> list[Suspect]:
        """What only the garbage collector has put right just now, where no thread of the owner's can have done it."""
        left = {suspect.key for suspect in after}
        gone = [suspect for suspect in before if suspect.key not in left]
        records = {id(record): record for record in owner.records}
        threads = (record for record in owner.records if record.kind is Kind.THREADS and record.is_open())
        if not gone or self._watch.borrowed or any(True for _ in threads):
            return []
        freed = (records[suspect.key].freed(suspect) for suspect in gone if suspect.key in records)
        return [suspect for suspect in freed if suspect is not None]

    def _can_settle(self, owner: Owner, suspects: list[Suspect]) -> bool:
        """Whether time can change anything: not if this thread is the only one and no loop can be run."""
        over = {suspect.key for suspect in owner.left}
        if all(suspect.state is State.COLLECTED or suspect.key in over for suspect in suspects):
            return False
        if any(suspect.kind is Kind.THREADS for suspect in suspects):
            return True  # also where it is not counted any more: one that is just ending counts as alive for a moment
        if self._watch.running_loop() is not None:  # blocked while this thread waits: only a thread can end meanwhile
            return False
        return _thread._count() > 0 or any(True for _ in self._runnable_loops())

    def _runnable_loops(self) -> Iterator[Any]:
        """The loops that stand still and belong to this thread; another thread may be about to run its own."""
        for loop in self._watch.open_loops():
            record = self._watch.table("loops").get(loop)
            if tasks.can_run(loop) and (record is None or record.thread == _thread.get_ident()):
                yield loop

    def _wait(self, pause: float) -> None:
        loops = list(self._runnable_loops())
        if not loops:
            _sleep(pause)
        for loop in loops:
            tasks.let_run(loop, pause / len(loops))

    def _excused(self, suspects: list[Suspect], records: dict[int, Record]) -> set[int]:
        """Keys of suspects that live as long as the process: first-use globals, and clients in an attribute of their own."""
        from pytest_httpleak.probes import infrastructure, references

        excused: set[int] = set()
        asked: dict[Any, int] = {}
        for suspect in suspects:
            record = records.get(suspect.key)
            thing = None if record is None or suspect.state is State.COLLECTED else record.ref()
            if suspect.kind is Kind.THREADS and any(map(infrastructure.is_tool_thread, suspect.names[:1])):
                excused.add(suspect.key)
            if thing is None or suspect.kind not in (*_MAY_BE_PROCESS_WIDE, Kind.SOCKETS, Kind.THREADS):
                continue
            root = references.process_wide(thing) if _may_ask(asked, suspect) else None
            if root is None:
                continue
            asked[suspect.kind, suspect.created] = 0  # a line that makes such things: each is asked about
            file = getattr(sys.modules.get(root.module), "__file__", None)
            if suspect.kind in _MAY_BE_PROCESS_WIDE or (file is not None and not is_user_module(root.module, file)):
                excused.add(suspect.key)
        return excused

    def _held_by(self, suspect: Suspect, records: dict[int, Record], asked: dict[Any, int]) -> str | None:
        record = records.get(suspect.key)
        thing = None if record is None or suspect.state is State.COLLECTED else record.ref()
        if thing is None or not _may_ask(asked, suspect):
            return None
        from pytest_httpleak.probes import references

        return references.held_by(thing)

    def settle_accounts(self, causes: list[Suspect]) -> None:
        """Let no wider owner report again what has been reported now."""
        keys = {suspect.key for suspect in causes}
        claims = {claim for suspect in causes for claim in suspect.claims}
        for record in self._watch.everything():
            if id(record) in keys or ("socket", id(record)) in claims:
                record.blamed = True
        for suspect in causes:
            if suspect.kind is Kind.TASKS and suspect.key in self._watch.tasks:
                self._watch.tasks[suspect.key] = (self._watch.tasks[suspect.key][0], self._watch.root)
            for claim in suspect.claims:
                if isinstance(claim, tuple) and claim[0] == "fd":
                    self._ledger.disown(claim[1])

    # -- limits --------------------------------------------------------------------------------------------------------

    def breaches(self, owner: Owner, settings: Settings) -> list[Finding]:
        """The limits that were exceeded while the owner lived, as findings of the state `peak`."""
        if owner.peaks is None:
            return []
        found = [
            _breach(kind, limit, *owner.peaks.breaches[kind])
            for kind, limit in settings.peaks.items()
            if kind in owner.peaks.breaches
        ]
        made = owner.peaks.clients()
        if settings.max_clients is not None and len(made) > settings.max_clients:
            found.append(_breach(Kind.CLIENTS, settings.max_clients, len(made), made))
        return found


def _breach(kind: Kind, limit: int, number: int, holders: list[Record]) -> Finding:
    sites: dict[Any, int] = {}
    for record in holders:
        site = None if record.birth is None else record.birth.site()
        sites[site] = sites.get(site, 0) + 1
    last = holders[-1]
    what = "made" if kind is Kind.CLIENTS else "open at once"
    holds = tuple(
        Held(kind, f"{count} from " + ("an unknown line" if site is None else f"{site.file}:{site.line}"))
        for site, count in sorted(sites.items(), key=lambda item: -item[1])
    )
    return Finding(
        kind=kind,
        library=last.library,
        type=kind.value,
        state=State.PEAK,
        summary=f"{number} {kind.value} {what}, and the limit is {limit}",
        created=None if last.birth is None else last.birth.site(),
        stack=() if last.birth is None else last.birth.stack(),
        holds=holds,
        hint="limit what runs at once (a semaphore, a pool limit), or raise the limit in the marker",
    )


# Each question about what refers to a resource is a scan of the heap: a line that leaks a thousand may not take minutes.
_QUESTIONS: Final = 20


def _may_ask(asked: dict[Any, int], suspect: Suspect) -> bool:
    """Whether it may be asked what refers to this one, after so many of the same line."""
    place = suspect.kind, suspect.created
    asked[place] = asked.get(place, 0) + 1
    return asked[place] <= _QUESTIONS


def _is_unborn(suspect: Suspect) -> bool:
    """Whether a descriptor was only found by looking: nobody has seen it being opened."""
    return suspect.library == "os" and suspect.key < 0 and not suspect.stack


_RUNNERS: Final = ("pytest_asyncio", "pytest_aiohttp", "unittest", "aiohttp.pytest_plugin")


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


def _is_out_of_sight(suspect: Suspect, blind: frozenset[str]) -> bool:
    """Whether a library made the socket whose adapter is off: it may be idle in a pool that nobody asks any more."""
    if suspect.kind is not Kind.SOCKETS:
        return False
    parts = {part for site in suspect.stack for part in site.file.replace("\\", "/").split("/")}
    return not blind.isdisjoint(parts)
