"""Records of what httpcore makes: pools, their slots, and the requests in a pool's own books."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from pytest_httpleak.model import Held, Kind, PoolState, State, Suspect, replace
from pytest_httpleak.records import Record, Table
from pytest_httpleak.socketrecords import SocketRecord, describe, record_of

_CLOSE_RESPONSE: Final = {
    False: "use `with client.stream(...) as response:`, or call `response.close()` in a `finally`",
    True: "use `async with client.stream(...) as response:`, or `await response.aclose()` in a `finally`",
}
_CLOSE_POOL: Final = {
    False: "use it in a `with` block, or call its `.close()` in a `finally`",
    True: "use it in an `async with` block, or `await` its `.aclose()` in a `finally`",
}
_LOST_SLOT: Final = (
    "nothing gives this slot back until the client is closed, and with all slots lost each request ends in "
    "PoolTimeout: upgrade {library}, or {otherwise}"
)
_OTHERWISE: Final = {
    False: "close the client after such an error",
    True: "keep the request from being cancelled half-way (`asyncio.shield`)",
}


class PoolRecord(Record):
    """One connection pool. `front` is the library that wraps it, by whose names its users know responses."""

    __slots__ = ("clients", "front", "is_async", "made", "requests", "sockets", "transport", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS

    def __init__(self, library: str, type_name: str, sockets: Table, *, is_async: bool) -> None:
        super().__init__()
        self.library = library
        self.type = type_name
        self.sockets = sockets
        self.is_async = is_async
        self.front: str | None = None
        self.transport: str | None = None  # the transport of the front's that made it
        self.clients: Record | None = None
        self.made = 0
        self.requests = 0

    def connections(self) -> list[Any]:
        """The pool's connections that are not closed, idle or not."""
        pool = self.ref()
        return [] if pool is None else [connection for connection in pool.connections if not connection.is_closed()]

    def descriptors(self) -> Iterator[int]:
        for connection in self.connections():
            yield from _descriptors(connection)

    def look(self) -> Suspect | None:
        suspect = self.unclosed(self, self.transport or self.type, depth=2)
        return None if suspect is None else replace(suspect, hint=_CLOSE_POOL[self.is_async])

    def unclosed(self, record: Record, type_name: str, *, depth: int) -> Suspect | None:
        """The suspect for whoever has left this pool open (`record`), or None if no connection is open."""
        holdings = (_holding(connection, self.sockets) for connection in self.connections())
        found = [holding for holding in holdings if holding is not None]
        if not found:
            return None
        return record.suspect(
            State.OPEN,
            type_name,
            f"not closed, with {len(found)} open connection{'s' if len(found) > 1 else ''}",
            library=self.front if record is self else None,
            claims=frozenset[object]().union(*(claims for claims, _ in found)),
            holds=tuple(held for _, held in found),
            names=(type_name,),
            depth=depth,
        )

    def orphaned(self, socket: SocketRecord) -> Suspect | None:
        """The suspect for a socket that died with its pool: the client's business if that died too."""
        suspect = None if self.clients is None else self.clients.orphaned(socket)
        if suspect is not None:
            return suspect
        return self.suspect(
            State.COLLECTED,
            self.transport or self.type,
            "dropped without being closed, with a connection open",
            library=self.front,
            claims=socket.claims(),
            holds=(socket.held(),),
            names=(self.transport or self.type,),
            hint=_CLOSE_POOL[self.is_async],
        )

    def is_lost(self, connection: Any) -> bool:
        """Whether an open connection is not idle although no request in the pool's books has it."""
        pool = self.ref()
        if pool is None or connection.is_idle():
            return False
        if any(request.connection is connection for request in list(pool._requests)):
            return False
        # httpcore2 throws a slot that was never connected away before it gives out the next one.
        return not hasattr(connection, "is_connected") or bool(connection.is_connected())

    def state(self) -> PoolState | None:
        """The pool's figures now. A lost slot counts as active: it is taken, and nobody will give it back."""
        pool = self.ref()
        if pool is None:
            return None
        connections, requests = self.connections(), list(pool._requests)
        idle = [connection for connection in connections if connection.is_idle()]
        expired = sum(1 for connection in idle if connection.has_expired())
        connecting = sum(1 for each in connections if _is_connecting(each) and not self.is_lost(each))
        origins = {_origin(connection) for connection in connections}
        origins |= {_place(request.request.url) for request in requests if request.connection is None}
        most, keep = pool._max_connections, pool._max_keepalive_connections
        return PoolState(
            library=self.front or self.library,
            origin=", ".join(sorted(origins)[:3]) or "(no connection)",
            idle=len(idle) - expired,
            active=len(connections) - len(idle) - connecting,
            expired=expired,
            connecting=connecting,
            waiting=sum(1 for request in requests if request.connection is None),
            max_connections=None if most == sys.maxsize else most,
            max_keepalive=None if keep == sys.maxsize else keep,
            connections_made=self.made,
            requests=self.requests,
            created=None if self.birth is None else self.birth.site(),
            owner=str(self.owner.name),
        )

    def figures(self) -> str:
        """The pool's figures in a few words, lost slots apart."""
        state = self.state()
        if state is None:
            return ""
        lost = sum(1 for connection in self.connections() if self.is_lost(connection))
        words = [f"{state.active - lost} active", f"{state.idle + state.expired} idle"]
        words += [f"{number} {word}" for number, word in ((state.connecting, "connecting"), (lost, "lost")) if number]
        limit = "none" if state.max_connections is None else state.max_connections
        return f" (pool: {', '.join(words)}, {state.waiting} waiting, max {limit})"


