"""Records of what keeps aiohttp's connections: sessions and connectors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from pytest_httpleak.asking import attribute, is_a
from pytest_httpleak.model.facts import replace
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.model.pools import PoolState
from pytest_httpleak.opennumbers import fileno
from pytest_httpleak.records import Record, together
from pytest_httpleak.socketrecords import SocketRecord, record_of
from pytest_httpleak.tables import Table

_now = time.monotonic  # the clock of asyncio's loops too, bound here so that a test which freezes time cannot change it

_NOT_MADE: Final = "its `__init__` has raised, so that nobody can close it: mend what it was given, or upgrade aiohttp"
_CLOSE_CONNECTOR: Final = "call `await connector.close()`: only a session that owns its connector closes it"


class Finalized(Record):
    """The record of an object that tells in its `__del__` whether it was left open."""

    __slots__ = ("collected", "ended")

    def __init__(self) -> None:
        super().__init__()
        self.collected = False
        self.ended = False

    def freed(self, suspect: Suspect) -> Suspect | None:
        # Where its `__del__` has been heard, that has told whether it was left open: a thread may have closed it just now.
        return replace(suspect, state=State.COLLECTED) if self.ref() is None and not self.ended else None


class SessionRecord(Finalized):
    """A `ClientSession`: to leave one open is a leak by aiohttp's own word, whether it holds a connection or not.

    The session of `aiohttp.request()` is nobody's but the response's, which answers for it as long as it is open.
    """

    __slots__ = ("connectors", "is_of_request", "is_whole", "own", "response", "sockets", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS
    LIBRARY = "aiohttp"

    def __init__(self, name: str, sockets: Table, connectors: Table) -> None:
        super().__init__()
        self.type = name
        self.sockets = sockets
        self.connectors = connectors
        self.own: ConnectorRecord | None = None  # the connector that it made itself, or closes
        self.is_of_request = False
        self.is_whole = False  # until its `__init__` has returned
        self.response: Record | None = None

    def is_open(self) -> bool:
        session = self.ref()
        return session is not None and not is_closed(session)

    def is_over(self) -> bool:
        return self.ref() is None and not self.collected

    def look(self) -> Suspect | None:
        if self.response is not None and self.response.look() is not None:
            return None
        if self.collected:
            return self._suspect(State.COLLECTED, "dropped without being closed", self._resolving(), ())
        session = self.ref()
        if session is None or is_closed(session):
            return None
        connector = self.connectors.get(session.connector)
        idle = [] if connector is None else connector.idle()
        claims, holds = taken(idle, self.sockets)
        number = len(idle)
        summary = "not closed" + (f", with {number} idle connection{'s' if number > 1 else ''}" if number else "")
        return self._suspect(State.OPEN, summary, self._resolving() | claims, holds)

    def _resolving(self) -> frozenset[object]:
        return frozenset() if self.own is None else claims_of(self.own.resolving())

    def _suspect(self, state: State, summary: str, claims: frozenset[object], holds: tuple[Held, ...]) -> Suspect:
        hint = "" if self.is_whole else _NOT_MADE
        return self.suspect(
            state, self.type, summary, claims=claims, holds=holds, always=True, names=(self.type,), hint=hint
        )


def is_closed(session: Any) -> bool:
    """Whether a session is closed, or was never whole: where making it has failed, it may have no connector to ask."""
    return attribute(session, "_connector") is None or bool(session.closed)


class ConnectorRecord(Finalized):
    """A connector, aiohttp's pool; it answers for its idle connections where no session does."""

    __slots__ = ("channels", "connections", "left", "made", "owned", "requests", "sockets", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS
    LIBRARY = "aiohttp"

    def __init__(self, name: str, sockets: Table, connections: Table) -> None:
        super().__init__()
        self.type = name
        self.sockets = sockets
        self.connections = connections
        self.channels: list[Any] = []  # records of c-ares channels, which connectors of the same loop share
        self.left = False  # open, when it died
        self.owned = False  # by a session, which closes it, and is reported where it does not
        self.made = 0
        self.requests = 0

    def idle(self) -> list[Any]:
        """The protocols of the connections that wait for their next request."""
        connector = self.ref()
        if connector is None or connector.closed:
            return []
        return [item[0] for items in list(connector._conns.values()) for item in list(items) if item[0].is_connected()]

    def resolving(self) -> list[int]:
        """The open descriptors of the channels that the connector resolves names through."""
        return [fd for channel in self.channels for fd in channel.opened()]

    def descriptors(self) -> Iterator[int]:
        connector = self.ref()
        if connector is not None and not connector.closed:
            yield from self.resolving()
        active = (
            [] if connector is None else [each for each in list(connector._acquired) if hasattr(each, "is_connected")]
        )
        for protocol in [*self.idle(), *active]:
            fd = descriptor_of(protocol)
            if fd >= 0:
                yield fd

    def look(self) -> Suspect | None:
        if self.collected:
            return self.suspect(
                State.COLLECTED,
                self.type,
                "dropped without being closed",
                claims=claims_of(self.resolving()),
                depth=1,
                hint="" if self.owned else _CLOSE_CONNECTOR,
            )
        connector = self.ref()
        if connector is None or connector.closed or self.owned:
            return None
        found, resolving = self.idle(), self.resolving()
        if not found and not resolving:
            return None
        claims, holds = taken(found, self.sockets)
        idle = f"{len(found)} idle connection{'s' if len(found) > 1 else ''}" if found else ""
        names = f"{len(resolving)} descriptors of its DNS resolver" if resolving else ""
        return self.suspect(
            State.OPEN,
            self.type,
            "not closed, with " + " and ".join(filter(None, (idle, names))),
            claims=claims_of(resolving) | claims,
            holds=holds,
            names=(self.type,),
            depth=1,
            hint=_CLOSE_CONNECTOR,
        )

    def figures(self) -> str:
        """The pool's figures in a few words."""
        state = self.state()
        if state is None:
            return "a closed connector"
        limit = "none" if state.max_connections is None else state.max_connections
        return f"the connector ({state.active} active, {state.idle} idle, {state.waiting} waiting, limit {limit})"

    def state(self) -> PoolState | None:
        """The pool's figures now."""
        connector = self.ref()
        if connector is None or connector.closed:
            return None
        acquired = list(connector._acquired)
        connecting = sum(1 for each in acquired if not hasattr(each, "is_connected"))  # it keeps a place until then
        idle, expired = len(self.idle()), len(self._expired(connector))
        return PoolState(
            library="aiohttp",
            origin=together(self._origins(connector, acquired)),
            idle=idle - expired,
            active=len(acquired) - connecting,
            expired=expired,
            connecting=connecting,
            waiting=sum(len(waiters) for waiters in connector._waiters.values()),
            max_connections=connector.limit or None,
            per_host=connector.limit_per_host or None,
            connections_made=self.made,
            requests=self.requests,
            overflow=None,  # whatever is within the limit is kept
            created=None if self.birth is None else self.birth.site(),
            owner=str(self.owner.name),
        )

    def _expired(self, connector: Any) -> list[Any]:
        """The idle connections that have waited for longer than the connector lets them."""
        limit, now = connector._keepalive_timeout, _now()
        if limit is None:
            return []
        # Tests put stand-ins there, which have no time.
        waiting = [item for items in list(connector._conns.values()) for item in list(items)]
        since_when = ((protocol, since) for protocol, since, *_ in waiting if is_a(since, (int, float)))
        return [protocol for protocol, since in since_when if protocol.is_connected() and now - since > limit]

    def _origins(self, connector: Any, acquired: list[Any]) -> set[str]:
        keys = [*connector._conns, *connector._acquired_per_host]
        keys += [key for key, waiters in list(connector._waiters.items()) if waiters]
        known = (self.connections.get(protocol) for protocol in acquired)
        return {origin_of(key) for key in keys if hasattr(key, "host")} | {
            record.origin for record in known if record is not None
        }


def origin_of(key: Any) -> str:
    """Scheme, host and port that a connector knows its connections by."""
    host = str(key.host)  # whatever a test has put there
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if key.is_ssl else 'http'}://{host}" + ("" if key.port is None else f":{key.port}")


