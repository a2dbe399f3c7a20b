"""Records of urllib3's connections, and of the responses that have one checked out."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.opennumbers import fileno
from pytest_httpleak.reaching import records_inside
from pytest_httpleak.records import Record, type_name
from pytest_httpleak.senders import is_at_work
from pytest_httpleak.socketrecords import SocketRecord, held_socket, record_of
from pytest_httpleak.tables import Table
from pytest_httpleak.urllib3pools import PoolRecord, origin_of, queued

_RELEASE: Final = (
    "closing an unread response does not give its slot back: read it, or `response.drain_conn()`, "
    "or call `response.release_conn()` after the close"
)
_WRAPPERS: Final = 2  # around a connection, with attributes or in their containers


class ConnectionRecord(Record):
    """One connection: its pool's while idle, a response's while that is read, else lost; or one without a pool."""

    __slots__ = (
        "answering",
        "counted",
        "destined",
        "is_by_hand",
        "is_connecting",
        "is_direct",
        "is_idle",
        "is_unplaced",
        "is_unsent",
        "origin",
        "pool",
        "pools",
        "record_of_pool",
        "request",
        "socket",
        "sockets",
        "threads",
        "type",
    )

    kind: ClassVar[Kind] = Kind.CONNECTIONS
    LIBRARY = "urllib3"

    def __init__(self, sockets: Table, threads: Table, pools: Table, connection: Any) -> None:
        super().__init__()
        self.sockets = sockets
        self.threads = threads
        self.pools = pools
        self.type = type_name(connection)
        scheme = "https" if connection.default_port == 443 else "http"
        self.origin = f"{scheme}://{connection.host}:{connection.port}"
        self.socket: SocketRecord | None = None
        self.counted: SocketRecord | None = None  # the socket that is among those its pool has made
        self.pool: Callable[[], Any] | None = None
        self.record_of_pool: PoolRecord | None = None
        self.request = ("", "")
        self.answering: ResponseRecord | None = None
        self.destined: PoolRecord | None = None  # the pool that it was made for
        self.is_by_hand = False  # checked out by whoever calls `_get_conn()`, who has not given it back
        self.is_connecting = False
        self.is_idle = False  # in its pool's queue
        self.is_direct = False  # checked out by urllib3 itself, so that the request has the same birth
        self.is_unplaced = False  # checked out, with the birth of an earlier time: its own is taken once it is needed
        self.is_unsent = False  # a request waits for it to be established

    def destination(self) -> tuple[Record, str] | None:
        return None if self.destined is None else (self.destined.managed or self.destined, self.origin)

    def has_socket(self) -> bool:
        """Whether the connection is established, or a response has taken its socket over."""
        connection = self.ref()
        return (connection is not None and fileno(connection.sock) >= 0) or (
            self.answering is not None and self.answering.is_open()
        )

    def checked_out(self, pool: Any) -> None:
        """Be there for a request, and for the response that comes of it."""
        if self.pool is None or self.pool() is not pool:
            self.pool, self.record_of_pool = weakref.ref(pool), self.pools.get(pool)
        self.answering = None
        self.is_idle = False

    def sending(self, connection: Any) -> None:
        """Count a request, at once or when the connection is established."""
        self.is_unsent = True
        if connection.sock is not None:
            self._count_request()

    def _count_request(self) -> None:
        pool = self.record_of_pool
        if self.is_unsent and pool is not None:
            pool.requests += 1
        self.is_unsent = False

    def note_socket(self) -> SocketRecord | None:
        """Let this connection speak for its present socket."""
        connection, socket = self.ref(), self.socket
        sock = None if connection is None else connection.sock
        if sock is None:
            return None
        if socket is not None and socket.ref() is sock and socket is self.counted and socket.holder is self:
            return socket  # as it was at the last request
        socket = record_of(sock, self.sockets)
        if socket is not None:
            self.take(socket)
        return socket

    def take(self, socket: SocketRecord) -> None:
        """Speak for that socket from now on; one that is new means that the connection was established."""
        if self.counted is not socket and not self.is_connecting:
            self.counted = socket
            pool = self.record_of_pool
            if pool is not None and pool.ref() is not None:
                pool.made += 1
                self.destined = pool
            self._count_request()
        socket.holder, self.socket = self, socket

    def is_standalone(self) -> bool:
        return self.pool is None

    def is_open(self) -> bool:
        return self.socket is not None and self.socket.is_open()

    def is_over(self) -> bool:
        return self.ref() is None and not self._has_lost_slot()

    def descriptors(self) -> Iterator[int]:
        connection = self.ref()
        fd = -1 if connection is None else fileno(connection.sock)
        if fd >= 0:
            yield fd

    def look(self) -> Suspect | None:
        connection = self.ref()
        if connection is None:
            return self._lost_slot(State.COLLECTED)
        if self._is_answered_for(connection):
            return None
        fd = fileno(connection.sock)
        if fd < 0:
            return self._lost_slot(State.OPEN)
        if self.pool is None and self._waits_in_a_wrapper():
            return None
        what = "" if self.pool is None else ", checked out of its pool with no response to explain it"
        claims, socket = held_socket(connection.sock, fd, self.note_socket())
        return self._suspect(State.OPEN, self.origin + what, claims, socket)

    def _has_lost_slot(self) -> bool:
        """Whether somebody took it by hand out of a pool that blocks, and its place there is still empty."""
        pool = self.pool() if self.is_by_hand and self.pool is not None else None
        if pool is None or pool.pool is None or not pool.block or pool.pool.full():
            return False
        return self.record_of_pool is None or not self.record_of_pool.has_got_none_back

    def _lost_slot(self, state: State) -> Suspect | None:
        """The suspect for a place in a pool that is missed though no socket is: none was opened, or it is closed."""
        answer = self.answering
        if answer is not None and (answer.is_unfinished() or answer._lost_slot() is not None):
            return None  # which tells it
        if not self._has_lost_slot() or (self.record_of_pool is not None and self.record_of_pool.is_let_go()):
            return None
        return self._suspect(state, f"{self.origin}, checked out of its pool and never given back", frozenset(), None)

    def _is_answered_for(self, connection: Any) -> bool:
        if self.answering is not None and self.answering.is_unfinished():
            return True
        pool = None if self.pool is None else self.pool()
        waiting = [] if pool is None else queued(pool)
        if waiting and (waiting[-1] is connection or any(each is connection for each in waiting)):
            return True
        return self.answering is None and is_at_work(self.maker, self.threads, self.owner)

    def lose_socket(self) -> None:
        if self.destined is not None and self.destined.ref() is not None:
            self.is_idle = False  # somebody has taken it out of its pool

    def _waits_in_a_wrapper(self) -> bool:
        """Whether it is in what waits in a pool in a connection's place, as in those of vcrpy's."""
        for record in self.pools:
            pool = record.ref()
            waiting = [] if pool is None else queued(pool)
            if any(self in records_inside(each, record.connections, depth=_WRAPPERS) for each in waiting):
                return True
        return False

    def orphaned(self, socket: Any) -> Suspect | None:
        if self.answering is not None and self.answering.is_unfinished():
            return None
        client = self.destined if self.is_idle else None
        suspect = None if client is None else client.orphaned(socket)
        if suspect is not None:
            return suspect
        return self._suspect(State.COLLECTED, self.origin, socket.claims(), socket.held())

    def _suspect(self, state: State, summary: str, claims: frozenset[object], socket: Held | None) -> Suspect:
        hint = (
            "" if self.pool is None else "give it back to its pool in a `finally`" + (", or close it" if socket else "")
        )
        holds = () if socket is None else (socket,)
        names = (self.origin, self.type)
        return self.suspect(state, self.type, summary, claims=claims, holds=holds, names=names, hint=hint)


class ResponseRecord(Record):
    """A response that still has its connection; where that has no pool to go back to, only the body's end counts."""

    __slots__ = ("closed", "collected", "connection", "method", "pool", "released", "socket", "status", "url")

    kind: ClassVar[Kind] = Kind.RESPONSES
    LIBRARY = "urllib3"

    def __init__(self, connection: ConnectionRecord, response: Any, socket: SocketRecord | None) -> None:
        super().__init__()
        self.connection = connection
        self.pool = connection.pool
        self.socket = socket
        self.method, url = connection.request
        pool = None if self.pool is None else self.pool()
        self.url = url if pool is None or "://" in url else origin_of(pool) + url
        self.status = response.status
        self.closed = False  # by whoever has it
        self.released = False  # its connection is back in the pool
        self.collected = False

    def exchange(self) -> tuple[str, int | None] | None:
        return f"{self.method} {self.url}", self.status

    def is_unfinished(self) -> bool:
        """Whether the response still answers for its connection."""
        return self.collected or not (self.closed or self.released)

    def has_connection(self, response: Any) -> bool:
        """Whether a living response has not given its connection back yet."""
        return not response.isclosed() if self.pool is None else response._connection is not None

    def is_open(self) -> bool:
        response = self.ref()
        return self.is_unfinished() and response is not None and self.has_connection(response)

    def is_over(self) -> bool:
        return not self.is_unfinished() and self._lost_slot() is None

    def descriptors(self) -> Iterator[int]:
        if self.is_unfinished() and self.socket is not None:
            yield from self.socket.descriptors()

    def look(self) -> Suspect | None:
        response = self.ref()
        if self.collected or (response is None and self.is_unfinished()):
            return self._suspect(State.COLLECTED, ())
        if self.released or (response is not None and not self.has_connection(response)):
            return None
        if self.closed or (self.socket is not None and self.socket.fd() < 0):
            return self._lost_slot()
        return self._suspect(State.OPEN, self._holds())

    def _holds(self) -> tuple[Held, ...]:
        pool = None if self.pool is None else self.pool()
        place = "" if pool is None else f"a connection of {self._figures(pool)}"
        held = (Held(Kind.CONNECTIONS, place or f"the connection to {self.connection.origin}"),)
        return held if self.socket is None else (*held, self.socket.held())

    def _suspect(self, state: State, holds: tuple[Held, ...]) -> Suspect:
        summary = f"{self.method} {self.url} [{self.status}]"
        shown = "requests.Response" if self.library == "requests" else "urllib3.HTTPResponse"
        return self.suspect(
            state,
            shown,
            summary,
            claims=frozenset() if self.socket is None else self.socket.claims(),
            holds=holds,
            always=True,
            names=(self.url, summary),
        )

    def _lost_slot(self) -> Suspect | None:
        """The suspect for a slot that a closed response took with it; only a pool that blocks misses it."""
        if self.pool is None or self.released or not self.closed:
            return None
        pool = self.pool()
        if pool is None or pool.pool is None or not pool.block or pool.pool.full():
            return None
        record = self.connection.pools.get(pool)
        if record is not None and record.is_let_go():
            return None
        return self.suspect(
            State.OPEN,
            type_name(pool),
            f"slot of {self.method} {self.url} [{self.status}], a response closed unread, in {self._figures(pool)}",
            kind=Kind.CONNECTIONS,
            names=(self.url,),
            hint=_RELEASE,
        )

    def _figures(self, pool: Any) -> str:
        if pool.pool is None:
            return f"the closed pool of {origin_of(pool)}"
        items = queued(pool)
        idle = sum(1 for item in items if fileno(getattr(item, "sock", None)) >= 0)
        size = pool.pool.maxsize
        record = self.connection.pools.get(pool)
        state = None if record is None else record.state()  # which knows of those that the pool has no room for
        out = max(0, size - len(items)) if state is None else state.active + state.connecting
        limit = f", max {size}" if pool.block else f", room for {size}"
        return f"the pool of {origin_of(pool)} ({out} checked out, {idle} idle{limit})"
