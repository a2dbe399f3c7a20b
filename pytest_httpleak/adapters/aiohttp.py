"""aiohttp's client: sessions, connectors, responses (WebSockets included) and connections checked out of a connector."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, ClassVar

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.model import Held, Kind, PoolState, State, Suspect
from pytest_httpleak.records import Record, Table, reachable, type_name
from pytest_httpleak.socketrecords import SocketRecord, fileno, record_of

MODULES = ("aiohttp",)


class _Finalized(Record):
    """The record of an object that tells in its `__del__` whether it was left open."""

    __slots__ = ("collected", "ended")

    def __init__(self) -> None:
        super().__init__()
        self.collected = False
        self.ended = False

    def freed(self, suspect: Suspect) -> Suspect | None:
        return suspect._replace(state=State.COLLECTED) if self.ref() is None else None


class _Dying:
    """Finds the record of an object from within its `__del__`, where the garbage collector has cleared all references."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._lost: dict[int, Any] = {}
        table.gone = self._gone

    def _gone(self, record: Any) -> None:
        if not record.ended:
            self._lost[record.key] = record

    def record(self, thing: object) -> Any:
        """The record, or None for an object whose making was not seen."""
        record = self._table.get(thing) or self._lost.pop(id(thing), None)
        if record is not None:
            record.ended = True
        return record


