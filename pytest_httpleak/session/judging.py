"""Judging one owner of whom something is suspected: collect, wait, look again, and say what is really leaked."""

from __future__ import annotations

import _thread
import gc
import sys
import types
from collections.abc import Iterator
from typing import Any, Final

from pytest_httpleak import hints, rules
from pytest_httpleak.asking import is_a, module_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.model.findings import Suspect, replace
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import descriptors, infrastructure, references, tasks
from pytest_httpleak.records import Record
from pytest_httpleak.session.bare import bare_records
from pytest_httpleak.session.ledger import Ledger
from pytest_httpleak.session.looking import Looking
from pytest_httpleak.session.settling import pauses
from pytest_httpleak.sites import is_user_module

# Seconds in which a thread that is interrupted between making something and having it recorded goes on.
_UNTIL_RECORDED: Final = 0.002

# A client like these may live as long as the process, if one module attribute or cached function is its only holder.
_MAY_BE_PROCESS_WIDE: Final = (Kind.CLIENTS, Kind.CONNECTIONS)
_MAY_BE_KEPT: Final = (*_MAY_BE_PROCESS_WIDE, Kind.SOCKETS, Kind.FDS, Kind.THREADS, Kind.LOOPS)

_CONTAINERS: Final = (list, tuple, set, frozenset, dict, types.ModuleType, type)

_NOT_KNOWN: Final = "not known: there are too many objects to search, which is why this is only a warning"

# Each question about what refers to a resource is a scan of the heap: a line that leaks a thousand may not take minutes.
_QUESTIONS: Final = 20


