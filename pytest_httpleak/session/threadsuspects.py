"""Running threads as suspects: what they have made and nobody else keeps ends with them, so they are the cause."""

from __future__ import annotations

import _io
import gc
import sys
from collections.abc import Sequence
from types import CodeType
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.ownership import Watch
from pytest_httpleak.records import Record
from pytest_httpleak.sites import Birth, is_user_file

_HELD: Final = (Kind.RESPONSES, Kind.CLIENTS, Kind.CONNECTIONS, Kind.SOCKETS, Kind.FDS)


class ThreadSuspects:
    """Lets threads that are still running own what ends with them.

    The frames of a running thread cannot be seen from outside. So what was made in a function that the thread is still
    in, and what nothing that can be seen refers to, is held by that function.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def with_holdings(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """The same suspects, each thread with what it alone holds."""
        held = [each for each in suspects if each.kind in _HELD and each.state is State.OPEN]
        if not held:
            return list(suspects)
        records: dict[int, Record] = {id(record): record for record in self._watch.everything()}
        return [self._with_held(each, held, records) if each.kind is Kind.THREADS else each for each in suspects]

    def _with_held(self, thread: Suspect, held: list[Suspect], records: dict[int, Record]) -> Suspect:
        codes = _codes(thread)
        own = _handles(None if thread.key not in records else records[thread.key].ref())
        for each in held:
            record = records.get(each.key)
            known = self._watch.fds.get(-1 - each.key)
            birth = record.birth if record is not None else None if known is None else known[0]
            if _is_made_in(birth, codes):
                thing = record.ref() if record is not None else _file(-1 - each.key)
                if thing is not None and not self._is_kept(thing, own):
                    fd = -1 - each.key if each.kind is Kind.FDS else None
                    holds = (*thread.holds, Held(each.kind, each.summary, fd), *each.holds)
                    thread = replace(thread, owns=thread.owns | {each.key}, holds=holds)
        return thread

    def _is_kept(self, thing: Any, own: list[Any]) -> bool:
        from pytest_httpleak.probes import taskframes

        return taskframes.is_kept_elsewhere(thing, own, self._is_hub)

    def _is_hub(self, thing: Any) -> bool:
        records = (table.get(thing) for table in self._watch.tables())
        return any(isinstance(record, Record) and record.kind in (Kind.CLIENTS, Kind.LOOPS) for record in records)


def _codes(thread: Suspect) -> set[CodeType]:
    """The user's functions that a thread is in."""
    current = sys._current_frames()
    codes = set()
    for claim in thread.claims:
        frame = current.get(claim[1]) if isinstance(claim, tuple) and claim[0] == "thread" else None
        while frame is not None:
            if is_user_file(frame.f_code.co_filename):
                codes.add(frame.f_code)
            frame = frame.f_back
    return codes


def _handles(thread: Any) -> list[Any]:
    """The objects by which the interpreter and its users know the thread: what they lead to, they do not keep."""
    parts = (thread, *(attribute(thread, name) for name in ("__dict__", "_target", "function")))
    return [part for part in parts if part is not None]


def _is_made_in(birth: Birth | None, codes: set[CodeType]) -> bool:
    return birth is not None and any(code in codes for code, _ in birth.frames)


def _file(fd: int) -> Any:
    """The outermost file object of a descriptor; a bare number cannot be told from any other."""
    gc.unfreeze()  # see probes.references
    files = [each for each in gc.get_objects() if _fileno(each) == fd]
    return min(files, key=_distance, default=None)


def _distance(file: object) -> int:
    return next((rank for rank, layer in enumerate((_io._TextIOBase, _io._BufferedIOBase)) if is_a(file, layer)), 2)


def _fileno(thing: Any) -> int:
    if not issubclass(type(thing), _io._IOBase):
        return -1
    try:
        return int(thing.fileno())
    except Exception:  # noqa: BLE001  # closed, or a user's own class
        return -1
