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
from pytest_httpleak.records import WEBSOCKET, Table, type_name

MODULES = ("aiohttp",)


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
    threads, places = watch.table("threads"), dict[int, PlaceRecord]()
    connections, channels = watch.table("aiohttp connections"), watch.table("pycares channels")
    responses.passing = True
    # Connectors and checkouts that die open: the collector may take them, and so close the connection, before the response.
    dropped: set[int] = set()
    request = getattr(module.request, "__code__", None)
    dying_sessions, dying_connectors, dying_responses = _Dying(sessions), _Dying(connectors), _Dying(responses)

    def session_begun(session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = SessionRecord(type_name(session), sockets, connectors)
        sessions.put(session, record)
        watch.add(record)
        record.is_of_request = record.birth is not None and any(code is request for code, _ in record.birth.frames[:2])

    def session_made(_: None, session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = sessions.get(session)
        if record is not None:
            take_connector(record, session)

    def take_connector(record: SessionRecord, session: Any) -> None:
        connector = connectors.get(session.connector)
        if connector is not None:
            connector.inner = True
            connector.owned = connector.owned or session.connector_owner
            record.own = connector if session.connector_owner else None

    def session_dies(session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = dying_sessions.record(session)
        if record is not None and (not is_closed(session) or has_died_first(session._connector)):
            record.collected = True
            if record.own is None:  # as where its making has failed
                take_connector(record, session)

    def has_died_first(connector: Any) -> bool:
        """Whether the collector has finalized a connector that was open, and so closed it, before its session."""
        return is_a(connector, module.BaseConnector) and id(connector) in dropped

    def connector_born(_: None, connector: Any, /, *args: Any, **kwargs: Any) -> None:
        record = ConnectorRecord(type_name(connector), sockets, connections)
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

    def place_taken(_: None, place: Any, /, *args: Any, **kwargs: Any) -> None:
        record, earlier = PlaceRecord(connectors, threads, id(place)), places.get(id(place))
        if earlier is not None:
            earlier.number = 0
        places[id(place)] = record
        watch.add(record, opened=False)

    def response_born(_: None, response: Any, /, *args: Any, **kwargs: Any) -> None:
        record = ResponseRecord((sockets, connectors, connections), str(response.method), str(response.real_url))
        responses.put(response, record)
        watch.add(record)
        session = sessions.get(getattr(response, "_session", None))
        if session is not None and session.is_of_request:
            session.response = record

    def response_dies(response: Any, /, *args: Any, **kwargs: Any) -> None:
        record = dying_responses.record(response)
        if record is not None:
            record.status = response.status
        if record is not None and not response._closed and response._connection is not None:
            connection = response._connection
            checkout = connections.get(connection.protocol)
            record.collected = not connection.closed or not dropped.isdisjoint(
                (id(connection), id(connection._connector))
            )
            if checkout is not None:
                record.claims = checkout.claim()

    def websocket_born(_: None, websocket: Any, /, *args: Any, **kwargs: Any) -> None:
        record = responses.get(websocket._response)
        if record is not None:
            record.type = WEBSOCKET
            record.websocket = weakref.ref(websocket)

    def checked_out(_: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        dropped.discard(id(connection))
        connector, key, protocol = connection._connector, connection._key, connection._protocol
        pool = connectors.get(connector)
        record = connections.get(protocol)
        if record is None:
            record = ConnectionRecord(sockets, connector, origin_of(key))
            connections.put(protocol, record)
            watch.add(record)
            socket = socket_of(protocol, sockets)
            if socket is not None:
                socket.holder = record
            if (
                pool is not None and protocol in connector._acquired
            ):  # else the way through a proxy, which is one with it
                pool.made += 1
                record.destined = pool
        elif record.owner is not watch.owner():  # whoever was given it last answers for the checkout
            record.blamed = False
            watch.add(record)
        else:
            watch.opened(record)
        if pool is not None and protocol in connector._acquired:
            pool.requests += 1
        record.checkout = weakref.ref(connection)

    def checkout_dies(connection: Any, /, *args: Any, **kwargs: Any) -> None:
        if connection._protocol is not None and connection._protocol.is_connected():
            dropped.add(id(connection))
            record = connections.get(connection._protocol)
            if record is not None:
                record.collected = True

    hooks.before(module.ClientSession, "__init__", session_begun)  # which may raise when it has a connector already
    hooks.after(module.ClientSession, "__init__", session_made)
    hooks.before(module.ClientSession, "__del__", session_dies)
    hooks.after(module.BaseConnector, "__init__", connector_born)
    hooks.after(module.TCPConnector, "__init__", resolver_made)
    if hasattr(module.connector, "_TransportPlaceholder"):
        hooks.after(module.connector._TransportPlaceholder, "__init__", place_taken)
    hooks.before(module.BaseConnector, "__del__", connector_dies)
    hooks.after(module.ClientResponse, "__init__", response_born)
    hooks.before(module.ClientResponse, "__del__", response_dies)
    hooks.after(module.ClientWebSocketResponse, "__init__", websocket_born)
    hooks.after(module.connector.Connection, "__init__", checked_out)
    hooks.before(module.connector.Connection, "__del__", checkout_dies)
