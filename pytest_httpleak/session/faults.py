"""The steps at which code waits for the network or its event loop: counted, and one of them made to fail."""

from __future__ import annotations

# Not `socket`, whose adapter would be handed it from in here.
import _socket
import errno
import functools
import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.asking import attribute
from pytest_httpleak.coroutines import awaits, frame_of
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.patches import Patches
from pytest_httpleak.sites import birth_of

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Site
    from pytest_httpleak.owners import Owner
    from pytest_httpleak.ownership import Watch


class Fault(StrEnum):
    """What happens at the step that fails."""

    RESET = "reset"  # the connection is refused, broken or reset; the name cannot be resolved
    TIMEOUT = "timeout"  # the step takes longer than the socket's timeout, if it has one
    EOF = "eof"  # the peer has closed the connection before all was received
    CANCEL = "cancel"  # the task is cancelled while it waits, as by `asyncio.timeout()`


# What each function of a socket does, in words.
_RESOLVE, _CONNECT, _HANDSHAKE = "resolving a name", "connecting", "the TLS handshake"
_SEND, _RECEIVE, _WAIT = "sending", "receiving", "waiting"
_STEPS: Final = {
    "connect": _CONNECT,
    "connect_ex": _CONNECT,
    "do_handshake": _HANDSHAKE,
    "send": _SEND,
    "sendall": _SEND,
    "sendfile": _SEND,
    "sendmsg": _SEND,
    "recv": _RECEIVE,
    "recv_into": _RECEIVE,
}
# How often code may use a connection that has failed before it is said to go on for ever.
_PATIENCE: Final = 1000
_NAMED: Final = 3  # functions of a library
_RESETS: Final = {_CONNECT: errno.ECONNREFUSED, _SEND: errno.EPIPE}  # the others: the connection is reset


@dataclass(frozen=True, slots=True)
class Target:
    """The step that is to fail: the one of that sort and number (from 1), and how."""

    fault: Fault
    sort: str
    number: int


