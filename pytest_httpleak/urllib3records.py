"""Records of what urllib3 makes: managers, pools, their connections, and the responses that have one checked out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from pytest_httpleak.model import Held, Kind, PoolState, State, Suspect
from pytest_httpleak.records import Record, Table, is_at_work, type_name
from pytest_httpleak.socketrecords import SocketRecord, describe, fileno, holding, record_of

_RELEASE: Final = (
    "closing an unread response does not give its slot back: read it, or `response.drain_conn()`, "
    "or call `response.release_conn()` after the close"
)


class ClientRecord(Record):
    """What keeps idle connections open: a pool, a manager of pools, or a session of a library that is built on them."""

    __slots__ = ("clients", "sockets", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS
    LIBRARY = "urllib3"
    DEPTH: ClassVar[int] = 0  # how far inside other clients it lies

    def __init__(self, sockets: Table, clients: tuple[Table, ...], client: Any) -> None:
        super().__init__()
        self.sockets = sockets
        self.clients = clients  # those that may have this one inside
        self.type = type_name(client)

    def idle(self) -> list[Any]:
        """The sockets of the connections that wait for their next request."""
        return list({id(sock): sock for part in self.parts() for sock in part.idle()}.values())

    def parts(self) -> list[ClientRecord]:
        """The managers and pools inside."""
        return []

    def is_over(self) -> bool:
        return self.ref() is None

    def is_inside_another(self) -> bool:
        """Whether a living client speaks for this one: of a custom adapter, or of one that was mounted later."""
        return any(self in client.parts() for table in self.clients for client in table)

    def descriptors(self) -> Iterator[int]:
        for sock in self.idle():
            yield fileno(sock)

    def look(self) -> Suspect | None:
        idle = self.idle()
        if not idle or self.is_inside_another():
            return None
        return holding(self, self.type, idle, self.sockets, depth=self.DEPTH)


class PoolRecord(ClientRecord):
    """One `HTTPConnectionPool`: a client of its own, unless a manager made it."""

    __slots__ = ("managed", "overflow")

    DEPTH = 2

    def __init__(self, sockets: Table, clients: tuple[Table, ...], pool: Any) -> None:
        super().__init__(sockets, clients, pool)
        self.managed: PoolManagerRecord | None = None
        self.overflow = 0  # connections thrown away because the pool was full

    def idle(self) -> list[Any]:
        pool = self.ref()
        waiting = () if pool is None else _queued(pool)
        return [sock for each in waiting if fileno(sock := getattr(each, "sock", None)) >= 0]

    def look(self) -> Suspect | None:
        # A pool that its manager has let go of lives on in a response that somebody kept: closed, as far as they know.
        return None if self.managed is not None else super().look()

    def is_let_go(self) -> bool:
        """Whether the manager that made it has been cleared or is dead, so that nobody will ask it for a connection."""
        return self.managed is not None and self not in self.managed.parts()

    def state(self) -> PoolState | None:
        """The pool's figures now."""
        pool = self.ref()
        if pool is None or pool.pool is None:
            return None
        size = pool.pool.maxsize
        return PoolState(
            library=self.library,
            origin=origin_of(pool),
            idle=len(self.idle()),
            active=max(0, size - pool.pool.qsize()),
            max_connections=size if pool.block else None,
            max_keepalive=size,
            connections_made=pool.num_connections,
            requests=pool.num_requests,
            overflow=self.overflow,
            created=None if self.birth is None else self.birth.site(),
            owner=str(self.owner.name),
        )


class PoolManagerRecord(ClientRecord):
    """A `PoolManager` or `ProxyManager`; it has no closed state, so its pools' open connections tell."""

    __slots__ = ("pools",)

    DEPTH = 1

    def __init__(self, sockets: Table, clients: tuple[Table, ...], manager: Any, pools: Table) -> None:
        super().__init__(sockets, clients, manager)
        self.pools = pools

    def parts(self) -> list[ClientRecord]:
        manager = self.ref()
        # Read past the container's own methods: they reorder what is least recently used.
        container = getattr(getattr(manager, "pools", None), "_container", {})
        pools = (self.pools.get(pool) for pool in list(container.values()))
        return [pool for pool in pools if pool is not None]


class ConnectionRecord(Record):
    """One connection: its pool's while idle, a response's while that is read, else lost; or one without a pool."""

    __slots__ = ("answering", "origin", "pool", "pools", "request", "socket", "sockets", "threads", "type")

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
        self.pool: Callable[[], Any] | None = None
        self.request = ("", "")
        self.answering: ResponseRecord | None = None

    def note_socket(self) -> SocketRecord | None:
        """Let this connection speak for its present socket."""
        connection = self.ref()
        socket = None if connection is None else record_of(connection.sock, self.sockets)
        if socket is not None:
            self.take(socket)
        return socket

    def take(self, socket: SocketRecord) -> None:
        """Speak for that socket from now on."""
        socket.holder, self.socket = self, socket

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
        fd = -1 if connection is None else fileno(connection.sock)
        if fd < 0 or self._is_answered_for(connection):
            return None
        socket = self.note_socket()
        what = "" if self.pool is None else ", checked out of its pool with no response to explain it"
        return self.suspect(
            State.OPEN,
            self.type,
            self.origin + what,
            claims=frozenset((("fd", fd),)) if socket is None else socket.claims(),
            holds=(Held(Kind.SOCKETS, describe(connection.sock), fd),) if socket is None else (socket.held(),),
            names=(self.origin, self.type),
            hint=self._hint(),
        )

    def _is_answered_for(self, connection: Any) -> bool:
        if self.answering is not None and self.answering.is_unfinished():
            return True
        pool = None if self.pool is None else self.pool()
        if pool is not None and any(each is connection for each in _queued(pool)):
            return True
        return self.answering is None and is_at_work(self.maker, self.threads)

    def orphaned(self, socket: Any) -> Suspect | None:
        if self.answering is not None and self.answering.is_unfinished():
            return None
        return self.suspect(
            State.COLLECTED,
            self.type,
            self.origin,
            claims=socket.claims(),
            holds=(socket.held(),),
            names=(self.origin, self.type),
            hint=self._hint(),
        )

    def _hint(self) -> str:
        return "" if self.pool is None else "give it back to its pool in a `finally`, or close it"


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
        self.method, self.url = connection.request
        self.status = response.status
        self.closed = False  # by whoever has it
        self.released = False  # its connection is back in the pool
        self.collected = False

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
        place = "" if pool is None else f"a connection of {_figures(pool)}"
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
            f"slot of {self.method} {self.url} [{self.status}], a response closed unread, in {_figures(pool)}",
            kind=Kind.CONNECTIONS,
            names=(self.url,),
            hint=_RELEASE,
        )


def origin_of(pool: Any) -> str:
    """Scheme, host and port that a pool connects to."""
    host = f"[{pool.host}]" if ":" in pool.host else pool.host
    return f"{pool.scheme}://{host}" + (f":{pool.port}" if pool.port else "")


def _queued(pool: Any) -> list[Any]:
    """The connections in a pool's queue; a place without one is None. A closed pool has no queue."""
    return [] if pool.pool is None else list(pool.pool.queue)


def _figures(pool: Any) -> str:
    if pool.pool is None:
        return f"the closed pool of {origin_of(pool)}"
    items = _queued(pool)
    idle = sum(1 for item in items if fileno(getattr(item, "sock", None)) >= 0)
    size = pool.pool.maxsize
    limit = f", max {size}" if pool.block else f", room for {size}"
    return f"the pool of {origin_of(pool)} ({max(0, size - len(items))} checked out, {idle} idle{limit})"
