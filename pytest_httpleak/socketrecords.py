"""Records of sockets, and what can be said of one: the ground that all connections stand on."""

from __future__ import annotations

# Not `socket`, which would be handed to its adapter from in here, before this module is complete.
import _socket as _socket_module
import gc
import os
import stat
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pytest_httpleak.asking import attribute
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.records import Record, Table, class_name, held, type_name

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Held, Suspect

# Bound here, so that a test which puts something else in its place cannot mislead the watch.
_fstat = os.fstat

Identity = tuple[int, int]  # device and number of what a descriptor leads to

_CLOSED: Final = (-1, None)
_STANDARD_ERROR: Final = 2
_UNIX: Final = getattr(_socket_module, "AF_UNIX", None)
_PROTOCOLS: Final[dict[Any, str]] = {_socket_module.SOCK_STREAM: "TCP", _socket_module.SOCK_DGRAM: "UDP"}


class SocketRecord(Record):
    """One socket object: `closed` once its descriptor was closed or handed on, `collected` if it died without that."""

    __slots__ = (
        "accepted",
        "closed",
        "collected",
        "core",
        "core_references",
        "holder",
        "identity",
        "is_core",
        "loop",
        "number",
        "transport",
        "type",
    )

    kind: ClassVar[Kind] = Kind.SOCKETS
    LIBRARY = "socket"

    def __init__(self, sock: Any) -> None:
        super().__init__()
        self.type = type(sock)
        self.number, self.identity = _opened(sock)  # of which the latter tells it from a later one of that number
        self.closed = False
        self.collected = False
        self.accepted = False
        self.holder: Record | None = None  # the connection that answers for it, once one does
        self.transport: Callable[[], Any] | None = None  # asyncio's transport around it
        self.loop: Callable[[], Any] | None = None  # that of the transport
        self.core: Callable[[], Any] | None = None  # the socket inside, where that is an object of its own
        self.core_references = 0
        self.is_core = False  # what was around it is gone

    def note_core(self, core: Any) -> None:
        """Note the socket inside of an object that is only around it, as gevent's are."""
        try:
            self.core = weakref.ref(core)
        except TypeError:
            return
        self.core_references = _references(self.core)

    def outliving_core(self) -> Any:
        """The socket inside, if somebody else refers to it, while the object around it dies; else None."""
        core = None if self.core is None else self.core()
        is_shared = self.core is not None and core is not None and _references(self.core) > self.core_references
        return core if is_shared else None

    def fd(self) -> int:
        """The open descriptor, or -1."""
        sock = None if self.closed else self.ref()
        return -1 if sock is None else fileno(sock)

    def is_at(self, fd: int) -> bool:
        """Whether the descriptor of that number is the one that the socket was made with."""
        try:
            return self.identity == _identity(_fstat(fd))
        except OSError:
            return False

    def is_open(self) -> bool:
        """Whether the socket is open now and of this side's making."""
        return not self.accepted and self.fd() >= 0

    def is_over(self) -> bool:
        return self.accepted or (self.closed and not self.collected)

    def descriptors(self) -> Iterator[int]:
        fd = self.fd()
        if fd >= 0:
            yield fd

    def answered_by(self, holder: Record) -> None:
        """Let a connection speak for this socket, and its owner answer: a wider client connects on first use."""
        self.holder = holder
        owner = holder.owner
        if owner is not self.owner and owner is not None and not owner.over:
            self.owner = owner
            owner.keep(self)

    def look(self) -> Suspect | None:
        if self.accepted or self.blamed:
            return None
        if self.collected:
            return self._dropped()
        sock = None if self.closed else self.ref()
        if sock is None or self._is_closing():
            return None
        fd = fileno(sock)
        if fd < 0:
            # Its finalizer may have closed it, if something keeps it since: a `ResourceWarning` that was recorded.
            self.collected = gc.is_finalized(sock)
            return self._dropped() if self.collected else None
        what = describe(sock)
        return self.suspect(
            State.OPEN,
            type_name(sock),
            f"{what}, fd {fd}",
            claims=self.claims(),
            names=(what, *_addresses(sock), class_name(self.type)),
            holds=(held(Kind.FDS, f"fd {fd}", fd),),
        )

    def _dropped(self) -> Suspect | None:
        if self.holder is not None:
            return self.holder.orphaned(self)
        name = class_name(self.type)
        return self.suspect(State.COLLECTED, name, f"fd {self.number}", claims=self.claims(), names=(name,))

    def _is_closing(self) -> bool:
        """Whether asyncio has been told to close the socket, and will do so when its loop runs next."""
        transport = None if self.transport is None else self.transport()
        return transport is not None and is_being_closed(transport)

    def is_stranded(self) -> bool:
        """Whether asyncio cannot close the socket any more, as its loop is closed."""
        loop = None if self.loop is None else self.loop()
        return self.loop is not None and (loop is None or loop.is_closed() is True)

    def claims(self) -> frozenset[object]:
        """What this socket is named by where somebody else answers for it."""
        return frozenset((("socket", id(self)),))

    def held(self) -> Held:
        """This socket as something that another resource holds."""
        sock = self.ref()
        fd = self.fd()
        if sock is None or fd < 0:
            return held(Kind.SOCKETS, f"{class_name(self.type)}, dropped while open")
        return held(Kind.SOCKETS, describe(sock), fd)


