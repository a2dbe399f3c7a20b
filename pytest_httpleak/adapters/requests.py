"""requests: sessions, and responses by the name their users know."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks, require
from pytest_httpleak.asking import attributes_of
from pytest_httpleak.reaching import reachable
from pytest_httpleak.records import Table
from pytest_httpleak.urllib3pools import ClientRecord

MODULES = ("requests",)


class SessionRecord(ClientRecord):
    """A `Session`; it has no closed state, so the open connections behind its adapters tell."""

    __slots__ = ("managers", "pools")

    LIBRARY = "requests"

    def __init__(self, sockets: Table, session: Any, managers: Table, pools: Table) -> None:
        super().__init__(sockets, (), session)
        self.managers = managers
        self.pools = pools

    def parts(self) -> list[ClientRecord]:
        session = self.ref()
        found: dict[int, ClientRecord] = {}
        for adapter in list(getattr(session, "adapters", {}).values()):
            stock = _stock_managers(adapter)
            if stock is not None:
                found |= {id(record): record for record in map(self.managers.get, stock) if record is not None}
                continue
            # A custom adapter may keep pools of its own: over a Unix socket, or made by another library.
            for table in (self.managers, self.pools):
                found |= {id(record): record for record in reachable(adapter, table)}
        return list(found.values())


def _stock_managers(adapter: Any) -> list[Any] | None:
    """What an adapter of requests' own keeps connections in; None of any other, which may keep them anywhere."""
    parts = attributes_of(adapter)
    if type(adapter).__module__ != "requests.adapters" or not parts.keys() <= _PARTS:
        return None
    return [parts.get("poolmanager"), *parts.get("proxy_manager", {}).values()]


_PARTS = frozenset("max_retries config proxy_manager poolmanager _pool_connections _pool_maxsize _pool_block".split())


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record sessions, and give urllib3's responses the name that users of requests know."""
    require(
        module,
        "sessions.Session.mount",
        "adapters.HTTPAdapter.build_response",
        "adapters.HTTPAdapter.proxy_manager_for",
    )
    watch = hooks.watch
    sockets = watch.table("sockets")
    managers, pools = watch.table("urllib3 managers"), watch.table("urllib3 pools")
    sessions, responses = watch.table("clients of urllib3"), watch.table("urllib3 responses")

    def born(_: None, session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = SessionRecord(sockets, session, managers, pools)
        sessions.put(session, record)
        watch.add(record)
        for part in record.parts():
            part.outer = record

    def mounted(_: None, session: Any, /, prefix: Any, adapter: Any) -> None:
        for manager in reachable(adapter, managers):
            manager.inner, manager.front = True, "requests"
            manager.outer = sessions.get(session)  # None for those that a session comes with

    def proxied(manager: Any, adapter: Any, /, *args: Any, **kwargs: Any) -> None:
        record = managers.get(manager)
        if record is not None:
            record.inner, record.front = True, "requests"

    def built(_: Any, adapter: Any, request: Any, raw: Any, /, *args: Any, **kwargs: Any) -> None:
        record, pool = responses.get(raw), pools.get(getattr(raw, "_pool", None))
        if record is not None:
            record.library = "requests"
        if pool is not None:
            pool.inner, pool.front = True, "requests"

    hooks.after(module.sessions.Session, "__init__", born)
    hooks.after(module.sessions.Session, "mount", mounted)
    hooks.after(module.adapters.HTTPAdapter, "proxy_manager_for", proxied)
    hooks.after(module.adapters.HTTPAdapter, "build_response", built)
