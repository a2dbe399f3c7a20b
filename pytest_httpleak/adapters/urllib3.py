"""urllib3 1.26 and 2, hence whatever is built on it: requests, botocore, docker and others."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, ClassVar

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.model import Held, Kind, PoolState, State, Suspect
from pytest_httpleak.records import Record, Table, type_name
from pytest_httpleak.socketrecords import SocketRecord, holding, record_of

MODULES = ("urllib3",)


class PoolRecord(Record):
    """One `HTTPConnectionPool`: a client of its own, unless a manager made it."""

    __slots__ = ("managed", "overflow", "sockets")

    kind: ClassVar[Kind] = Kind.CLIENTS
    LIBRARY = "urllib3"

    def __init__(self, sockets: Table) -> None:
        super().__init__()
        self.sockets = sockets
        self.managed: PoolManagerRecord | None = None
        self.overflow = 0

    def idle(self) -> list[Any]:
        """The sockets of the connections that wait in the pool for their next request."""
        pool = self.ref()
        queue = None if pool is None else pool.pool
        if queue is None:
            return []
        waiting = (getattr(connection, "sock", None) for connection in list(queue.queue) if connection is not None)
        return [sock for sock in waiting if sock is not None and sock.fileno() >= 0]

    def origin(self) -> str:
        """Scheme, host and port that the pool connects to."""
        pool = self.ref()
        return "" if pool is None else _origin(pool)

    def descriptors(self) -> Iterator[int]:
        for sock in self.idle():
            yield sock.fileno()

    def look(self) -> Suspect | None:
        # A pool that its manager has let go of lives on in a response that somebody kept: closed, as far as they know.
        return None if self.managed is not None else holding(self, type_name(self.ref()).replace(".connectionpool", ""), self.idle(), self.sockets, depth=2)

    def state(self) -> PoolState | None:
        """The pool's figures now."""
        pool = self.ref()
        if pool is None or pool.pool is None:
            return None
        items = list(pool.pool.queue)
        idle = len(self.idle())
        size = pool.pool.maxsize
        return PoolState(
            library=self.library,
            origin=_origin(pool),
            idle=idle,
            active=max(0, size - len(items)),
            max_connections=size if pool.block else None,
            max_keepalive=size,
            connections_made=pool.num_connections,
            requests=pool.num_requests,
            overflow=self.overflow,
            created=None if self.birth is None else self.birth.site(),
            owner=str(self.owner.name),
        )


class PoolManagerRecord(Record):
    """A `PoolManager` or `ProxyManager`; it has no closed state, so its pools' open connections tell."""

    __slots__ = ("front", "pools", "sockets")

    kind: ClassVar[Kind] = Kind.CLIENTS
    LIBRARY = "urllib3"

    def __init__(self, sockets: Table, pools: Table) -> None:
        super().__init__()
        self.sockets = sockets
        self.pools = pools

    def idle(self) -> list[Any]:
        """The sockets of all idle connections in the pools that the manager still has."""
        manager = self.ref()
        if manager is None:
            return []
        # Read past the container's own methods: they reorder what is least recently used.
        pools = [self.pools.get(pool) for pool in list(manager.pools._container.values())]
        return [sock for pool in pools if pool is not None for sock in pool.idle()]

    def look(self) -> Suspect | None:
        return holding(self, "urllib3.PoolManager", self.idle(), self.sockets, depth=1)


