"""Runs a command with no network but the loopback interface: `python loopback.py COMMAND...`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys

with contextlib.suppress(ImportError):  # Unix
    import fcntl

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def isolate() -> None:
    """Enter a network of this process's own; raises OSError where the system does not allow that."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        now = struct.unpack("16sH14x", asked)[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", now | _IFF_UP))


if __name__ == "__main__":
    if sys.platform == "linux":
        try:
            isolate()
        except OSError as error:
            print(f"not isolated from the network: {error}", file=sys.stderr)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command that was asked for
