"""The open descriptors of this process: how many, which, and what they are."""

from __future__ import annotations

import _socket  # the class in C, which nobody watches
import os
import re
import stat
import sys
from typing import Any, Final

from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.opennumbers import native

# A device and an inode, which tell a descriptor from another one that got the same number later.
Identity = tuple[int, int]

_UNIX: Final = getattr(_socket, "AF_UNIX", None)
# Without the flag a default timeout would make the descriptor a non-blocking one, for whoever has it, too.
_AS_IT_IS: Final = _socket.SOCK_STREAM | getattr(_socket, "SOCK_NONBLOCK", 0)
_LISTING: Final = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
_HAS_LISTING: Final = os.path.isdir(_LISTING)
_HAS_COUNT: Final = _HAS_LISTING and sys.platform == "linux"
_stat, _fstat, _open, _close = native.stat, native.fstat, native.open, native.close
_listdir, _read, _readlink = native.listdir, native.read, native.readlink
_pread: Any = getattr(native, "pread", None)  # Windows has none


def count() -> int | None:
    """How many descriptors are open, at a cost that does not depend on the number; None where the kernel cannot tell.

    Linux has given the number as the size of `/proc/self/fd` since 6.2; before that the size is 0.
    """
    if not _HAS_COUNT:
        return None
    try:
        return _stat(_LISTING).st_size or None
    except OSError as error:
        pass_on(error)
        return None


class Counter:
    """Counts the open descriptors at half the cost of `count`, through a descriptor of its own for their listing.

    Where the tested code has closed that one - by `os.closerange`, say - it is not opened again: `count` is asked instead.
    """

    __slots__ = ("_fd", "_identity")

    def __init__(self) -> None:
        self._fd = -1
        self._identity: Identity | None = None

    def open(self) -> None:
        """Begin to count; the descriptor is not passed on to programs that are run."""
        if _HAS_COUNT and self._identity is None:
            try:
                self._fd = _open(_LISTING, os.O_RDONLY)
            except OSError as error:
                pass_on(error)
                return
            self._identity = identity(self._fd)

    def close(self) -> None:
        """Give the descriptor back, if it is still the one that was opened."""
        mine, self._identity = self._identity, None
        if mine is not None and identity(self._fd) == mine:
            _close(self._fd)

    def make_room(self) -> None:
        """Give the descriptor back, and count without it, if the process has no other one left."""
        if self._identity is not None:
            try:
                _close(_open(os.devnull, os.O_RDONLY))
            except OSError as error:
                pass_on(error)
                self.close()

    def count(self) -> int | None:
        """As the function of that name; the counter's own descriptor is counted while it is open."""
        mine = self._identity
        if mine is not None:
            try:
                status = _fstat(self._fd)
            except OSError as error:
                pass_on(error)
                self._identity = None
                return count()
            if status.st_ino == mine[1] and status.st_dev == mine[0]:
                return status.st_size or None
            self._identity = None
        return count()


def listing() -> dict[int, Identity]:
    """All open descriptors with their identities. Costs about 2 us for each."""
    found = {}
    for fd in _numbers():
        try:
            status = _fstat(fd)
        except OSError as error:
            pass_on(error)
            continue  # the descriptor of the listing itself
        found[fd] = (status.st_dev, status.st_ino)
    return found


def _numbers() -> list[int]:
    if _HAS_LISTING:
        try:
            return [int(name) for name in _listdir(_LISTING)]
        except OSError as error:  # no descriptor left to read the directory with
            pass_on(error)
    return list(range(_highest()))


def _highest() -> int:
    try:
        import resource
    except ImportError:  # Windows: handles are not numbered like this; the C runtime's table has 8192 places at most
        return 8192
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536)


def identity(fd: int) -> Identity | None:
    """The identity of one descriptor, or None if it is closed."""
    try:
        status = _fstat(fd)
    except OSError as error:
        pass_on(error)
        return None
    return status.st_dev, status.st_ino


def is_socket(fd: int) -> bool:
    """Whether an open descriptor is a socket."""
    try:
        return stat.S_ISSOCK(_fstat(fd).st_mode)
    except OSError as error:
        pass_on(error)
        return False


def is_of_a_pair(fd: int) -> bool:
    """Whether a descriptor is a socket of the machine's own that has no name at either end: one of a `socketpair`."""
    if _UNIX is None or not is_socket(fd):
        return False
    try:
        sock = _socket.socket(-1, _AS_IT_IS, -1, fd)
    except Exception as error:  # noqa: BLE001  # an audit hook of the program's may forbid it
        pass_on(error)
        return False
    try:
        return sock.family == _UNIX and not sock.getsockname() and not sock.getpeername()
    except OSError as error:  # it is not connected
        pass_on(error)
        return False
    finally:
        sock.detach()


