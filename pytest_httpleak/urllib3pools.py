"""Records of what keeps urllib3's connections: managers and pools."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.opennumbers import fileno
from pytest_httpleak.records import Record, type_name
from pytest_httpleak.socketrecords import SocketRecord, dropped, holding
from pytest_httpleak.tables import Table


class ClientRecord(Record):
    """What keeps idle connections open: a pool, a manager of pools, or a session of a library that is built on them."""

    __slots__ = ("clients", "outer", "sockets", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS
    LIBRARY = "urllib3"
    DEPTH: ClassVar[int] = 0  # how far inside other clients it lies

    def __init__(self, sockets: Table, clients: tuple[Table, ...], client: Any) -> None:
        super().__init__()
        self.sockets = sockets
        self.clients = clients  # those that may have this one inside
        self.type = type_name(client)
        self.outer: ClientRecord | None = None  # the client that this one was made for

    def idle(self) -> list[Any]:
        """The sockets of the connections that wait for their next request."""
        return list({id(sock): sock for part in self.parts() for sock in part.idle()}.values())

    def parts(self) -> list[ClientRecord]:
        """The managers and pools inside."""
        return []

    def is_open(self) -> bool:
        """Whether there is a pool inside; a manager or session that has been closed has none, until it is used again."""
        return any(part.is_open() for part in self.parts())

    def is_over(self) -> bool:
        return self.ref() is None

    def is_inside_another(self) -> bool:
        """Whether a living client speaks for this one: of a custom adapter, or of one that was mounted later."""
        outer = self.outer  # asked first, as among many clients it is the one most often
        if outer is not None and outer.ref() is not None and self in outer.parts():
            return True
        return any(self in client.parts() for table in self.clients for client in table)

    def descriptors(self) -> Iterator[int]:
        for sock in self.idle():
            yield fileno(sock)

    def look(self) -> Suspect | None:
        idle = self.idle()
        if not idle or self.is_inside_another():
            return None
        return holding(self, self.type, idle, self.sockets, depth=self.DEPTH)

    def orphaned(self, socket: SocketRecord) -> Suspect | None:
        """The suspect for a socket that waited in here and died with it; until 1.26.15 nothing closes what is dropped."""
        if self.ref() is not None:
            return None
        suspect = None if self.outer is None else self.outer.orphaned(socket)
        if suspect is not None:
            return suspect
        return dropped(self, self.type, socket, depth=self.DEPTH)


class PoolRecord(ClientRecord):
    """One `HTTPConnectionPool`: a client of its own, unless a manager made it."""

    __slots__ = ("connections", "front", "has_got_none_back", "is_dropped", "made", "managed", "overflow", "requests")

    DEPTH = 2

    def __init__(
        self,
        sockets: Table,
        clients: tuple[Table, ...],
        pool: Any,
        *,
        connections: Table,
        is_dropped: Callable[[Any], bool],
    ) -> None:
        super().__init__(sockets, clients, pool)
        self.connections = connections
        self.is_dropped = is_dropped  # urllib3's own question, which it asks before it uses a connection again
        self.managed: PoolManagerRecord | None = None
        self.front: str | None = None  # the library by whose name its users know it, where that is not urllib3
        self.has_got_none_back = False  # a place, in exchange for a connection of which nobody says which it was
        self.made = 0  # connections that were established
        self.requests = 0  # that were sent on them
        self.overflow = 0  # connections thrown away because the pool was full

    def is_open(self) -> bool:
        pool = self.ref()
        return pool is not None and pool.pool is not None

    def idle(self) -> list[Any]:
        pool = self.ref()
        waiting = () if pool is None else queued(pool)
        return [sock for each in waiting if fileno(sock := getattr(each, "sock", None)) >= 0]

    def look(self) -> Suspect | None:
        # A pool that its manager has let go of lives on in a response that somebody kept: closed, as far as they know.
        return None if self.managed is not None else super().look()

    def is_let_go(self) -> bool:
        """Whether the manager that made it has been cleared or is dead, so that nobody will ask it for a connection."""
        return self.managed is not None and self not in self.managed.parts()

    def state(self) -> PoolState | None:
        """The pool's figures now. A lost slot counts as active: it is taken, and nobody will give it back."""
        pool = self.ref()
        if pool is None or pool.pool is None:
            return None
        kept = [each for each in queued(pool) if fileno(getattr(each, "sock", None)) >= 0]
        expired = sum(1 for each in kept if self.is_dropped(each))
        out = [each for each in self.connections if each.pool is not None and each.pool() is pool]
        connecting = sum(1 for each in out if each.is_connecting)
        size = pool.pool.maxsize
        if pool.block:
            active = size - pool.pool.qsize() - connecting
        else:  # any number may be out, and none is missed: the queue is only where some are kept
            waiting = {id(each) for each in kept}
            active = sum(1 for each in out if each.has_socket() and each.key not in waiting and not each.is_connecting)
        waiters = getattr(getattr(pool.pool, "not_empty", None), "_waiters", None)
        return PoolState(
            library=self.front or self.library,
            origin=origin_of(pool),
            idle=len(kept) - expired,
            active=max(0, active),
            expired=expired,
            connecting=connecting,
            waiting=0 if not pool.block else None if waiters is None else len(waiters),
            max_connections=size if pool.block else None,
            max_keepalive=size,
            per_host=size if pool.block else None,
            connections_made=self.made,
            requests=self.requests,
            overflow=self.overflow,
            created=None if self.birth is None else self.birth.site(),
            owner=str(self.owner.name),
        )


class PoolManagerRecord(ClientRecord):
    """A `PoolManager` or `ProxyManager`; it has no closed state, so its pools' open connections tell."""

    __slots__ = ("front", "pools")

    DEPTH = 1

    def __init__(self, sockets: Table, clients: tuple[Table, ...], manager: Any, pools: Table) -> None:
        super().__init__(sockets, clients, manager)
        self.pools = pools
        self.front: str | None = None

    def parts(self) -> list[ClientRecord]:
        manager = self.ref()
        # Read past the container's own methods: they reorder what is least recently used.
        container = getattr(getattr(manager, "pools", None), "_container", {})
        pools = (self.pools.get(pool) for pool in list(container.values()))
        return [pool for pool in pools if pool is not None]


def origin_of(pool: Any) -> str:
    """Scheme, host and port that a pool connects to."""
    host = str(pool.host)  # whatever a test has put there
    host = f"[{host}]" if ":" in host else host
    return f"{pool.scheme}://{host}" + (f":{pool.port}" if pool.port else "")


def queued(pool: Any) -> list[Any]:
    """The connections in a pool's queue; a place without one is None. A closed pool has no queue."""
    return [] if pool.pool is None else list(pool.pool.queue)


def is_full(places: Any) -> bool:
    """Whether a pool's queue has no place left; asked of each request, so without its lock where it is the stock one."""
    if type(places) is queue.LifoQueue:
        return 0 < places.maxsize <= len(places.queue)
    return bool(places.full())
