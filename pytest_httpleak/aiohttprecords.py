"""Records of aiohttp's connections, and of the responses (WebSockets included) that have one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from pytest_httpleak.aiohttppools import ConnectorRecord, Finalized, descriptor_of, taken
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.records import Record
from pytest_httpleak.socketrecords import SocketRecord
from pytest_httpleak.tables import Table

_THROWN_AWAY: Final = "this is the library's own doing: upgrade aiohttp"
_LOOP_CLOSED: Final = (
    "use a session in one event loop only, and close it there: each `asyncio.run()` is another loop, and the earlier one is "
    "closed; if that is so already, upgrade aiohttp"
)


class ConnectionRecord(Record):
    """One connection that a connector made, and its present checkout."""

    __slots__ = ("checkout", "closing", "collected", "connector", "destined", "origin", "sockets")

    kind: ClassVar[Kind] = Kind.CONNECTIONS
    LIBRARY = "aiohttp"

    def __init__(self, sockets: Table, connector: Any, origin: str) -> None:
        super().__init__()
        self.sockets = sockets
        self.connector: Callable[[], Any] = weakref.ref(connector)
        self.origin = origin
        self.checkout: Callable[[], Any] = lambda: None
        self.destined: ConnectorRecord | None = None  # the connector that made it
        self.collected = False
        self.closing = False  # it was told to close while its loop could do that

    def destination(self) -> tuple[Record, str] | None:
        return None if self.destined is None else (self.destined, self.origin)

    def is_open(self) -> bool:
        protocol = self.ref()
        return protocol is not None and protocol.is_connected()

    def descriptors(self) -> Iterator[int]:
        protocol = self.ref()
        fd = -1 if protocol is None else descriptor_of(protocol)
        if fd >= 0:
            yield fd

    def look(self) -> Suspect | None:
        protocol, connector = self.ref(), self.connector()
        if self.collected:
            return self._suspect("dropped while checked out", State.COLLECTED, [])
        if protocol is None or not protocol.is_connected():
            return None
        if connector is not None and not connector.closed and protocol in connector._acquired:
            return self._suspect("checked out, with no response to explain it", State.OPEN, [protocol])
        # The way through a proxy is none of a connector's own connections.
        if self.destined is None or (connector is not None and _is_kept(protocol, connector)):
            return None
        if descriptor_of(protocol) < 0:  # a stand-in, which says yes to everything
            return None
        return self._suspect("thrown away by its connector without being closed", State.OPEN, [protocol], _THROWN_AWAY)

    def is_over(self) -> bool:
        return self.ref() is None and not self.collected

    def orphaned(self, socket: SocketRecord) -> Suspect | None:
        """The suspect for a socket that died open, unless its session or connector did, which answers for it.

        One that was told to close is nobody's leak: a session waits for the end of TLS at times, and at times not, and so the
        loop may be over before that.
        """
        if self.closing or (self.destined is not None and self.destined.left):
            return None
        what, hint = "dropped without being closed", _THROWN_AWAY
        if socket.is_stranded():
            what, hint = "not closed before its event loop was", _LOOP_CLOSED
        return self.suspect(
            State.COLLECTED,
            "aiohttp.connector.Connection",
            f"{self.origin}, {what}",
            claims=self.claim(),
            holds=(socket.held(),),
            names=(self.origin,),
            hint=hint,
        )

    def claim(self) -> frozenset[object]:
        """What the present checkout is named by where a response answers for it."""
        return frozenset((("checkout", id(self)),))

    def _suspect(self, summary: str, state: State, protocols: list[Any], hint: str = "") -> Suspect:
        claims, holds = taken(protocols, self.sockets)
        return self.suspect(
            state,
            "aiohttp.connector.Connection",
            f"{self.origin}, {summary}",
            claims=self.claim() | claims,
            holds=holds,
            names=(self.origin,),
            hint=hint,
        )


def _is_kept(protocol: Any, connector: Any) -> bool:
    """Whether a connector has a connection to use it again, or may be about to: one takes places while it thinks."""
    if any(item[0] is protocol for items in list(connector._conns.values()) for item in list(items)):
        return True
    return any(not hasattr(each, "is_connected") for each in list(connector._acquired))


class ResponseRecord(Finalized):
    """A response from the moment it has a connection to the moment it gives it back."""

    __slots__ = ("claims", "connections", "connectors", "method", "sockets", "status", "type", "url", "websocket")

    kind: ClassVar[Kind] = Kind.RESPONSES
    LIBRARY = "aiohttp"

    def __init__(self, tables: tuple[Table, Table, Table], method: str, url: str) -> None:
        super().__init__()
        self.sockets, self.connectors, self.connections = tables
        self.claims: frozenset[object] = frozenset()  # of the checkout that it died with
        self.method, self.url = method, url
        self.status: int | None = None  # once the response is dead
        self.type = "aiohttp.ClientResponse"
        self.websocket: Callable[[], Any] = lambda: None

    def kept_as(self) -> Any:
        return self.websocket()  # to the response itself the books of the connector lead, too

    def exchange(self) -> tuple[str, int | None] | None:
        response = self.ref()
        return f"{self.method} {self.url}", self.status if response is None else response.status

    def is_open(self) -> bool:
        response = self.ref()
        return response is not None and response._connection is not None

    def is_over(self) -> bool:
        response = self.ref()
        return not self.collected and (response is None or response.closed)

    def descriptors(self) -> Iterator[int]:
        response = self.ref()
        connection = None if response is None else response.connection
        fd = -1 if connection is None or connection.closed else descriptor_of(connection.protocol)
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
            claims, holds = taken([connection.protocol], self.sockets)
            if connector is not None:
                holds = (Held(Kind.CONNECTIONS, f"a connection of {connector.figures()}"), *holds)
            if checkout is not None:
                claims |= checkout.claim()
        summary = f"{self.method} {self.url}{status}"
        return self.suspect(
            state, self.type, summary, claims=claims, holds=holds, always=True, names=(self.url, summary)
        )
