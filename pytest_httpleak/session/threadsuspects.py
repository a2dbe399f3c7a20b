"""Running threads as suspects: what they have made and nobody else keeps ends with them, so they are the cause."""

from __future__ import annotations

import _io
import functools
import gc
import threading
from collections.abc import Collection, Iterator, Sequence
from types import CodeType
from typing import Any, Final

from pytest_httpleak import databases
from pytest_httpleak.asking import attribute, attributes_of, is_a
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.opennumbers import fileno_of_file
from pytest_httpleak.ownership import Watch
from pytest_httpleak.probes import frames, infrastructure, tasks
from pytest_httpleak.probes.holders import Holders
from pytest_httpleak.processrecords import managed_by
from pytest_httpleak.records import Record
from pytest_httpleak.session.hubs import is_hub
from pytest_httpleak.sites import Birth
from pytest_httpleak.userfiles import is_user_frame
from pytest_httpleak.weakrefs import Address

_SEND: Final = "run_coroutine_threadsafe"
_RUN: Final = threading.Thread.run.__code__
_HELD: Final = (Kind.RESPONSES, Kind.CLIENTS, Kind.CONNECTIONS, Kind.SOCKETS, Kind.FDS)


class ThreadSuspects:
    """Lets threads that are still running own what ends with them.

    The frames of a running thread cannot be seen from outside. So what was made in a function that the thread is still
    in, and what nothing that can be seen refers to, is held by that function. What is an attribute of the thread's own
    object, and of nothing else, ends with it, too.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def with_holdings(self, suspects: Sequence[Suspect], excused: Collection[int] = ()) -> list[Suspect]:
        """The same suspects, each thread with what it alone holds, but for what is `excused` by its key."""
        held = [
            each for each in suspects if each.kind in _HELD and each.state is State.OPEN and each.key not in excused
        ]
        loops = [each for each in suspects if each.kind is Kind.LOOPS and each.state is State.RUNNING]
        if not held and not loops:
            return list(suspects)
        records: dict[int, Record] = {id(record): record for record in self._watch.everything()}
        result = []
        for each in suspects:
            is_known = each.kind is Kind.THREADS and each.key in records
            told = self._with_loop(each, loops, suspects, records) if is_known else each
            told = self._with_pipes(told, held, records) if is_known else told
            result.append(self._with_held(told, held, records) if each.kind is Kind.THREADS else told)
        return result

    def _with_pipes(self, suspect: Suspect, held: list[Suspect], records: dict[int, Record]) -> Suspect:
        """Add the pipes that a thread of `multiprocessing`'s writes to or manages for a queue or an executor."""
        thread = records[suspect.key].ref()
        pipes = {*managed_by(thread), *(fd for each in self._watch.table("processes") for fd in _pipes(each, thread))}
        ending = [each for each in held if each.kind is Kind.FDS and -1 - each.key in pipes]
        holds = (Held(each.kind, each.summary, -1 - each.key) for each in ending)
        return replace(suspect, owns=suspect.owns | {each.key for each in ending}, holds=(*suspect.holds, *holds))

    def _with_loop(
        self, suspect: Suspect, loops: list[Suspect], suspects: Sequence[Suspect], records: dict[int, Record]
    ) -> Suspect:
        """Add the loop that a thread has made and runs, with what was made in the thread for that loop to run."""
        of_thread = records[suspect.key]
        thread = of_thread.ref()
        for each in loops:
            record: Any = records.get(each.key)
            loop = None if record is None or record.maker is None or record.maker() is not thread else record.ref()
            if loop is not None and record.thread == attribute(thread, "ident"):
                pending = {id(task): task for task in tasks.pending(loop)}
                polled = frozenset((*_polled(loop), *record.opened))
                inside = [
                    other
                    for other in suspects
                    if self._is_run_by(other, loop, pending, polled, records=records, of_thread=of_thread)
                ]
                holds = (Held(other.kind, other.summary) for other in inside)
                owns = suspect.owns | {each.key, *(other.key for other in inside)}
                suspect = replace(suspect, owns=owns, holds=(*suspect.holds, Held(each.kind, each.type), *holds))
        return suspect

    def _is_run_by(
        self,
        other: Suspect,
        loop: Any,
        pending: dict[int, Any],
        polled: frozenset[int],
        *,
        records: dict[int, Record],
        of_thread: Record,
    ) -> bool:
        """Whether a task of a loop, or a socket that it polls, was made in the thread that runs it, and not sent there."""
        if other.kind is Kind.TASKS:
            task = pending.get(other.key)
            origin = None if task is None else self._watch.of_task(task)
            return origin is not None and not any(code.co_name == _SEND for code, _ in origin[0].frames)
        if other.kind is not Kind.SOCKETS or other.state is not State.OPEN:
            return False
        is_bare = other.key < 0 and -1 - other.key in polled
        if not is_bare and not any(held.fd in polled for held in other.holds):
            return False
        record = records.get(other.key)
        maker = None if record is None or record.maker is None else record.maker()
        if maker is not None:
            return maker is of_thread.ref() or (hasattr(maker, "get_loop") and maker.get_loop() is loop)
        return _is_made_in_thread(self._birth_of(other, records), of_thread.birth)

    def _birth_of(self, suspect: Suspect, records: dict[int, Record]) -> Birth | None:
        record = records.get(suspect.key)
        known = self._watch.fds.get(-1 - suspect.key)
        return record.birth if record is not None else None if known is None else known[0]

    def _with_held(self, thread: Suspect, held: list[Suspect], records: dict[int, Record]) -> Suspect:
        codes = _codes(thread)
        running = None if thread.key not in records else records[thread.key].ref()
        own, parts = _handles(running), set(map(id, attributes_of(running).values()))
        addressed = self._addressed(held)
        for each in held:
            record = records.get(each.key)
            thing = addressed.get(-1 - each.key) if record is None else record.ref()
            is_part = thing is not None and id(thing) in parts
            if is_part or _is_made_in(self._birth_of(each, records), codes):
                thing = self._object(-1 - each.key) if record is None and thing is None else thing
                if thing is not None and not self._is_kept(thing, own):
                    fd = -1 - each.key if each.kind is Kind.FDS else None
                    holds = (*thread.holds, Held(each.kind, each.summary, fd), *each.holds)
                    thread = replace(thread, owns=thread.owns | {each.key}, holds=holds)
        return thread

    def _object(self, fd: int) -> Any:
        """What a descriptor is open in: a file, or what was made with it and keeps its number, as a selector does."""
        file, known = _file(fd), self._watch.fds.get(fd)
        if file is not None or known is None:
            return file
        birth, _, identity = known
        return Holders((birth,), self._watch.holders).of(fd, birth, identity)

    def _addressed(self, held: list[Suspect]) -> dict[int, Any]:
        """By descriptor: the objects that are known by their address alone, as a database is."""
        known = {-1 - each.key: self._watch.holders.get(-1 - each.key) for each in held if each.kind is Kind.FDS}
        addresses: dict[int, Any] = {fd: of[1] for fd, of in known.items() if of is not None and is_a(of[1], Address)}
        things = databases.living({address.key for address in addresses.values()}) if addresses else {}
        found = ((fd, things.get(address.key), address.cls) for fd, address in addresses.items())
        return {fd: thing for fd, thing, cls in found if is_a(thing, cls)}

    def _is_kept(self, thing: Any, own: list[Any]) -> bool:
        from pytest_httpleak.probes import taskframes

        return taskframes.is_kept_elsewhere(thing, own, functools.partial(is_hub, self._watch))


