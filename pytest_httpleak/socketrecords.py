"""Records of sockets, and what can be said of one: the ground that all connections stand on."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_httpleak.asking import attribute, socket_inside
from pytest_httpleak.model.kinds import Kind, State
from pytest_httpleak.opennumbers import fileno, identity_of_file, opened_socket
from pytest_httpleak.records import Record, class_name, held, type_name
from pytest_httpleak.tables import Table

if TYPE_CHECKING:
    from pytest_httpleak.model.findings import Held, Suspect


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
        self.number, self.identity = opened_socket(sock)  # of which the latter tells it from a later one of that number
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
        return self.identity is not None and self.identity == identity_of_file(fd)

    def is_open(self) -> bool:
        """Whether the socket is open now and of this side's making."""
        return not self.accepted and self.fd() >= 0

    def is_over(self) -> bool:
        return self.accepted or (self.closed and not self.collected)

    def descriptors(self) -> Iterator[int]:
        fd = self.fd()
        if fd >= 0:
            yield fd

    def collect(self) -> None:
        """Note that it dies while it is open."""
        self.collected = True
        if self.holder is not None:
            self.holder.lose_socket()

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
        from pytest_httpleak.socketends import addresses, describe  # here, as a clean run has no suspect

        what = describe(sock)
        return self.suspect(
            State.OPEN,
            type_name(sock),
            f"{what}, fd {fd}",
            claims=self.claims(),
            names=(what, *addresses(sock), class_name(self.type)),
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
        return _held(sock, fd)


def _references(weak: Callable[[], Any]) -> int:
    """How many refer to something; in one place, as from Python 3.14 on some of a function's own are not counted."""
    return sys.getrefcount(weak())


def is_being_closed(transport: Any) -> bool:
    """Whether one of asyncio's transports was told to close its socket, and has a loop that can yet do so."""
    loop = attribute(transport, "_loop")
    return bool(transport.is_closing() and (loop is None or loop.is_closed() is not True))  # a mock may be anything


def record_of(sock: Any, table: Table) -> SocketRecord | None:
    """The record of a socket, or of the one inside a wrapper of asyncio's, trio's or urllib3's."""
    for _ in range(3):
        record: SocketRecord | None = table.get(sock)
        if record is not None or sock is None:
            return record
        sock = socket_inside(sock)
    return None


def serves_a_living_client(sock: Any, table: Table) -> bool:
    """Whether a socket was accepted from a client of this process that is still open: it ends with that client."""
    from pytest_httpleak.socketends import UNIX, bare_sockets, is_hung_up  # here, as few threads are given a socket

    record = table.get(sock)
    if record is None or not record.accepted or record.fd() < 0:
        return False
    if sock.family == UNIX:  # clients have no name of their own, so the one that has closed is known by its hanging up
        client, ask = None if is_hung_up(record.fd()) else _address(sock, "getsockname"), "getpeername"
    else:
        client, ask = _address(sock, "getpeername"), "getsockname"
    if not client:
        return False
    port = client[1] if isinstance(client, tuple) else None
    if any(_address(other.ref(), ask, port) == client and other.fd() >= 0 for other in table if not other.accepted):
        return True
    return any(_address(other, ask, port) == client for other in bare_sockets())  # of uvloop's, or detached


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
        return frozenset((("fd", fd),)), _held(sock, fd)
    return record.claims(), record.held()


def _held(sock: Any, fd: int) -> Held:
    from pytest_httpleak.socketends import describe  # here, as above

    return held(Kind.SOCKETS, describe(sock), fd)
