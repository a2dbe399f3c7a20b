"""The transports of event loops: which of them closes a socket, and what loops in C open for theirs."""

from __future__ import annotations

import weakref
from types import ModuleType
from typing import Any

from pytest_httpleak.asking import attribute
from pytest_httpleak.opennumbers import is_of_process
from pytest_httpleak.recorder import Recorder
from pytest_httpleak.socketrecords import is_being_closed, record_of

# What uvloop opens in C, out of sight of the patched socket class.
_UVLOOP_OPENERS = (
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "subprocess_exec",
    "subprocess_shell",
)
_STANDARD_STREAMS = (0, 1, 2)
_PROCESS_WATCHERS = ("PidfdChildWatcher", "_PidfdChildWatcher")  # the latter from Python 3.14 on


def record_transports(module: ModuleType, hooks: Any) -> None:
    """Let sockets know the transport that closes them."""
    notes = _TransportNotes(hooks.watch)
    selector_events = getattr(module, "selector_events", None)
    if selector_events is not None:
        cls = selector_events._SelectorTransport
        hooks.after(cls, "__init__", notes.opened)
        hooks.before(cls, "__del__", notes.transport_dies)
    if hasattr(module.StreamWriter, "__del__"):
        hooks.before(module.StreamWriter, "__del__", notes.writer_dies)


class _TransportNotes:
    """Which transport closes a socket, and which dies with it open."""

    def __init__(self, watch: Recorder) -> None:
        self._sockets, self._dying = watch.table("sockets"), watch.dying_sockets

    def opened(self, _: None, transport: Any, /, *args: Any, **kwargs: Any) -> None:
        record = record_of(transport._sock, self._sockets)
        if record is not None:
            record.transport, record.loop = weakref.ref(transport), weakref.ref(transport._loop)

    def transport_dies(self, transport: Any, /, *args: Any, **kwargs: Any) -> None:
        if transport._sock is not None and not is_being_closed(transport):
            self._note_collected(transport)

    def writer_dies(self, writer: Any, /, *args: Any, **kwargs: Any) -> None:
        transport = writer._transport
        if transport is not None and not transport.is_closing():
            self._note_collected(transport)

    def _note_collected(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        record = record_of(sock, self._sockets) or self._dying.pop(id(attribute(sock, "_sock")), None)
        if record is not None:  # the finalizer closes it, after a warning
            record.collected = True


def record_processes(module: ModuleType, hooks: Any) -> None:
    """Let the descriptor by which a loop hears of a process's end belong to the transport of that process."""
    watch: Any = hooks.watch

    def watched(_: None, watcher: Any, pid: int, callback: Any, /, *args: Any, **kwargs: Any) -> None:
        fds = [fd for fd in list(watch.fds) if fd not in watch.holders and is_of_process(fd, pid)]
        for fd in fds if args else ():
            watch.hold(fd, args[0])

    events = getattr(module, "unix_events", None)
    for name in _PROCESS_WATCHERS:
        if hasattr(events, name):
            hooks.after(getattr(events, name), "add_child_handler", watched)


def record_native_transports(cls: Any, hooks: Any) -> None:
    """Note where uvloop's sockets are asked for; they are descriptors without an object of the socket class."""
    sockets = _NativeSockets(hooks)
    for name in _UVLOOP_OPENERS:
        hooks.patches.replace(cls, name, sockets.make)


class _NativeSockets:
    """What uvloop opens for one of its calls, which a coroutine answers."""

    def __init__(self, hooks: Any) -> None:
        self._watch: Any = hooks.watch
        self._wall, self._loops = hooks.wall, hooks.watch.table("loops")

    def make(self, original: Any) -> Any:
        """What to put in the place of such a function."""
        watch, wall = self._watch, self._wall

        def opener(loop: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if not wall.on or not watch.on:
                return original(loop, *args, **kwargs)
            try:
                birth, owner = watch.birth(), watch.owner()
            except RecursionError:
                return original(loop, *args, **kwargs)
            except Exception as error:  # noqa: BLE001  # this is the wall
                wall.fall(error)
                return original(loop, *args, **kwargs)
            return self._opening(loop, birth, owner, original(loop, *args, **kwargs))

        return opener

    async def _opening(self, loop: Any, birth: Any, owner: Any, coroutine: Any) -> Any:
        __tracebackhide__ = True
        result = await coroutine
        if self._wall.on and self._watch.on:
            try:
                self._note(loop, result, birth, owner)
            except RecursionError:
                pass
            except Exception as error:  # noqa: BLE001  # this is the wall
                self._wall.fall(error)
        return result

    def _note(self, loop: Any, result: Any, birth: Any, owner: Any) -> None:
        watch, record = self._watch, self._loops.get(loop)
        holder = result[0] if isinstance(result, tuple) else result
        for sock in _sockets_of(holder):
            if sock is not None:
                watch.give(sock.fileno(), birth, owner)
                watch.hold(sock.fileno(), holder)
                watch.births += 1
                if record is not None and sock.fileno() in watch.fds:
                    record.opened[sock.fileno()] = watch.fds[sock.fileno()][2]


def _sockets_of(holder: Any) -> list[Any]:
    if hasattr(holder, "sockets"):
        return list(holder.sockets)
    ends = [holder]
    if hasattr(holder, "get_pipe_transport"):  # of a process, whose pipes are pairs of sockets
        ends = list(filter(None, map(holder.get_pipe_transport, _STANDARD_STREAMS)))
    return [end.get_extra_info("socket") for end in ends]