class ConnectionRecord(Record):
    """One connection that a pool made: the pool's while idle, a response's while it is read, else lost."""

    __slots__ = ("answering", "pool", "sockets")

    kind: ClassVar[Kind] = Kind.CONNECTIONS
    LIBRARY = "urllib3"

    def __init__(self, sockets: Table, pool: Any) -> None:
        super().__init__()
        self.sockets = sockets
        self.pool: Callable[[], Any] = weakref.ref(pool)
        self.answering: ResponseRecord | None = None

    def note_socket(self) -> SocketRecord | None:
        """Remember that this connection answers for its present socket."""
        connection = self.ref()
        socket = None if connection is None else record_of(connection.sock, self.sockets)
        if socket is not None:
            socket.holder = self
        return socket

    def is_open(self) -> bool:
        connection = self.ref()
        return connection is not None and connection.sock is not None

    def descriptors(self) -> Iterator[int]:
        connection = self.ref()
        sock = None if connection is None else connection.sock
        if sock is not None and sock.fileno() >= 0:
            yield sock.fileno()

    def look(self) -> Suspect | None:
        connection = self.ref()
        sock = None if connection is None else connection.sock
        if sock is None or sock.fileno() < 0:
            return None
        pool = self.pool()
        if pool is not None and pool.pool is not None and connection in list(pool.pool.queue):
            return None
        if self.answering is not None and self.answering.is_unfinished():
            return None
        socket = self.note_socket()
        origin = "" if pool is None else _origin(pool)
        return self.suspect(
            State.OPEN,
            type_name(connection),
            f"{origin}, checked out of its pool with no response to explain it",
            claims=frozenset((("fd", sock.fileno()),)) if socket is None else socket.claims(),
            holds=() if socket is None else (socket.held(),),
            names=(origin,),
        )

    def orphaned(self, socket: Any) -> Suspect | None:
        if self.answering is not None and self.answering.is_unfinished():
            return None
        return self.suspect(
            State.COLLECTED,
            "urllib3.connection.HTTPConnection",
            "a connection that was dropped while open",
            claims=socket.claims(),
            holds=(socket.held(),),
        )