def target(fd: int) -> str:
    """What a descriptor leads to: a path, `pipe:[...]`, `socket:[...]`, `anon_inode:[eventpoll]`, or a bare description."""
    try:
        path: str = _readlink(f"/proc/self/fd/{fd}")
        return path
    except OSError as error:
        pass_on(error)
    try:
        mode = _fstat(fd).st_mode
    except OSError as error:
        pass_on(error)
        return "closed"
    for test, name in ((stat.S_ISREG, "a file"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")):
        if test(mode):
            return name
    return "a descriptor"


def is_of_loaded_code(fd: int) -> bool:
    """Whether a descriptor leads to a library that this process runs code of.

    Code in C keeps its own file open: libffi (from 3.4 on) does so from the first callback that ctypes makes for it.
    """
    path = target(fd)
    if not path.startswith("/") or not _is_file(fd):  # as most of the many that are open in a soak
        return False
    return any(
        len(parts) == 6 and "x" in parts[1] and parts[5] == path  # the columns of proc(5)
        for parts in (line.split(maxsplit=5) for line in _mappings().splitlines() if line.endswith(path))
    )


def is_anothers(fd: int, thing: Any) -> bool:
    """Whether the object that had a number is closed, or gone, so that another one has it: all pollers have one identity."""
    is_over = thing is None or (type(thing).__module__ == "selectors" and _is_closed(thing))
    return is_over and target(fd).startswith("anon_inode:")


def _is_closed(selector: Any) -> bool:
    try:
        selector.fileno()
    except Exception as error:  # noqa: BLE001  # each sort has an error of its own for that
        pass_on(error)
        return True
    return False


def is_new_and_no_link(fd: int) -> bool:
    """Whether a regular file is empty, and was opened so that a link would not have been followed, as SQLite does."""
    try:
        if not _is_file(fd) or _fstat(fd).st_size:
            return False
    except OSError as error:
        pass_on(error)
        return False
    flags = re.search(rb"^flags:\s*([0-7]+)", about(fd), re.MULTILINE)
    return flags is not None and bool(int(flags[1], 8) & getattr(os, "O_NOFOLLOW", 0))


def beginning(fd: int, size: int) -> bytes:
    """The first bytes of what is in an open file; empty where it is no regular one, or not open for reading.

    Whoever has it open reads on where he was, and keeps his locks on it, which would end where another descriptor is closed.
    """
    if _pread is None or not _is_file(fd):
        return b""
    try:
        return bytes(_pread(fd, size, 0))
    except OSError as error:
        pass_on(error)
        return b""


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(_fstat(fd).st_mode)
    except OSError as error:
        pass_on(error)
        return False


def about(fd: int) -> bytes:
    """What Linux tells of an open descriptor beside its target; empty elsewhere."""
    return _contents(f"/proc/self/fdinfo/{fd}")


def _mappings() -> str:
    """What is mapped into the memory of this process, as Linux tells it; empty elsewhere."""
    return _contents("/proc/self/maps").decode(errors="surrogateescape")


def _contents(path: str) -> bytes:
    try:
        fd = _open(path, os.O_RDONLY)
    except OSError as error:
        pass_on(error)
        return b""
    try:
        return b"".join(iter(lambda: _read(fd, 65536), b""))
    except OSError as error:
        pass_on(error)
        return b""
    finally:
        _close(fd)


def sockets() -> dict[int, tuple[str, tuple[str, ...]]]:
    """The sockets of this process by descriptor, in words and with their addresses, as far as the system tells them."""
    try:
        import psutil

        known = psutil.Process().net_connections("all")
    except Exception as error:  # noqa: BLE001  # as below
        pass_on(error)
        return {}
    return {each.fd: _in_words(each) for each in known}


def _in_words(connection: Any) -> tuple[str, tuple[str, ...]]:
    is_unix = connection.family == _UNIX
    name = "unix socket" if is_unix else "UDP" if connection.type == _socket.SOCK_DGRAM else "TCP"
    own, peer = (_address(each) for each in (connection.laddr, connection.raddr))
    told = f"{name} {own}" if own else name
    if connection.status == "LISTEN":
        told += ", listening"
    elif not is_unix:
        told += f" -> {peer}" if peer else ", not connected"
    return told, tuple(filter(None, (own, peer)))


def _address(end: Any) -> str:
    """An address of psutil's: a name, or host and port; empty where there is none."""
    if not isinstance(end, tuple) or not end:
        return str(end or "")
    host, port = end[:2]
    return (f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}") if port else ""


def server_sides() -> frozenset[int]:
    """The sockets that servers of this process have accepted: their local ports are ones that the process listens on."""
    try:
        import psutil

        connections = psutil.Process().net_connections("tcp")
    except Exception:  # noqa: BLE001  # psutil has errors of its own for where it may not look; then nothing is known
        return frozenset()
    listening = {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    return frozenset(
        each.fd for each in connections if each.status != psutil.CONN_LISTEN and each.laddr.port in listening
    )
