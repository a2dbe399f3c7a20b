"""urllib3 1.26 and 2, hence whatever is built on it: requests, botocore, docker and others."""

from __future__ import annotations

import functools
import sys
from types import CodeType, FrameType, ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks, Unsupported, require
from pytest_httpleak.recorder import Recorder
from pytest_httpleak.socketrecords import SocketRecord, record_of
from pytest_httpleak.urllib3pools import PoolManagerRecord, PoolRecord, is_full
from pytest_httpleak.urllib3records import ConnectionRecord, ResponseRecord
from pytest_httpleak.urllib3requests import request_wrapper

MODULES = ("urllib3",)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record managers, pools, connections and responses where they are made, and each checkout of a connection."""
    from_one = _major(module) == 1
    made = _Made(module, hooks.watch)
    used = _Used(module, hooks.watch, made)
    pool_class, response_class = module.connectionpool.HTTPConnectionPool, module.response.HTTPResponse
    connection_class = module.connection.HTTPConnection
    hooks.after(module.poolmanager.PoolManager, "__init__", made.manager_born)
    hooks.after(module.poolmanager.PoolManager, "_new_pool", made.pool_of_manager)
    hooks.after(pool_class, "__init__", made.pool_born)
    hooks.after(connection_class, "__init__", made.connection_born)
    for cls in {connection_class, module.connection.HTTPSConnection}:
        if issubclass(cls, connection_class):  # a stand-in where Python has no `ssl`
            hooks.before(cls, "connect", used.connecting)
            hooks.after(cls, "connect", used.connected)
    hooks.before(connection_class, "close", used.closed)
    hooks.after(pool_class, "_get_conn", used.checked_out)
    hooks.before(pool_class, "_put_conn", used.put_back)
    make = functools.partial(request_wrapper, hooks.wall, used.failed)
    hooks.patches.around(hooks.wall, pool_class, "_make_request", (used.requesting, used.requested), make)
    used.note_own_request(pool_class)
    if from_one:
        hooks.after(response_class, "__init__", used.wrapped)
    else:
        hooks.after(connection_class, "getresponse", used.answered_alone)
    for name, note in (("release_conn", used.released), ("close", used.closing)):
        # told only while there is a response: none is recorded that is read at once
        hooks.patches.before_while(hooks.wall, response_class, name, note, used.responses.records)


class _Made:
    """Managers, pools and connections, each noted where it is made."""

    def __init__(self, module: ModuleType, watch: Recorder) -> None:
        self._watch = watch
        self._is_dropped = module.util.connection.is_connection_dropped
        self._threads, self._sessions = watch.table("threads"), watch.table("clients of urllib3")
        self.sockets, self._managers = watch.table("sockets"), watch.table("urllib3 managers")
        self.pools, self.connections = watch.table("urllib3 pools"), watch.table("urllib3 connections")

    def manager_born(self, _: None, manager: Any, /, *args: Any, **kwargs: Any) -> None:
        self._watch.add(self._manager(manager))

    def _manager(self, manager: Any) -> PoolManagerRecord:
        record = PoolManagerRecord(self.sockets, (self._sessions,), manager, self.pools)
        self._managers.put(manager, record)
        return record

    def pool_born(self, _: None, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        outer = (self._sessions, self._managers)
        record = PoolRecord(self.sockets, outer, pool, connections=self.connections, is_dropped=self._is_dropped)
        self.pools.put(pool, record)
        self._watch.add(record)

    def pool_of_manager(self, pool: Any, manager: Any, /, *args: Any, **kwargs: Any) -> None:
        record, of = self.pools.get(pool), self._managers.get(manager)
        if of is None:  # made before the watch began, as `urllib3.request`'s own: its pools are the process's
            of = self._manager(manager)
            of.owner = self._watch.root
        if record is not None:
            record.managed = record.outer = of
            record.library, record.front, record.inner = of.library, of.front, True
            record.birth, record.owner = of.birth, of.owner

    def connection_born(self, _: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = ConnectionRecord(self.sockets, self._threads, self.pools, connection)
        self.connections.put(connection, record)
        self._watch.add(record, opened=False)

    def known(self, connection: Any) -> Any:
        """The record of a connection; one of a class of its own, or older than the watch, is met here first."""
        record = self.connections.get(connection)
        if record is None:
            self.connection_born(None, connection)
            record = self.connections.get(connection)
        return record


class _Used:
    """Connections on their way from a pool and back, the requests on them, and the responses to those."""

    def __init__(self, module: ModuleType, watch: Recorder, made: _Made) -> None:
        self._watch, self._known = watch, made.known
        self._sockets, self._pools, self._connections = made.sockets, made.pools, made.connections
        self.responses = watch.table("urllib3 responses")
        self.responses.passing = True
        self._response_class = module.response.HTTPResponse
        self._urlopen = getattr(module.connectionpool.HTTPConnectionPool.urlopen, "__code__", None)
        self._own_request: object = None

    def note_own_request(self, pool_class: Any) -> None:
        """Learn the wrapper that tells of requests, which a stand-in of the user's is not."""
        self._own_request = getattr(pool_class._make_request, "__code__", object())

    def connecting(self, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._connections.get(connection)
        if record is not None:
            record.is_connecting = True

    def connected(self, _: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._connections.get(connection)
        if record is None:
            return
        record.is_connecting = False
        if record.note_socket() is not None and self._watch.peaking:
            self._watch.opened(record)

    def closed(self, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._connections.get(connection)
        if record is not None:
            record.is_connecting = False

    def checked_out(self, connection: Any, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._connections.get(connection) or self._known(connection)
        is_direct = record.is_direct = sys._getframe(2).f_code is self._urlopen  # not by somebody's own way to get one
        if record.pool is not None:  # not its first request: from now on it is there for this caller
            is_left_to_request = (
                is_direct  # by the wrapper that sees to the birth, and without a connection to be made before
                and getattr(connection, "sock", None) is not None
                and getattr(pool._make_request, "__code__", None) is self._own_request
            )
            record.is_unplaced = is_left_to_request and self._watch.hand_over_unplaced(record)
            if not record.is_unplaced:
                self._watch.hand_over(record, depth=5)  # outside the wrapper
        record.checked_out(pool)
        record.is_by_hand = not is_direct and not _is_on_the_way(self._urlopen)

    def put_back(self, pool: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        returned = self._connections.get(connection)
        if returned is not None:
            returned.is_by_hand = False
        elif connection is None and (of := self._pools.get(pool)) is not None:
            of.has_got_none_back = True
        if getattr(connection, "sock", None) is None or pool.pool is None:
            return
        if not is_full(pool.pool):
            if returned is not None:
                returned.is_idle = True
        elif (record := self._pools.get(pool)) is not None:
            record.overflow += 1

    def requesting(
        self,
        pool: Any,
        connection: Any,
        method: str = "",
        url: str = "",
        /,
        *args: Any,
        is_failure_told: bool = False,
        **kwargs: Any,
    ) -> None:
        record = self._connections.get(connection) or self._known(connection)
        if record.is_unplaced and not is_failure_told:
            self._place(record)
        record.request = (method, url)
        record.sending(connection)
        if self._watch.peaking and record.note_socket() is not None:  # of an earlier request: in use from now on
            self._watch.opened(record)

    def requested(self, response: Any, pool: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._connections.get(connection) or self._known(connection)
        record.note_socket()
        if self._watch.peaking:
            self._watch.opened(record)
        if isinstance(response, self._response_class) and response._connection is not None:  # else somebody's stand-in
            self._answered(response, record)

    def failed(self, connection: Any) -> None:
        record = self._connections.get(connection)
        if record is not None and record.is_unplaced:
            self._place(record)

    def _place(self, record: ConnectionRecord) -> None:
        """Give a connection its birth, which is needed only where it does not go back to its pool by itself."""
        record.is_unplaced = False
        self._watch.place(record)

    def wrapped(self, _: None, response: Any, /, *args: Any, **kwargs: Any) -> None:
        if response._connection is not None:
            self._answered(response, self._known(response._connection))

    def answered_alone(self, response: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = self._connections.get(connection)
        if record is not None and record.pool is None and not response.isclosed():
            self._answered(response, record)

    def _answered(self, response: Any, connection: ConnectionRecord) -> None:
        record = ResponseRecord(connection, response, self._socket_of(response, connection))
        connection.answering = record
        self.responses.put(response, record)
        if connection.is_unplaced:
            self._place(connection)
        if connection.is_direct:
            self._watch.add_with(record, connection)
        else:
            self._watch.add(record)

    def _socket_of(self, response: Any, connection: ConnectionRecord) -> SocketRecord | None:
        """The socket that a response is read from; one that ends with its connection has taken it over."""
        socket = connection.note_socket()
        if socket is None:
            raw = getattr(getattr(response._original_response, "fp", None), "raw", None)
            socket = record_of(getattr(raw, "_sock", None), self._sockets)
            if socket is not None:
                connection.take(socket)
        return socket

    def released(self, response: Any) -> None:
        record = self.responses.get(response)
        if record is not None and (record.pool is None or response._connection is not None):
            record.released = True

    def closing(self, response: Any) -> None:
        record = self.responses.get(response)
        if record is None or not record.is_unfinished():
            return
        if "_finalizing" in response.__dict__ and record.has_connection(response):
            record.collected = True
        record.closed = True


def _is_on_the_way(function: CodeType | None) -> bool:
    """Whether that function has led here: by a subclass's own method, or by a mock that spies on one."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_OWN_WAYS):
        frame = None if frame is None else frame.f_back
        if frame is not None and frame.f_code is function:
            return True
    return False


_OWN_WAYS = 8  # calls between the two


def _major(module: ModuleType) -> int:
    """The main version, 1 or 2, of a urllib3 whose internals are known."""
    version = str(getattr(module, "__version__", ""))
    numbers = [int(part) if part.isdigit() else 0 for part in version.split(".")]
    if numbers[-1] >= 900:
        raise Unsupported(f"urllib3 {version} is urllib3-future, which has taken urllib3's place")
    if numbers[0] not in (1, 2):
        raise Unsupported(f"urllib3 {version or 'of an unknown version'} is not one of the versions known, 1.26 and 2")
    require(
        module,
        "poolmanager.PoolManager._new_pool",
        "connectionpool.HTTPConnectionPool._get_conn",
        "connectionpool.HTTPConnectionPool._put_conn",
        "connectionpool.HTTPConnectionPool._make_request",
        "connection.HTTPConnection.connect",
        "connection.HTTPSConnection",
        "response.HTTPResponse.release_conn",
        "util.connection.is_connection_dropped",
    )
    return numbers[0]
