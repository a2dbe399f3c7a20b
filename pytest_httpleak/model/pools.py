"""The figures of one connection pool."""

from typing import NamedTuple

from pytest_httpleak.model.findings import Site


class PoolState(NamedTuple):
    """One connection pool at one moment, by its library's own books.

    `idle`, `active`, `expired` (idle, but too long or already closed by the server) and `connecting` are connections that
    are there now; `waiting` are requests that have none yet. `connections_made` counts those that were established,
    `requests` those that were sent on them, `overflow` the usable connections that were closed because the pool was full.
    A limit that is None does not bound the pool; any other figure that is None is one its library has no notion of.
    """

    library: str
    origin: str
    idle: int = 0
    active: int = 0
    expired: int = 0
    connecting: int = 0
    waiting: int | None = 0
    max_connections: int | None = None
    max_keepalive: int | None = None
    per_host: int | None = None
    connections_made: int = 0
    requests: int = 0
    overflow: int | None = 0
    created: Site | None = None
    owner: str = ""

    @property
    def reuse(self) -> float | None:
        """Requests per connection made, or None before the first connection."""
        return self.requests / self.connections_made if self.connections_made else None

    def __repr__(self) -> str:
        waiting = None if self.waiting is None else f"{self.waiting} waiting"
        rare = ((self.expired, "expired"), (self.connecting, "connecting"))
        now = [f"{self.active} active", f"{self.idle} idle", *(f"{number} {word}" for number, word in rare if number)]
        limit = "none" if self.max_connections is None else self.max_connections
        so_far = f" | {_number(self.requests, 'request')} on {_number(self.connections_made, 'connection')}"
        lost = f", {self.overflow} thrown away" if self.overflow else ""
        return (
            f"<PoolState {self.library} {self.origin} [{', '.join(filter(None, (*now, waiting)))} | max {limit}"
            f"{so_far if self.connections_made else ''}{lost}]>"
        )


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
