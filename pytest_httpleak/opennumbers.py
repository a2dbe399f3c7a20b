"""The numbers of the descriptors that are open, where the system tells them: to be compared before and after a call."""

from __future__ import annotations

# Not `socket`, which would be handed to its adapter from in here, before this module is complete.
import _socket
import functools
import os
import stat
import sys
from types import SimpleNamespace
from typing import Any, Final

from pytest_httpleak.interruptions import pass_on

# The functions that `os` has from another module, as a test may put others in their place there, as gevent does; and in objects
# of another class, since pyfakefs looks for them in all modules and does the same.
_system: Final = vars(sys.modules.get("posix", os))
_NAMES: Final = ("close", "fstat", "listdir", "open", "pread", "read", "readlink", "stat")
native: Any = SimpleNamespace(**{name: functools.partial(_system[name]) for name in _NAMES if name in _system})
_fstat, _listdir, _stat = native.fstat, native.listdir, native.stat
_open, _read, _close = native.open, native.read, native.close

Identity = tuple[int, int]  # device and number of what a descriptor leads to

_CLOSED: Final = (-1, None)
_STANDARD_ERROR: Final = 2


def open_numbers() -> set[int]:
    """The numbers that are open now; none where the system does not tell."""
    return set(open_files())


def open_files() -> dict[int, Identity]:
    """The same with the device and inode of what each leads to."""
    try:
        numbers = [*map(int, _listdir("/proc/self/fd"))]
    except OSError as error:
        pass_on(error)
        return {}
    known = ((fd, identity_of_file(fd)) for fd in numbers)
    return {fd: identity for fd, identity in known if identity is not None}  # not that of the listing itself


def identity_of_file(path: Any) -> Identity | None:
    """The device and inode of a file, or of what a descriptor leads to; None where there is none of that name or number."""
    try:
        status = _stat(path)
    except (OSError, TypeError, ValueError) as error:
        pass_on(error)
        return None
    return status.st_dev, status.st_ino


def is_of_process(fd: int, pid: int) -> bool:
    """Whether that is a descriptor of a process, which tells when that ends; of Linux alone."""
    try:
        about = _open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY)
    except OSError as error:
        pass_on(error)
        return False
    try:
        return b"\nPid:\t%d\n" % pid in b"\n" + _read(about, 4096) + b"\n"
    finally:
        _close(about)


def is_open(fd: int) -> bool:
    """Whether that is the number of an open descriptor."""
    try:
        _fstat(fd)
    except (OSError, OverflowError) as error:  # that of the listing itself; no number of a descriptor
        pass_on(error)
        return False
    return True


def fileno(sock: Any) -> int:
    """The open descriptor of a socket, or -1: closed, closed behind its back, or a stand-in that has none of its own."""
    return opened_socket(sock)[0]


def fileno_of_file(file: Any) -> int:
    """The open descriptor of a file object, or -1: closed, or of a class of somebody's that has none."""
    try:
        return int(file.fileno())
    except Exception as error:  # noqa: BLE001  # as it is
        pass_on(error)
        return -1


def opened_socket(sock: Any) -> tuple[int, Identity | None]:
    """The open descriptor of a socket and its identity, or -1 and None."""
    try:
        fd = sock.fileno()
        if not isinstance(fd, int) or fd < 0 or not stat.S_ISSOCK((status := _fstat(fd)).st_mode):
            return _CLOSED
        if fd <= _STANDARD_ERROR and not isinstance(sock, _socket.socket):
            return _CLOSED  # a stand-in likes to answer 0, and standard input may be a socket
    except Exception as error:  # noqa: BLE001  # whatever a stand-in for a socket raises
        pass_on(error)
        return _CLOSED
    return fd, (status.st_dev, status.st_ino)