class SlotRecord(Record):
    """One connection in a pool's books; it is the business of the request that it was given to last."""

    __slots__ = ("pool", "request")

    kind: ClassVar[Kind] = Kind.CONNECTIONS

    def __init__(self, library: str, pool: PoolRecord) -> None:
        super().__init__()
        self.library = library
        self.pool = pool
        self.request: RequestRecord | None = None

    def is_open(self) -> bool:
        connection = self.ref()
        return connection is not None and not connection.is_closed()

    def is_over(self) -> bool:
        return self.ref() is None

    def orphaned(self, socket: SocketRecord) -> Suspect | None:
        """The suspect for a socket that died with this connection, or that its living pool has dropped."""
        if self.pool.ref() is None:
            return self.pool.orphaned(socket)
        return self._thrown_away(State.COLLECTED, socket.claims(), socket.held())

    def _thrown_away(self, state: State, claims: frozenset[object], held: Held) -> Suspect:
        return self.suspect(
            state,
            self.pool.type,
            "threw a connection away without closing it",
            library=self.pool.front,
            claims=claims,
            holds=(held,),
            hint=f"this is the library's own doing: upgrade {self.library}",
        )

    def look(self) -> Suspect | None:
        connection, pool = self.ref(), self.pool.ref()
        if connection is None or pool is None or connection.is_closed():
            return None
        if connection not in pool.connections:
            holding = _holding(connection, self.pool.sockets)
            return None if holding is None else self._thrown_away(State.OPEN, *holding)
        if not self.pool.is_lost(connection):
            return None
        request = self.request
        what = _origin(connection) if request is None else request.summary
        how = "was given up (cancelled, timed out or failed) before it was answered"
        if request is None or request.stream is not None:
            how = "is over"
        return _slot_taken(self, self.pool, connection, f"slot still taken by {what}, a request that {how}")


