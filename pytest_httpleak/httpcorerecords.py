"""Records of what is in the books of httpcore's pools: their slots, and the requests that have them."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any, ClassVar, Final

from pytest_httpleak.httpcorepools import PoolRecord, holding_of, origin_of, place_of, socket_of, text_of
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.records import Record
from pytest_httpleak.senders import has_sender
from pytest_httpleak.socketrecords import SocketRecord, record_of
from pytest_httpleak.tables import Table

_CLOSE_RESPONSE: Final = {
    False: "use `with client.stream(...) as response:`, or call `response.close()` in a `finally`",
    True: "use `async with client.stream(...) as response:`, or `await response.aclose()` in a `finally`",
}
_LOST_SLOT: Final = (
    "nothing gives this slot back until the client is closed, and with all slots lost each request ends in "
    "PoolTimeout: upgrade {library}, or {otherwise}"
)
_OTHERWISE: Final = {
    False: "close the client after such an error",
    True: "keep the request from being cancelled half-way (`asyncio.shield`)",
}
_ONE_LOOP: Final = (
    "use a client in one event loop only, and close it there: each `asyncio.run()` is another loop, and the earlier one "
    "is closed"
)


class SlotRecord(Record):
    """One connection in a pool's books; it is the business of the request that it was given to last."""

    __slots__ = ("established", "has_died_first", "has_socket", "is_thrown_away", "pool", "request")

    kind: ClassVar[Kind] = Kind.CONNECTIONS

    def __init__(self, library: str, pool: PoolRecord) -> None:
        super().__init__()
        self.library = library
        self.pool = pool
        self.request: RequestRecord | None = None
        self.established = False
        self.has_socket = False  # that it speaks for
        self.has_died_first = False  # with its socket open, while its pool lived
        self.is_thrown_away = False  # if its socket is open: it was not in its pool's books when that was closed

    def count(self) -> None:
        """Count the connection, once, now that it is established."""
        if not self.established:
            self.established = True
            self.pool.made += 1

    def destination(self) -> tuple[Record, str] | None:
        return None if self.request is None or not self.established else (self.pool, self.request.origin)

    def is_open(self) -> bool:
        connection = self.ref()
        return connection is not None and not self.pool.is_gone(connection)

    def is_over(self) -> bool:
        return self.ref() is None

    def lose_socket(self) -> None:
        self.has_died_first = self.pool.ref() is not None

    def orphaned(self, socket: SocketRecord) -> Suspect | None:
        """The suspect for a socket that died with this connection, or that its living pool has dropped."""
        if self.pool.ref() is None and not (self.is_thrown_away or self.has_died_first):
            if self.request is not None and self.request.is_unread():
                return self.request.dropped(socket, self.pool)
            return self.pool.orphaned(socket)
        return self._thrown_away(State.COLLECTED, socket.claims(), socket.held(), socket)

    def _thrown_away(self, state: State, claims: frozenset[object], held: Held, socket: SocketRecord | None) -> Suspect:
        what = "threw a connection away without closing it"
        hint = f"this is the library's own doing: upgrade {self.library}"
        if socket is not None and socket.is_stranded():
            hint = f"{_ONE_LOOP}; if that is so already, upgrade {self.library}"
            if not self.is_thrown_away:
                what, hint = "could not close a connection whose event loop is closed", _ONE_LOOP
        return self.suspect(
            state, self.pool.type, what, library=self.pool.front, claims=claims, holds=(held,), hint=hint
        )

    def look(self) -> Suspect | None:
        connection, pool = self.ref(), self.pool.ref()
        if connection is None or pool is None or self.pool.is_gone(connection):
            return None
        if connection not in pool.connections:
            holding = holding_of(connection, self.pool.sockets)
            socket = record_of(socket_of(connection), self.pool.sockets)
            return None if holding is None else self._thrown_away(State.OPEN, *holding, socket)
        if not self.pool.is_lost(connection):
            return None
        request = self.request
        what = origin_of(connection) if request is None else request.summary
        how = "was given up (cancelled, timed out or failed) before it was answered"
        if request is None or request.stream is not None:
            how = "is over"
        return _slot_taken(self, self.pool, connection, f"slot still taken by {what}, a request that {how}")


