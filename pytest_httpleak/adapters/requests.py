"""requests: sessions, and responses by the name their users know."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.model import Kind, Suspect
from pytest_httpleak.records import Record, Table, reachable
from pytest_httpleak.socketrecords import holding

MODULES = ("requests",)


class SessionRecord(Record):
    """A `Session`; it has no closed state, so the open connections behind its adapters tell."""

    __slots__ = ("managers", "sockets")

    kind: ClassVar[Kind] = Kind.CLIENTS
    LIBRARY = "requests"

    def __init__(self, sockets: Table, managers: Table) -> None:
        super().__init__()
        self.sockets = sockets
        self.managers = managers

    def idle(self) -> list[Any]:
        """The sockets of all idle connections behind the session's adapters, custom ones included."""
        session = self.ref()
        if session is None:
            return []
        adapters = list(getattr(session, "adapters", {}).values())
        found = {id(manager): manager for adapter in adapters for manager in reachable(adapter, self.managers)}
        return [sock for manager in found.values() for sock in manager.idle()]

    def descriptors(self) -> Iterator[int]:
        for sock in self.idle():
            yield sock.fileno()

    def look(self) -> Suspect | None:
        return holding(self, "requests.Session", self.idle(), self.sockets, depth=0)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record sessions, and give urllib3's responses the name that users of requests know."""
    watch = hooks.watch
    sockets, managers = watch.table("sockets"), watch.table("urllib3 managers")
    sessions, responses = watch.table("requests sessions"), watch.table("urllib3 responses")

    def born(_: None, session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = SessionRecord(sockets, managers)
        sessions.put(session, record)
        watch.add(record)

    def built(response: Any, adapter: Any, request: Any, raw: Any, /, *args: Any, **kwargs: Any) -> None:
        record = responses.get(raw)
        if record is not None:
            record.library = "requests"

    def manager_made(_: None, adapter: Any, /, *args: Any, **kwargs: Any) -> None:
        record = managers.get(adapter.poolmanager)
        if record is not None:
            record.inner = True

    hooks.after(module.sessions.Session, "__init__", born)
    hooks.after(module.adapters.HTTPAdapter, "init_poolmanager", manager_made)
    hooks.after(module.adapters.HTTPAdapter, "build_response", built)
