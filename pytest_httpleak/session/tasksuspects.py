"""Pending tasks as suspects: where each was made, where it waits, and what ends with it."""

from __future__ import annotations

import _io
import functools
from collections.abc import Callable, Sequence
from typing import Any

from pytest_httpleak import rules
from pytest_httpleak.asking import is_a, module_of
from pytest_httpleak.coroutines import awaits
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import infrastructure, tasks
from pytest_httpleak.records import Record
from pytest_httpleak.session.hubs import is_hub
from pytest_httpleak.sites import Birth

# What a task may hold open inside itself. A loop or a thread does not end with the task that has made it.
_HELD = (Kind.RESPONSES, Kind.CLIENTS, Kind.CONNECTIONS, Kind.SOCKETS, Kind.FDS)


class TaskSuspects:
    """Makes suspects of pending tasks."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._is_hub = functools.partial(is_hub, watch)
        self._destroyed: dict[int, Any] = {}  # codes of tasks destroyed while pending, by the keys of their suspects

    def destroyed(self, task: Any, birth: Birth) -> Suspect:
        """The facts about a task that the interpreter destroys while it is pending."""
        suspect = self.suspect(task, birth)
        code = getattr(task.get_coro(), "cr_code", None)
        if code is not None:
            self._destroyed[suspect.key] = code
        return replace(suspect, state=State.COLLECTED, summary=f"{suspect.summary}, destroyed while pending")

    def suspect(self, task: Any, birth: Birth | None) -> Suspect:
        """The facts about a pending task."""
        return Suspect(
            kind=Kind.TASKS,
            library="asyncio",
            type="asyncio.Task",
            state=State.PENDING,
            summary=tasks.describe(task),
            key=id(task),
            created=None if birth is None else birth.site(),
            stack=() if birth is None else birth.stack(),
            names=tasks.names(task),
        )

    def coming(self, birth: Birth) -> Suspect:
        """The facts about a coroutine that was handed to a loop in another thread, and has not been begun there."""
        return Suspect(
            kind=Kind.TASKS,
            library="asyncio",
            type="asyncio.Task",
            state=State.PENDING,
            summary="a coroutine that was sent to another thread's loop and has not been begun",
            key=id(birth),
            created=birth.site(),
            stack=birth.stack(),
        )

    def with_holdings(self, suspects: Sequence[Suspect], others: Sequence[Suspect]) -> list[Suspect]:
        """The same suspects, each task with what ends with it: tasks that it waits for, and what only its frames refer to."""
        wanted = {suspect.key for suspect in suspects if suspect.kind is Kind.TASKS and suspect.state is State.PENDING}
        if not wanted:
            return list(suspects)
        found = {id(task): task for loop in self._watch.open_loops() for task in tasks.pending(loop)}
        alive = {key: task for key, task in found.items() if key in wanted}
        below = {key: tasks.below(task) for key, task in alive.items()}
        inner = {id(child) for key, children in below.items() for child in children if key not in map(id, children)}
        result = []
        for suspect in suspects:
            task = alive.get(suspect.key)
            if task is not None and suspect.key not in inner and suspect.state is State.PENDING:
                children = below[suspect.key]
                told = self._with_requests(self._with_children(suspect, children), [task, *children])
                result.append(self._with_held(told, [task, *children], others))
            else:
                result.append(suspect)
        return result

    def with_lost(self, suspects: Sequence[Suspect], records: dict[int, Record]) -> list[Suspect]:
        """The same suspects, each destroyed task with what was made inside it and was dropped with it."""
        dropped = [
            (each, records[each.key]) for each in suspects if each.key in records and each.state is State.COLLECTED
        ]
        result = []
        for suspect in suspects:
            is_task = suspect.kind is Kind.TASKS and suspect.state is State.COLLECTED
            code = self._destroyed.pop(suspect.key, None) if is_task else None
            lost = [each for each, record in dropped if code is not None and _is_made_by(record.birth, {code})]
            holds = (Held(each.kind, f"{each.type} {each.summary}, dropped with it") for each in lost)
            owns = suspect.owns | {each.key for each in lost}
            result.append(replace(suspect, owns=owns, holds=(*suspect.holds, *holds)) if lost else suspect)
        return result

    def in_generators(self, generators: Sequence[Any], suspects: Sequence[Suspect]) -> list[Suspect]:
        """Those of the suspects that some suspended generators have in their frames, and close when they are closed."""
        from pytest_httpleak.probes import taskframes

        find = self._finder([each for each in suspects if each.kind in _HELD and each.state is State.OPEN], None)
        parts = taskframes.in_frames(generators, lambda part: find(part) is not None, self._is_hub)
        found = {each.key: each for each in map(find, parts) if each is not None}
        return list(found.values())

    def _with_children(self, suspect: Suspect, children: list[Any]) -> Suspect:
        held = tuple(Held(Kind.TASKS, tasks.describe(child)) for child in children)
        return replace(suspect, owns=suspect.owns | {id(child) for child in children}, holds=suspect.holds + held)

    def _with_requests(self, suspect: Suspect, family: list[Any]) -> Suspect:
        """Add the requests that a task, or one that it waits for, waits to be answered: their clients may be anybody's."""
        held: list[Held] = []
        for record in self._watch.everything():
            maker = None if record.maker is None else record.maker()
            if any(maker is task for task in family):
                held += record.in_flight()
        return replace(suspect, holds=(*suspect.holds, *held))

    def _with_held(self, suspect: Suspect, family: list[Any], others: Sequence[Suspect]) -> Suspect:
        """Add what was made inside a task, or with it, and is referred to by nothing but its frames and those below."""
        from pytest_httpleak.probes import taskframes

        candidates = [each for each in others if each.kind in _HELD and each.state is State.OPEN]
        if not candidates:
            return suspect
        frames = [awaited for task in family for awaited in awaits(task.get_coro())]
        made_here = {code for task in family for code in taskframes.codes(awaits(task.get_coro()))}
        find = self._finder(candidates, made_here, suspect)
        held: dict[int, Suspect] = {}
        for thing in taskframes.in_frames(frames, lambda part: find(part) is not None, self._is_hub):
            each = find(thing)
            if each is None or each.key in suspect.owns or each.key in held:
                continue
            if not taskframes.is_kept_elsewhere(thing, frames, self._is_hub):
                held[each.key] = each
        told = [part for each in rules.causes(held.values()) for part in (Held(each.kind, each.summary), *each.holds)]
        return replace(suspect, owns=suspect.owns | held.keys(), holds=(*suspect.holds, *told))

    def _finder(
        self, candidates: list[Suspect], made_here: set[Any] | None, task: Suspect | None = None
    ) -> Callable[[Any], Suspect | None]:
        """Tells which of the candidates an object is; where codes are given, only what was made in one, or with the task."""
        by_key = {each.key: each for each in candidates}
        by_fd = {
            claim[1]: each
            for each in candidates
            for claim in each.claims
            if isinstance(claim, tuple) and claim[0] == "fd"
        }
        tables = self._watch.tables()

        def chosen(each: Suspect, birth: Birth | None) -> Suspect | None:
            if _is_made_by(birth, made_here) or (task is not None and _are_of_one_call(each, task)):
                return each
            return None

        def find(part: Any) -> Suspect | None:
            for table in tables:
                record = table.get(part)
                if record is not None and id(record) in by_key:
                    return chosen(by_key[id(record)], record.birth)
            fd = _fd(part) if by_fd else -1
            known = self._watch.fds.get(fd) if fd in by_fd else None
            return None if known is None else chosen(by_fd[fd], known[0])

        return find


def _is_made_by(birth: Birth | None, codes: set[Any] | None) -> bool:
    if codes is None:
        return True
    return birth is not None and not codes.isdisjoint(birth.codes())


def _are_of_one_call(suspect: Suspect, task: Suspect) -> bool:
    """Whether a library has made something when the user called it for the same thing as it has made the task for."""
    package = infrastructure.wrapper_of(task) if task.created is not None else None
    return package is not None and suspect.created == task.created and infrastructure.wrapper_of(suspect) == package


def _fd(part: Any) -> int:
    """The descriptor of a file object, or of a transport of uvloop's."""
    try:
        if is_a(part, _io._IOBase):
            return int(part.fileno())
        if module_of(part).startswith("uvloop") and hasattr(part, "get_extra_info"):
            return int(part.get_extra_info("socket").fileno())
    except Exception:  # noqa: BLE001  # closed, or a user's own class
        return -1
    return -1