class RequestRecord(Record):
    """One request in a pool's books: a response once it has been answered; lost if its sender is gone before that."""

    __slots__ = ("closed", "closer", "counted", "method", "pool", "status", "stream", "threads", "url")

    kind: ClassVar[Kind] = Kind.RESPONSES
    INSIDE = ".stream._stream._httpcore_stream"  # in a response of httpx's

    def __init__(self, library: str, request: Any, threads: Table) -> None:
        super().__init__()
        self.library = library
        self.method, self.url = request.method, request.url  # mere bytes: nothing that could be held
        self.threads = threads
        self.pool: PoolRecord | None = None  # once it has been given a connection
        self.stream: Callable[[], Any] | None = None  # once it has been answered
        self.status: int | None = None
        self.closed = False  # or read to its end; while there is a pool, its books know better
        self.closer = 0  # the thread that did it last
        self.counted = False

    def as_users_have_it(self) -> Any:
        stream = None if self.stream is None else self.stream()
        return self.ref() if stream is None else stream

    def count(self) -> None:
        """Count the request, once, now that it has a connection to be sent on."""
        if not self.counted and self.pool is not None:
            self.counted = True
            self.pool.requests += 1

    @property
    def origin(self) -> str:
        """Scheme, host and port in words."""
        return place_of(self.url)

    def exchange(self) -> tuple[str, int | None] | None:
        return self.summary, self.status

    @property
    def summary(self) -> str:
        """Method and URL in words."""
        return f"{text_of(self.method)} {place_of(self.url)}{text_of(self.url.target)}"

    def is_open(self) -> bool:
        return self.stream is not None and self._connection() is not None

    def is_over(self) -> bool:
        return self.ref() is None

    def _connection(self) -> Any:
        """The connection that the request has by its pool's books, as long as it is open or takes a place there."""
        request, record = self.ref(), self.pool
        pool = None if record is None else record.ref()
        if request is None or record is None or pool is None or request not in pool._requests:
            return None
        connection = request.connection
        if connection is None or not record.is_gone(connection):
            return connection
        # A closed client leaves stale entries in its books, without places for connections. In those of an open one that of an
        # answer which failed or was broken off, and then not closed, keeps its connection's place, though the library has closed
        # that: whoever waits for a place is not told.
        return connection if self.is_unread() and connection in pool.connections else None

    def look(self) -> Suspect | None:
        connection, pool = self._connection(), self.pool
        if connection is None or pool is None:
            return None
        if self.stream is None:
            if has_sender(self.maker, self.threads, self.owner):
                return None
            text = f"slot still taken by {self.summary}, a request whose answer nobody waits for any more"
            return _slot_taken(self, pool, connection, text)
        if connection.is_idle():  # only HTTP/2: the stream was closed behind its pool's back
            return None
        holding = holding_of(connection, pool.sockets)
        claims = frozenset[object]() if holding is None else holding[0]
        state = State.COLLECTED if self.stream() is None else State.OPEN
        return self._unclosed(state, pool, claims, _holds(connection, pool))

    def is_unread(self) -> bool:
        """Whether this was answered, and the answer neither read to its end nor closed."""
        return self.stream is not None and not self.closed

    def dropped(self, socket: SocketRecord, pool: PoolRecord) -> Suspect:
        """The suspect for an answer that died unread together with its pool, and so with this socket."""
        return self._unclosed(State.COLLECTED, pool, socket.claims(), (socket.held(),))

    def _unclosed(self, state: State, pool: PoolRecord, claims: frozenset[object], holds: tuple[Held, ...]) -> Suspect:
        summary = self.summary + ("" if self.status is None else f" [{self.status}]")
        return self.suspect(
            state,
            f"{pool.front or self.library}.Response",
            summary,
            library=pool.front,
            claims=claims,
            holds=holds,
            always=True,
            names=(self.summary.partition(" ")[2], summary),
            hint=_CLOSE_RESPONSE[pool.is_async],
        )

    def in_flight(self) -> tuple[Held, ...]:
        connection, pool = self._connection(), self.pool
        if connection is None or pool is None or self.stream is not None:
            return ()
        return Held(Kind.RESPONSES, self.summary), *_holds(connection, pool)

    def end(self) -> None:
        """Note that the answer is closed, or read to its end."""
        self.closed = True
        self.closer = get_ident()

    def freed(self, suspect: Suspect) -> Suspect | None:
        # The finalizers of what is collected run in this thread; another one has closed it in time, as it should.
        is_closed_in_time = self.closed and self.closer != get_ident()
        return None if is_closed_in_time else replace(suspect, state=State.COLLECTED)


def _slot_taken(record: Record, pool: PoolRecord, connection: Any, summary: str) -> Suspect:
    holding = holding_of(connection, pool.sockets)
    return record.suspect(
        State.OPEN,
        pool.type,
        summary,
        kind=Kind.CONNECTIONS,
        library=pool.front,
        claims=frozenset((("slot", id(connection)),)) | (frozenset() if holding is None else holding[0]),
        holds=_holds(connection, pool),
        names=(origin_of(connection), summary),
        hint=_lost_hint(pool),
    )


def _holds(connection: Any, pool: PoolRecord) -> tuple[Held, ...]:
    """A connection, or the place for one, with the pool's figures, and its socket where it has one."""
    holding = holding_of(connection, pool.sockets)
    what = "a place for a connection" if holding is None else "a connection"
    held = Held(Kind.CONNECTIONS, f"{what} to {origin_of(connection)}{pool.figures()}")
    return (held,) if holding is None else (held, holding[1])


def _lost_hint(pool: PoolRecord) -> str:
    return _LOST_SLOT.format(library=pool.library, otherwise=_OTHERWISE[pool.is_async])
