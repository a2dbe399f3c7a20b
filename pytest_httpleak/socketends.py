"""The ends of a socket in words: what it is, which addresses it has, and whether the other side is there."""

from __future__ import annotations

import _socket
from collections.abc import Iterator
from typing import Any, Final

from pytest_httpleak.asking import attribute, socket_inside
from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.opennumbers import fileno, open_numbers

UNIX: Final = getattr(_socket, "AF_UNIX", None)

_PROTOCOLS: Final[dict[Any, str]] = {_socket.SOCK_STREAM: "TCP", _socket.SOCK_DGRAM: "UDP"}


def describe(sock: Any) -> str:
    """Family, type and addresses of a socket in a few words: `TCP 127.0.0.1:50112 -> 127.0.0.1:8000`."""
    for _ in range(2):
        if attribute(sock, "family") is None:
            sock = socket_inside(sock) or sock
    family, kind = attribute(sock, "family"), attribute(sock, "type")
    if family in (_socket.AF_INET, _socket.AF_INET6):
        name = _PROTOCOLS.get(kind, str(kind))
    else:
        name = str(attribute(family, "name", "unknown")).removeprefix("AF_").lower() + " socket"
    own, peer = _ends(sock)
    told = f"{name} {own}" if own else name
    if own is None or peer is None:
        return f"{told}, {'listening' if own and listens(sock) else 'not connected'}"
    if peer:
        return f"{told} -> {peer}"
    return f"{told}, {'not connected' if is_hung_up(fileno(sock)) else 'connected'}"


def addresses(sock: Any) -> tuple[str, ...]:
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
        return bool(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN))
    except Exception as error:  # noqa: BLE001  # as above
        pass_on(error)
        return False


def is_hung_up(fd: int) -> bool:
    """Whether the other end of a unix socket is closed; False where the system does not tell."""
    import select  # here, as it is watched, too

    if fd < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def bare_sockets() -> Iterator[Any]:
    """Each open socket of this process by its number alone, whoever has it: to be asked before the next, and not kept."""
    for fd in open_numbers():
        try:
            sock = _socket.socket(fileno=fd)
        except OSError as error:  # no socket, or closed meanwhile
            pass_on(error)
            continue
        try:
            yield sock
        finally:
            sock.detach()