def socket_of(protocol: Any, sockets: Table) -> SocketRecord | None:
    """The record of the socket below a protocol; none where uvloop runs it."""
    transport = getattr(protocol, "transport", None)
    sock = None if transport is None else transport.get_extra_info("socket")
    return None if sock is None else record_of(sock, sockets)


def taken(protocols: list[Any], sockets: Table) -> tuple[frozenset[object], tuple[Held, ...]]:
    """What some connections answer for, and how it is shown: their sockets, or bare descriptors where uvloop runs them."""
    claims: set[object] = set()
    holds: list[Held] = []
    for protocol in protocols:
        socket, fd = socket_of(protocol, sockets), descriptor_of(protocol)
        if socket is not None:
            claims |= socket.claims()
            holds.append(socket.held())
        elif fd >= 0:
            claims.add(("fd", fd))
            holds.append(Held(Kind.SOCKETS, f"fd {fd}", fd))
    return frozenset(claims), tuple(holds)


def claims_of(numbers: list[int]) -> frozenset[object]:
    """What bare descriptors are named by where somebody else answers for them."""
    return frozenset(("fd", fd) for fd in numbers)


def descriptor_of(protocol: Any) -> int:
    """The open descriptor below a protocol, or -1."""
    transport = getattr(protocol, "transport", None)
    sock = None if transport is None else transport.get_extra_info("socket")
    return -1 if sock is None else fileno(sock)
