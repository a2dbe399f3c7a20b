"""requests: sessions, and responses by the name their users know."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks, require
from pytest_httpleak.asking import attributes_of
from pytest_httpleak.reaching import reachable
from pytest_httpleak.recorder import Recorder
from pytest_httpleak.tables import Table
from pytest_httpleak.urllib3pools import ClientRecord

MODULES = ("requests",)


class SessionRecord(ClientRecord):
    """A `Session`; it has no closed state, so the open connections behind its adapters tell."""

    __slots__ = ("lent", "managers", "pools")

    LIBRARY = "requests"

    def __init__(self, sockets: Table, session: Any, managers: Table, pools: Table) -> None:
        super().__init__(sockets, (), session)
        self.managers = managers
        self.pools = pools
        self.lent: set[int] = set()  # adapters of somebody who closes them later, by identity

    def parts(self) -> list[ClientRecord]:
        session = self.ref()
        found: dict[int, ClientRecord] = {}
        for adapter in list(getattr(session, "adapters", {}).values()):
            if id(adapter) not in self.lent:
                found |= {id(record): record for record in _behind(adapter, self.managers, self.pools)}
        return list(found.values())


def _behind(adapter: Any, managers: Table, pools: Table) -> list[Any]:
    """The managers in which an adapter keeps connections; a custom one may have pools, too, as over a Unix socket."""
    stock = _stock_managers(adapter)
    if stock is not None:
        return [record for record in map(managers.get, stock) if record is not None]
    return [record for table in (managers, pools) for record in reachable(adapter, table)]


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
    notes = _Notes(hooks.watch)
    hooks.after(module.sessions.Session, "__init__", notes.born)
    hooks.after(module.sessions.Session, "mount", notes.mounted)
    hooks.after(module.adapters.HTTPAdapter, "proxy_manager_for", notes.proxied)
    hooks.after(module.adapters.HTTPAdapter, "build_response", notes.built)


class _Notes:
    """Sessions, and what of urllib3's is behind their adapters."""

    def __init__(self, watch: Recorder) -> None:
        self._watch, self._sockets = watch, watch.table("sockets")
        self._managers, self._pools = watch.table("urllib3 managers"), watch.table("urllib3 pools")
        self._sessions, self._responses = watch.table("clients of urllib3"), watch.table("urllib3 responses")

    def born(self, _: None, session: Any, /, *args: Any, **kwargs: Any) -> None:
        record = SessionRecord(self._sockets, session, self._managers, self._pools)
        self._sessions.put(session, record)
        self._watch.add(record)
        for part in record.parts():
            part.outer = record

    def mounted(self, _: None, session: Any, /, prefix: Any, adapter: Any) -> None:
        of = self._sessions.get(session)  # None while it mounts those that it comes with
        found = _behind(adapter, self._managers, self._pools)
        is_lent = of is not None and any(record.owner.outlives(of.owner) for record in found)
        for record in found:
            record.inner, record.front = True, "requests"
            record.outer = None if is_lent else of
        if is_lent:
            of.lent.add(id(adapter))
        elif of is not None:
            of.lent.discard(id(adapter))  # of an earlier one at that address

    def proxied(self, manager: Any, adapter: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._managers.get(manager)
        if record is not None:
            record.inner, record.front = True, "requests"

    def built(self, _: Any, adapter: Any, request: Any, raw: Any, /, *args: Any, **kwargs: Any) -> None:
        record, pool = self._responses.get(raw), self._pools.get(getattr(raw, "_pool", None))
        if record is not None:
            record.library = "requests"
        if pool is not None:
            pool.inner, pool.front = True, "requests"
