"""`http.client`, hence `urllib.request` and `xmlrpc.client`: stand-alone connections and their responses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.model import Held, Kind, State, Suspect
from pytest_httpleak.records import Record, Table, type_name
from pytest_httpleak.sites import Birth
from pytest_httpleak.socketrecords import SocketRecord, record_of

MODULES = ("http.client",)


class ConnectionRecord(Record):
    """An `HTTPConnection` that no pool owns, with the request it sent last."""

    __slots__ = ("address", "request", "sent", "sockets", "type")

    kind: ClassVar[Kind] = Kind.CONNECTIONS
    LIBRARY = "http.client"

    def __init__(self, sockets: Table, connection: Any) -> None:
        super().__init__()
        self.sockets = sockets
        self.type = type_name(connection)
        self.address = ""
        self.request = ("", "")
        self.sent: tuple[Birth, Any, Any] | None = None

    def note_socket(self, connection: Any) -> SocketRecord | None:
        """Remember that this connection answers for its present socket."""
        socket = record_of(connection.sock, self.sockets)
        if socket is not None:
            socket.holder = self
        return socket

    def is_open(self) -> bool:
        connection = self.ref()
        return connection is not None and connection.sock is not None

    def descriptors(self) -> Iterator[int]:
        connection = self.ref()
        if connection is not None and connection.sock is not None:
            yield connection.sock.fileno()

    def look(self) -> Suspect | None:
        connection = self.ref()
        if connection is None:
            return None  # its socket, if it was dropped while open, speaks for it
        sock = connection.sock
        if sock is None or not hasattr(sock, "fileno") or sock.fileno() < 0:
            return None
        socket = self.note_socket(connection)
        holds = () if socket is None else (socket.held(),)
        claims = frozenset((("fd", sock.fileno()),)) if socket is None else socket.claims()
        return self.suspect(State.OPEN, self.type, self.address, claims=claims, holds=holds, names=(self.address,))

    def orphaned(self, socket: SocketRecord) -> Suspect:
        """The suspect for a socket of this connection that was dropped together with it."""
        return self.suspect(
            State.COLLECTED, self.type, self.address, claims=socket.claims(), holds=(socket.held(),), names=(self.address,)
        )


class ResponseRecord(Record):
    """A response of a stand-alone connection, from the request's last byte to the body's."""

    __slots__ = ("collected", "method", "released", "socket", "sockets", "status", "url")

    kind: ClassVar[Kind] = Kind.RESPONSES
    LIBRARY = "http.client"

    def __init__(self, sockets: Table, method: str, url: str, status: int) -> None:
        super().__init__()
        self.sockets = sockets
        self.method, self.url, self.status = method, url, status
        self.released = False
        self.collected = False
        self.socket: SocketRecord | None = None

    def is_open(self) -> bool:
        response = self.ref()
        return response is not None and not response.isclosed()

    def is_over(self) -> bool:
        return self.released and not self.collected

    def descriptors(self) -> Iterator[int]:
        response = self.ref()
        if response is not None and not response.isclosed() and self.socket is not None:
            yield from self.socket.descriptors()

    def look(self) -> Suspect | None:
        summary = f"{self.method} {self.url} [{self.status}]"
        socket = self.socket
        claims = socket.claims() if socket is not None else frozenset[object]()
        if self.collected:
            return self._suspect(State.COLLECTED, summary, claims, ())
        response = self.ref()
        if self.released or response is None or response.isclosed():
            return None
        if socket is not None and socket.fd() < 0:
            return None
        holds = (Held(Kind.CONNECTIONS, "the connection it was read from"),)
        return self._suspect(State.OPEN, summary, claims, holds + (() if socket is None else (socket.held(),)))

    def _suspect(self, state: State, summary: str, claims: frozenset[object], holds: tuple[Held, ...]) -> Suspect:
        return self.suspect(
            state,
            "http.client.HTTPResponse",
            summary,
            claims=claims,
            holds=holds,
            always=True,
            names=(self.url, summary),
        )


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record connections where they are made, and responses with the call that sent their request."""
    watch = hooks.watch
    sockets = watch.table("sockets")
    connections = watch.table("http.client connections")
    responses = watch.table("http.client responses")

    def born(_: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        if is_pooled(type(connection)):
            return
        record = ConnectionRecord(sockets, connection)
        record.address = f"{_scheme(connection)}://{_host(connection)}"
        connections.put(connection, record)
        watch.add(record, opened=False)

    def put(connection: Any, method: str, url: str, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection)
        if record is not None:
            record.request = (method, url)

    def sent(_: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection)
        if record is not None:
            record.sent = (watch.birth(), watch.owner(), watch.maker())
            record.note_socket(connection)
            watch.opened(record)

    def answered(response: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection)
        if record is None or response.isclosed():
            return
        method, url = record.request
        full = url if "://" in url else f"{_scheme(connection)}://{_host(connection)}{url}"
        answer = ResponseRecord(sockets, method, full, response.status)
        raw = getattr(getattr(response.fp, "raw", None), "_sock", None)
        answer.socket = record_of(raw, sockets)
        responses.put(response, answer)
        watch.add(answer)
        if record.sent is not None:
            answer.birth, answer.owner = record.sent[0], answer.owner
            record.sent = None

    def released(response: Any) -> None:
        record = responses.get(response)
        if record is not None:
            record.released = True

    def closing(response: Any) -> None:
        record = responses.get(response)
        if record is not None and not record.released and not response.isclosed() and _is_dying(response):
            record.collected = True

    connection_class, response_class = module.HTTPConnection, module.HTTPResponse
    hooks.after(connection_class, "__init__", born)
    hooks.before(connection_class, "putrequest", put)
    hooks.after(connection_class, "endheaders", sent)
    hooks.after(connection_class, "getresponse", answered)
    hooks.before(response_class, "close", closing)
    hooks.before(response_class, "_close_conn", released)


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
    frame = sys._getframe(2)
    for _ in range(6):
        if frame is None:
            return False
        if frame.f_code.co_name == "__del__" and frame.f_globals.get("__name__") == "tempfile":
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def _scheme(connection: Any) -> str:
    return "https" if hasattr(connection, "_context") else "http"


def _host(connection: Any) -> str:
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    return host if connection.port == connection.default_port else f"{host}:{connection.port}"
