"""Notes on code that allows a leak in production: no timeout, a pool without bounds, a pool that overflows."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks
from pytest_httpleak.reaching import reachable

MODULES = ("requests", "urllib3", "httpx", "httpx2", "aiohttp", "socket", "urllib.request")

_NO_TIMEOUT = "without a timeout: a server that stops answering holds the connection, and the caller, for ever"
_UNBOUNDED = "a pool without a limit: it opens as many connections as there are requests at once"
_OVERFLOW = "the pool is full: a connection is thrown away after one request and made anew for the next"


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Look at the settings of requests, clients and pools where the user's code makes them."""
    {
        "requests": _requests,
        "urllib3": _urllib3,
        "httpx": _httpx,
        "httpx2": _httpx,
        "aiohttp": _aiohttp,
        "socket": _socket,
        "urllib.request": _urllib,
    }[module.__name__](module, hooks)


def _socket(module: ModuleType, hooks: Hooks) -> None:
    def changed(*args: Any) -> None:
        hooks.watch.changes["socket's default timeout"] = hooks.watch.birth()

    hooks.before(module, "setdefaulttimeout", changed)


def _urllib(module: ModuleType, hooks: Hooks) -> None:
    def changed(*args: Any, **kwargs: Any) -> None:
        hooks.watch.changes["urllib.request's opener"] = hooks.watch.birth()

    hooks.before(module, "install_opener", changed)


def _requests(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch

    stock = module.adapters.HTTPAdapter.send

    def sending(session: Any, request: Any = None, /, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("timeout") is None and has_stock_adapter(session, request):
            watch.note("no-timeout", f"requests: {_NO_TIMEOUT}", "pass `timeout=(connect, read)`, in seconds")

    def has_stock_adapter(session: Any, request: Any) -> bool:
        """Whether nobody's own adapter sends it, which may come with a timeout of its own."""
        try:
            adapter = session.get_adapter(url=request.url)
        except Exception:  # noqa: BLE001  # there is none for that address: nothing is sent
            return False
        return getattr(type(adapter), "send", None) is stock

    hooks.before(module.sessions.Session, "send", sending)


def _urllib3(module: ModuleType, hooks: Hooks) -> None:
    from pytest_httpleak.urllib3pools import is_full  # here, as no other library needs it

    watch: Any = hooks.watch
    pools, connections = watch.table("urllib3 pools"), watch.table("urllib3 connections")
    message, stock = f"urllib3: {_NO_TIMEOUT}", getattr(module, "Timeout", None)
    unset = getattr(stock, "DEFAULT_TIMEOUT", None)

    def returning(pool: Any, connection: Any = None, /) -> None:
        queue = pool.pool
        if queue is not None and getattr(connection, "sock", None) is not None and is_full(queue):
            watch.note(
                "pool-overflow",
                f"urllib3: {_OVERFLOW}",
                f"make `maxsize` (now {queue.maxsize}) as large as the number of requests at once, or set `block=True`",
            )

    def sending(pool: Any, connection: Any = None, /, *args: Any, timeout: Any = None, **kwargs: Any) -> None:
        if type(timeout) is stock and timeout._connect is timeout._read is unset and timeout.total in (None, unset):
            pass  # as most are
        elif timeout is None or not _waits_for_ever(timeout):
            return
        checkout = connections.get(connection)  # which was noted a moment ago
        record = None if checkout is None else checkout.record_of_pool
        if record is None:
            record = pools.get(pool)
        if record is not None and record.front is not None:  # what is built on it says it itself
            return
        if sys.modules["socket"].getdefaulttimeout() is None:
            watch.note("no-timeout", message, _SET_TIMEOUT)

    hooks.before(module.connectionpool.HTTPConnectionPool, "_put_conn", returning)
    hooks.before(module.connectionpool.HTTPConnectionPool, "_make_request", sending)


_SET_TIMEOUT = "pass `timeout=`, in seconds, to the request or to its pool"


def _waits_for_ever(timeout: Any) -> bool:
    """Whether a `Timeout` of urllib3 bounds neither connecting nor reading; what is no number stands for the socket's."""
    if not hasattr(timeout, "connect_timeout"):  # a number; or the pool's own, where somebody goes round `urlopen()`
        return False
    return not isinstance(timeout.connect_timeout, _NUMBERS) and not isinstance(timeout.read_timeout, _NUMBERS)


_NUMBERS = (int, float)


def _httpx(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch
    library = module.__name__
    pools = watch.table("httpcore pools")

    def made(_: None, client: Any, /, *args: Any, **kwargs: Any) -> None:
        inside = [record.ref() for record in reachable(client._transport, pools)]
        if not inside:  # answered in this process: nothing to wait for, and nothing to limit
            return
        if _is_unset(client.timeout.as_dict()):
            watch.note("no-timeout", f"{library}: {_NO_TIMEOUT}", _KEEP_DEFAULT)
        if any(getattr(pool, "_max_connections", 0) == sys.maxsize for pool in inside):
            watch.note("unbounded-pool", f"{library}: {_UNBOUNDED}", "pass `limits=Limits(max_connections=...)`")

    def sending(client: Any, request: Any, *args: Any, **kwargs: Any) -> None:  # `stream()` passes it by its name
        timeout = getattr(request, "extensions", {}).get("timeout")
        if timeout is None or not _is_unset(timeout) or _is_unset(client.timeout.as_dict()):
            return  # of the client itself it was said when that was made
        if reachable(client._transport_for_url(request.url), pools):
            watch.note("no-timeout", f"{library}: {_NO_TIMEOUT}", _KEEP_DEFAULT)

    for name in ("Client", "AsyncClient"):
        hooks.after(getattr(module, name), "__init__", made)
        hooks.before(getattr(module, name), "send", sending)


_KEEP_DEFAULT = "leave the default of 5 s, or pass `timeout=` in seconds"


def _is_unset(timeout: dict[str, Any]) -> bool:
    return timeout.get("connect") is None and timeout.get("read") is None


def _aiohttp(module: ModuleType, hooks: Hooks) -> None:
    watch: Any = hooks.watch

    def note() -> None:
        watch.note(
            "no-timeout", f"aiohttp: {_NO_TIMEOUT}", "leave the default of 5 min, or pass `ClientTimeout(total=...)`"
        )

    def session_made(_: None, session: Any, /, *args: Any, **kwargs: Any) -> None:
        if unset(session.timeout):
            note()

    def sending(session: Any, /, *args: Any, **kwargs: Any) -> None:
        timeout = kwargs.get("timeout")
        if isinstance(timeout, module.ClientTimeout) and unset(timeout) and not unset(session.timeout):
            note()

    def unset(timeout: Any) -> bool:
        return all(getattr(timeout, name) is None for name in ("total", "connect", "sock_read", "sock_connect"))

    def connector_made(_: None, connector: Any, /, *args: Any, **kwargs: Any) -> None:
        if connector.limit == 0 and connector.limit_per_host == 0:
            watch.note(
                "unbounded-pool", f"aiohttp: {_UNBOUNDED}", "pass `limit=` to the connector (the default is 100)"
            )

    hooks.after(module.ClientSession, "__init__", session_made)
    hooks.before(module.ClientSession, "_request", sending)
    hooks.after(module.BaseConnector, "__init__", connector_made)
