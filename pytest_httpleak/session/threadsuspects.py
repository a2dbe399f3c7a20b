"""Running threads as suspects: what they keep in their own frames and nowhere else ends with them, so they are the cause."""

from __future__ import annotations

import inspect
import io
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any, Final

from pytest_httpleak.model import Held, Kind, State, Suspect
from pytest_httpleak.ownership import Watch
from pytest_httpleak.records import Record
from pytest_httpleak.sites import Birth

_HELD: Final = (Kind.RESPONSES, Kind.CLIENTS, Kind.CONNECTIONS, Kind.SOCKETS, Kind.FDS)
_DEEPEST: Final = 60  # frames of a thread that are looked at


class ThreadSuspects:
    """Lets threads that are still running own what ends with them."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def with_holdings(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """The same suspects, each thread with what only its frames refer to."""
        held = [each for each in suspects if each.kind in _HELD and each.state is State.OPEN]
        if not held:
            return list(suspects)
        return [self._with_held(each, held) if each.kind is Kind.THREADS else each for each in suspects]

    def _with_held(self, thread: Suspect, held: list[Suspect]) -> Suspect:
        from pytest_httpleak.probes import taskframes

        frames = _frames(thread)
        values = [value for frame in frames for value in _locals(frame)]
        find = self._finder(held, {frame.f_code for frame in frames})
        own = [values, *self._handles(thread)]
        for thing in taskframes.in_frames([values], lambda part: find(part) is not None, self._is_hub):
            each = find(thing)
            if each is not None and each.key not in thread.owns:
                if not taskframes.is_kept_elsewhere(thing, own, self._is_hub):
                    holds = (*thread.holds, Held(each.kind, each.summary, _fd_of(each)), *each.holds)
                    thread = replace(thread, owns=thread.owns | {each.key}, holds=holds)
        return thread

    def _handles(self, thread: Suspect) -> list[Any]:
        """The objects by which the interpreter and its users know the thread."""
        record: Any = next((each for each in self._watch.everything() if id(each) == thread.key), None)
        thing = None if record is None else record.ref()
        target = getattr(thing, "_target", None)
        return [each for each in (thing, getattr(thing, "__dict__", None), target) if each is not None]

    def _finder(self, held: list[Suspect], codes: set[Any]) -> Callable[[Any], Suspect | None]:
        by_key = {each.key: each for each in held}
        tables = self._watch.tables()

        def find(part: Any) -> Suspect | None:
            for table in tables:
                record = table.get(part)
                if record is not None:
                    return by_key.get(id(record)) if _is_made_by(record.birth, codes) else None
            fd = _fileno(part)
            known = self._watch.fds.get(fd)
            return by_key.get(-1 - fd) if known is not None and _is_made_by(known[0], codes) else None

        return find

    def _is_hub(self, thing: Any) -> bool:
        records = (table.get(thing) for table in self._watch.tables())
        return any(isinstance(record, Record) and record.kind in (Kind.CLIENTS, Kind.LOOPS) for record in records)


def _frames(thread: Suspect) -> list[FrameType]:
    current = sys._current_frames()
    frames: list[FrameType] = []
    for claim in thread.claims:
        frame = current.get(claim[1]) if isinstance(claim, tuple) and claim[0] == "thread" else None
        while frame is not None and len(frames) < _DEEPEST:
            frames.append(frame)
            frame = frame.f_back
    return frames


def _locals(frame: FrameType) -> list[Any]:
    """The values of a frame's variables, without leaving behind the copy that Python before 3.13 makes of them."""
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return []  # a module's or a class's own names are kept elsewhere by nature
    names: Any = frame.f_locals
    values = list(names.values())
    if sys.version_info < (3, 13) and frame.f_trace is None and threading.gettrace() is None:
        names.clear()
    return values


def _is_made_by(birth: Birth | None, codes: set[Any]) -> bool:
    return birth is not None and any(code in codes for code, _ in birth.frames)


def _fileno(thing: Any) -> int:
    try:
        return thing.fileno() if isinstance(thing, io.IOBase) else -1
    except (OSError, ValueError):
        return -1


def _fd_of(suspect: Suspect) -> int | None:
    return -1 - suspect.key if suspect.kind is Kind.FDS else None
