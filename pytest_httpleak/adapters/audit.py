"""Notes on code that allows a leak in production: no timeout, a pool without bounds, a pool that overflows."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks

MODULES = ("requests", "urllib3", "httpx", "httpx2", "aiohttp")

_NO_TIMEOUT = "without a timeout: a server that stops answering holds the connection, and the caller, for ever"
_UNBOUNDED = "a pool without a limit: it opens as many connections as there are requests at once"
_OVERFLOW = "the pool is full: a connection is thrown away after one request and made anew for the next"


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Look at the settings of requests, clients and pools where the user's code makes them."""
    name = module.__name__.rstrip("2")
    {"requests": _requests, "urllib": _urllib3, "urllib3": _urllib3, "httpx": _httpx, "aiohttp": _aiohttp}[name](
        module, hooks
    )


def _requests(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch

    def sending(session: Any, /, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("timeout") is None:
            watch.note("no-timeout", f"requests: {_NO_TIMEOUT}", "pass `timeout=(connect, read)`, in seconds")

    hooks.before(module.sessions.Session, "send", sending)


def _urllib3(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch

    def returning(pool: Any, connection: Any = None, /) -> None:
        queue = pool.pool
        if connection is not None and queue is not None and queue.full():
            watch.note(
                "pool-overflow",
                f"urllib3: {_OVERFLOW}",
                f"make `maxsize` (now {queue.maxsize}) as large as the number of requests at once, or set `block=True`",
            )

    hooks.before(module.connectionpool.HTTPConnectionPool, "_put_conn", returning)


def _httpx(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    library = module.__name__

    def made(_: None, client: Any, /, *args: Any, **kwargs: Any) -> None:
        timeout = client.timeout
        if timeout.connect is None and timeout.read is None:
            watch.note(
                "no-timeout", f"{library}: {_NO_TIMEOUT}", "leave the default of 5 s, or pass `timeout=` in seconds"
            )
        pool = getattr(client._transport, "_pool", None)
        if getattr(pool, "_max_connections", 0) == sys.maxsize:
            watch.note("unbounded-pool", f"{library}: {_UNBOUNDED}", "pass `limits=Limits(max_connections=...)`")

    for name in ("Client", "AsyncClient"):
        hooks.after(getattr(module, name), "__init__", made)


def _aiohttp(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch

    def session_made(_: None, session: Any, /, *args: Any, **kwargs: Any) -> None:
        timeout = session.timeout
        if all(getattr(timeout, name) is None for name in ("total", "connect", "sock_read", "sock_connect")):
            watch.note(
                "no-timeout",
                f"aiohttp: {_NO_TIMEOUT}",
                "leave the default of 5 min, or pass `ClientTimeout(total=...)`",
            )

    def connector_made(_: None, connector: Any, /, *args: Any, **kwargs: Any) -> None:
        if connector.limit == 0:
            watch.note(
                "unbounded-pool", f"aiohttp: {_UNBOUNDED}", "pass `limit=` to the connector (the default is 100)"
            )

    hooks.after(module.ClientSession, "__init__", session_made)
    hooks.after(module.BaseConnector, "__init__", connector_made)
