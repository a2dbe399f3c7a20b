"""Records of httpcore's pools, and what can be told of the connections in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.records import Record, together
from pytest_httpleak.socketrecords import SocketRecord, dropped, held_socket, record_of
from pytest_httpleak.tables import Table

_CLOSE_POOL: Final = {
    False: "use it in a `with` block, or call its `.close()` in a `finally`",
    True: "use it in an `async with` block, or `await` its `.aclose()` in a `finally`",
}

_DEEPEST: Final = 4  # connections around one another: of a pool, a proxy, and HTTP/1.1 or HTTP/2


class PoolRecord(Record):
    """One connection pool. `front` is the library that wraps it, by whose names its users know responses."""

    __slots__ = ("clients", "front", "is_async", "made", "overflow", "requests", "sockets", "transport", "type")

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
        self.made = 0  # connections that were established
        self.requests = 0  # that were sent on them
        self.overflow = 0  # connections closed although they could have been used again

    def connections(self) -> list[Any]:
        """The pool's connections, idle or not, without those that are closed and whose places are free again."""
        pool = self.ref()
        return [] if pool is None else [each for each in pool.connections if not self.is_gone(each)]

    def is_gone(self, connection: Any) -> bool:
        """Whether a connection is closed, and its place free: until 1.0.2 the end of its request alone sees to that."""
        if not connection.is_closed():
            return False
        pool = self.ref()
        return pool is None or hasattr(pool, "_assign_requests_to_connections") or connection not in pool.connections

    def descriptors(self) -> Iterator[int]:
        for connection in self.connections():
            yield from descriptors_of(connection)

    def look(self) -> Suspect | None:
        suspect = self.unclosed(self, self.transport or self.type, depth=2)
        return None if suspect is None else replace(suspect, hint=_CLOSE_POOL[self.is_async])

    def unclosed(self, record: Record, type_name: str, *, depth: int) -> Suspect | None:
        """The suspect for whoever has left this pool open (`record`), or None if no connection is open."""
        holdings = (holding_of(connection, self.sockets) for connection in self.connections())
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
        hint = _CLOSE_POOL[self.is_async]
        return dropped(self, self.transport or self.type, socket, library=self.front, hint=hint)

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
        if not connections and not requests and self.clients is not None and not self.clients.is_open():
            return None
        idle = [connection for connection in connections if connection.is_idle()]
        expired = sum(1 for connection in idle if connection.has_expired())
        connecting = sum(1 for each in connections if _is_connecting(each) and not self.is_lost(each))
        origins = {origin_of(connection) for connection in connections}
        origins |= {place_of(request.request.url) for request in requests if request.connection is None}
        most, keep = pool._max_connections, pool._max_keepalive_connections
        return PoolState(
            library=self.front or self.library,
            origin=together(origins),
            idle=len(idle) - expired,
            active=len(connections) - len(idle) - connecting,
            expired=expired,
            connecting=connecting,
            waiting=sum(1 for request in requests if request.connection is None),
            max_connections=None if most == sys.maxsize else most,
            max_keepalive=None if keep == sys.maxsize else keep,
            connections_made=self.made,
            requests=self.requests,
            overflow=self.overflow,
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


def descriptors_of(connection: Any) -> Iterator[int]:
    """The open descriptor of a connection, if it has one."""
    sock = socket_of(connection)
    fd = -1 if sock is None else int(sock.fileno())
    if fd >= 0:
        yield fd


def holding_of(connection: Any, sockets: Table) -> tuple[frozenset[object], Held] | None:
    """What a connection's open socket is claimed by, and how it is shown; None where it has none."""
    for fd in descriptors_of(connection):
        sock = socket_of(connection)
        return held_socket(sock, fd, record_of(sock, sockets))
    return None


def socket_of(connection: Any) -> Any:
    """The socket object of a connection, whatever proxies and wrappers lie between, or None before it is connected."""
    inner = connection
    for _ in range(_DEEPEST):
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
    for _ in range(_DEEPEST):
        if not hasattr(inner, "_connection"):
            break
        inner = inner._connection
    return inner is None


def text_of(data: bytes) -> str:
    """Bytes of a request as text."""
    return data.decode("ascii", "replace")


def place_of(url: Any) -> str:
    """Scheme, host and port of a URL in words."""
    host = text_of(url.host)
    host = f"[{host}]" if ":" in host else host
    return f"{text_of(url.scheme)}://{host}" + ("" if url.port is None else f":{url.port}")


def origin_of(connection: Any) -> str:
    """Where a connection leads."""
    origin = getattr(connection, "_remote_origin", None) or getattr(connection, "_origin", None)
    return "an unknown origin" if origin is None else str(origin)
