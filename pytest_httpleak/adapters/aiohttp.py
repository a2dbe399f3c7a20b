"""aiohttp's client: sessions, connectors, responses (WebSockets included) and connections checked out of a connector."""

from __future__ import annotations

import weakref
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.aiohttpplaces import PlaceRecord
from pytest_httpleak.aiohttppools import ConnectorRecord, SessionRecord, is_closed, origin_of, socket_of
from pytest_httpleak.aiohttprecords import ConnectionRecord, ResponseRecord
from pytest_httpleak.asking import is_a
from pytest_httpleak.reaching import reachable
from pytest_httpleak.recorder import Recorder
from pytest_httpleak.records import WEBSOCKET, type_name
from pytest_httpleak.tables import Table

MODULES = ("aiohttp",)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record sessions, connectors, responses and checkouts where they are made, and those that die open."""
    _require(module)
    # Connectors and checkouts that die open: the collector may take them, and so close the connection, before the response.
    dropped: set[int] = set()
    clients, exchanges = _Clients(module, hooks.watch, dropped), _Exchanges(hooks.watch, dropped)
    hooks.before(module.ClientSession, "__init__", clients.session_begun)  # may raise when it has a connector already
    hooks.after(module.ClientSession, "__init__", clients.session_made)
    hooks.before(module.ClientSession, "detach", clients.detaching)
    hooks.before(module.ClientSession, "__del__", clients.session_dies)
    hooks.after(module.BaseConnector, "__init__", clients.connector_born)
    hooks.after(module.TCPConnector, "__init__", clients.resolver_made)
    if hasattr(module.connector, "_TransportPlaceholder"):
        hooks.after(module.connector._TransportPlaceholder, "__init__", _Places(hooks.watch).taken)
    hooks.before(module.BaseConnector, "__del__", clients.connector_dies)
    hooks.after(module.ClientResponse, "__init__", exchanges.response_born)
    hooks.before(module.ClientResponse, "__del__", exchanges.response_dies)
    hooks.after(module.ClientWebSocketResponse, "__init__", exchanges.websocket_born)
    hooks.before(module.client_proto.ResponseHandler, "close", exchanges.closing)
    hooks.after(module.connector.Connection, "__init__", exchanges.checked_out)
    hooks.before(module.connector.Connection, "__del__", exchanges.checkout_dies)


def _require(module: ModuleType) -> None:
    for cls, names in (
        (module.ClientSession, ("__del__", "detach")),
        (module.BaseConnector, ("__del__", "_release_acquired")),
        (module.ClientResponse, ("__del__", "start")),
    ):
        for name in names:
            if not hasattr(cls, name):
                raise Unsupported(f"{module.__name__} {module.__version__}: {cls.__name__} has no {name}")


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


class _Clients:
    """Sessions and their connectors, noted where they are made and where they die."""

    def __init__(self, module: ModuleType, watch: Recorder, dropped: set[int]) -> None:
        self._watch, self._dropped, self._connector_class = watch, dropped, module.BaseConnector
        self._sockets, self._channels = watch.table("sockets"), watch.table("pycares channels")
        self._sessions, self._connectors = watch.table("aiohttp sessions"), watch.table("aiohttp connectors")
        self._connections = watch.table("aiohttp connections")
        self._dying_sessions, self._dying_connectors = _Dying(self._sessions), _Dying(self._connectors)
        self._request = getattr(module.request, "__code__", None)

    def session_begun(self, session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = SessionRecord(type_name(session), self._sockets, self._connectors)
        self._sessions.put(session, record)
        self._watch.add(record)
        birth = record.birth
        record.is_of_request = birth is not None and any(code is self._request for code, _ in birth.frames[:2])

    def session_made(self, _: None, session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._sessions.get(session)
        if record is not None:
            record.is_whole = True
            self._take_connector(record, session)

    def _take_connector(self, record: SessionRecord, session: Any) -> None:
        connector = self._connectors.get(session.connector)
        if connector is not None:
            connector.inner = True
            connector.owned = connector.owned or session.connector_owner
            record.own = connector if session.connector_owner else None

    def detaching(self, session: Any, /, *args: Any, **kwargs: Any) -> None:
        """Note that whoever has a session's connector has to close it from now on, unless another session owns it, too."""
        record = self._sessions.get(session)
        connector = None if record is None else record.own
        if connector is not None:
            record.own = None
            connector.owned = any(each.own is connector for each in self._sessions)

    def session_dies(self, session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._dying_sessions.record(session)
        if record is not None and (not is_closed(session) or self._has_died_first(session._connector)):
            record.collected = True
            if record.own is None:  # as where its making has failed
                self._take_connector(record, session)

    def _has_died_first(self, connector: Any) -> bool:
        """Whether the collector has finalized a connector that was open, and so closed it, before its session."""
        return is_a(connector, self._connector_class) and id(connector) in self._dropped

    def connector_born(self, _: None, connector: Any, /, *args: Any, **kwargs: Any) -> None:
        record = ConnectorRecord(type_name(connector), self._sockets, self._connections)
        self._connectors.put(connector, record)
        self._dropped.discard(id(connector))
        self._watch.add(record)

    def resolver_made(self, _: None, connector: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._connectors.get(connector)
        if record is not None:
            record.channels = reachable(getattr(connector, "_resolver", None), self._channels)

    def connector_dies(self, connector: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._dying_connectors.record(connector)
        if connector._closed:
            return
        self._dropped.add(id(connector))
        if record is not None:
            record.left = True
            record.collected = bool(connector._conns) and not record.owned


class _Places:
    """Places in a connector's pool that are taken by what stands for a connection until there is one."""

    def __init__(self, watch: Recorder) -> None:
        self._watch = watch
        self._connectors, self._threads = watch.table("aiohttp connectors"), watch.table("threads")
        self._records: dict[int, PlaceRecord] = {}

    def taken(self, _: None, place: Any, /, *args: Any, **kwargs: Any) -> None:
        record, earlier = PlaceRecord(self._connectors, self._threads, id(place)), self._records.get(id(place))
        if earlier is not None:
            earlier.number = 0
        self._records[id(place)] = record
        self._watch.add(record, opened=False)


class _Exchanges:
    """Responses, WebSockets included, and the connections that are checked out for them."""

    def __init__(self, watch: Recorder, dropped: set[int]) -> None:
        self._watch, self._dropped = watch, dropped
        self._sockets, self._sessions = watch.table("sockets"), watch.table("aiohttp sessions")
        self._connectors, self._connections = watch.table("aiohttp connectors"), watch.table("aiohttp connections")
        self._responses = watch.table("aiohttp responses")
        self._responses.passing = True
        self._dying_responses = _Dying(self._responses)

    def response_born(self, _: None, response: Any, /, *args: Any, **kwargs: Any) -> None:
        tables = self._sockets, self._connectors, self._connections
        record = ResponseRecord(tables, str(response.method), str(response.real_url))
        self._responses.put(response, record)
        self._watch.add(record)
        session = self._sessions.get(getattr(response, "_session", None))
        if session is not None and session.is_of_request:
            session.response = record

    def response_dies(self, response: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._dying_responses.record(response)
        if record is None:
            return
        record.status = response.status
        if not response._closed and response._connection is not None:
            connection = response._connection
            of_it = id(connection), id(connection._connector)
            record.collected = not connection.closed or not self._dropped.isdisjoint(of_it)
            checkout = self._connections.get(connection.protocol)
            if checkout is not None:
                record.claims = checkout.claim()

    def websocket_born(self, _: None, websocket: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._responses.get(websocket._response)
        if record is not None:
            record.type = WEBSOCKET
            record.websocket = weakref.ref(websocket)

    def checked_out(self, _: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        self._dropped.discard(id(connection))
        connector, protocol = connection._connector, connection._protocol
        pool = self._connectors.get(connector)
        is_of_pool = pool is None or protocol in connector._acquired
        pool = pool if is_of_pool else None  # else the way through a proxy, which is one with what goes through it
        record = self._connections.get(protocol)
        if record is None:
            record = self._made(connection, pool)
        elif record.owner is not self._watch.owner():  # whoever was given it last answers for the checkout
            record.blamed = False
            self._watch.add(record)
        else:
            self._watch.opened(record)
        if pool is not None:
            pool.requests += 1
        record.checkout = weakref.ref(connection)

    def _made(self, connection: Any, pool: ConnectorRecord | None) -> ConnectionRecord:
        """The record of a connection that is handed out for the first time, by that pool."""
        protocol = connection._protocol
        record = ConnectionRecord(self._sockets, connection._connector, origin_of(connection._key))
        self._connections.put(protocol, record)
        self._watch.add(record, depth=5)  # outside the wrapper
        socket = socket_of(protocol, self._sockets)
        if socket is not None:
            socket.holder = record
        if pool is not None:
            pool.made += 1
            record.destined = pool
        return record

    def closing(self, protocol: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._connections.get(protocol)
        if record is not None:
            record.closing = protocol._loop.is_closed() is not True

    def checkout_dies(self, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        if connection._protocol is not None and connection._protocol.is_connected():
            self._dropped.add(id(connection))
            record = self._connections.get(connection._protocol)
            if record is not None:
                record.collected = True
