"""Sockets that code in C has opened for an object of a wider fixture: which object that is, as far as it can be known.

No line and no object of Python's is left of the call. What the kernel tells is which poller a socket was put into. Where code
in C has opened that poller for a wider fixture, the socket is of the same library; and where all objects of the kind that the
fixture keeps are kept by fixtures or by the process, none is the test's, so that neither is the socket. So it is with one that
is in no poller at all, and with what such code is woken by.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from types import FunctionType
from typing import Final

from pytest_httpleak.asking import attribute, attributes_of, is_a
from pytest_httpleak.probes import descriptors
from pytest_httpleak.probes.holders import Seen

_LEVELS: Final = 3
_MOST_PARTS: Final = 200
_MOST_ALIKE: Final = 8  # objects of one kind, each of which is searched for

# What the kernel tells of a poller, one line for each descriptor that was put into it: its number and, in hex, its inode.
_WATCHED: Final = re.compile(rb"^tfd:\s*(\d+) .*? ino:([0-9a-f]+) ", re.MULTILINE)
_POLLER: Final = "anon_inode:[eventpoll]"
_WAKE_UPS: Final = ("anon_inode:[eventfd]", "pipe:")
_HANDLES: Final = "_cffi_backend"  # the module of what objects in Python have of a library in C that cffi calls


def pollers_of(fd: int) -> list[int]:
    """The pollers that an open descriptor was put into. Of Linux alone; elsewhere none is known."""
    identity = descriptors.identity(fd)
    if identity is None:
        return []
    line = b"%d" % fd, b"%x" % identity[1]
    pollers = (number for number in descriptors.listing() if descriptors.target(number) == _POLLER)
    return [poller for poller in pollers if line in _WATCHED.findall(descriptors.about(poller))]


def is_wake_up(fd: int) -> bool:
    """Whether that is what code in C is woken by while it waits for its sockets."""
    return descriptors.target(fd).startswith(_WAKE_UPS)


def native_keeper(values: Iterable[object], is_kept: Callable[[object], bool]) -> object | None:
    """An object in C that one of the values keeps, and that can be closed; none where one of its kind is not kept."""
    for value in values:
        for part in _parts(value):
            alike = _alike(type(part)) if _is_native(type(part)) or _has_handle(part) else []
            if 0 < len(alike) <= _MOST_ALIKE and all(is_kept(seen.thing) for seen in alike):
                return part
    return None


def _parts(value: object) -> Iterator[object]:
    """A value, and what its attributes lead to."""
    level, seen = [value], {id(value)}
    for _ in range(_LEVELS):
        yield from level
        below = [part for each in level for part in _attributes(each).values() if not _is_plain(part)]
        level = [part for part in below if id(part) not in seen][:_MOST_PARTS]
        seen.update(map(id, level))


def _attributes(thing: object) -> dict[str, object]:
    """Those of an object; of a `threading.local` those of this thread."""
    if is_a(thing, threading.local):
        return dict(threading.local.__getattribute__(thing, "__dict__"))  # type: ignore[arg-type]
    return attributes_of(thing)


def _is_plain(part: object) -> bool:
    return is_a(part, (type, type(sys))) or type(part).__module__ == "builtins"


def _is_native(cls: type) -> bool:
    """Whether the class is of an installed module in C, and has an end to its life."""
    module = str(cls.__module__)
    files = [_file_of(module)]
    if not any(is_a(each, FunctionType) for each in vars(cls).values()):  # in C, whatever module it says it is of
        files += [_file_of(name) for name in list(sys.modules) if name.startswith(f"{module.partition('.')[0]}.")]
    is_native = any(each.endswith(tuple(EXTENSION_SUFFIXES)) and not each.startswith(_STANDARD) for each in files)
    return is_native and callable(attribute(cls, "close"))


def _file_of(module: str) -> str:
    file = attribute(sys.modules.get(module), "__file__")
    return file if is_a(file, str) else ""


def _has_handle(thing: object) -> bool:
    """Whether that is an object of an installed module in Python, with an end to its life, around one in C."""
    if not any(type(part).__module__ == _HANDLES for part in attributes_of(thing).values()):
        return False
    return callable(attribute(type(thing), "close"))


_STANDARD: Final = os.path.dirname(os.__file__) + os.sep + "lib-dynload"


def _alike(cls: type) -> list[Seen]:
    gc.unfreeze()
    return [Seen(thing) for thing in gc.get_objects() if type(thing) is cls]