class SessionRecord(_Finalized):
    """A `ClientSession`: to leave one open is a leak by aiohttp's own word, whether it holds a connection or not."""

    __slots__ = ("connectors", "own", "sockets", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS
    LIBRARY = "aiohttp"

    def __init__(self, name: str, sockets: Table, connectors: Table) -> None:
        super().__init__()
        self.type = name
        self.sockets = sockets
        self.connectors = connectors
        self.own: ConnectorRecord | None = None  # the connector that it made itself, or closes

    def is_open(self) -> bool:
        session = self.ref()
        return session is not None and not session.closed

    def is_over(self) -> bool:
        return self.ref() is None and not self.collected

    def look(self) -> Suspect | None:
        if self.collected:
            return self._suspect(State.COLLECTED, "dropped without being closed", self._resolving(), ())
        session = self.ref()
        if session is None or session.closed:
            return None
        connector = self.connectors.get(session.connector)
        idle = [] if connector is None else connector.idle()
        claims, holds = _taken(idle, self.sockets)
        number = len(idle)
        summary = "not closed" + (f", with {number} idle connection{'s' if number > 1 else ''}" if number else "")
        return self._suspect(State.OPEN, summary, self._resolving() | claims, holds)

    def _resolving(self) -> frozenset[object]:
        return frozenset() if self.own is None else _claims(self.own.resolving())

    def _suspect(self, state: State, summary: str, claims: frozenset[object], holds: tuple[Held, ...]) -> Suspect:
        return self.suspect(state, self.type, summary, claims=claims, holds=holds, always=True, names=(self.type,))


class ConnectorRecord(_Finalized):
    """A connector, aiohttp's pool; it answers for its idle connections where no session does."""

    __slots__ = ("channels", "made", "owned", "requests", "sockets", "type")

    kind: ClassVar[Kind] = Kind.CLIENTS
    LIBRARY = "aiohttp"

    def __init__(self, name: str, sockets: Table) -> None:
        super().__init__()
        self.type = name
        self.sockets = sockets
        self.channels: list[Any] = []  # records of c-ares channels, which connectors of the same loop share
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
            fd = _fd(protocol)
            if fd >= 0:
                yield fd

    def look(self) -> Suspect | None:
        if self.collected:
            return self.suspect(State.COLLECTED, self.type, "dropped without being closed", depth=1)
        connector = self.ref()
        if connector is None or connector.closed or self.owned:
            return None
        found, resolving = self.idle(), self.resolving()
        if not found and not resolving:
            return None
        claims, holds = _taken(found, self.sockets)
        idle = f"{len(found)} idle connection{'s' if len(found) > 1 else ''}" if found else ""
        names = f"{len(resolving)} descriptors of its DNS resolver" if resolving else ""
        return self.suspect(
            State.OPEN,
            self.type,
            "not closed, with " + " and ".join(filter(None, (idle, names))),
            claims=_claims(resolving) | claims,
            holds=holds,
            names=(self.type,),
            depth=1,
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
        connecting = sum(1 for each in acquired if getattr(each, "transport", None) is None)
        keys = [*connector._conns, *connector._acquired_per_host]
        origins = sorted({f"{'https' if key.is_ssl else 'http'}://{key.host}:{key.port}" for key in keys})
        return PoolState(
            library="aiohttp",
            origin=", ".join(origins[:3]) or "(no connection)",
            idle=len(self.idle()),
            active=len(acquired) - connecting,
            connecting=connecting,
            waiting=sum(len(waiters) for waiters in connector._waiters.values()),
            max_connections=connector.limit or None,
            per_host=connector.limit_per_host or None,
            connections_made=self.made,
            requests=self.requests,
            created=None if self.birth is None else self.birth.site(),
            owner=str(self.owner.name),
        )


class ConnectionRecord(Record):
    """One connection that a connector made, and its present checkout."""

    __slots__ = ("checkout", "collected", "connector", "origin", "sockets")

    kind: ClassVar[Kind] = Kind.CONNECTIONS
    LIBRARY = "aiohttp"

    def __init__(self, sockets: Table, connector: Any, origin: str) -> None:
        super().__init__()
        self.sockets = sockets
        self.connector: Callable[[], Any] = weakref.ref(connector)
        self.origin = origin
        self.checkout: Callable[[], Any] = lambda: None
        self.collected = False

    def is_open(self) -> bool:
        protocol = self.ref()
        return protocol is not None and protocol.is_connected()

    def descriptors(self) -> Iterator[int]:
        protocol = self.ref()
        fd = -1 if protocol is None else _fd(protocol)
        if fd >= 0:
            yield fd

    def look(self) -> Suspect | None:
        protocol, connector = self.ref(), self.connector()
        if self.collected:
            return self._suspect("dropped while checked out", State.COLLECTED, [])
        if protocol is None or connector is None or connector.closed or not protocol.is_connected():
            return None
        if protocol not in connector._acquired:
            return None
        return self._suspect("checked out, with no response to explain it", State.OPEN, [protocol])

    def is_over(self) -> bool:
        return self.ref() is None and not self.collected

    def claim(self) -> frozenset[object]:
        """What the present checkout is named by where a response answers for it."""
        return frozenset((("checkout", id(self)),))

    def _suspect(self, summary: str, state: State, protocols: list[Any]) -> Suspect:
        claims, holds = _taken(protocols, self.sockets)
        return self.suspect(
            state,
            "aiohttp.connector.Connection",
            f"{self.origin}, {summary}",
            claims=self.claim() | claims,
            holds=holds,
            names=(self.origin,),
        )


class ResponseRecord(_Finalized):
    """A response from the moment it has a connection to the moment it gives it back."""

    __slots__ = ("claims", "connections", "connectors", "method", "sockets", "type", "url")

    kind: ClassVar[Kind] = Kind.RESPONSES
    LIBRARY = "aiohttp"

    def __init__(self, tables: tuple[Table, Table, Table], method: str, url: str) -> None:
        super().__init__()
        self.sockets, self.connectors, self.connections = tables
        self.claims: frozenset[object] = frozenset()  # of the checkout that it died with
        self.method, self.url = method, url
        self.type = "aiohttp.ClientResponse"

    def is_open(self) -> bool:
        response = self.ref()
        return response is not None and response._connection is not None

    def is_over(self) -> bool:
        response = self.ref()
        return not self.collected and (response is None or response.closed)

    def descriptors(self) -> Iterator[int]:
        response = self.ref()
        connection = None if response is None else response.connection
        fd = -1 if connection is None or connection.closed else _fd(connection.protocol)
        if fd >= 0:
            yield fd

    def look(self) -> Suspect | None:
        if self.collected:
            return self._suspect(State.COLLECTED, None, "")
        response = self.ref()
        connection = None if response is None else response.connection
        if connection is None or connection.closed:
            return None
        return self._suspect(State.OPEN, connection, "" if response.status is None else f" [{response.status}]")

    def _suspect(self, state: State, connection: Any, status: str) -> Suspect:
        holds: tuple[Held, ...] = ()
        claims = self.claims
        if connection is not None:
            connector, checkout = self.connectors.get(connection._connector), self.connections.get(connection.protocol)
            claims, holds = _taken([connection.protocol], self.sockets)
            if connector is not None:
                holds = (Held(Kind.CONNECTIONS, f"a connection of {connector.figures()}"), *holds)
            if checkout is not None:
                claims |= checkout.claim()
        summary = f"{self.method} {self.url}{status}"
        return self.suspect(
            state, self.type, summary, claims=claims, holds=holds, always=True, names=(self.url, summary)
        )


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record sessions, connectors, responses and checkouts where they are made, and those that die open."""
    for cls, names in (
        (module.ClientSession, ("__del__",)),
        (module.BaseConnector, ("__del__", "_release_acquired")),
        (module.ClientResponse, ("__del__", "start")),
    ):
        for name in names:
            if not hasattr(cls, name):
                raise Unsupported(f"{module.__name__} {module.__version__}: {cls.__name__} has no {name}")
    watch = hooks.watch
    sockets, sessions = watch.table("sockets"), watch.table("aiohttp sessions")
    connectors, responses = watch.table("aiohttp connectors"), watch.table("aiohttp responses")
    connections, channels = watch.table("aiohttp connections"), watch.table("pycares channels")
    dropped: set[int] = set()  # connectors that die open, and close their connections before the responses die
    dying_sessions, dying_connectors, dying_responses = _Dying(sessions), _Dying(connectors), _Dying(responses)

    def session_born(_: None, session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = SessionRecord(type_name(session), sockets, connectors)
        sessions.put(session, record)
        watch.add(record)
        connector = connectors.get(session.connector)
        if connector is not None:
            connector.inner = True
            connector.owned = connector.owned or session.connector_owner
            record.own = connector if session.connector_owner else None

    def session_dies(session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = dying_sessions.record(session)
        if record is not None and not session.closed:
            record.collected = True

    def connector_born(_: None, connector: Any, /, *args: Any, **kwargs: Any) -> None:
        record = ConnectorRecord(type_name(connector), sockets)
        connectors.put(connector, record)
        dropped.discard(id(connector))
        watch.add(record)

    def resolver_made(_: None, connector: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connectors.get(connector)
        if record is not None:
            record.channels = reachable(getattr(connector, "_resolver", None), channels)

    def connector_dies(connector: Any, /, *args: Any, **kwargs: Any) -> None:
        record = dying_connectors.record(connector)
        if not connector._closed:
            dropped.add(id(connector))
        if record is not None and not connector._closed and connector._conns and not record.owned:
            record.collected = True

    def response_born(_: None, response: Any, /, *args: Any, **kwargs: Any) -> None:
        record = ResponseRecord((sockets, connectors, connections), str(response.method), str(response.real_url))
        responses.put(response, record)
        watch.add(record)

    def response_dies(response: Any, /, *args: Any, **kwargs: Any) -> None:
        record = dying_responses.record(response)
        if record is not None and not response._closed and response._connection is not None:
            connection = response._connection
            record.collected = not connection.closed or id(connection._connector) in dropped
            checkout = connections.get(connection.protocol)
            if checkout is not None:
                record.claims = checkout.claim()

    def websocket_born(_: None, websocket: Any, /, *args: Any, **kwargs: Any) -> None:
        record = responses.get(websocket._response)
        if record is not None:
            record.type = "aiohttp.ClientWebSocketResponse"

    def checked_out(_: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        connector, key, protocol = connection._connector, connection._key, connection._protocol
        pool = connectors.get(connector)
        record = connections.get(protocol)
        if record is None:
            origin = f"{'https' if key.is_ssl else 'http'}://{key.host}:{key.port}"
            record = ConnectionRecord(sockets, connector, origin)
            connections.put(protocol, record)
            watch.add(record)
            socket = _socket(protocol, sockets)
            if socket is not None:
                socket.holder = record
            if pool is not None:
                pool.made += 1
        elif record.owner is not watch.owner():  # whoever was given it last answers for the checkout
            record.blamed = False
            watch.add(record)
        else:
            watch.opened(record)
        if pool is not None:
            pool.requests += 1
        record.checkout = weakref.ref(connection)

    def checkout_dies(connection: Any, /, *args: Any, **kwargs: Any) -> None:
        if connection._protocol is not None:
            record = connections.get(connection._protocol)
            if record is not None and connection._protocol.is_connected():
                record.collected = True

    hooks.after(module.ClientSession, "__init__", session_born)
    hooks.before(module.ClientSession, "__del__", session_dies)
    hooks.after(module.BaseConnector, "__init__", connector_born)
    hooks.after(module.TCPConnector, "__init__", resolver_made)
    hooks.before(module.BaseConnector, "__del__", connector_dies)
    hooks.after(module.ClientResponse, "__init__", response_born)
    hooks.before(module.ClientResponse, "__del__", response_dies)
    hooks.after(module.ClientWebSocketResponse, "__init__", websocket_born)
    hooks.after(module.connector.Connection, "__init__", checked_out)
    hooks.before(module.connector.Connection, "__del__", checkout_dies)


def _socket(protocol: Any, sockets: Table) -> SocketRecord | None:
    transport = getattr(protocol, "transport", None)
    sock = None if transport is None else transport.get_extra_info("socket")
    return None if sock is None else record_of(sock, sockets)


def _taken(protocols: list[Any], sockets: Table) -> tuple[frozenset[object], tuple[Held, ...]]:
    """What some connections answer for, and how it is shown: their sockets, or bare descriptors where uvloop runs them."""
    claims: set[object] = set()
    holds: list[Held] = []
    for protocol in protocols:
        socket, fd = _socket(protocol, sockets), _fd(protocol)
        if socket is not None:
            claims |= socket.claims()
            holds.append(socket.held())
        elif fd >= 0:
            claims.add(("fd", fd))
            holds.append(Held(Kind.SOCKETS, f"fd {fd}", fd))
    return frozenset(claims), tuple(holds)


def _claims(numbers: list[int]) -> frozenset[object]:
    return frozenset(("fd", fd) for fd in numbers)


def _fd(protocol: Any) -> int:
    transport = getattr(protocol, "transport", None)
    sock = None if transport is None else transport.get_extra_info("socket")
    return -1 if sock is None else fileno(sock)
