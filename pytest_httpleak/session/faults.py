"""The steps at which code waits for the network or its event loop: counted, and one of them made to fail."""

from __future__ import annotations

# Not `socket`, whose adapter would be handed it from in here.
import _socket
import errno
import os
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from pytest_httpleak.asking import attribute
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.patches import Patches
from pytest_httpleak.sites import awaits, birth_of, frame_of

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
_CONNECT, _HANDSHAKE, _SEND, _RECEIVE = "connecting", "the TLS handshake", "sending", "receiving"
_STEPS: Final = {
    "connect": _CONNECT,
    "do_handshake": _HANDSHAKE,
    "send": _SEND,
    "sendall": _SEND,
    "sendmsg": _SEND,
    "recv": _RECEIVE,
    "recv_into": _RECEIVE,
}
_RESETS: Final = {_CONNECT: errno.ECONNREFUSED, _SEND: errno.EPIPE}  # the others: the connection is reset


class Steps:
    """Counts the steps of the code that one owner answers for, and lets the one of number `at` (from 1) fail.

    Without a number, steps at which any of the faults can happen are counted, by fault; with one, there is one fault. A
    connection that has failed stays so. `struck` says in words which step has failed, `site` where in the user's code.
    """

    def __init__(self, watch: Watch, owner: Owner, faults: tuple[Fault, ...], at: int = 0) -> None:
        self.counted = dict.fromkeys(faults, 0)
        self.struck = ""
        self.site: Site | None = None
        self._watch = watch
        self._owner = owner
        self._faults = faults
        self._at = at
        self._dead: Callable[[], Any] = lambda: None
        self._thread = threading.get_ident()
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
                    self._patches.replace(cls, name, self._method)
        self._patches.replace(module, "getaddrinfo", self._function)

    def remove(self) -> None:
        """Put back what was there."""
        self._patches.undo()

    def strikes(self, what: str, can_happen: Callable[[Fault], bool]) -> bool:
        """Count a step; whether it is the one to fail."""
        strikes = False
        with self._lock:
            for fault in self._faults:
                if can_happen(fault):
                    self.counted[fault] += 1
                    strikes = self.counted[fault] == self._at
            if strikes:
                self.struck = what
        return strikes

    # -- sockets -------------------------------------------------------------------------------------------------------

    def _method(self, original: Any) -> Callable[..., Any]:
        name = original.__name__
        step = _STEPS[name]

        def method(sock: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if getattr(self._inside, "is_step", False) and step is not _HANDSHAKE:  # of a step that was counted
                return original(sock, *args, **kwargs)
            if self._fails(step, sock):
                return self._fail(name, sock)
            before, self._inside.is_step = getattr(self._inside, "is_step", False), True
            try:
                return original(sock, *args, **kwargs)
            finally:
                self._inside.is_step = before

        return method

    def _function(self, original: Any) -> Callable[..., Any]:
        def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if self._watch.owner() is self._owner and self.strikes("resolving a name", Fault.RESET.__eq__):
                self.site = self._watch.birth().site()
                raise _socket.gaierror(_socket.EAI_AGAIN, "Temporary failure in name resolution")
            return original(*args, **kwargs)

        return getaddrinfo

    def _fails(self, step: str, sock: Any) -> bool:
        if sock is self._dead():
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
            return threading.get_ident() == self._thread
        return watch.owner() is self._owner

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
        inside = self.awaitable.__await__()
        resume: Callable[[Any], Any] = inside.send
        value: Any = None
        while True:
            try:
                waits_for = resume(value)
            except StopIteration as end:
                return end.value
            if self.steps.strikes("waiting", Fault.CANCEL.__eq__):
                self.steps.site = birth_of([frame_of(each) for each in awaits(self.awaitable)][::-1]).site()
                self.task.cancel()
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001  # handed on
                resume, value = inside.throw, error
            else:
                resume = inside.send