class Judging:
    """Tells what is leaked from what is only late, only unrecorded, or may live as long as the process."""

    def __init__(self, watch: Watch, ledger: Ledger, looking: Looking) -> None:
        self._watch = watch
        self._ledger = ledger
        self._looking = looking
        self.unsure: set[int] = set()  # keys of suspects of whom there was no time to find out what keeps them
        self._given_up: set[Kind] = set()

    def causes(self, owner: Owner, suspects: list[Suspect], grace: float, tasks_before: int) -> list[Suspect]:
        """What is really leaked: collected once, waited for, and told apart from what may live as long as the process."""
        before = suspects
        # Held meanwhile: a task that nothing refers to is pending, and must not be destroyed by this very question.
        waiting = [task for loop in self._watch.open_loops() for task in tasks.pending(loop)]
        gc.collect()
        suspects = self._looking.look(owner, tasks_before)
        freed = self._freed(owner, before, suspects)
        for pause in pauses(grace):
            if not suspects or not self._can_settle(owner, suspects):
                break
            self._wait(pause)
            suspects = self._looking.look(owner, tasks_before)
        suspects = self._lasting(owner, suspects, tasks_before)
        records = {record.key: record for record in self._watch.everything()}
        records |= {id(record): record for record in owner.records}
        try:
            suspects = self._looking.tasks.with_lost(self._looking.with_holdings(suspects), records)
        except Exception as error:  # noqa: BLE001  # this is the wall
            self._looking.wall.note(error)
        records |= bare_records(self._watch, suspects, self._keepers(owner))
        found = rules.causes([*freed, *suspects], self._excused(owner, suspects, records))
        del waiting
        self._ledger.open()
        asked: dict[Any, int] = {}
        return [
            replace(suspect, held_by=self._held_by(suspect, records, asked), hint=hints.hint(suspect))
            for suspect in found
        ]

    def _lasting(self, owner: Owner, suspects: list[Suspect], tasks_before: int) -> list[Suspect]:
        """The same suspects without descriptors that another thread has just opened and nobody has recorded yet."""
        before = {each.key: descriptors.identity(-1 - each.key) for each in suspects if _is_unborn(each)}
        if not before or _thread._count() == 0:
            return suspects
        Real.sleep(_UNTIL_RECORDED)
        after = {each.key for each in self._looking.look(owner, tasks_before) if before.get(each.key) is not None}
        lasting = {key for key in after if descriptors.identity(-1 - key) == before[key]}
        return [each for each in suspects if each.key not in before or each.key in lasting]

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
            Real.sleep(pause)
        for loop in loops:
            tasks.let_run(loop, pause / len(loops))

    def _excused(self, owner: Owner, suspects: list[Suspect], records: dict[int, Record]) -> set[int]:
        """Keys of suspects that live as long as the process: first-use globals, and clients in an attribute of their own.

        So are those that the value of a wider fixture has made when it needed them: that fixture answers for them then.
        """
        keepers = {id(each): each for each in self._keepers(owner)}
        values = {id(each.value): references.Root(str(key), "") for key, each in keepers.items()}
        excused: set[int] = set()
        asked: dict[Any, int] = {}
        for suspect in suspects:
            record = records.get(suspect.key)
            if suspect.kind is Kind.THREADS and any(map(infrastructure.is_tool_thread, suspect.names[:1])):
                excused.add(suspect.key)
            if record is None or suspect.state is State.COLLECTED or suspect.kind not in _MAY_BE_KEPT:
                continue
            # Of connections and sockets a pool keeps those too that it has lost.
            is_whole = suspect.kind not in (Kind.CONNECTIONS, Kind.SOCKETS) or suspect.key < 0
            makers = record.birth.makers() if is_whole and record.birth is not None else frozenset()
            is_taken = suspect.kind is Kind.CONNECTIONS and suspect.library != "http.client"  # from a pool
            ends = None if is_taken or suspect.kind is Kind.LOOPS else values  # a loop policy keeps those of its tests
            if not _may_ask(asked, suspect):
                continue
            root = self._kept_by(suspect, record, makers, ends)
            if root is None:
                continue
            keeper = keepers.get(int(root.module)) if not root.text else None
            if keeper is not None:
                record.belong_to(keeper)
                excused.add(suspect.key)
                continue
            asked[suspect.kind, suspect.created] = 0  # a line that makes such things: each is asked about
            file = getattr(sys.modules.get(root.module), "__file__", None)
            # What the tested code has made may stand in a place of a library's, too: a loop that it has set, a file.
            if suspect.kind is Kind.LOOPS or suspect.key < 0:
                is_excused = root.module.partition(".")[0] in makers
            else:
                is_excused = file is not None and not is_user_module(root.module, file)
            if is_excused or suspect.kind in _MAY_BE_PROCESS_WIDE:
                excused.add(suspect.key)
        return excused

    def _kept_by(
        self, suspect: Suspect, record: Record, makers: frozenset[str], ends: dict[int, references.Root] | None
    ) -> references.Root | None:
        """What keeps a suspect for longer than its owner's life; unsure where there was no time to find that out."""
        if suspect.key < 0 and not ends and not makers:  # the user's own line made it, and there is no wider fixture
            return None
        is_hopeless = suspect.kind in self._given_up
        thing = None if is_hopeless else record.ref()
        root = None if thing is None else references.process_wide(thing, makers, ends)
        if is_hopeless or root is references.GIVEN_UP:
            self._given_up.add(suspect.kind)
            self.unsure.add(suspect.key)
            return None
        return root

    def _keepers(self, owner: Owner) -> list[Owner]:
        """The wider fixtures whose values may have made something when they needed it."""
        return [each for each in self._watch.keepers if each is not owner and _may_keep(each.value)]

    def _held_by(self, suspect: Suspect, records: dict[int, Record], asked: dict[Any, int]) -> str | None:
        if suspect.key in self.unsure:
            return _NOT_KNOWN
        record = records.get(suspect.key)
        if record is None or suspect.state is State.COLLECTED or not _may_ask(asked, suspect):
            return None
        thing = record.ref()
        text = None if thing is None else references.held_by(thing)
        if text is None:
            return None
        if suspect.created is not None:  # of a line's leaks one is shown, so that the others need no answer
            asked[suspect.kind, suspect.created] = _QUESTIONS
        return text + record.place()

    def settle_accounts(self, causes: list[Suspect]) -> None:
        """Let no wider owner report again what has been reported now."""
        keys = {suspect.key for suspect in causes}
        claims = {claim for suspect in causes for claim in suspect.claims}
        for record in self._watch.everything():
            if id(record) in keys or ("socket", id(record)) in claims:
                record.blamed = True
        for suspect in causes:
            task = self._watch.tasks.get(suspect.key) if suspect.kind is Kind.TASKS else None
            if task is not None:
                self._watch.tasks[suspect.key] = (task[0], self._watch.root, task[2])
            for claim in suspect.claims:
                if isinstance(claim, tuple) and claim[0] == "fd":
                    self._ledger.disown(claim[1])


def _may_keep(value: object) -> bool:
    """Whether a fixture's value is an object that may make what it needs; a list or dict keeps what a test puts there."""
    return (
        value is not None and not is_a(value, _CONTAINERS) and not module_of(value).startswith(("_pytest", "builtins"))
    )


def _may_ask(asked: dict[Any, int], suspect: Suspect) -> bool:
    """Whether it may be asked what refers to this one, after so many of the same line."""
    place = suspect.kind, suspect.created
    asked[place] = asked.get(place, 0) + 1
    return asked[place] <= _QUESTIONS


def _is_unborn(suspect: Suspect) -> bool:
    """Whether a descriptor was only found by looking: nobody has seen it being opened."""
    return suspect.library == "os" and suspect.key < 0 and not suspect.stack
