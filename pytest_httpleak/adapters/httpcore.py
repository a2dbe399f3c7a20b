"""httpcore (1.0.2 or later) and httpcore2, one adapter: pools, their slots, and requests in the pool's own books."""

from __future__ import annotations

import contextvars
import sys
import weakref
from types import ModuleType
from typing import Any, Final

from pytest_httpleak.adapters import Hooks, Unsupported
from pytest_httpleak.httpcorepools import PoolRecord, socket_of
from pytest_httpleak.httpcorerecords import RequestRecord, SlotRecord
from pytest_httpleak.recorder import Recorder
from pytest_httpleak.socketrecords import record_of

MODULES = ("httpcore", "httpcore2")

_FRONTS: Final = ("httpx", "httpx2")
_FRAMES_TO_FRONT: Final = 10  # from a wrapper in here to the transport: six
# The request that the running code has sent last: a connection that is established now is the one that it waits for.
_sent: contextvars.ContextVar[RequestRecord | None] = contextvars.ContextVar("httpleak_sent", default=None)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record pools, the connections they make, and each request from the moment it enters a pool's books."""
    library = module.__name__
    flavours = [_Flavour(library, "_sync", ""), _Flavour(library, "_async", "Async")]
    response_class = _first(module, "Response")
    pools = _Pools(library, hooks)
    requests = _Requests(library, hooks.watch, pools, {flavour.stream for flavour in flavours})
    for flavour in flavours:
        hooks.after(flavour.pool, "__init__", pools.born)
        hooks.before(flavour.pool, flavour.close, pools.closing)
        hooks.after(flavour.request, "__init__", requests.born)
        hooks.after(flavour.request, flavour.give, requests.given)
        hooks.patches.after_of_first(hooks.wall, flavour.stream, "__init__", requests.answered)
        hooks.before(flavour.stream, flavour.close, requests.closing)
        for protocol in flavour.protocols:
            hooks.after(protocol, "__init__", requests.established)
        if hasattr(flavour.pool, "_assign_requests_to_connections"):
            hooks.after(flavour.pool, "_assign_requests_to_connections", pools.assigned)
        pools.watch_slots(flavour.pool)
    hooks.patches.after_of_first(hooks.wall, response_class, "__init__", requests.status_known)


