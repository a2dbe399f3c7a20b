"""Records of the places that aiohttp's connectors keep for connections which are still being made."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pytest_httpleak.aiohttppools import origin_of
from pytest_httpleak.model.findings import Held, Suspect
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.records import Record, type_name
from pytest_httpleak.senders import has_sender
from pytest_httpleak.tables import Table

_LOST_PLACE: Final = (
    "nothing gives this place back until the session is closed, and with all places lost each request waits for ever: "
    "upgrade aiohttp, or keep the request from being cancelled half-way (`asyncio.shield`)"
)


class PlaceRecord(Record):
    """One place among those that a connector counts; known by its identity, since it cannot be referred to weakly."""

    __slots__ = ("connectors", "number", "threads")

    kind: ClassVar[Kind] = Kind.CONNECTIONS
    LIBRARY = "aiohttp"

    def __init__(self, connectors: Table, threads: Table, number: int) -> None:
        super().__init__()
        self.ref = lambda: None
        self.connectors = connectors
        self.threads = threads
        self.number = number  # the identity of what stands in the place; 0 once something else has the same

    def connector(self) -> Any:
        """The connector among whose places this one is, or None once it has been given back."""
        for record in self.connectors:
            connector = record.ref()
            if connector is None or connector.closed or not self.number:
                continue
            if any(id(each) == self.number for each in list(connector._acquired)):
                return connector
        return None

    def is_open(self) -> bool:
        return self.connector() is not None

    def is_over(self) -> bool:
        return self.connector() is None

    def look(self) -> Suspect | None:
        connector = self.connector()
        if connector is None or has_sender(self.maker, self.threads, self.owner):
            return None
        keys = (key for key, places in list(connector._acquired_per_host.items()) if self._is_among(places))
        origin = next((f" to {origin_of(key)}" for key in keys), "")
        limit = connector.limit or "none"
        return self.suspect(
            State.OPEN,
            type_name(connector),
            f"place for a connection{origin}, still taken by a request that was given up (cancelled, timed out or failed)",
            claims=frozenset((("place", self.number),)),
            holds=(Held(Kind.CONNECTIONS, f"a place for a connection{origin} (limit {limit})"),),
            names=(origin.removeprefix(" to "),) if origin else (),
            hint=_LOST_PLACE,
        )

    def _is_among(self, places: Any) -> bool:
        return any(id(each) == self.number for each in list(places))
