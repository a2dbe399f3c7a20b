"""urllib3 1.26 and 2, hence whatever is built on it: requests, botocore, docker and others."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks, Unsupported, require
from pytest_httpleak.patches import Wall
from pytest_httpleak.socketrecords import SocketRecord, record_of
from pytest_httpleak.urllib3pools import PoolManagerRecord, PoolRecord, is_full
from pytest_httpleak.urllib3records import ConnectionRecord, ResponseRecord
from pytest_httpleak.wrappers import Note, Notes, number_of_arguments

MODULES = ("urllib3",)


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Record managers, pools, connections and responses where they are made, and each checkout of a connection."""
    from_one = _major(module) == 1
    watch = hooks.watch
    sockets, threads = watch.table("sockets"), watch.table("threads")
    sessions, managers = watch.table("clients of urllib3"), watch.table("urllib3 managers")
    pools, connections = watch.table("urllib3 pools"), watch.table("urllib3 connections")
    responses = watch.table("urllib3 responses")
    responses.passing = True

    def manager_born(_: None, manager: Any, /, *args: Any, **kwargs: Any) -> None:
        record = PoolManagerRecord(sockets, (sessions,), manager, pools)
        managers.put(manager, record)
        watch.add(record)

    def pool_born(_: None, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        record = PoolRecord(sockets, (sessions, managers), pool, connections=connections, is_dropped=is_dropped)
        pools.put(pool, record)
        watch.add(record)

    def pool_made(pool: Any, manager: Any, /, *args: Any, **kwargs: Any) -> None:
        record, of = pools.get(pool), managers.get(manager)
        if of is None:  # made before the watch began, as `urllib3.request`'s own: its pools are the process's
            of = PoolManagerRecord(sockets, (sessions,), manager, pools)
            of.owner = watch.root
            managers.put(manager, of)
        if record is not None:
            record.managed = record.outer = of
            record.library, record.front, record.inner = of.library, of.front, True
            record.birth, record.owner = of.birth, of.owner

    def connection_born(_: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = ConnectionRecord(sockets, threads, pools, connection)
        connections.put(connection, record)
        watch.add(record, opened=False)

    def known(connection: Any) -> Any:
        """The record of a connection; one of a class of its own, or older than the watch, is met here first."""
        record = connections.get(connection)
        if record is None:
            connection_born(None, connection)
            record = connections.get(connection)
        return record

    def connecting(connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection)
        if record is not None:
            record.is_connecting = True

    def connected(_: None, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection)
        if record is None:
            return
        record.is_connecting = False
        if record.note_socket() is not None and watch.peaking:
            watch.opened(record)

    def closed(connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection)
        if record is not None:
            record.is_connecting = False

    def checked_out(connection: Any, pool: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection) or known(connection)
        is_direct = record.is_direct = sys._getframe(2).f_code is urlopen  # and not by somebody's own way to get one
        if record.pool is not None:  # not its first request: from now on it is there for this caller
            is_left_to_request = (
                is_direct  # by the wrapper that sees to the birth, and without a connection to be made before
                and getattr(connection, "sock", None) is not None
                and getattr(pool._make_request, "__code__", None) is own_request
            )
            record.is_unplaced = is_left_to_request and watch.hand_over_unplaced(record)
            if not record.is_unplaced:
                watch.hand_over(record, depth=5)  # outside the wrapper
        record.checked_out(pool)
        record.is_by_hand = not is_direct and not _is_on_the_way(urlopen)

    def put_back(pool: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        returned = connections.get(connection)
        if returned is not None:
            returned.is_by_hand = False
        elif connection is None and (of := pools.get(pool)) is not None:
            of.has_got_none_back = True
        if getattr(connection, "sock", None) is None or pool.pool is None:
            return
        if not is_full(pool.pool):
            if returned is not None:
                returned.is_idle = True
        elif (record := pools.get(pool)) is not None:
            record.overflow += 1

    def requesting(
        pool: Any,
        connection: Any,
        method: str = "",
        url: str = "",
        /,
        *args: Any,
        is_failure_told: bool = False,
        **kwargs: Any,
    ) -> None:
        record = connections.get(connection) or known(connection)
        if record.is_unplaced and not is_failure_told:
            place(record)
        record.request = (method, url)
        record.sending(connection)
        if watch.peaking and record.note_socket() is not None:  # of an earlier request: it is in use from now on
            watch.opened(record)

    def requested(response: Any, pool: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection) or known(connection)
        record.note_socket()
        if watch.peaking:
            watch.opened(record)
        if isinstance(response, response_class) and response._connection is not None:  # else somebody's stand-in
            answered(response, record)

    def failed(connection: Any) -> None:
        record = connections.get(connection)
        if record is not None and record.is_unplaced:
            place(record)

    def place(record: ConnectionRecord) -> None:
        """Give a connection its birth, which is needed only where it does not go back to its pool by itself."""
        record.is_unplaced = False
        watch.place(record)

    def wrapped(_: None, response: Any, /, *args: Any, **kwargs: Any) -> None:
        if response._connection is not None:
            answered(response, known(response._connection))

    def answered_alone(response: Any, connection: Any, /, *args: Any, **kwargs: Any) -> None:
        record = connections.get(connection)
        if record is not None and record.pool is None and not response.isclosed():
            answered(response, record)

    def answered(response: Any, connection: ConnectionRecord) -> None:
        record = ResponseRecord(connection, response, socket_of(response, connection))
        connection.answering = record
        responses.put(response, record)
        if connection.is_unplaced:
            place(connection)
        if connection.is_direct:
            watch.add_with(record, connection)
        else:
            watch.add(record)

    def socket_of(response: Any, connection: ConnectionRecord) -> SocketRecord | None:
        """The socket that a response is read from; one that ends with its connection has taken it over."""
        socket = connection.note_socket()
        if socket is None:
            raw = getattr(getattr(response._original_response, "fp", None), "raw", None)
            socket = record_of(getattr(raw, "_sock", None), sockets)
            if socket is not None:
                connection.take(socket)
        return socket

    def released(response: Any) -> None:
        record = responses.get(response)
        if record is not None and (record.pool is None or response._connection is not None):
            record.released = True

    def closing(response: Any) -> None:
        record = responses.get(response)
        if record is None or not record.is_unfinished():
            return
        if "_finalizing" in response.__dict__ and record.has_connection(response):
            record.collected = True
        record.closed = True

    pool_class, response_class = module.connectionpool.HTTPConnectionPool, module.response.HTTPResponse
    connection_class, is_dropped = module.connection.HTTPConnection, module.util.connection.is_connection_dropped
    urlopen = getattr(pool_class.urlopen, "__code__", None)
    hooks.after(module.poolmanager.PoolManager, "__init__", manager_born)
    hooks.after(module.poolmanager.PoolManager, "_new_pool", pool_made)
    hooks.after(pool_class, "__init__", pool_born)
    hooks.after(connection_class, "__init__", connection_born)
    for cls in {connection_class, module.connection.HTTPSConnection}:
        if issubclass(cls, connection_class):  # a stand-in where Python has no `ssl`
            hooks.before(cls, "connect", connecting)
            hooks.after(cls, "connect", connected)
    hooks.before(connection_class, "close", closed)
    hooks.after(pool_class, "_get_conn", checked_out)
    hooks.before(pool_class, "_put_conn", put_back)
    make = functools.partial(_request_wrapper, hooks.wall, failed)
    hooks.patches.around(hooks.wall, pool_class, "_make_request", (requesting, requested), make)
    own_request = getattr(pool_class._make_request, "__code__", object())  # which a stand-in of the user's is not
    if from_one:
        hooks.after(response_class, "__init__", wrapped)
    else:
        hooks.after(connection_class, "getresponse", answered_alone)
    for name, note in (("release_conn", released), ("close", closing)):  # none is recorded that is read at once
        hooks.patches.before_while(hooks.wall, response_class, name, note, responses.records)


def _request_wrapper(own: Wall, failed: Note, notes: Notes) -> Callable[..., Any] | None:
    """A wrapper for `_make_request()` of urllib3 2; to hand on whatever there is would cost more than all that is noted.

    The plugin's own notes need but a few of the arguments. Where there are others, it is not for them. `failed` is told the
    connection of a request that has raised, which is promised to the notes before it.
    """
    original, before, after = notes.original, notes.before, notes.after
    number = number_of_arguments(original)
    if not notes.are_own() or number != len(_ARGUMENTS) or original.__code__.co_varnames[:number] != _ARGUMENTS:
        return None

    def _make_request(  # noqa: PLR0917  # as urllib3 has it
        self: Any,
        conn: Any,
        method: Any,
        url: Any,
        body: Any = None,
        headers: Any = None,
        retries: Any = None,
        timeout: Any = None,
        chunked: Any = False,
        response_conn: Any = None,
        preload_content: Any = True,
        decode_content: Any = True,
        enforce_content_length: Any = True,
    ) -> Any:
        __tracebackhide__ = True
        for wall, note in before:
            if wall.on:
                try:
                    note(self, conn, method, url, timeout=timeout, is_failure_told=True)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        try:
            response = original(
                self,
                conn,
                method,
                url,
                body,
                headers,
                retries,
                timeout,
                chunked,
                response_conn,
                preload_content,
                decode_content,
                enforce_content_length,
            )
        except BaseException:
            if own.on:
                try:
                    failed(conn)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    own.fall(error)
            raise
        for wall, note in after:
            if wall.on:
                try:
                    note(response, self, conn)
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        return response

    _make_request.__defaults__ = original.__defaults__
    return _make_request


_ARGUMENTS = (
    "self",
    "conn",
    "method",
    "url",
    "body",
    "headers",
    "retries",
    "timeout",
    "chunked",
    "response_conn",
    "preload_content",
    "decode_content",
    "enforce_content_length",
)


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