def _references(weak: Callable[[], Any]) -> int:
    """How many refer to something; in one place, as from Python 3.14 on some of a function's own are not counted."""
    return sys.getrefcount(weak())


def is_being_closed(transport: Any) -> bool:
    """Whether one of asyncio's transports was told to close its socket, and has a loop that can yet do so."""
    loop = attribute(transport, "_loop")
    return bool(transport.is_closing() and (loop is None or loop.is_closed() is not True))  # a mock may be anything


def fileno(sock: Any) -> int:
    """The open descriptor of a socket, or -1: closed, closed behind its back, or a stand-in that has none of its own."""
    return _opened(sock)[0]


def _opened(sock: Any) -> tuple[int, Identity | None]:
    """The open descriptor of a socket and its identity, or -1 and None."""
    try:
        fd = sock.fileno()
        if not isinstance(fd, int) or fd < 0 or not stat.S_ISSOCK((status := _fstat(fd)).st_mode):
            return _CLOSED
        if fd <= _STANDARD_ERROR and not isinstance(sock, _socket_module.socket):
            return _CLOSED  # a stand-in likes to answer 0, and standard input may be a socket
    except Exception as error:  # noqa: BLE001  # whatever a stand-in for a socket raises
        pass_on(error)
        return _CLOSED
    return fd, _identity(status)


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def record_of(sock: Any, table: Table) -> SocketRecord | None:
    """The record of a socket, or of the one inside a wrapper of asyncio's, trio's or urllib3's."""
    for _ in range(3):
        record: SocketRecord | None = table.get(sock)
        if record is not None or sock is None:
            return record
        sock = _inside(sock)
    return None


def _inside(sock: Any) -> Any:
    """The socket in a wrapper, as asyncio, trio, and urllib3 for TLS in TLS and for pyOpenSSL make one."""
    inner = attribute(sock, "_sock")
    return attribute(sock, "socket") if inner is None else inner


def serves_a_living_client(sock: Any, table: Table) -> bool:
    """Whether a socket was accepted from a client of this process that is still open: it ends with that client."""
    record = table.get(sock)
    if record is None or not record.accepted or record.fd() < 0:
        return False
    if sock.family == _UNIX:  # clients have no name of their own, so the one that has closed is known by its hanging up
        client, ask = None if _is_hung_up(record.fd()) else _address(sock, "getsockname"), "getpeername"
    else:
        client, ask = _address(sock, "getpeername"), "getsockname"
    if not client:
        return False
    port = client[1] if isinstance(client, tuple) else None
    return any(_address(other.ref(), ask, port) == client and other.fd() >= 0 for other in table if not other.accepted)


