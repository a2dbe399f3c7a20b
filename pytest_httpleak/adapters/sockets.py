"""Raw sockets: `socket.socket` and what is derived from it (ssl, socketpair, dup, accept)."""

from __future__ import annotations

import _socket as _socket_module
import inspect
import sys
from threading import get_ident
from types import CodeType, FrameType, ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks, require
from pytest_httpleak.opennumbers import fileno
from pytest_httpleak.socketrecords import SocketRecord
from pytest_httpleak.userfiles import GENERATED

MODULES = ("socket",)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record each socket that is made, and note how it ends."""
    require(module, "socket._real_close", "socket.detach", "socket.accept", "socket.dup")
    cls = module.socket
    notes = _Notes(cls, hooks.watch)
    hooks.after(cls, "__init__", notes.born)
    hooks.before(cls, "_real_close", notes.closed)
    hooks.after(cls, "detach", notes.detached)
    hooks.after(cls, "accept", notes.accepted)
    hooks.after(cls, "dup", notes.doubled)


class _Notes:
    """How each socket came to be, and how it ended."""

    def __init__(self, cls: Any, watch: Any) -> None:
        self._watch, self._table = watch, watch.table("sockets")
        self._table.gone = self._died
        self._dying: dict[int, SocketRecord] = watch.dying_sockets
        self._most_dying = _MOST_DYING  # also when the interpreter has cleared this module at its end
        self._accept = getattr(inspect.unwrap(cls.accept), "__code__", None)
        # As gevent's has, for one, whose servers keep the core alone.
        self._has_core = not issubclass(cls, _socket_module.socket)

    def born(self, _: None, sock: Any, /, *args: Any, **kwargs: Any) -> None:
        watch = self._watch
        if watch.making and get_ident() in watch.making:
            return
        record = SocketRecord(sock)
        is_wrapper = len(args) > _FILENO or kwargs.get("fileno") is not None
        if is_wrapper:
            record.accepted = _is_called_in(self._accept)
        if self._has_core:
            record.note_core(getattr(sock, "_sock", None))
        self._table.put(sock, record)
        watch.add(record)
        if is_wrapper:
            birth, owner, identity = watch.fds.get(record.number, (None, None, None))
            if birth is not None and owner is record.owner and identity == record.identity:
                record.birth = birth  # that of the number, which is older than this object
        watch.open_sockets += 1
        self._dying.pop(record.key, None)

    def closed(self, sock: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._table.get(sock)
        if record is None and self._dying:
            record = self._dying.pop(id(sock), None)
            if record is not None and record.is_at(fileno(sock)) and not _is_ended_by_a_file():
                record.closed, record.collected = True, False  # in order, by the `__del__` of what had it
        elif record is not None and not record.closed:
            record.closed = True
            self._watch.open_sockets -= 1

    def detached(self, fd: int, sock: Any, /) -> None:
        self.closed(sock)
        if self._is_accepted(sock):  # and wrapped since, as for TLS
            for other in self._table:
                other.accepted = other.accepted or other.fd() == fd

    def accepted(self, result: tuple[Any, Any], listener: Any, /) -> None:
        record = self._table.get(result[0])  # none if a test has put something else in the place of the class
        if record is not None:
            record.accepted = True  # its server's side; the test answers for the client's

    def doubled(self, result: Any, sock: Any, /) -> None:
        record = self._table.get(result)
        if record is not None:
            record.accepted = self._is_accepted(sock)

    def _is_accepted(self, sock: Any) -> bool:
        record = self._table.get(sock)
        return record is not None and bool(record.accepted)

    def _died(self, record: SocketRecord) -> None:
        if record.closed:
            if not record.collected:  # by a transport that died before it: then its holder tells of it
                record.holder = None  # which refers to this record too: nothing is left for the garbage collector
        elif (core := record.outliving_core()) is not None:
            self._table.put(core, record)
            record.is_core = True
        else:
            record.closed = record.is_core  # of which nobody tells whether it was closed before it died
            if not record.closed:
                record.collect()
            self._watch.open_sockets -= 1
            if len(self._dying) >= self._most_dying:
                self._dying.clear()
            self._dying[record.key] = record


def _is_ended_by_a_file() -> bool:
    """Whether a socket that was told to close before is closed only now, as the last file of it is finalized.

    Python warns of one that it finalizes before that file, and which comes first depends on when it collects. What calls
    for it on purpose, a `__del__` or the end of a generator, is another matter.
    """
    frame: FrameType | None = sys._getframe(2)
    waited = False
    while frame is not None:
        code = frame.f_code
        waited = waited or code.co_name == "_decref_socketios"
        if code.co_name not in _CLOSING and not code.co_filename.startswith(GENERATED):
            return waited and code.co_name != "__del__" and not isinstance(sys.exc_info()[1], GeneratorExit)
        frame = frame.f_back
    return waited


# The functions on the way from a file to its socket.
_CLOSING = frozenset(("_close_conn", "_decref_socketios", "_real_close", "close"))
_MOST_DYING = 1000  # many more than one collection lets go of between them and their finalizers
_FILENO = 3  # its place among the arguments of `socket.socket`
_WRAPPERS = 3  # around `socket.__init__`, where sessions are nested


def _is_called_in(function: CodeType | None) -> bool:
    """Whether that function makes the socket: `accept`, also where a library has kept it from before it was patched."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_WRAPPERS + 1):
        if frame is None:
            break
        if frame.f_code is function:
            return True
        frame = frame.f_back
    return False
