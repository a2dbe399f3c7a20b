"""What is known of a stand-alone connection of `http.client`, and of a response on one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.opennumbers import fileno
from pytest_httpleak.records import Record, type_name
from pytest_httpleak.senders import is_at_work
from pytest_httpleak.sites import Birth
from pytest_httpleak.socketrecords import SocketRecord, held_socket, record_of
from pytest_httpleak.tables import Table


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

    def is_standalone(self) -> bool:
        return True

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


def _origin(connection: Any) -> str:
    scheme = "https" if connection.default_port == 443 else "http"
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    return f"{scheme}://{host}" + ("" if connection.port == connection.default_port else f":{connection.port}")
