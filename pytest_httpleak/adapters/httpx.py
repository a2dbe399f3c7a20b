"""httpx and httpx2, one adapter: clients, which must be closed once they have opened a connection."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar, Final

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.httpcorepools import PoolRecord
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.reaching import reachable
from pytest_httpleak.recorder import Recorder
from pytest_httpleak.records import Record, type_name
from pytest_httpleak.socketrecords import dropped
from pytest_httpleak.tables import Table

MODULES = ("httpx", "httpx2")

_CLOSE: Final = {
    False: "use `with {}.Client() as client:`, or call `client.close()` in a `finally`",
    True: "use `async with {}.AsyncClient() as client:`, or `await client.aclose()` in a `finally`",
}


class ClientRecord(Record):
    """A `Client` or `AsyncClient`. One that never opened a connection may stay open: it holds nothing."""

    __slots__ = ("closed", "hint", "lent", "pools", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS

    def __init__(self, library: str, client: Any, pools: Table) -> None:
        super().__init__()
        self.library = library
        self.type = type_name(client)
        self.hint = _CLOSE[hasattr(client, "aclose")].format(library)
        self.pools = pools
        self.lent: frozenset[PoolRecord] = frozenset()  # pools in transports of somebody who closes them later
        self.closed = False  # which does not close what a transport around another one does not hand on

    def inside(self) -> list[PoolRecord]:
        """The records of the pools that the client's own transports hold, however they are wrapped."""
        client = self.ref()
        transports = [] if client is None else [client._transport, *client._mounts.values()]
        found = {id(record): record for transport in transports for record in reachable(transport, self.pools)}
        return [record for record in found.values() if record not in self.lent]

    def is_open(self) -> bool:
        client = self.ref()
        return client is not None and not client.is_closed

    def is_over(self) -> bool:
        return self.ref() is None

    def descriptors(self) -> Iterator[int]:
        for pool in self.inside():
            yield from pool.descriptors()

    def look(self) -> Suspect | None:
        if not self.is_open():
            return None
        suspects = [pool.unclosed(self, self.type, depth=0) for pool in self.inside()]
        open_ones = [suspect for suspect in suspects if suspect is not None]
        if not open_ones:
            return None
        claims = frozenset[object]().union(*(suspect.claims for suspect in open_ones))
        holds: tuple[Held, ...] = sum((suspect.holds for suspect in open_ones), ())
        number = len(claims)
        summary = f"not closed, with {number} open connection{'s' if number > 1 else ''}"
        return self.suspect(
            State.OPEN, self.type, summary, claims=claims, holds=holds, names=(self.type,), hint=self.hint
        )

    def orphaned(self, socket: Any) -> Suspect | None:
        if self.closed or self.ref() is not None:
            return None
        return dropped(self, self.type, socket, hint=self.hint)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record clients, and tell the pools inside them by whose names they are known."""
    library = module.__name__
    for name in (*_CLIENTS, *_TRANSPORTS):
        if not hasattr(module, name):
            raise Unsupported(f"{library} has no {name}")
    notes = _Notes(library, hooks.watch)
    for name, close in _CLIENTS.items():
        cls = getattr(module, name)
        hooks.after(cls, "__init__", notes.born)
        for way in (close, f"__{close.replace('close', 'exit')}__"):
            if hasattr(cls, way):
                hooks.before(cls, way, notes.closing)
    for name in _TRANSPORTS:
        hooks.after(getattr(module, name), "__init__", notes.transport_born)


_CLIENTS = {"Client": "close", "AsyncClient": "aclose"}
_TRANSPORTS = ("HTTPTransport", "AsyncHTTPTransport")


class _Notes:
    """Clients, and the transports between them and their pools."""

    def __init__(self, library: str, watch: Recorder) -> None:
        self._library, self._watch = library, watch
        self._pools, self._clients = watch.table("httpcore pools"), watch.table("httpx clients")

    def born(self, _: None, client: Any, /, *args: Any, **kwargs: Any) -> None:
        if self._clients.get(client) is not None:
            return
        if not hasattr(client, "_transport") or not hasattr(client, "_mounts"):
            raise Unsupported(f"{self._library} keeps its transports in a place that is not known")
        record = ClientRecord(self._library, client, self._pools)
        self._clients.put(client, record)
        self._watch.add(record)
        pools = record.inside()
        record.lent = frozenset(pool for pool in pools if pool.owner.outlives(record.owner))
        for pool in pools:
            pool.front = self._library
            if pool.clients is None and pool not in record.lent:
                pool.clients = record

    def transport_born(self, _: None, transport: Any, /, *args: Any, **kwargs: Any) -> None:
        for pool in reachable(transport, self._pools):
            pool.front = self._library
            pool.transport = type_name(transport)
            pool.inner = True

    def closing(self, client: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._clients.get(client)
        if record is not None:
            record.closed = True
