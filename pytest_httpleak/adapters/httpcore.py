"""httpcore (1.0.2 or later) and httpcore2, one adapter: pools, their slots, and requests in the pool's own books."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, ClassVar

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.model import Held, Kind, PoolState, State, Suspect
from pytest_httpleak.records import Record, Table
from pytest_httpleak.socketrecords import SocketRecord, record_of

MODULES = ("httpcore", "httpcore2")


class PoolRecord(Record):
    """One connection pool. `front` is the library that wraps it, by whose names its users know responses."""

    __slots__ = ("clients", "front", "made", "orphans", "requests", "sockets", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS

    def __init__(self, library: str, type_name: str, sockets: Table) -> None:
        super().__init__()
        self.library = library
        self.type = type_name
        self.sockets = sockets
        self.front: str | None = None
        self.clients: Record | None = None
        self.made = 0
        self.requests = 0

    def connections(self) -> list[Any]:
        """The pool's connections that are not closed, idle or not."""
        pool = self.ref()
        return [] if pool is None else [connection for connection in pool.connections if not connection.is_closed()]

    def open(self) -> list[tuple[Any, SocketRecord | None, int]]:
        """Connection, socket record and descriptor of each connection that has a socket."""
        found = []
        for connection in self.connections():
            sock = socket_of(connection)
            if sock is not None:
                found.append((connection, record_of(sock, self.sockets), sock.fileno()))
        return found

    def descriptors(self) -> Iterator[int]:
        for _, _, fd in self.open():
            yield fd

    def look(self) -> Suspect | None:
        return self.unclosed(self, self.type, depth=2)

    def unclosed(self, record: Record, type_name: str, *, depth: int) -> Suspect | None:
        """The suspect for whoever has left this pool open (`record`), or None if no connection is open."""
        found = [(socket, fd) for _, socket, fd in self.open() if fd >= 0]
        if not found:
            return None
        claims = {claim for socket, fd in found for claim in (socket.claims() if socket is not None else {("fd", fd)})}
        return record.suspect(
            State.OPEN,
            type_name,
            f"not closed, with {len(found)} open connection{'s' if len(found) > 1 else ''}",
            claims=frozenset(claims),
            holds=tuple(socket.held() for socket, _ in found if socket is not None),
            names=(type_name,),
            depth=depth,
        )

    def orphaned(self, socket: Any) -> Suspect | None:
        if self.ref() is not None:
            return None
        if self.clients is not None:
            return self.clients.orphaned(socket)
        return self.dropped(self, self.type, socket)

    @staticmethod
    def dropped(record: Record, type_name: str, socket: Any) -> Suspect:
        """The suspect for a pool or client that was collected with this socket open."""
        return record.suspect(
            State.COLLECTED,
            type_name,
            "dropped without being closed, with a connection open",
            claims=socket.claims(),
            holds=(socket.held(),),
            names=(type_name,),
        )

    def state(self) -> PoolState | None:
        """The pool's figures now."""
        pool = self.ref()
        if pool is None:
            return None
        connections = self.connections()
        idle = [connection for connection in connections if connection.is_idle()]
        expired = sum(1 for connection in idle if connection.has_expired())
        connecting = sum(1 for connection in connections if getattr(connection, "_connection", connection) is None)
        requests = list(pool._requests)
        origins = {_url(request.request)[1].partition("://")[2].partition("/")[0] for request in requests}
        shown = sorted({_origin(connection) for connection in connections} | {f"http://{each}" for each in origins - {""}})
        most, keep = pool._max_connections, pool._max_keepalive_connections
        return PoolState(
            library=self.front or self.library,
            origin=", ".join(shown[:3]) or "(no connection)",
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


class SlotRecord(Record):
    """One connection in a pool's books: lost when it is neither idle nor closed and no request has it."""

    __slots__ = ("pool", "pools", "sockets")

    kind: ClassVar[Kind] = Kind.CONNECTIONS

    def __init__(self, library: str, pool: PoolRecord) -> None:
        super().__init__()
        self.library = library
        self.pool = pool

    def is_open(self) -> bool:
        connection = self.ref()
        return connection is not None and not connection.is_closed()

    def orphaned(self, socket: Any) -> Suspect | None:
        return self.pool.orphaned(socket)

    def descriptors(self) -> Iterator[int]:
        connection = self.ref()
        sock = None if connection is None or connection.is_closed() else socket_of(connection)
        if sock is not None and sock.fileno() >= 0:
            yield sock.fileno()

    def look(self) -> Suspect | None:
        connection, pool = self.ref(), self.pool.ref()
        if connection is None or pool is None or connection not in pool.connections:
            return None
        if connection.is_idle() or connection.is_closed():
            return None
        if any(request.connection is connection for request in list(pool._requests)):
            return None
        if hasattr(connection, "is_connected") and not connection.is_connected():
            return None  # httpcore2 throws such a slot away before it gives out the next one
        sock = socket_of(connection)
        socket = None if sock is None else record_of(sock, self.pool.sockets)
        what = "a pool slot for" if sock is None else "a connection to"
        limit = "unlimited" if pool._max_connections == sys.maxsize else str(pool._max_connections)
        return self.suspect(
            State.OPEN,
            self.pool.type,
            f"{what} {_origin(connection)} was given to a request that is over, and never came back "
            f"(it counts against max_connections={limit} until the client is closed)",
            library=self.pool.front or self.library,
            claims=frozenset((("slot", id(connection)),)) | (socket.claims() if socket is not None else frozenset()),
            holds=() if socket is None else (socket.held(),),
            names=(_origin(connection),),
        )


class RequestRecord(Record):
    """One request in a pool's books: a response once it has been answered; lost if its sender is gone before that."""

    __slots__ = ("pool", "pools", "status", "stream")

    kind: ClassVar[Kind] = Kind.RESPONSES

    def __init__(self, library: str, pools: Table) -> None:
        super().__init__()
        self.library = library
        self.pools = pools
        self.pool: PoolRecord | None = None
        self.stream: Callable[[], Any] | None = None
        self.status: int | None = None

    def is_open(self) -> bool:
        return self.stream is not None and self._booked() is not None

    def is_over(self) -> bool:
        return self.ref() is None

    def _booked(self) -> Any:
        """The request, as long as it stands in its pool's books."""
        request = self.ref()
        if request is None:
            return None
        if self.pool is None:
            for record in self.pools:
                pool = record.ref()
                if pool is not None and request in pool._requests:
                    self.pool = record
                    return request
            return None
        pool = self.pool.ref()
        return request if pool is not None and request in pool._requests else None

    def look(self) -> Suspect | None:
        request = self._booked()
        if request is None or self.pool is None:
            return None
        connection = request.connection
        if connection is not None and connection.is_closed():
            return None  # the client was closed; only its books are stale
        method, url = _url(request.request)
        if self.stream is None:
            return self._lost(connection, f"{method} {url}")
        state = State.COLLECTED if self.stream() is None else State.OPEN
        sock = None if connection is None else socket_of(connection)
        socket = None if sock is None else record_of(sock, self.pool.sockets)
        summary = f"{method} {url}" + ("" if self.status is None else f" [{self.status}]")
        held = Held(Kind.CONNECTIONS, self._connection_text(connection))
        return self.suspect(
            state,
            f"{self.pool.front}.Response" if self.pool.front else f"{self.library}.Response",
            summary,
            library=self.pool.front or self.library,
            claims=frozenset() if socket is None else socket.claims(),
            holds=(held,) if socket is None else (held, socket.held()),
            always=True,
            names=(url, summary),
        )

    def _lost(self, connection: Any, summary: str) -> Suspect | None:
        if self.maker is not None and self.maker[0] == "task":
            task = self.pools.running(self.maker[1]) if hasattr(self.pools, "running") else None
            if task is not None:
                return None
        claims = frozenset() if connection is None else frozenset((("slot", id(connection)),))
        if self.pool is None or connection is None:
            return None
        return self.suspect(
            State.OPEN,
            self.pool.type,
            f"{summary} was given up before it was answered, and still has its pool slot",
            kind=Kind.CONNECTIONS,
            library=self.pool.front or self.library,
            claims=claims,
            names=(summary,),
        )

    def _connection_text(self, connection: Any) -> str:
        figures = ""
        state = None if self.pool is None else self.pool.state()
        if state is not None:
            limit = "none" if state.max_connections is None else state.max_connections
            figures = f" (pool: {state.active} active, {state.idle} idle, {state.waiting} waiting, max {limit})"
        return "no connection" if connection is None else f"a connection to {_origin(connection)}{figures}"


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record pools, the connections they make, and each request from the moment it enters a pool's books."""
    library = module.__name__
    watch = hooks.watch
    sockets = watch.table("sockets")
    pools, slots = watch.table("httpcore pools"), watch.table("httpcore slots")
    requests = watch.table("httpcore requests")

    def pool_born(_: None, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        if pools.get(pool) is None:
            record = PoolRecord(library, f"{library}.{type(pool).__name__}", sockets)
            pools.put(pool, record)
            watch.add(record)

    def slot_made(connection: Any, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        record = pools.get(pool)
        if record is not None and slots.get(connection) is None:
            record.made += 1
            slot = SlotRecord(library, record)
            slots.put(connection, slot)
            watch.add(slot)

    def request_born(_: None, pool_request: Any, /, *args: Any, **kwargs: Any) -> None:
        record = RequestRecord(library, pools)
        requests.put(pool_request, record)
        watch.add(record, opened=False)

    def answered(stream_class: Any) -> Callable[..., None]:
        def note(_: None, stream: Any, /, *args: Any, **kwargs: Any) -> None:
            pool_request, pool = _parts(stream)
            record = requests.get(pool_request)
            if record is None:
                return
            record.stream = weakref.ref(stream)
            record.pool = pools.get(pool)
            if record.pool is not None:
                record.pool.requests += 1
            connection = pool_request.connection
            slot = slots.get(connection)
            if slot is not None:
                sock = socket_of(connection)
                socket = None if sock is None else record_of(sock, sockets)
                if socket is not None:
                    socket.holder = slot
            watch.opened(record)

        return note

    def status_known(_: None, response: Any, /, *args: Any, **kwargs: Any) -> None:
        stream = response.stream
        if type(stream) in streams:
            record = requests.get(_parts(stream)[0])
            if record is not None:
                record.status = response.status

    streams = set()
    for flavour in ("_sync", "_async"):
        pool_module = sys.modules.get(f"{library}.{flavour}.connection_pool")
        if pool_module is None:
            raise Unsupported(f"{library} has no {flavour}.connection_pool")
        prefix = "Async" if flavour == "_async" else ""
        pool_class = getattr(pool_module, f"{prefix}ConnectionPool")
        request_class = _first(pool_module, "PoolRequest", "AsyncPoolRequest", "RequestStatus", f"{prefix}PoolRequest")
        stream_class = _first(
            pool_module, "PoolByteStream", "PoolAsyncByteStream", "AsyncPoolByteStream", "ConnectionPoolByteStream"
        )
        streams.add(stream_class)
        hooks.after(pool_class, "__init__", pool_born)
        hooks.after(request_class, "__init__", request_born)
        hooks.after(stream_class, "__init__", answered(stream_class))
        for cls in (pool_class, *_subclasses(pool_class)):
            if "create_connection" in vars(cls):
                hooks.after(cls, "create_connection", slot_made)
    hooks.after(module.Response, "__init__", status_known)


def _first(module: ModuleType, *names: str) -> Any:
    for name in names:
        if hasattr(module, name):
            return getattr(module, name)
    raise Unsupported(f"{module.__name__} has none of {', '.join(names)}")


def _subclasses(cls: Any) -> Iterator[Any]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _parts(stream: Any) -> tuple[Any, Any]:
    """The pool's request and the pool behind a response's stream."""
    request = getattr(stream, "_pool_request", None)
    return (getattr(stream, "_status", None) if request is None else request), stream._pool


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


def _url(request: Any) -> tuple[str, str]:
    url = request.url
    host = url.host.decode("ascii", "replace")
    host = f"[{host}]" if ":" in host else host
    port = "" if url.port is None else f":{url.port}"
    target = url.target.decode("ascii", "replace")
    return request.method.decode("ascii", "replace"), f"{url.scheme.decode('ascii', 'replace')}://{host}{port}{target}"


def _origin(connection: Any) -> str:
    origin = getattr(connection, "_origin", None) or getattr(connection, "_remote_origin", None)
    return "an unknown origin" if origin is None else str(origin)