class _Pools:
    """Pools, and their slots for connections."""

    def __init__(self, library: str, hooks: Hooks) -> None:
        self._library, self._hooks, self._watch = library, hooks, hooks.watch
        self.sockets, self._pools = hooks.watch.table("sockets"), hooks.watch.table("httpcore pools")
        self.slots = hooks.watch.table("httpcore slots")
        self._makers: set[Any] = set()  # classes whose `create_connection` is watched

    def born(self, _: None, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        self.watch_slots(type(pool))
        self._watch.add(self._record(pool))

    def closing(self, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        record, kept = self._pools.get(pool), list(pool.connections)
        slots = (socket.holder for socket in self.sockets if isinstance(socket.holder, SlotRecord))
        for slot in (each for each in slots if each.pool is record):
            connection = slot.ref()
            slot.is_thrown_away = connection is None or not any(each is connection for each in kept)

    def _record(self, pool: Any) -> PoolRecord:
        is_async = hasattr(pool, "handle_async_request")
        record = PoolRecord(self._library, f"{self._library}.{type(pool).__name__}", self.sockets, is_async=is_async)
        self._pools.put(pool, record)
        return record

    def adopted(self, pool: Any) -> PoolRecord:
        """The record of a pool, also of one that is older than the watch: that one is the process's."""
        record: PoolRecord | None = self._pools.get(pool)
        if record is None:
            record = self._record(pool)
            record.owner, record.front = self._watch.root, _front()
        return record

    def watch_slots(self, cls: Any) -> None:
        """Note where pools of a class, which may be somebody's own, make their connections."""
        for each in cls.__mro__:
            if "create_connection" in vars(each) and each not in self._makers:
                self._makers.add(each)
                self._hooks.after(each, "create_connection", self.slot_made)

    def slot_made(self, connection: Any, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        if self.slots.get(connection) is None:
            slot = SlotRecord(self._library, self.adopted(pool))
            self.slots.put(connection, slot)
            self._watch.add(slot)

    def assigned(self, closing: Any, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        if closing:
            record = self.adopted(pool)
            record.overflow += sum(1 for connection in closing if not connection.has_expired())


class _Requests:
    """Requests from the moment they enter a pool's books until their answers are closed."""

    def __init__(self, library: str, watch: Recorder, pools: _Pools, streams: set[Any]) -> None:
        self._library, self._watch, self._adopted, self._streams = library, watch, pools.adopted, streams
        self._sockets, self._slots, self._threads = pools.sockets, pools.slots, watch.table("threads")
        self._requests = watch.table("httpcore requests")
        self._requests.passing = True

    def born(self, _: None, pool_request: Any, /, *args: Any, **kwargs: Any) -> None:
        record = RequestRecord(self._library, pool_request.request, self._threads)
        self._requests.put(pool_request, record)
        self._watch.add(record, opened=False, depth=5)  # outside the wrapper
        _sent.set(record)

    def given(self, _: None, pool_request: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record, slot = self._requests.get(pool_request), self._slots.get(connection)
        if record is None or slot is None:
            return
        record.pool = slot.pool
        if slot.established:
            record.count()
            if self._watch.peaking:
                self._watch.opened(slot)
        slot.request, slot.birth, slot.maker = record, record.birth, record.maker
        if slot.owner is not record.owner:
            slot.owner = record.owner
            record.owner.keep(slot)

    def established(self, _: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = _sent.get()
        request = None if record is None else record.ref()
        slot = None if request is None else self._slots.get(request.connection)
        if record is not None and slot is not None:
            slot.count()
            record.count()

    def answered(self, _: None, stream: Any, /, *args: Any, **kwargs: Any) -> None:
        pool_request = _booked(stream)
        record = self._requests.get(pool_request)
        if record is None:
            return
        if record.pool is None:
            record.pool = self._adopted(stream._pool)
        record.stream = weakref.ref(stream)
        if not record.counted:
            record.count()
        slot = self._slots.get(pool_request.connection)
        if slot is not None and not slot.established:
            slot.count()
        if slot is None or not slot.has_socket:  # once a connection has answered, its socket stays what it is
            self._give_socket(pool_request.connection, slot)
        if self._watch.peaking:
            self._watch.opened(record)

    def _give_socket(self, connection: Any, slot: SlotRecord | None) -> None:
        socket = record_of(socket_of(connection), self._sockets)
        if socket is not None:
            socket.holder = slot
            if slot is not None:
                slot.has_socket = True

    def closing(self, stream: Any, /) -> None:
        record = self._requests.get(_booked(stream))
        if record is not None:
            record.end()

    def status_known(self, _: None, response: Any, /, *args: Any, **kwargs: Any) -> None:
        if any(type(response.stream) is cls for cls in self._streams):
            record = self._requests.get(_booked(response.stream))
            if record is not None:
                record.status = response.status


class _Flavour:
    """The classes of the blocking or the asynchronous half of the library; raises Unsupported where one is missing."""

    def __init__(self, library: str, package: str, prefix: str) -> None:
        module = sys.modules.get(f"{library}.{package}.connection_pool")
        if module is None:
            raise Unsupported(f"{library} has no {package}.connection_pool")
        self.pool = _first(module, f"{prefix}ConnectionPool")
        self.request = _first(module, f"{prefix}PoolRequest", "RequestStatus")  # the second until 1.0.2
        self.stream = _first(module, "PoolByteStream", "ConnectionPoolByteStream")
        self.close = "aclose" if prefix else "close"
        _first(self.stream, self.close)
        _first(self.pool, "create_connection")
        _first(self.pool, "connections")
        _first(self.pool, self.close)
        name = "assign_to_connection" if hasattr(self.request, "assign_to_connection") else "set_connection"
        _first(self.request, name)
        self.give = name
        # What speaks on a connection once it is there; without them a connection counts from its first answer on.
        inner = sys.modules.get(f"{library}.{package}")
        names = (f"{prefix}HTTP11Connection", f"{prefix}HTTP2Connection")
        self.protocols = [getattr(inner, each) for each in names if hasattr(inner, each)]


def _first(place: Any, *names: str) -> Any:
    for name in names:
        if hasattr(place, name):
            return getattr(place, name)
    raise Unsupported(f"{place.__name__} has no {' or '.join(names)}")


def _front() -> str | None:
    """The library through whose transport the running call came."""
    frame: Any = sys._getframe(2)
    for _ in range(_FRAMES_TO_FRONT):
        if frame is None:
            break
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in _FRONTS:
            return package
        frame = frame.f_back
    return None


def _booked(stream: Any) -> Any:
    """The entry in the pool's books behind a response's stream."""
    return stream._status if hasattr(stream, "_status") else stream._pool_request