def _pipes(record: Any, thread: Any) -> Iterator[int]:
    pipes_of = attribute(record, "pipes_of")
    return iter(()) if pipes_of is None or thread is None else pipes_of(thread)


def _codes(thread: Suspect) -> set[CodeType]:
    """The functions that a thread is in, of the user's and of installed libraries, but for tools'."""
    idents = {claim[1] for claim in thread.claims if isinstance(claim, tuple) and claim[0] == "thread"}
    return {
        frame.f_code
        for frame in frames.of_others(only=idents)
        if is_user_frame(frame) or infrastructure.package_of(frame.f_code.co_filename)
    }


def _handles(thread: Any) -> list[Any]:
    """The objects by which the interpreter and its users know the thread: what they lead to, they do not keep."""
    parts = (thread, *(attribute(thread, name) for name in ("__dict__", "_target", "function")))
    return [part for part in parts if part is not None]


def _is_made_in(birth: Birth | None, codes: set[CodeType]) -> bool:
    return birth is not None and any(code in codes for code, _ in birth.frames)


def _polled(loop: Any) -> set[int]:
    """The descriptors that a loop is waiting for, in another thread."""
    selector: Any = getattr(loop, "_selector", None)
    try:
        return set(selector.get_map() or ())
    except Exception:  # noqa: BLE001  # changed meanwhile, or a loop without
        return set()


def _is_made_in_thread(birth: Birth | None, of_thread: Birth | None) -> bool:
    """Whether something was made within a helper thread, and not sent to it."""
    while birth is not None:
        if birth is of_thread or any(code is _RUN for code, _ in birth.frames):
            return True
        birth = birth.parent
    return False


def _file(fd: int) -> Any:
    """The outermost file object of a descriptor; a bare number cannot be told from any other."""
    gc.unfreeze()  # see probes.references
    files = [each for each in gc.get_objects() if _fileno(each) == fd]
    return min(files, key=_distance, default=None)


def _distance(file: object) -> int:
    return next((rank for rank, layer in enumerate((_io._TextIOBase, _io._BufferedIOBase)) if is_a(file, layer)), 2)


def _fileno(thing: Any) -> int:
    return fileno_of_file(thing) if is_a(thing, _io._IOBase) else -1