class Steps:
    """Counts the steps of the code that one owner answers for, and lets one of them fail.

    Without a target, `counted` are those at which each of the faults can happen. A connection that has failed stays so.
    `struck` says in words which step has failed, `site` where in the user's code; `is_endless` that the code does not stop
    asking what has failed.
    """

    def __init__(self, watch: Watch, owner: Owner, faults: tuple[Fault, ...], target: Target | None = None) -> None:
        self.counted: Counter[tuple[Fault, str]] = Counter()
        self.struck = ""
        self.site: Site | None = None
        self.is_endless = False
        self._watch = watch
        self._owner = owner
        self._faults = faults if target is None else (target.fault,)
        self._target = target
        self._dead: Callable[[], Any] = lambda: None
        self._asked = 0
        self._used: dict[int, Callable[[], Any]] = {}  # by identity: the sockets that the code was seen to use
        self._is_over = False
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._patches = Patches()

    def install(self) -> None:
        """Step between the code and its sockets; there is nothing to do where it has not imported them."""
        module = sys.modules.get("socket")
        if module is None or self._faults == (Fault.CANCEL,):
            return
        for cls in (module.socket, attribute(sys.modules.get("ssl"), "SSLSocket")):
            for name in _STEPS:
                if cls is not None and (cls is module.socket or name in vars(cls)) and hasattr(cls, name):
                    self._patches.replace(cls, name, functools.partial(self._method, name))
        self._patches.replace(module, "getaddrinfo", self._function)

    def remove(self) -> None:
        """Put back what was there; where somebody has put something else there, and may put ours back, that does nothing."""
        self._is_over = True
        self._patches.undo()

    def strikes(self, sort: str, can_happen: Callable[[Fault], bool]) -> bool:
        """Count a step; whether it is the one to fail."""
        strikes = False
        with self._lock:
            for fault in self._faults:
                if can_happen(fault):
                    self.counted[fault, sort] += 1
                    strikes = self._target == Target(fault, sort, self.counted[fault, sort])
            if strikes:
                self.struck = sort
        return strikes

    # -- waits of tasks ------------------------------------------------------------------------------------------------

    def watch_children(self, task: Any, asyncio: Any) -> None:
        """Count the waits of the tasks that the code starts, too: `task`, which has started them, is cancelled meanwhile."""

        def make(original: Any) -> Callable[..., Any]:
            def _run(handle: Any) -> Any:
                child = attribute(attribute(handle, "_callback"), "__self__")
                result = original(handle)
                if self._is_over:
                    return result
                if isinstance(child, asyncio.Task) and child is not task and not child.done():
                    self._waits(child, task)
                return result

            return _run

        if Fault.CANCEL in self._faults:
            self._patches.replace(asyncio.Handle, "_run", make)

    def _waits(self, child: Any, task: Any) -> None:
        known = self._watch.of_task(child)
        if known is not None and known[1] is self._owner and not task.done() and self.waits(child.get_coro()):
            task.cancel()

    def waits(self, coroutine: Any) -> bool:
        """Count a wait of a coroutine; whether the task that the code runs in is to be cancelled."""
        if not self.strikes(_WAIT, Fault.CANCEL.__eq__):
            return False
        frames = [frame_of(each) for each in awaits(coroutine)]
        self.site = birth_of(frames[::-1]).site()
        if self.site is None and frames:  # of a library alone: its functions are all that can be named
            self.struck = f"{_WAIT} in {' > '.join(frame.f_code.co_qualname for frame in frames[-_NAMED:])}"
        return True

    # -- sockets -------------------------------------------------------------------------------------------------------

    def _method(self, name: str, original: Any) -> Callable[..., Any]:
        step = _STEPS[name]

        def method(sock: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            is_inside = getattr(self._inside, "is_step", False)  # of a step that was counted
            if self._is_over or (is_inside and step is not _HANDSHAKE):
                return original(sock, *args, **kwargs)
            if self._fails(step, sock):
                return self._fail(name, sock)
            self._inside.is_step = True
            try:
                return original(sock, *args, **kwargs)
            finally:
                self._inside.is_step = is_inside

        return method

    def _function(self, original: Any) -> Callable[..., Any]:
        def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if not self._is_over and self._watch.owner() is self._owner and self.strikes(_RESOLVE, Fault.RESET.__eq__):
                self.site = self._watch.birth().site()
                raise _socket.gaierror(_socket.EAI_AGAIN, "Temporary failure in name resolution")
            return original(*args, **kwargs)

        return getaddrinfo

    def _fails(self, step: str, sock: Any) -> bool:
        if sock is self._dead():
            if step is not _CONNECT:
                self._ask_again()
            return step is not _CONNECT

        def can_happen(fault: Fault) -> bool:
            if fault is Fault.TIMEOUT:
                return bool(sock.gettimeout())
            return fault is Fault.RESET or (fault is Fault.EOF and step is _RECEIVE)

        if not self._is_of_the_code(step, sock) or not self.strikes(step, can_happen):
            return False
        self._dead = weakref.ref(sock)
        self.site = self._watch.birth().site()
        return True

    def _ask_again(self) -> None:
        self._asked += 1
        if self._asked > _PATIENCE:
            self.is_endless = True
            raise RuntimeError(f"a connection has failed, and was used {_PATIENCE} times since")

    def _is_of_the_code(self, step: str, sock: Any) -> bool:
        """Whether it is a connection of the code under test: not a server's side, nor a pair that wakes a loop up."""
        watch = self._watch
        record = watch.table("sockets").get(sock)
        if record is not None and record.accepted:
            return False
        if step is not _CONNECT and not _has_peer(sock):
            return False
        loop = watch.running_loop()
        if loop is not None and watch.current_task(loop) is None:  # a callback: whoever registered it may be long over
            return self._used.get(id(sock), lambda: None)() is sock
        if watch.owner() is not self._owner:
            return False
        self._used[id(sock)] = weakref.ref(sock)
        return True

    def _fail(self, name: str, sock: Any) -> Any:
        step = _STEPS[name]
        (fault,) = self._faults
        if fault is Fault.TIMEOUT:
            raise TimeoutError("timed out")
        if step is not _CONNECT:
            try:  # so that whoever waits for it hears of it
                _socket.socket.shutdown(sock, _socket.SHUT_RDWR)
            except OSError as error:
                pass_on(error)
        if fault is Fault.EOF and step is _RECEIVE:
            return b"" if name == "recv" else 0
        number = _RESETS.get(step, errno.ECONNRESET)
        if name == "connect_ex":
            return number
        raise OSError(number, os.strerror(number))  # of the class that belongs to the number


def _has_peer(sock: Any) -> bool:
    """Whether it is connected, to something that has an address: the other half of a pair has none."""
    try:
        return bool(sock.getpeername())
    except OSError as error:
        pass_on(error)
        return False


class Waiting:
    """Awaits something in the running task, and cancels that where the step that is to fail is a wait of its own."""

    def __init__(self, awaitable: Any, task: Any, steps: Steps) -> None:
        self.awaitable = awaitable
        self.task = task
        self.steps = steps

    def __await__(self) -> Generator[Any, Any, Any]:
        inside = self.awaitable.__await__() if hasattr(self.awaitable, "__await__") else self.awaitable  # a generator's
        resume: Callable[[Any], Any] = inside.send
        value: Any = None
        while True:
            try:
                waits_for = resume(value)
            except StopIteration as end:
                return end.value
            if self.steps.waits(self.awaitable):
                self.task.cancel()
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001  # handed on
                resume, value = inside.throw, error
            else:
                resume = inside.send
