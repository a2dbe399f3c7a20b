"""Descriptors made through `open` and `os`: only where and for whom; whether one is still open, the descriptors tell."""

from __future__ import annotations

import _io
import builtins
import io
import os
from types import ModuleType
from typing import Any

from pytest_httpleak.adapters import Hooks

MODULES = ("os",)

_ONE = ("open", "dup", "memfd_create", "eventfd", "timerfd_create", "pidfd_open", "posix_openpt")
_TWO = ("pipe", "pipe2", "openpty")


def attach(module: ModuleType, hooks: Hooks) -> None:
    """Note the birth of each descriptor that a call returns."""
    watch: Any = hooks.watch
    made = watch.descriptor_made

    def one(fd: Any, /, *args: Any, **kwargs: Any) -> None:
        made(fd)

    def two(fds: Any, /, *args: Any, **kwargs: Any) -> None:
        made(fds[0])
        made(fds[1])

    def opened(file: Any, name: Any = None, /, *args: Any, **kwargs: Any) -> None:
        if isinstance(name, int):
            return  # a descriptor wrapped in a file object has its birth already
        try:
            made(file.fileno())
        except (OSError, ValueError, AttributeError):
            return  # somebody's stand-in for a file

    for name in _ONE:
        if hasattr(module, name):
            hooks.after(module, name, one)
    for name in _TWO:
        if hasattr(module, name):
            hooks.after(module, name, two)
    if builtins.open is io.open is _io.open:
        hooks.after(builtins, "open", opened)
        wrapper = builtins.open
        for place in (io, _io):  # all three, so that `open` is still found, and pickled, by its own name
            hooks.patches.replace(place, "open", lambda original: wrapper)
