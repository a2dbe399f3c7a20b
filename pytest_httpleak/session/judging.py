"""Judging one owner of whom something is suspected: collect, wait, look again, and say what is really leaked."""

from __future__ import annotations

import _thread
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from types import CodeType
from typing import Any, Final

from pytest_httpleak import rules
from pytest_httpleak.asking import collect
from pytest_httpleak.clocks import Real
from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.owners import Owner
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import children, infrastructure, reactors, tasks
from pytest_httpleak.records import Record
from pytest_httpleak.session.bare import bare_records
from pytest_httpleak.session.dropped import Dropped
from pytest_httpleak.session.excusing import excused
from pytest_httpleak.session.explaining import explained
from pytest_httpleak.session.keeping import (
    SEARCH,
    is_idle_worker,
    keepers_of,
    may_be_excused,
)
from pytest_httpleak.session.ledger import Ledger
from pytest_httpleak.session.looking import Looking
from pytest_httpleak.session.pendingtasks import pending_records
from pytest_httpleak.session.settling import pauses
from pytest_httpleak.session.unborn import Unborn

# What lives as long as the process is asked about after a few milliseconds, so that a clean test need not wait for it,
# and for less processor time than what decides: without an answer it is asked again after the grace.
_LOOKS_BEFORE_ASKING: Final = 4
_LOOKS_AT_FIRST: Final = 4  # within 15 ms
_YOUNG: Final = 1  # the generations that a collection takes what is not old from
_MOST_ASKED_BEFORE: Final = 8  # what lives as long as the process is not made by the dozen
_TO_SAVE_TIME: Final = 0.3