class RequestRecord(Record):
    """One request in a pool's books: a response once it has been answered; lost if its sender is gone before that."""

    __slots__ = ("method", "pool", "status", "stream", "threads", "url")

    kind: ClassVar[Kind] = Kind.RESPONSES

    def __init__(self, library: str, request: Any, threads: Table) -> None:
        super().__init__()
        self.library = library
        self.method, self.url = request.method, request.url  # mere bytes: nothing that could be held
        self.threads = threads
        self.pool: PoolRecord | None = None  # once it has been given a connection
        self.stream: Callable[[], Any] | None = None  # once it has been answered
        self.status: int | None = None

    @property
    def summary(self) -> str:
        """Method and URL in words."""
        return f"{_text(self.method)} {_place(self.url)}{_text(self.url.target)}"

    def is_open(self) -> bool:
        return self.stream is not None and self._connection() is not None

    def is_over(self) -> bool:
        return self.ref() is None

    def _connection(self) -> Any:
        """The connection that the request has by its pool's books, as long as it is open."""
        request = self.ref()
        pool = None if self.pool is None else self.pool.ref()
        if request is None or pool is None or request not in pool._requests:
            return None
        connection = request.connection
        # A closed client leaves stale entries in its books, and so does a stream closed behind its pool's back.
        return None if connection is None or connection.is_closed() else connection

    def look(self) -> Suspect | None:
        connection, pool = self._connection(), self.pool
        if connection is None or pool is None:
            return None
        if self.stream is None:
            if self._has_sender():
                return None
            text = f"slot still taken by {self.summary}, a request whose answer nobody waits for any more"
            return _slot_taken(self, pool, connection, text)
        if connection.is_idle():  # only HTTP/2: the stream was closed behind its pool's back
            return None
        holding = _holding(connection, pool.sockets)
        summary = self.summary + ("" if self.status is None else f" [{self.status}]")
        held = Held(Kind.CONNECTIONS, f"a connection to {_origin(connection)}{pool.figures()}")
        return self.suspect(
            State.COLLECTED if self.stream() is None else State.OPEN,
            f"{pool.front or self.library}.Response",
            summary,
            library=pool.front,
            claims=frozenset() if holding is None else holding[0],
            holds=(held,) if holding is None else (held, holding[1]),
            always=True,
            names=(self.summary.partition(" ")[2], summary),
            hint=_CLOSE_RESPONSE[pool.is_async],
        )

    def freed(self, suspect: Suspect) -> Suspect | None:
        return replace(suspect, state=State.COLLECTED)

    def _has_sender(self) -> bool:
        """Whether the task or thread that sent the request is still at it; then that one is the leak."""
        sender = None if self.maker is None else self.maker()
        if sender is None:
            return False
        if hasattr(sender, "done"):
            return not sender.done()
        thread = self.threads.get(sender)
        return bool(sender.is_alive()) and not (thread is not None and thread.pooled)


def _slot_taken(record: Record, pool: PoolRecord, connection: Any, summary: str) -> Suspect:
    holding = _holding(connection, pool.sockets)
    what = "a place for a connection" if holding is None else "a connection"
    held = Held(Kind.CONNECTIONS, f"{what} to {_origin(connection)}{pool.figures()}")
    return record.suspect(
        State.OPEN,
        pool.type,
        summary,
        kind=Kind.CONNECTIONS,
        library=pool.front,
        claims=frozenset((("slot", id(connection)),)) | (frozenset() if holding is None else holding[0]),
        holds=(held,) if holding is None else (held, holding[1]),
        names=(_origin(connection), summary),
        hint=_lost_hint(pool),
    )


def _lost_hint(pool: PoolRecord) -> str:
    return _LOST_SLOT.format(library=pool.library, otherwise=_OTHERWISE[pool.is_async])


def _descriptors(connection: Any) -> Iterator[int]:
    sock = socket_of(connection)
    fd = -1 if sock is None else int(sock.fileno())
    if fd >= 0:
        yield fd


def _holding(connection: Any, sockets: Table) -> tuple[frozenset[object], Held] | None:
    """What a connection's open socket is claimed by, and how it is shown; None where it has none."""
    for fd in _descriptors(connection):
        sock = socket_of(connection)
        record = record_of(sock, sockets)
        if record is None:  # uvloop's sockets are made in C
            return frozenset((("fd", fd),)), Held(Kind.SOCKETS, describe(sock), fd)
        return record.claims(), record.held()
    return None


def socket_of(connection: Any) -> Any:
    """The socket object of a connection, whatever proxies and wrappers lie between, or None before it is connected."""
    inner = connection
    for _ in range(4):
        stream = getattr(inner, "_network_stream", None)
        if stream is not None:
            sock = stream.get_extra_info("socket")
            return sock if sock is not None and hasattr(sock, "fileno") else None
        inner = getattr(inner, "_connection", None)
        if inner is None:
            return None
    return None


def _is_connecting(connection: Any) -> bool:
    inner = connection
    while hasattr(inner, "_connection"):
        inner = inner._connection
    return inner is None


def _text(data: bytes) -> str:
    return data.decode("ascii", "replace")


def _place(url: Any) -> str:
    """Scheme, host and port of a URL in words."""
    host = _text(url.host)
    host = f"[{host}]" if ":" in host else host
    return f"{_text(url.scheme)}://{host}" + ("" if url.port is None else f":{url.port}")


def _origin(connection: Any) -> str:
    origin = getattr(connection, "_remote_origin", None) or getattr(connection, "_origin", None)
    return "an unknown origin" if origin is None else str(origin)
