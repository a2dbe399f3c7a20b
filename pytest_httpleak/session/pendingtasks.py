"""Pending tasks as records, so that what has made and keeps them can be asked for as for any other resource."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import tasks
from pytest_httpleak.records import Bystander
from pytest_httpleak.sites import Birth


class PendingRecord(Bystander):
    """A pending task, for as long as it is asked about."""

    __slots__ = ("_watch",)

    kind: ClassVar[Kind] = Kind.TASKS
    LIBRARY = "asyncio"

    def __init__(self, watch: Watch, task: Any, birth: Birth | None) -> None:
        super().__init__()
        self._watch = watch
        self.ref = lambda: task
        self.birth = birth

    def belong_to(self, owner: Any) -> None:
        task = self.ref()
        birth, _, coroutine = self._watch.tasks[id(task)]
        self._watch.tasks[id(task)] = birth, owner, coroutine


def pending_records(watch: Watch, suspects: Iterable[Suspect]) -> dict[int, PendingRecord]:
    """By the key of its suspect: a record of each pending task."""
    keys = {
        each.key for each in suspects if each.kind is Kind.TASKS and each.state is State.PENDING
    } & watch.tasks.keys()
    waiting = [task for loop in watch.open_loops() for task in tasks.pending(loop)] if keys else []
    return {id(task): PendingRecord(watch, task, watch.tasks[id(task)][0]) for task in waiting if id(task) in keys}