class ResponseRecord(Record):
    """A response that still has its connection."""

    __slots__ = ("closed", "collected", "connection", "method", "pool", "sockets", "status", "url")

    kind: ClassVar[Kind] = Kind.RESPONSES
    LIBRARY = "urllib3"

    def __init__(self, sockets: Table, pool: Any, connection: Any, method: str, url: str, status: int) -> None:
        super().__init__()
        self.sockets = sockets
        self.pool: Callable[[], Any] = weakref.ref(pool)
        self.connection: Callable[[], Any] = weakref.ref(connection)
        self.method, self.url, self.status = method, url, status
        self.closed = False
        self.collected = False

    def is_unfinished(self) -> bool:
        """Whether the response still answers for its connection."""
        return self.collected or not self.closed

    def is_open(self) -> bool:
        response = self.ref()
        return not self.closed and response is not None and response._connection is not None

    def is_over(self) -> bool:
        return self.closed and not self.collected

    def look(self) -> Suspect | None:
        response = self.ref()
        if self.collected or (response is None and not self.closed):
            return self._suspect(State.COLLECTED, ())
        if self.closed or response is None or response._connection is None:
            return None
        return self._suspect(State.OPEN, self._holds())

    def descriptors(self) -> Iterator[int]:
        connection = self.connection()
        sock = None if connection is None or self.closed else connection.sock
        if sock is not None and sock.fileno() >= 0:
            yield sock.fileno()

    def _holds(self) -> tuple[Held, ...]:
        pool = self.pool()
        held = [] if pool is None else [Held(Kind.CONNECTIONS, f"a connection of {_figures(pool)}")]
        connection = self.connection()
        socket = None if connection is None else record_of(connection.sock, self.sockets)
        return tuple(held + ([] if socket is None else [socket.held()]))

    def _suspect(self, state: State, holds: tuple[Held, ...]) -> Suspect:
        connection = self.connection()
        socket = None if connection is None else record_of(connection.sock, self.sockets)
        summary = f"{self.method} {self.url} [{self.status}]"
        shown = "requests.Response" if self.library == "requests" else "urllib3.response.HTTPResponse"
        return self.suspect(
            state,
            shown,
            summary,
            claims=frozenset() if socket is None else socket.claims(),
            holds=holds,
            always=True,
            names=(self.url, summary),
        )


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record managers, pools, connections and responses where they are made."""
    version = getattr(module, "__version__", "0")
    if int("".join(filter(str.isdigit, version.split(".")[-1])) or 0) >= 900:
        raise Unsupported(f"urllib3 {version} is urllib3-future, which has taken urllib3's place")
    if version.split(".")[0] not in ("1", "2"):
        raise Unsupported(f"urllib3 {version} is not one of the versions known, 1.26 and 2")
    from_one = version.startswith("1.")
    watch: Any = hooks.watch
    sockets, managers = watch.table("sockets"), watch.table("urllib3 managers")
    pools, connections = watch.table("urllib3 pools"), watch.table("urllib3 connections")
    responses = watch.table("urllib3 responses")

    def manager_born(_: None, manager: Any, /, *args: Any, **kwargs: Any) -> None:
        record = PoolManagerRecord(sockets, pools)
        managers.put(manager, record)
        watch.add(record)

    def pool_born(_: None, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        record = PoolRecord(sockets)
        pools.put(pool, record)
        watch.add(record)

    def pool_made(pool: Any, manager: Any, /, *args: Any, **kwargs: Any) -> None:
        record, of = pools.get(pool), managers.get(manager)
        if of is None:  # made before the watch began, as `urllib3.request`'s own: its pools are nobody's but the process's
            of = PoolManagerRecord(sockets, pools)
            of.owner = watch.root
            managers.put(manager, of)
        if record is not None:
            record.managed, record.library = of, of.library
            record.birth, record.owner = of.birth, of.owner

    def connection_made(connection: Any, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        record = ConnectionRecord(sockets, pool)
        connections.put(connection, record)
        watch.add(record, opened=False)

    def answered(response: Any, pool: Any, connection: Any, method: str, url: str) -> None:
        record = ResponseRecord(sockets, pool, connection, method, f"{_origin(pool)}{url}", response.status)
        responses.put(response, record)
        watch.add(record)
        use(connection, record)

    def use(connection: Any, answering: ResponseRecord | None) -> None:
        made = connections.get(connection)
        if made is not None:
            made.answering = answering
            made.note_socket()
            watch.opened(made)

    def requested(response: Any, pool: Any, connection: Any, method: str, url: str, /, *args: Any, **kwargs: Any) -> None:
        if getattr(response, "_connection", None) is not None:
            answered(response, pool, connection, method, url)
        else:
            use(connection, None)

    def wrapped(_: None, response: Any, /, *args: Any, **kwargs: Any) -> None:
        if response._connection is not None and response._pool is not None:
            url = getattr(response, "_request_url", None) or ""
            answered(response, response._pool, response._connection, kwargs.get("request_method") or "", url)

    def released(response: Any) -> None:
        record = responses.get(response)
        if record is not None and not record.closed and response._connection is not None:
            record.closed = True

    def closing(response: Any) -> None:
        record = responses.get(response)
        if record is None or record.closed:
            return
        if "_finalizing" in response.__dict__ and response._connection is not None:
            record.collected = True
        record.closed = True

    pool_class = module.connectionpool.HTTPConnectionPool
    response_class = module.response.HTTPResponse
    hooks.after(module.poolmanager.PoolManager, "__init__", manager_born)
    hooks.after(module.poolmanager.PoolManager, "_new_pool", pool_made)
    hooks.after(pool_class, "__init__", pool_born)
    hooks.after(pool_class, "_new_conn", connection_made)
    if issubclass(module.connectionpool.HTTPSConnectionPool, pool_class):
        hooks.after(module.connectionpool.HTTPSConnectionPool, "_new_conn", connection_made)
    if from_one:
        hooks.after(response_class, "__init__", wrapped)
    else:
        hooks.after(pool_class, "_make_request", requested)
    hooks.before(response_class, "release_conn", released)
    hooks.before(response_class, "close", closing)


def _origin(pool: Any) -> str:
    host = f"[{pool.host}]" if ":" in pool.host else pool.host
    return f"{pool.scheme}://{host}" + (f":{pool.port}" if pool.port else "")


def _figures(pool: Any) -> str:
    queue = pool.pool
    if queue is None:
        return f"a closed pool of {_origin(pool)}"
    items = list(queue.queue)
    idle = sum(1 for item in items if item is not None and getattr(item, "sock", None) is not None)
    return f"the pool of {_origin(pool)} ({queue.maxsize - len(items)} checked out, {idle} idle, room for {queue.maxsize})"