def _address(sock: Any, ask: str, port: str | None = None) -> object:
    """Host and port of one end of an internet socket, the name of one end of another, or None; None for another port."""
    try:
        name = getattr(sock, ask)()
    except (AttributeError, OSError):
        return None
    if port is not None and isinstance(name, tuple) and str(name[1]) != port:
        return None
    # A server for both families is told of a client of IPv4's by an address of IPv6's.
    return tuple(str(part).removeprefix("::ffff:") for part in name[:2]) if isinstance(name, tuple) else name


def _is_hung_up(fd: int) -> bool:
    """Whether the other end of a unix socket is closed; False where the system does not tell."""
    import select  # here, as it is watched, too

    if fd < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def holding(record: Record, name: str, idle: list[Any], sockets: Table, *, depth: int) -> Suspect | None:
    """The suspect for a client that holds these sockets of idle connections, or None if there are none."""
    if not idle:
        return None
    known = [record_of(sock, sockets) for sock in idle]
    claims: set[object] = set()
    for sock, socket in zip(idle, known, strict=True):
        claims |= {("fd", fileno(sock))} if socket is None else socket.claims()
    number = len(idle)
    return record.suspect(
        State.OPEN,
        name,
        f"not closed, with {number} idle connection{'s' if number > 1 else ''}",
        claims=frozenset(claims),
        holds=tuple(socket.held() for socket in known if socket is not None),
        depth=depth,
        names=(name,),
    )


def dropped(
    record: Record, name: str, socket: SocketRecord, *, library: str | None = None, depth: int = 0, hint: str = ""
) -> Suspect:
    """The suspect for a client that died with this socket still open in it."""
    return record.suspect(
        State.COLLECTED,
        name,
        "dropped without being closed, with a connection open",
        library=library,
        claims=socket.claims(),
        holds=(socket.held(),),
        names=(name,),
        depth=depth,
        hint=hint,
    )


def held_socket(sock: Any, fd: int, record: SocketRecord | None) -> tuple[frozenset[object], Held]:
    """What an open socket is claimed by, and how it is shown; one without a record, as of uvloop's, by its descriptor."""
    if record is None:
        return frozenset((("fd", fd),)), held(Kind.SOCKETS, describe(sock), fd)
    return record.claims(), record.held()


def describe(sock: Any) -> str:
    """Family, type and addresses of a socket in a few words: `TCP 127.0.0.1:50112 -> 127.0.0.1:8000`."""
    for _ in range(2):
        if attribute(sock, "family") is None:
            sock = _inside(sock) or sock
    family, kind = attribute(sock, "family"), attribute(sock, "type")
    if family in (_socket_module.AF_INET, _socket_module.AF_INET6):
        name = _PROTOCOLS.get(kind, str(kind))
    else:
        name = str(attribute(family, "name", "unknown")).removeprefix("AF_").lower() + " socket"
    own, peer = _ends(sock)
    told = f"{name} {own}" if own else name
    if own is None or peer is None:
        return f"{told}, {'listening' if own and listens(sock) else 'not connected'}"
    if peer:
        return f"{told} -> {peer}"
    return f"{told}, {'not connected' if _is_hung_up(fileno(sock)) else 'connected'}"


def _addresses(sock: Any) -> tuple[str, ...]:
    """The addresses by which a socket is known."""
    return tuple(filter(None, _ends(sock)))


def _ends(sock: Any) -> tuple[str | None, str | None]:
    """The addresses of a socket's own end and of the other: None where there is none, empty where it has no name."""
    own = _end(sock, "getsockname")
    return own, None if own is None else _end(sock, "getpeername")


def _end(sock: Any, ask: str) -> str | None:
    try:
        address = getattr(sock, ask)()
    except Exception as error:  # noqa: BLE001  # not connected, or a subclass of the user's
        pass_on(error)
        return None
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        if not port:
            return None
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if address is None or isinstance(address, str):
        return address
    return repr(address) if address else ""


def listens(sock: Any) -> bool:
    """Whether a socket is one that a server waits with for connections."""
    try:
        return bool(sock.getsockopt(_socket_module.SOL_SOCKET, _socket_module.SO_ACCEPTCONN))
    except Exception as error:  # noqa: BLE001  # as above
        pass_on(error)
        return False