class Judging:
    """Tells what is leaked from what is only late, only unrecorded, or may live as long as the process."""

    def __init__(
        self,
        watch: Watch,
        ledger: Ledger,
        looking: Looking,
        *,
        code_of_test: Callable[[], CodeType | None],
        item: Callable[[], Any],
    ) -> None:
        self._watch = watch
        self._ledger = ledger
        self._looking = looking
        self._code_of_test = code_of_test
        self._item = item
        self._dropped: Dropped | None = None  # as one is judged
        self._unborn = Unborn((), had_threads=False)
        self._had_children = self._had_threads = False  # before the last look
        self.unsure: set[int] = set()  # keys of suspects of whom there was no time to find out what keeps them

    def causes(
        self, owner: Owner, suspects: list[Suspect], grace: float, tasks_before: int, kinds: Collection[Kind]
    ) -> list[Suspect]:
        """What is really leaked: collected once, waited for, and told apart from what may live as long as the process."""
        if not _may_count(suspects, kinds):
            self._ledger.open()
            return []
        self._unborn = Unborn(suspects, had_threads=not self._is_alone(owner))
        before = suspects = self._after_a_moment(owner, suspects, grace, tasks_before)
        if not suspects:
            self._ledger.open()
            return []
        # Held meanwhile: a task that nothing refers to is pending, and must not be destroyed by this very question.
        waiting = [task for loop in self._watch.open_loops() for task in tasks.pending(loop)]
        is_alone = self._is_alone(owner)
        collect(_YOUNG)  # which is all that most garbage needs, and costs little beside a heap
        suspects = self._look(owner, tasks_before)
        freed = self._freed(owner, before, suspects) if is_alone else []
        if not suspects and not freed:
            self._ledger.open()
            return []
        if not freed and len(self._dropped_of(owner).going(suspects, self._watch.holders)) == len(suspects):
            self._ledger.open()
            return []
        if not freed and self._watch.keepers and self._are_kept(owner, suspects, kinds, is_searched=False):
            return []
        collect()
        suspects = self._look(owner, tasks_before)
        freed = self._freed(owner, before, suspects) if is_alone else []
        suspects = self._settled(owner, suspects, grace, tasks_before, kinds)
        suspects = self._unborn.without_passing(suspects, lambda: self._look(owner, tasks_before))
        records = self._records(owner)
        keys = self._excused(owner, suspects, records, self.unsure)
        suspects = self._with_holdings(suspects, records, keys, kinds)
        if self._are_released(suspects, records, keys, kinds):
            known = {each.key for each in suspects}
            more = [each for each in self._look(owner, tasks_before) if each.key not in known]
            keys |= self._excused(owner, more, records, self.unsure)
            suspects += more
        found = rules.causes([*freed, *suspects], keys, kinds)
        del waiting
        self._ledger.open()
        records |= {**pending_records(self._watch, found), **owner.left_tasks}
        return explained(found, records, self.unsure, self._looking.wall.note)

    def _look(self, owner: Owner, tasks_before: int) -> list[Suspect]:
        """What is suspected now."""
        self._had_children, self._had_threads = children.are_left(), _thread._count() > 0
        suspects = self._looking.look(owner, tasks_before)
        self._unborn.look(suspects)
        return suspects

    def _with_holdings(
        self, suspects: list[Suspect], records: dict[int, Record], keys: set[int], kinds: Collection[Kind]
    ) -> list[Suspect]:
        """The same with what ends with each task and thread; not where all are excused, as that is a search for each pair."""
        if not rules.causes(suspects, keys, kinds):
            return suspects
        try:
            return self._looking.tasks.with_lost(self._looking.with_holdings(suspects, keys), records)
        except Exception as error:  # noqa: BLE001  # this is the wall
            self._looking.wall.note(error)
            return suspects

    def _after_a_moment(self, owner: Owner, suspects: list[Suspect], grace: float, tasks_before: int) -> list[Suspect]:
        """What is suspected yet where a thread may just be ending what C code has opened: all else costs more than a moment."""
        if not all(suspect.key < 0 for suspect in suspects):
            return suspects
        for pause in islice(pauses(grace), _LOOKS_AT_FIRST):
            if not suspects or not _thread._count():
                break
            Real.sleep(pause)
            suspects = self._look(owner, tasks_before)
        return suspects

    def _settled(
        self, owner: Owner, suspects: list[Suspect], grace: float, tasks_before: int, kinds: Collection[Kind]
    ) -> list[Suspect]:
        """What is suspected after the grace; nothing, and after the start of it, where all that is left may live on."""
        for looks, pause in enumerate(pauses(grace)):
            if not _may_count(suspects, kinds) or not self._can_settle(owner, suspects):
                break
            if looks == _LOOKS_BEFORE_ASKING and self._are_kept(owner, suspects, kinds):
                return []
            self._wait(pause)
            suspects = self._look(owner, tasks_before)
        return self._without_late_garbage(owner, suspects, grace, tasks_before)

    def _without_late_garbage(
        self, owner: Owner, suspects: list[Suspect], grace: float, tasks_before: int
    ) -> list[Suspect]:
        """The same without workers that only what they were doing until now kept from ending with their executor's garbage.

        One that was done before the test's end has ended at the first collection: both are told, or not, alike.
        """
        if any(suspect.kind is Kind.THREADS for suspect in suspects) and collect():
            for pause in islice(pauses(grace), _LOOKS_AT_FIRST):
                Real.sleep(pause)
                suspects = self._look(owner, tasks_before)
                if not any(suspect.kind is Kind.THREADS for suspect in suspects):
                    break
        return suspects

    def _are_kept(
        self, owner: Owner, suspects: list[Suspect], kinds: Collection[Kind], *, is_searched: bool = True
    ) -> bool:
        found = rules.causes(suspects, (), kinds)
        if len(found) > _MOST_ASKED_BEFORE or not all(map(may_be_excused, found)):
            return False
        records = self._records(owner)
        threads = [records.get(suspect.key) for suspect in suspects if suspect.kind is Kind.THREADS]
        if not all(map(is_idle_worker, threads)):  # one that is at work may be nearly done with it
            return False
        unsure: set[int] = set()
        keys = self._excused(owner, suspects, records, unsure, seconds=_TO_SAVE_TIME, is_searched=is_searched)
        return not unsure and not rules.causes(suspects, keys, kinds)

    def _records(self, owner: Owner) -> dict[int, Record]:
        records = {record.key: record for record in self._watch.everything()}
        return records | {id(record): record for record in list(owner.records)}

    def _excused(
        self,
        owner: Owner,
        suspects: list[Suspect],
        records: dict[int, Record],
        unsure: set[int],
        *,
        seconds: float = SEARCH,
        is_searched: bool = True,
    ) -> set[int]:
        """Keys of suspects that are kept, and no leak; where that cannot be asked, an error hides none of them."""
        try:
            keepers = keepers_of(self._watch, owner)
            bare = bare_records(self._watch, suspects, keepers)
            records |= bare
            records |= pending_records(self._watch, suspects) if keepers else {}
            closed = {key for key, record in bare.items() if record.is_closed()}
            asked = [suspect for suspect in suspects if suspect.key not in closed]
            placed: set[int] = set()
            more = excused(
                keepers,
                asked,
                records,
                unsure,
                placed,
                test=self._code_of_test(),
                seconds=seconds,
                is_searched=is_searched,
                of_fixture=owner.scope != "function",
                places=self._watch.left_to_places,
                handlers=lambda: infrastructure.lasting_handlers(self._watch.table("handlers"), owner),
                own_class=None if any(each.cls is owner.cls for each in keepers) else owner.cls,
            )
            more |= self._ending_with_jobs([each for each in asked if each.key in more], asked, records)
            rest = [suspect for suspect in asked if suspect.key not in more]
            gone = self._dropped_of(owner)
            loose = [suspect for suspect in rest if suspect.key not in placed]
            return closed | more | gone.dying(loose, records, is_near=not is_searched) | gone.ending(rest)
        except Exception as error:  # noqa: BLE001  # this is the wall
            self._looking.wall.note(error)
            return set()

    def _ending_with_jobs(self, kept: list[Suspect], asked: list[Suspect], records: dict[int, Record]) -> set[int]:
        """Keys of what ends with the tasks that a wider fixture has been given: that answers for it, too."""
        jobs = [each for each in kept if each.kind is Kind.TASKS and each.key in records]
        ending = set()
        for job in self._looking.tasks.with_holdings(jobs, asked) if jobs else ():
            keeper = self._watch.tasks[job.key][1] if job.key in self._watch.tasks else None
            for key in job.owns & records.keys() if keeper is not None else ():
                records[key].belong_to(keeper)
                ending.add(key)
        return ending

    def _dropped_of(self, owner: Owner) -> Dropped:
        if self._dropped is None:
            self._dropped = Dropped(owner, None if owner.scope == "block" else self._item())
        return self._dropped

    def _freed(self, owner: Owner, before: list[Suspect], after: list[Suspect]) -> list[Suspect]:
        """What only the garbage collector has put right just now; nothing where a thread may have done so."""
        if not self._is_alone(owner):
            return []
        left = {suspect.key for suspect in after}
        gone = [suspect for suspect in before if suspect.key not in left]
        records = {id(record): record for record in list(owner.records)}
        freed = (records[suspect.key].freed(suspect) for suspect in gone if suspect.key in records)
        return [suspect for suspect in freed if suspect is not None]

    def _is_alone(self, owner: Owner) -> bool:
        """Whether no thread of the owner's is at work, which may put something right meanwhile."""
        threads = (record for record in list(owner.records) if record.kind is Kind.THREADS and record.is_open())
        return not self._watch.borrowed and not any(True for _ in threads)

    def _can_settle(self, owner: Owner, suspects: list[Suspect]) -> bool:
        """Whether time can change anything: not if this thread is the only one and no loop can be run.

        What was at work before the last look may have ended after it.
        """
        over = {suspect.key for suspect in owner.left}
        if all(suspect.state is State.COLLECTED or suspect.key in over for suspect in suspects):
            return False
        if any(suspect.kind is Kind.THREADS for suspect in suspects):
            return True  # also where it is not counted any more: one that is just ending counts as alive for a moment
        if reactors.can_turn() or self._had_children or children.are_left():
            return True
        if self._watch.running_loop() is not None:  # blocked while this thread waits: only a thread can end meanwhile
            return False
        return self._had_threads or _thread._count() > 0 or any(True for _ in self._runnable_loops())

    def _runnable_loops(self) -> Iterator[Any]:
        """The loops that stand still and belong to this thread; another thread may be about to run its own."""
        for loop in self._watch.open_loops():
            record = self._watch.table("loops").get(loop)
            if tasks.can_run(loop) and (record is None or record.thread == _thread.get_ident()):
                yield loop

    def _wait(self, pause: float) -> None:
        has_turned = reactors.can_turn() and reactors.turn(pause)
        loops = list(self._runnable_loops())
        if not loops and not has_turned:
            Real.sleep(pause)
        for loop in loops:
            tasks.let_run(loop, pause / len(loops))

    def _are_released(
        self, suspects: list[Suspect], records: dict[int, Record], keys: set[int], kinds: Collection[Kind]
    ) -> bool:
        """Let workers that will not be told, as they are excused or not watched, answer for no request they wait for."""
        threads = [each.key for each in suspects if each.kind is Kind.THREADS]
        released = [key for key in threads if key in keys or Kind.THREADS not in kinds]
        workers: list[Any] = [records[key] for key in released if getattr(records.get(key), "pooled", False)]
        for worker in workers:
            worker.answers_for_jobs = False
        return bool(workers)

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


def _may_count(suspects: Sequence[Suspect], kinds: Collection[Kind]) -> bool:
    """Whether there are any of the kinds that are watched, or what may answer for such."""
    return any(suspect.kind in kinds or suspect.kind in _ANSWERING for suspect in suspects)


_ANSWERING: Final = (Kind.TASKS, Kind.THREADS)
