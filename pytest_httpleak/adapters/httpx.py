"""httpx and httpx2, one adapter: clients, which must be closed once they have opened a connection."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.model import Held, Kind, State, Suspect
from pytest_httpleak.records import Record, Table, reachable, type_name

MODULES = ("httpx", "httpx2")


class ClientRecord(Record):
    """A `Client` or `AsyncClient`. One that never opened a connection may stay open: it holds nothing."""

    __slots__ = ("pools", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS

    def __init__(self, library: str, name: str, pools: Table) -> None:
        super().__init__()
        self.library = library
        self.type = name
        self.pools = pools

    def _pools(self, client: Any) -> list[Any]:
        transports = [client._transport, *client._mounts.values()]
        found = {id(record): record for transport in transports for record in reachable(transport, self.pools)}
        return list(found.values())

    def is_open(self) -> bool:
        client = self.ref()
        return client is not None and not client.is_closed

    def descriptors(self) -> Iterator[int]:
        client = self.ref()
        for pool in () if client is None else self._pools(client):
            yield from pool.descriptors()

    def look(self) -> Suspect | None:
        client = self.ref()
        if client is None or client.is_closed:
            return None
        suspects = [pool.unclosed(self, self.type, depth=0) for pool in self._pools(client)]
        open_ones = [suspect for suspect in suspects if suspect is not None]
        if not open_ones:
            return None
        claims = frozenset[object]().union(*(suspect.claims for suspect in open_ones))
        holds: tuple[Held, ...] = sum((suspect.holds for suspect in open_ones), ())
        number = len(claims)
        summary = f"not closed, with {number} open connection{'s' if number > 1 else ''}"
        return self.suspect(State.OPEN, self.type, summary, claims=claims, holds=holds, names=(self.type,))

    def orphaned(self, socket: Any) -> Suspect | None:
        if self.ref() is not None:
            return None
        return self.suspect(
            State.COLLECTED,
            self.type,
            "dropped without being closed, with a connection open",
            claims=socket.claims(),
            holds=(socket.held(),),
            names=(self.type,),
        )


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record clients, and tell the pools inside them by whose names they are known."""
    library = module.__name__
    watch = hooks.watch
    pools, clients = watch.table("httpcore pools"), watch.table("httpx clients")

    def born(_: None, client: Any, /, *args: Any, **kwargs: Any) -> None:
        if clients.get(client) is not None:
            return
        name = type_name(client)
        record = ClientRecord(library, name, pools)
        clients.put(client, record)
        watch.add(record)
        for pool in record._pools(client):
            if pool.clients is None:
                pool.clients = record

    def transport_born(_: None, transport: Any, /, *args: Any, **kwargs: Any) -> None:
        for pool in reachable(transport, pools):
            pool.front = library
            pool.inner = True

    for name in ("Client", "AsyncClient"):
        hooks.after(getattr(module, name), "__init__", born)
    for name in ("HTTPTransport", "AsyncHTTPTransport"):
        hooks.after(getattr(module, name), "__init__", transport_born)
