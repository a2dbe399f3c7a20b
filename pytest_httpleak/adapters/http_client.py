"""`http.client`, hence `urllib.request` and `xmlrpc.client`: stand-alone connections and their responses."""

from __future__ import annotations

import functools
import sys
from types import FrameType, ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks, require
from pytest_httpleak.httpclientrecords import ConnectionRecord, ResponseRecord
from pytest_httpleak.opennumbers import fileno
from pytest_httpleak.patches import Wall
from pytest_httpleak.recorder import Recorder
from pytest_httpleak.wrappers import Note

MODULES = ("http.client",)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record connections where they are made, and responses with the call that sent their request."""
    require(module, "HTTPConnection.__init__", "HTTPConnection.endheaders", "HTTPResponse._close_conn")
    connection_class, response_class = module.HTTPConnection, module.HTTPResponse
    notes = _Notes(hooks.watch, response_class)
    hooks.after(connection_class, "__init__", notes.born)
    for cls in {connection_class, getattr(module, "HTTPSConnection", connection_class)}:  # no TLS without `ssl`
        hooks.after(cls, "connect", notes.connected)
    _put_own_way(connection_class, hooks, notes)
    for name, note in (("close", notes.closing), ("_close_conn", notes.released)):
        # told only while there is a response: none of a pool's is recorded
        hooks.patches.before_while(hooks.wall, response_class, name, note, notes.responses.records)


class _Notes:
    """Connections that no pool has, the requests on them, and the responses to those."""

    def __init__(self, watch: Recorder, response_class: Any) -> None:
        self._watch, self._response_class = watch, response_class
        self._sockets, self._threads = watch.table("sockets"), watch.table("threads")
        self._connections, self.responses = watch.table("http.client connections"), watch.table("http.client responses")
        self.responses.passing = True

    def born(self, _: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        if is_pooled(type(connection)):
            return
        self._watch.add(self._record(connection), opened=False)

    def _record(self, connection: Any) -> ConnectionRecord:
        record = ConnectionRecord(self._sockets, self._threads, connection)
        self._connections.put(connection, record)
        return record

    def _known(self, connection: Any) -> Any:
        """The record of a connection that no pool has; one that is older than the watch belongs to the process."""
        if _pooled.get(type(connection)):  # at once, as this is on the way of every request
            return None
        record = self._connections.get(connection)
        if record is None and not is_pooled(type(connection)):
            record = self._record(connection)
            record.owner = self._watch.root
        return record

    def put(self, connection: Any, method: str, url: str, /, *args: Any, **kwargs: Any) -> None:
        record = self._known(connection)
        if record is not None:
            record.request = (method, url)

    def connected(self, _: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._known(connection)
        if record is not None and record.note_socket(connection) is not None:
            self._watch.opened(record)

    def sent(self, _: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._known(connection)
        if record is not None:
            record.sent = (self._watch.birth(), self._watch.maker())
            record.note_socket(connection)
            self._watch.opened(record)

    def answered(self, response: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._connections.get(connection)
        if record is None:
            return
        sent, record.sent = record.sent, None
        if not isinstance(response, self._response_class) or response.isclosed() or fileno(response.fp) < 0:
            return  # or somebody's own, of which nothing is known
        answer = ResponseRecord(record, response)
        self.responses.put(response, answer)
        self._watch.add(answer)
        if sent is not None:
            answer.birth = sent[0]

    def released(self, response: Any) -> None:
        record = self.responses.get(response)
        if record is not None:
            record.released = True

    def closing(self, response: Any) -> None:
        record = self.responses.get(response)
        if record is not None and not record.released and record.is_unread(response) and _is_dying(response):
            record.collected = True


def _put_own_way(cls: Any, hooks: Hooks, notes: _Notes) -> None:
    """Let the connections of a pool pass: these three are on the way of each of their requests, which others note."""
    for name, make, add, note in (
        ("putrequest", _putrequest, hooks.before, notes.put),
        ("endheaders", _endheaders, hooks.after, notes.sent),
        ("getresponse", _getresponse, hooks.after, notes.answered),
    ):
        if _is_stock(getattr(cls, name)):
            hooks.patches.replace(cls, name, functools.partial(make, hooks.wall, note))
        else:  # somebody else's, who may take more
            add(cls, name, note)


def _putrequest(wall: Wall, put: Note, original: Any) -> Any:
    def putrequest(
        connection: Any, method: Any, url: Any, skip_host: Any = False, skip_accept_encoding: Any = False
    ) -> Any:
        __tracebackhide__ = True
        if wall.on and not _pooled.get(type(connection)):
            try:
                put(connection, method, url)
            except RecursionError:
                pass
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)
        return original(connection, method, url, skip_host, skip_accept_encoding)

    return putrequest


def _endheaders(wall: Wall, sent: Note, original: Any) -> Any:
    def endheaders(connection: Any, message_body: Any = None, *, encode_chunked: Any = False) -> Any:
        __tracebackhide__ = True
        result = original(connection, message_body, encode_chunked=encode_chunked)
        if wall.on and not _pooled.get(type(connection)):
            try:
                sent(None, connection)
            except RecursionError:
                pass
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)
        return result

    return endheaders


def _getresponse(wall: Wall, answered: Note, original: Any) -> Any:
    def getresponse(connection: Any) -> Any:
        __tracebackhide__ = True
        response = original(connection)
        if wall.on and not _pooled.get(type(connection)):
            try:
                answered(response, connection)
            except RecursionError:
                pass
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)
        return response

    return getresponse


def _is_stock(function: Any) -> bool:
    """Whether a method is `http.client`'s own, with nothing laid over it."""
    return getattr(function, "__module__", None) == "http.client" and not hasattr(function, "__wrapped__")


def is_pooled(cls: type) -> bool:
    """Whether connections of that class belong to a pool of another library, which answers for them."""
    known = _pooled.get(cls)
    if known is None:
        known = _pooled[cls] = any(base.__module__.startswith("urllib3") for base in cls.__mro__)
    return known


_pooled: dict[type, bool] = {}


def _is_dying(response: Any) -> bool:
    """Whether a finalizer closes the response: its own, or that of the temporary-file wrapper inside an `HTTPError`."""
    if "_finalizing" in response.__dict__:
        return True
    frame: FrameType | None = sys._getframe(3)  # outside the wrapper
    for _ in range(6):
        if frame is None:
            break
        if frame.f_code.co_name == "__del__" and frame.f_globals.get("__name__") == "tempfile":
            return True
        frame = frame.f_back
    return False
