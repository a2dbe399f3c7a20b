"""`http.client`, hence `urllib.request` and `xmlrpc.client`: stand-alone connections and their responses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any, ClassVar

from pytest_httpleak.adapters import Hooks, require
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.opennumbers import fileno
from pytest_httpleak.records import Record, Table, is_at_work, type_name
from pytest_httpleak.sites import Birth
from pytest_httpleak.socketrecords import SocketRecord, held_socket, record_of

MODULES = ("http.client",)


class ConnectionRecord(Record):
    """An `HTTPConnection` that no pool owns, with the request it sent last."""

    __slots__ = ("request", "sent", "socket", "sockets", "summary", "threads", "type")

    kind: ClassVar[Kind] = Kind.CONNECTIONS
    LIBRARY = "http.client"

    def __init__(self, sockets: Table, threads: Table, connection: Any) -> None:
        super().__init__()
        self.sockets = sockets
        self.threads = threads
        self.type = type_name(connection)
        self.summary = _origin(connection)
        self.request = ("", "")
        self.socket: SocketRecord | None = None
        self.sent: tuple[Birth, Any] | None = None  # where a request was sent, and by whom, until it is answered

    def note_socket(self, connection: Any) -> SocketRecord | None:
        """Let this connection answer for its present socket."""
        socket = record_of(connection.sock, self.sockets)
        if socket is not None and socket.holder is not self:
            socket.answered_by(self)
            self.socket = socket
        return socket

    def is_open(self) -> bool:
        return self.socket is not None and self.socket.is_open()

    def is_over(self) -> bool:
        return self.ref() is None

    def descriptors(self) -> Iterator[int]:
        connection = self.ref()
        fd = -1 if connection is None else fileno(connection.sock)
        if fd >= 0:
            yield fd

    def look(self) -> Suspect | None:
        connection = self.ref()
        if connection is None:
            return None  # its socket, if it was dropped while open, speaks for it
        fd = fileno(connection.sock)
        if fd < 0 or (self.sent is not None and is_at_work(self.sent[1], self.threads, self.owner)):
            return None
        claims, socket = held_socket(connection.sock, fd, self.note_socket(connection))
        return self._suspect(State.OPEN, claims, socket)

    def orphaned(self, socket: SocketRecord) -> Suspect:
        """The suspect for a socket of this connection that was dropped together with it."""
        return self._suspect(State.COLLECTED, socket.claims(), socket.held())

    def _suspect(self, state: State, claims: frozenset[object], socket: Held) -> Suspect:
        names = (self.summary, self.type)
        return self.suspect(state, self.type, self.summary, claims=claims, holds=(socket,), names=names)


class ResponseRecord(Record):
    """A response of a stand-alone connection, from the request's last byte to the body's."""

    __slots__ = ("collected", "length", "method", "origin", "released", "socket", "status", "url")

    kind: ClassVar[Kind] = Kind.RESPONSES
    LIBRARY = "http.client"

    def __init__(self, connection: ConnectionRecord, response: Any) -> None:
        super().__init__()
        self.origin = connection.summary
        self.method, url = connection.request
        self.url = url if "://" in url else self.origin + url
        self.status = response.status
        self.length = response.length  # of the body, None where only its end will tell
        self.released = False
        self.collected = False
        self.socket = record_of(getattr(getattr(response.fp, "raw", None), "_sock", None), connection.sockets)

    def is_unread(self, response: Any) -> bool:
        """Whether the body has not been read to its end: a body read by lines may end with the response still open."""
        return not response.isclosed() and not (self.length and response.length == 0 and not response.chunked)

    def is_open(self) -> bool:
        response = self.ref()
        return response is not None and self.is_unread(response)

    def is_over(self) -> bool:
        return self.released and not self.collected

    def descriptors(self) -> Iterator[int]:
        response = self.ref()
        if response is not None and not response.isclosed() and self.socket is not None:
            yield from self.socket.descriptors()

    def look(self) -> Suspect | None:
        response = self.ref()
        # In a reference cycle the weak reference is cleared before the response is closed, so nobody hears of that.
        if self.collected or (response is None and not self.released):
            return self._suspect(State.COLLECTED, ())
        if self.released or response is None or not self.is_unread(response):
            return None
        socket = self.socket
        if socket is not None and socket.fd() < 0:
            return None
        holds = (Held(Kind.CONNECTIONS, f"the connection to {self.origin}"),)
        return self._suspect(State.OPEN, holds + (() if socket is None else (socket.held(),)))

    def _suspect(self, state: State, holds: tuple[Held, ...]) -> Suspect:
        summary = f"{self.method} {self.url} [{self.status}]"
        return self.suspect(
            state,
            "http.client.HTTPResponse",
            summary,
            claims=frozenset() if self.socket is None else self.socket.claims(),
            holds=holds,
            always=True,
            names=(self.url, summary),
        )


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record connections where they are made, and responses with the call that sent their request."""
    require(module, "HTTPConnection.__init__", "HTTPConnection.endheaders", "HTTPResponse._close_conn")
    watch = hooks.watch
    sockets, threads = watch.table("sockets"), watch.table("threads")
    connections = watch.table("http.client connections")
    responses = watch.table("http.client responses")
    responses.passing = True

    def born(_: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        if is_pooled(type(connection)):
            return
        record = ConnectionRecord(sockets, threads, connection)
        connections.put(connection, record)
        watch.add(record, opened=False)

    def known(connection: Any) -> Any:
        """The record of a connection that no pool has; one that is older than the watch belongs to the process."""
        if _pooled.get(type(connection)):  # at once, as this is on the way of every request
            return None
        record = connections.get(connection)
        if record is None and not is_pooled(type(connection)):
            record = ConnectionRecord(sockets, threads, connection)
            record.owner = watch.root
            connections.put(connection, record)
        return record

    def put(connection: Any, method: str, url: str, /, *args: Any, **kwargs: Any) -> None:
        record = known(connection)
        if record is not None:
            record.request = (method, url)

    def connected(_: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = known(connection)
        if record is not None and record.note_socket(connection) is not None:
            watch.opened(record)

    def sent(_: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = known(connection)
        if record is not None:
            record.sent = (watch.birth(), watch.maker())
            record.note_socket(connection)
            watch.opened(record)

    def answered(response: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection)
        if record is None:
            return
        sent, record.sent = record.sent, None
        if not isinstance(response, response_class) or response.isclosed() or fileno(response.fp) < 0:
            return  # or somebody's own, of which nothing is known
        answer = ResponseRecord(record, response)
        responses.put(response, answer)
        watch.add(answer)
        if sent is not None:
            answer.birth = sent[0]

    def released(response: Any) -> None:
        record = responses.get(response)
        if record is not None:
            record.released = True

    def closing(response: Any) -> None:
        record = responses.get(response)
        if record is not None and not record.released and record.is_unread(response) and _is_dying(response):
            record.collected = True

    connection_class, response_class = module.HTTPConnection, module.HTTPResponse
    hooks.after(connection_class, "__init__", born)
    for cls in {connection_class, getattr(module, "HTTPSConnection", connection_class)}:  # no TLS without `ssl`
        hooks.after(cls, "connect", connected)
    _put_own_way(connection_class, hooks, put, sent, answered)
    for name, note in (("close", closing), ("_close_conn", released)):  # of those of a pool there is nothing to tell
        hooks.patches.before_while(hooks.wall, response_class, name, note, responses.records)


def _put_own_way(
    cls: Any, hooks: Hooks, put: Callable[..., None], sent: Callable[..., None], answered: Callable[..., None]
) -> None:
    """Let the connections of a pool pass: these three are on the way of each of their requests, which others note."""
    wall = hooks.wall

    def make_putrequest(original: Any) -> Any:
        def putrequest(
            connection: Any, method: Any, url: Any, skip_host: Any = False, skip_accept_encoding: Any = False
        ) -> Any:
            __tracebackhide__ = True
            if wall.on and not _pooled.get(type(connection)):
                try:
                    put(connection, method, url)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return original(connection, method, url, skip_host, skip_accept_encoding)

        return putrequest

    def make_endheaders(original: Any) -> Any:
        def endheaders(connection: Any, message_body: Any = None, *, encode_chunked: Any = False) -> Any:
            __tracebackhide__ = True
            result = original(connection, message_body, encode_chunked=encode_chunked)
            if wall.on and not _pooled.get(type(connection)):
                try:
                    sent(None, connection)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return result

        return endheaders

    def make_getresponse(original: Any) -> Any:
        def getresponse(connection: Any) -> Any:
            __tracebackhide__ = True
            response = original(connection)
            if wall.on and not _pooled.get(type(connection)):
                try:
                    answered(response, connection)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
            return response

        return getresponse

    if _is_stock(cls.putrequest):
        hooks.patches.replace(cls, "putrequest", make_putrequest)
    else:  # somebody else's, who may take more
        hooks.before(cls, "putrequest", put)
    if _is_stock(cls.endheaders):
        hooks.patches.replace(cls, "endheaders", make_endheaders)
    else:
        hooks.after(cls, "endheaders", sent)
    if _is_stock(cls.getresponse):
        hooks.patches.replace(cls, "getresponse", make_getresponse)
    else:
        hooks.after(cls, "getresponse", answered)


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


def _origin(connection: Any) -> str:
    scheme = "https" if connection.default_port == 443 else "http"
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    return f"{scheme}://{host}" + ("" if connection.port == connection.default_port else f":{connection.port}")
