"""Threads that are not Python's: the runtimes of libraries in C or Rust, which wait and are woken by descriptors of their own."""

from __future__ import annotations

import os
import sys
from typing import Final

from pytest_httpleak.interruptions import pass_on
from pytest_httpleak.opennumbers import native


def are_running() -> bool:
    """Whether the process has more threads than Python knows; False where that cannot be told."""
    try:
        return _number() > len(sys._current_frames())
    except Exception as error:  # noqa: BLE001  # psutil has errors of its own for where it may not look
        pass_on(error)
        return False


def _number() -> int:
    """How many threads the process has. psutil can tell everywhere, but it takes 10 ms to import."""
    if os.path.isdir(_LISTING):
        return len(native.listdir(_LISTING))
    import psutil

    return int(psutil.Process().num_threads())


_LISTING: Final = "/proc/self/task"  # of Linux
